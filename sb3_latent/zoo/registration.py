"""Make our names known to rl_zoo3."""

import sys

import rl_zoo3
import rl_zoo3.enjoy
import rl_zoo3.exp_manager
import rl_zoo3.train
from rl_zoo3.utils import ALGOS

from sb3_latent.zoo.algorithms import ALGORITHMS
from sb3_latent.zoo.manager import LatentExperimentManager

_STOCK = rl_zoo3.exp_manager.ExperimentManager


def register() -> None:
    """
    Three things: our names stand in the table of algorithms; names such as ``sb3_latent.FrameReplayBuffer`` mean something
    where rl_zoo3 evaluates strings; and its experiment manager is ours, wherever a module has bound it, ``__main__`` of
    ``python -m rl_zoo3.train`` included.
    """
    ALGOS.update(ALGORITHMS)
    vars(rl_zoo3.exp_manager)["sb3_latent"] = sys.modules["sb3_latent"]
    for module in (rl_zoo3, rl_zoo3.exp_manager, rl_zoo3.train, rl_zoo3.enjoy, sys.modules["__main__"]):
        if getattr(module, "ExperimentManager", None) is _STOCK:
            vars(module)["ExperimentManager"] = LatentExperimentManager
