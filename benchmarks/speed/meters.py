"""What is counted of a model, not timed: rows through the encoder, arithmetic, peak memory."""

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

N = 2048
"""Rows and columns of the matrices whose product says what the device attains."""


def encoded(model: BaseAlgorithm, n_channels: set[int], update: Callable[[], object]) -> dict[str, int]:
    """
    :param model: with convolutional encoders, or none.
    :param n_channels: that a first convolution of an encoder may have: those of a stack, or of a frame.
    :param update: a call that trains the model.
    :return: rows of the first convolutions in that call, with and without gradients.
    """
    counts = {"with_gradients": 0, "without": 0}

    def count(module: nn.Module, inputs: Any, output: th.Tensor) -> None:
        counts["with_gradients" if output.requires_grad else "without"] += len(output)

    convolutions = [module for module in model.policy.modules() if isinstance(module, nn.Conv2d)]
    handles = [one.register_forward_hook(count) for one in convolutions if one.in_channels in n_channels]
    update()
    for handle in handles:
        handle.remove()
    return counts


def flops(function: Callable[[], object]) -> int:
    """:return: floating point operations of matrix products and convolutions in a call, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def matrix_product() -> Callable[[], object]:
    """:return: a call that multiplies two matrices of float32, ``2 * N ** 3`` operations."""
    device = "cuda" if th.cuda.is_available() else "cpu"
    left, right = th.rand(2, N, N, device=device)
    return lambda: left @ right


def peak_memory() -> int:
    """:return: most bytes that this process has held: of the accelerator if there is one, else all that are resident."""
    if th.cuda.is_available():
        return int(th.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_a_fresh_process(function: Any, *args: Any) -> Any:
    """:return: what the function returns, from a process that starts with modules alone and gives back all its memory."""
    # A process that is spawned counts the peak of the one that started it as its own (exec keeps ru_maxrss); one that is
    # forked by a small server does not.
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.speed.paths"])
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *args).result()
