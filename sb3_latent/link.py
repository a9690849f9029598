"""
How a features extractor finds the algorithm that trains it.

SB3 gives an extractor its observations and nothing else, yet three things lie with the algorithm: how much of the
training is left (schedules), which optimizer steps the encoder (``own_optimizer``), and what its batches look like
(padding in RecurrentPPO, two batches in one in CrossQ, a second gradient in TRPO). Every SB3 algorithm calls
``policy.set_training_mode(True)`` first thing in ``train()``, which reaches the extractor's ``train()``: there the
algorithm is the ``self`` of a caller, and the call stack is the one place where it can be found without asking users
for a callback and without patching SB3.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import torch as th
from sb3_contrib import TRPO, CrossQ, RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn
from torch.utils.hooks import RemovableHandle

from sb3_latent.execution import Execution
from sb3_latent.hook import Kappa
from sb3_latent.known_batches import ArrivalCheck, KnownBatch
from sb3_latent.types import Latent, Observations

_LOADERS = {BaseAlgorithm.load.__func__.__code__, BaseModel.load.__func__.__code__}  # type: ignore[attr-defined]


def _callers() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def calling_algorithms() -> Iterator[BaseAlgorithm]:
    """:return: the SB3 algorithms whose methods are running, innermost first."""
    for frame in _callers():
        # Whoever reads the locals of this frame makes a cycle that holds all others, and the batches in them.
        if frame.f_code.co_varnames[:1] == ("self",):
            caller = frame.f_locals.get("self")
            if isinstance(caller, BaseAlgorithm):
                yield caller


def is_being_loaded() -> bool:
    """:return: whether SB3's ``load`` of a model or policy is running; it overwrites every weight afterwards."""
    return any(frame.f_code in _LOADERS for frame in _callers())


