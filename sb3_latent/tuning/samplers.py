"""Optuna's samplers and pruners, made so that many workers share a seed and still draw differently."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sb3_latent.registry import unknown

N_STARTUP_TRIALS = 10
"""Trials drawn at random before TPE, and before the median prunes; optuna's and rl_zoo3's default."""

SAMPLERS = ("tpe", "random")
PRUNERS = ("hyperband", "halving", "median", "none")


class SeededSampler(BaseSampler):
    """
    A sampler for each trial, seeded by the study's seed and the trial's number: workers that start with the same seed do not
    draw the same trials, and a study of one worker repeats itself to the bit.

    :param make: a sampler of that seed.
    :param seed: of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._samplers: dict[int, BaseSampler] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """
        :param study: of the trial.
        :param trial: about to begin.
        """
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        self._samplers[trial.number] = self._make(seed)
        self._samplers[trial.number].before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """
        :param study: of the trial.
        :param trial: that draws.
        :return: dimensions that are drawn together.
        """
        return self._samplers[trial.number].infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """
        :param study: of the trial.
        :param trial: that draws.
        :param search_space: of :meth:`infer_relative_search_space`.
        :return: values drawn together.
        """
        return self._samplers[trial.number].sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """
        :param study: of the trial.
        :param trial: that draws.
        :param param_name: of the dimension.
        :param param_distribution: its range.
        :return: the value drawn.
        """
        return self._samplers[trial.number].sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """
        :param study: of the trial.
        :param trial: that has ended.
        :param state: how it ended.
        :param values: its objectives.
        """
        self._samplers.pop(trial.number).after_trial(study, trial, state, values)


def make_sampler(name: str, seed: int, n_startup_trials: int = N_STARTUP_TRIALS) -> BaseSampler:
    """
    :param name: ``"tpe"`` (all dimensions together) or ``"random"``.
    :param seed: of the study.
    :param n_startup_trials: trials drawn at random first.
    :return: the sampler.
    :raises ValueError: if the name is unknown.
    """
    if name == "tpe":
        return SeededSampler(lambda drawn: _tpe(drawn, n_startup_trials), seed)
    if name == "random":
        return SeededSampler(RandomSampler, seed)
    raise ValueError(unknown("sampler", name, SAMPLERS))


def make_pruner(name: str, n_evaluations: int, n_startup_trials: int = N_STARTUP_TRIALS) -> BasePruner:
    """
    :param name: ``"hyperband"`` (Li et al. 2018, arXiv:1603.06560), ``"halving"``, ``"median"`` or ``"none"``.
    :param n_evaluations: values that a trial reports.
    :param n_startup_trials: trials that end before the median prunes.
    :return: the pruner.
    :raises ValueError: if the name is unknown.
    """
    match name:
        case "hyperband":
            return HyperbandPruner(min_resource=1, max_resource=n_evaluations)
        case "halving":
            # rl_zoo3's settings.
            return SuccessiveHalvingPruner(min_resource=1, reduction_factor=4, min_early_stopping_rate=0)
        case "median":
            return MedianPruner(n_startup_trials=n_startup_trials, n_warmup_steps=n_evaluations // 3)
        case "none":
            return NopPruner()
    raise ValueError(unknown("pruner", name, PRUNERS))


def _tpe(seed: int, n_startup_trials: int) -> TPESampler:
    return TPESampler(n_startup_trials=n_startup_trials, multivariate=True, constant_liar=True, seed=seed)
