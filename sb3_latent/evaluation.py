"""Look at a policy and leave it as it was."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from torch import nn


@contextmanager
def evaluating(module: nn.Module | None, seed: int | None = None) -> Iterator[None]:
    """
    Evaluation mode; training flags and the random states of Python, numpy and torch are put back at the end, whatever happens.

    :param module: what is looked at; None where nothing has flags.
    :param seed: of all randomness within; None goes on from the present states.
    :return: a context manager.
    """
    # Module by module: `Module.train` would overwrite flags that differ between children, or run a subclass's own code.
    flags = {part: part.training for part in module.modules()} if module is not None else {}
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        for part in flags:
            part.training = False
        with th.random.fork_rng(_devices(module, seed)):
            if seed is not None:
                set_random_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for part, training in flags.items():
            part.training = training


@contextmanager
def own_actions(model: BaseAlgorithm | None, seed: int) -> Iterator[None]:
    """
    Let a model act and leave the random state of its action space as it was, from which a DQN explores. Environments of one
    class may share that space with it.

    :param model: who acts; None for nobody.
    :param seed: of its random actions within.
    :return: a context manager.
    """
    if model is None:
        yield
        return
    space = model.action_space
    before = copy.deepcopy(vars(space))
    space.seed(seed)
    try:
        yield
    finally:
        vars(space).update(before)


def _devices(module: nn.Module | None, seed: int | None) -> Sequence[int | th.device]:
    """A seed is set on all of them."""
    if seed is not None:
        return range(th.cuda.device_count())
    parameter = None if module is None else next(module.parameters(), None)
    return [parameter.device] if parameter is not None and parameter.is_cuda else []