class AlgorithmLink:
    """
    What an extractor knows of the algorithm that trains it. Belongs to one run: never copied, pickled or saved.

    :param algorithm: the algorithm; None before training.
    """

    def __init__(self, algorithm: BaseAlgorithm | None = None) -> None:
        self.algorithm = algorithm
        self.pending: Observations | None = None
        self.known: KnownBatch | None = None
        self.arrival_check = ArrivalCheck()
        self.gradients: Sequence[th.Tensor | None] | None = None
        self._handles: list[RemovableHandle] = []
        self._functions: list[Callable[[], None] | None] = []

    def __reduce__(self) -> tuple[type["AlgorithmLink"], tuple[()]]:
        return type(self), ()

    def close(self) -> None:
        """Remove the optimizer hooks."""
        for handle in self._handles:
            handle.remove()

    @property
    def progress_remaining(self) -> float | None:
        """:return: SB3's progress, 1 to 0; None without an algorithm."""
        return None if self.algorithm is None else float(self.algorithm._current_progress_remaining)

    @property
    def num_timesteps(self) -> int:
        """:return: environment steps so far; 0 without an algorithm."""
        return 0 if self.algorithm is None else self.algorithm.num_timesteps

    @property
    def is_trust_region(self) -> bool:
        """:return: whether the algorithm differentiates the policy twice and drops the critic's encoder gradient."""
        return isinstance(self.algorithm, TRPO)

    def before_step(self, module: nn.Module, function: Callable[[], None]) -> None:
        """
        :param module: whose parameters are stepped.
        :param function: called right before each step of an optimizer that holds them.
        """
        for optimizer in self._optimizers_of(module):
            self.around_step(optimizer, before=function)

    def after_step(self, module: nn.Module, function: Callable[[], None]) -> None:
        """
        :param module: whose parameters are stepped.
        :param function: called right after each step of an optimizer that holds them.
        """
        for optimizer in self._optimizers_of(module):
            self.around_step(optimizer, after=function)

    def around_step(
        self, optimizer: th.optim.Optimizer, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
    ) -> None:
        """
        :param optimizer: any.
        :param before: called right before each of its steps.
        :param after: called right after.
        """
        self._functions += [before, after]
        if before is not None:
            self._handles.append(optimizer.register_step_pre_hook(lambda *_: before()))
        if after is not None:
            self._handles.append(optimizer.register_step_post_hook(lambda *_: after()))

    def calls(self, function: Callable[[], None]) -> bool:
        """
        :param function: perhaps one of :meth:`around_step`.
        :return: whether it is.
        """
        return function in self._functions

    def _optimizers_of(self, module: nn.Module) -> list[th.optim.Optimizer]:
        wanted = {id(parameter) for parameter in module.parameters()}
        assert self.algorithm is not None
        attributes, _ = self.algorithm._get_torch_save_params()
        candidates = [recursive_getattr(self.algorithm, name) for name in attributes]
        optimizers = [candidate for candidate in candidates if isinstance(candidate, th.optim.Optimizer)]
        return [one for one in optimizers if any(id(p) in wanted for group in one.param_groups for p in group["params"])]

    def select(self, latent: Latent, observations: Observations) -> tuple[Latent, Observations]:
        """
        Keep the rows of a training batch that tasks may learn from, see :meth:`task_rows`.

        :param latent: (B, features_dim) each part.
        :param observations: (B, *observation shape).
        :return: both, with fewer rows.
        """
        rows = self.task_rows(observations)
        if rows is None:
            return latent, observations
        kept = latent.map(lambda part: part[rows])
        if isinstance(observations, dict):
            return kept, {name: array[rows] for name, array in observations.items()}
        return kept, observations[rows]

    def task_rows(self, observations: Observations) -> slice | th.Tensor | None:
        """
        Which rows of a training batch are observations of their own.

        RecurrentPPO pads sequences with zeros (its mask stays inside ``train``), so rows of nothing but zeros are
        dropped. CrossQ's critic reads observations and next observations in one batch; the first half counts.

        :param observations: the batch, as the extractor receives it.
        :return: an index for the rows; None for all.
        """
        if isinstance(self.algorithm, CrossQ):
            return slice(self.algorithm.batch_size)
        if isinstance(self.algorithm, RecurrentPPO):
            arrays = observations.values() if isinstance(observations, dict) else [observations]
            return th.stack([array.flatten(1).any(1) for array in arrays]).any(0)
        return None


def link_to_algorithm(module: nn.Module, previous: AlgorithmLink) -> AlgorithmLink:
    """
    Find the algorithm that is training a module, on the call stack.

    :param module: part of the algorithm's policy.
    :param previous: the link so far; kept where nothing changed.
    :return: a link to the algorithm; ``previous`` if none is running that owns the module.
    """
    for algorithm in calling_algorithms():
        if algorithm is previous.algorithm:
            return previous
        if any(part is module for part in algorithm.policy.modules()):
            previous.close()
            return AlgorithmLink(algorithm)
    return previous


def check_trust_region(algorithm: BaseAlgorithm | None, kappa: Kappa, has_tasks: bool, execution: Execution) -> None:
    """
    TRPO differentiates the KL of the policy twice; neither kappa nor a second encoder nor a coarse one fits into that.

    :param algorithm: what trains an extractor.
    :param kappa: the extractor's.
    :param has_tasks: whether it learns from tasks.
    :param execution: how it is computed.
    :raises ValueError: if that cannot work under TRPO.
    """
    if not isinstance(algorithm, TRPO):
        return
    if kappa != 1:
        raise ValueError(f"kappa={kappa!r} would bend TRPO's trust region, which is a bound on the KL; use kappa=1.")
    if execution.autocast or execution.compile:
        raise ValueError(
            f"autocast={execution.autocast}, compile={execution.compile}: TRPO differentiates twice, which is up to a tenth "
            "off in bfloat16 and impossible for torch.compile; drop them."
        )
    if has_tasks and not algorithm.policy_kwargs.get("share_features_extractor", True):
        raise ValueError("TRPO trains tasks in its critic phase alone; use share_features_extractor=True.")
