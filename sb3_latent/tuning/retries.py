"""Which trials of a study run again, and which of those that wait are superfluous."""

import copy
import warnings
from collections.abc import Sequence

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

# How often a trial is started again after its worker died. One that kills its workers, as out of memory does, ends there.
MAX_RETRIES = 3

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STALE = "stale"
_RETRY = "sb3_latent:retry"


def mark(storage: BaseStorage, trial_id: int, reason: str) -> bool:
    """
    Say that a trial is to run again, before it is failed: a worker that dies in between leaves what another completes.

    :param storage: of the trial.
    :param trial_id: Optuna's id, not its number.
    :param reason: kept as a system attribute, e.g. ``STALE`` where the worker gave no sign of life.
    :return: whether it was still unfinished, hence marked.
    """
    try:
        storage.set_trial_system_attr(trial_id, _RETRY, reason)
    except UpdateFinishedTrialError:
        return False
    return True


def is_stale(trial: FrozenTrial) -> bool:
    """
    :param trial: any.
    :return: whether it was failed because its worker gave no sign of life.
    """
    return trial.state == TrialState.FAIL and trial.system_attrs.get(_RETRY) == STALE


def given_up(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """
    :param trials: all of a study, in the order of their numbers.
    :return: the last tries of those whose workers died more often than ``MAX_RETRIES``.
    """
    return [trial for trial in trials if is_stale(trial) and _deaths(trials, trial) > MAX_RETRIES]


def owed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """
    :param trials: all of a study, in the order of their numbers.
    :return: those failed ones that shall run again and are not in the queue: somebody is about to put them there, or died.
    """
    retried = {_history(trial)[-1] for trial in trials if _history(trial)}
    failed = [trial for trial in trials if trial.state == TrialState.FAIL and _RETRY in trial.system_attrs]
    return [trial for trial in failed if trial.number not in retried and _deaths(trials, trial) <= MAX_RETRIES]


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """
    Put the parameters of a failed trial back into the queue as Optuna's callback does, until ``MAX_RETRIES`` workers died.

    Optuna's limit counts every retry; here those that were interrupted on purpose, as in a queue of short jobs, are free.

    :param study: whose trial failed.
    :param trial: that one.
    """
    if _deaths(study.get_trials(deepcopy=False), trial) <= MAX_RETRIES:
        trial = copy.deepcopy(trial)
        trial.system_attrs.pop(_RETRY, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            RetryHeartbeatStaleTrialCallback()(study, trial)


def is_duplicate(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """
    Two workers may both complete what a third left undone. The first of their trials counts.

    :param trials: all of a study, in the order of their numbers.
    :param trial: one of them.
    :return: whether it, or a try before it, repeats one that was in the queue already.
    """
    first: dict[tuple[int, ...], int] = {}
    for one in trials:
        first.setdefault(tuple(_history(one)), one.number)
    tries = (*_history(trial), trial.number)
    return any(first[tries[:depth]] != tries[depth] for depth in range(1, len(tries)))


def n_before(trials: Sequence[FrozenTrial], trial: FrozenTrial, running: bool) -> int:
    """
    Numbers are handed out one by one, so all workers agree on an order, in which a retry has the place of its first try.

    :param trials: all of a study, in the order of their numbers.
    :param trial: one of them.
    :param running: whether those that run count.
    :return: how many before it have finished or still may.
    """
    states = {*FINISHED, TrialState.WAITING} | ({TrialState.RUNNING} if running else set())
    alive = [one for one in trials if one.state in states] + owed(trials)
    return len({_first_try(one) for one in alive if _first_try(one) < _first_try(trial)})


def _history(trial: FrozenTrial) -> list[int]:
    numbers: list[int] = trial.system_attrs.get("retry_history", [])
    return numbers


def _first_try(trial: FrozenTrial) -> int:
    return [*_history(trial), trial.number][0]


def _deaths(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    return sum(is_stale(one) for one in [trials[number] for number in _history(trial)] + [trial])
