"""Look at a policy and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy


@contextmanager
def evaluating(policy: BasePolicy) -> Iterator[None]:
    """
    Evaluation mode; training flags and the random states of torch and numpy are put back at the end, whatever happens.

    :param policy: what is looked at.
    :return: a context manager.
    """
    # Module by module: `Module.train` would overwrite flags that differ between children, or run a subclass's own code.
    flags = {module: module.training for module in policy.modules()}
    numpy_state = np.random.get_state()
    devices = [policy.device] if policy.device.type == "cuda" else []
    try:
        for module in flags:
            module.training = False
        with th.random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        for module, training in flags.items():
            module.training = training
