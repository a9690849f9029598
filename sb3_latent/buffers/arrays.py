"""Observations as arrays by name, whether their space is a Dict or not."""

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces

SINGLE = "observation"
"""Name of the one array of an observation that is no Dict."""


def spaces_of(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """
    :param space: of observations.
    :return: the space of each of their arrays.
    """
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}


def arrays_of(observations: Any) -> Mapping[str, Any]:
    """
    :param observations: an array, or a dictionary of arrays.
    :return: the arrays by name.
    """
    return observations if isinstance(observations, dict) else {SINGLE: observations}


def tensors_of(arrays: Any, device: th.device) -> Any:
    """
    :param arrays: copies of what a buffer holds, one or a dictionary of them.
    :param device: where to.
    :return: the same as tensors, which on a CPU share their memory.
    """
    if isinstance(arrays, dict):
        return {name: th.as_tensor(array, device=device) for name, array in arrays.items()}
    return th.as_tensor(arrays, device=device)
