"""What a study samples, in rl_zoo3's table of samplers and beside what the file says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER


@contextmanager
def sampling_with(algorithm: str, sampler: Callable[..., dict[str, Any]]) -> Iterator[None]:
    """
    :param algorithm: name.
    :param sampler: stands in for rl_zoo3's of that name.
    :return: a context manager.
    """
    before = dict(HYPERPARAMS_SAMPLER)
    HYPERPARAMS_SAMPLER[algorithm] = sampler
    try:
        yield
    finally:
        HYPERPARAMS_SAMPLER.clear()
        HYPERPARAMS_SAMPLER.update(before)


def kept(given: Mapping[str, Any], sampled: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param given: ``policy_kwargs`` of the file.
    :param sampled: hyperparameters that rl_zoo3 sampled.
    :return: what was sampled, in the place of what the file gives, and beside the rest of it.
    """
    return {**sampled, "policy_kwargs": {**given, **sampled.get("policy_kwargs", {})}}
