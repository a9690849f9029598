"""What one worker does for a study that many may share: run trials, wait for those of others, take over what they leave."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sb3_latent.checks import whole_number
from sb3_latent.tuning.retries import FINISHED, given_up, is_duplicate, is_stale, mark, n_before, owed, retry

Objective = Callable[[optuna.Trial], float | Sequence[float]]
Callbacks = Sequence[Callable[[optuna.Study, FrozenTrial], None]]

# Failures in a row after which a worker stops, for an objective that always fails would never reach ``n_trials``.
MAX_FAILURES = 10

_MAX_PAUSE = 10.0  # seconds between two looks at what the others do

_logger = optuna.logging.get_logger("optuna.sb3_latent")


def run_trials(
    study: optuna.Study,
    objective: Objective,
    n_trials: int,
    *,
    per_worker: bool = False,
    catch: tuple[type[Exception], ...] = (),
    callbacks: Callbacks = (),
    progress_bar: bool = False,
) -> None:
    """
    Run trials until the study has ``n_trials``. The same call on any number of machines shares them.

    Queued trials go first. When all that are missing run elsewhere, the worker waits, for one of the others may die and
    leave its trial to be taken over. Exactly ``n_trials`` finish, whatever happens: of workers that start a last trial at the
    same moment all but one drop theirs, which then is a failed trial without a value.

    The storage should come from :func:`~sb3_latent.tuning.storage.open_storage`. In one without a heartbeat nobody can tell
    a running trial from one whose worker died, so no worker waits and a few trials more than ``n_trials`` may finish.

    :param study: from ``optuna.create_study(..., load_if_exists=True)``.
    :param objective: takes a trial, returns its value, or one per objective.
    :param n_trials: how many shall be complete or pruned, over all workers and former runs together.
    :param per_worker: count only those that this call runs, and leave without waiting for others.
    :param catch: exceptions of the objective after which the worker goes on. The trial is failed and does not count.
    :param callbacks: called with the study and each trial that has ended here; ``study.stop()`` works in them.
    :param progress_bar: show one, over the trials that count.
    :raises KeyboardInterrupt: as it came; the trial that ran is failed and its parameters are back in the queue. The same
        holds for ``SystemExit``.
    :raises RuntimeError: if ``MAX_FAILURES`` trials in a row failed with an exception of ``catch`` or a value
        that is no number.
    :raises Exception: whatever else the objective raises. The trial is failed and not repeated.
    """
    worker = _Worker(study, objective, whole_number("n_trials", n_trials), per_worker, catch, callbacks)
    redirected = logging_redirect_tqdm([logging.getLogger("optuna")]) if progress_bar else nullcontext()
    with redirected, tqdm(total=n_trials, unit="trial", disable=not progress_bar) as bar:
        worker.work(bar)
    for trial in given_up(study.get_trials(deepcopy=False)):
        _logger.warning(f"trial {trial.number} was given up, its workers died again and again; parameters: {trial.params}.")


class _Superfluous(BaseException):
    """Not optuna's business, which would log a traceback: the trial is failed already."""


class _Interrupted(BaseException):
    """Not optuna's business, which cannot tell of a trial that was taken over. The cause is what came."""


class _Worker:
    """:func:`run_trials` explains the arguments."""

    def __init__(
        self,
        study: optuna.Study,
        objective: Objective,
        n_trials: int,
        per_worker: bool,
        catch: tuple[type[Exception], ...],
        callbacks: Callbacks,
    ) -> None:
        self.study = study
        self.storage = study._storage
        self.objective = objective
        self.n_trials = n_trials
        self.per_worker = per_worker
        self.catch = catch
        self.callbacks = callbacks
        interval = self.storage.get_heartbeat_interval() if isinstance(self.storage, BaseHeartbeat) else None
        self.has_heartbeat = interval is not None
        self.patience = float(interval or 0)
        self.owed_since: dict[int, float] = {}
        self.trial_id: int | None = None
        self.n_own = 0
        self.n_failures = 0
        self.is_waiting = False

    def work(self, bar: "tqdm[Any]") -> None:
        """:param bar: shows how many have finished."""
        while True:
            trials = self._look()
            n_finished = self.n_own if self.per_worker else sum(trial.state in FINISHED for trial in trials)
            bar.update(n_finished - bar.n)
            if n_finished >= self.n_trials:
                return
            n_missing = self.n_trials - n_finished
            if self.per_worker or n_missing > self._n_elsewhere(trials):
                self.is_waiting = False
                self._run_one()
                if self.study._stop_flag:
                    return
            else:
                self._wait(n_missing)

    def _look(self) -> list[FrozenTrial]:
        """:return: all trials, after what others left undone was put into the queue."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        now = time.monotonic()
        self.owed_since = {trial.number: self.owed_since.get(trial.number, now) for trial in owed(trials)}
        late = [number for number, since in self.owed_since.items() if now - since > self.patience]
        for number in late:
            retry(self.study, trials[number])
        return self.study.get_trials(deepcopy=False) if late else trials

    def _n_elsewhere(self, trials: list[FrozenTrial]) -> int:
        n_running = sum(trial.state == TrialState.RUNNING for trial in trials) if self.has_heartbeat else 0
        return n_running + len(owed(trials))

    def _wait(self, n_missing: int) -> None:
        if not self.is_waiting:
            _logger.info(f"waiting for other workers, which run the last {n_missing} of {self.n_trials} trials.")
        self.is_waiting = True
        time.sleep(min(self.patience, _MAX_PAUSE))

    def _run_one(self) -> None:
        self.trial_id = None
        try:
            self.study.optimize(self._run, n_trials=1, catch=self.catch, callbacks=list(self.callbacks))
        except _Superfluous:
            return
        except _Interrupted as interrupted:
            self._give_back("interrupted")
            assert interrupted.__cause__ is not None
            raise interrupted.__cause__ from None
        except Exception:  # Optuna has several for a result that comes after its trial was taken over.
            trial = self._trial()
            if trial is None or not is_stale(trial):
                raise
            _logger.warning(
                f"trial {trial.number} was taken over while this worker gave no sign of life; its late result is dropped."
            )
        else:
            self._count()

    def _run(self, trial: optuna.Trial) -> float | Sequence[float]:
        self.trial_id = trial._trial_id
        trials = self.study.get_trials(deepcopy=False)
        frozen = trials[trial.number]
        if is_duplicate(trials, frozen):
            self._drop(frozen, "another worker has queued it already")
        if not self.per_worker and n_before(trials, frozen, self.has_heartbeat) >= self.n_trials:
            if frozen.params or "fixed_params" in frozen.system_attrs:
                self._give_back("not its turn")
                raise _Superfluous
            self._drop(frozen, f"others run the last of {self.n_trials} trials")
        try:
            return self.objective(trial)
        except (KeyboardInterrupt, SystemExit) as error:
            raise _Interrupted from error

    def _drop(self, trial: FrozenTrial, reason: str) -> None:
        _logger.info(f"trial {trial.number} is dropped: {reason}.")
        self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        raise _Superfluous

    def _give_back(self, reason: str) -> None:
        """Fail the trial and queue its parameters, unless another worker did."""
        assert self.trial_id is not None
        if mark(self.storage, self.trial_id, reason):
            try:
                self.storage.set_trial_state_values(self.trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                return
            retry(self.study, self.storage.get_trial(self.trial_id))

    def _trial(self) -> FrozenTrial | None:
        return None if self.trial_id is None else self.storage.get_trial(self.trial_id)

    def _count(self) -> None:
        trial = self._trial()
        assert trial is not None
        self.n_own += trial.state in FINISHED
        self.n_failures = self.n_failures + 1 if trial.state == TrialState.FAIL else 0
        if self.n_failures == MAX_FAILURES:
            raise RuntimeError(
                f"{MAX_FAILURES} trials in a row failed, the last of them trial {trial.number} with {trial.params}; the log "
                "above has their exceptions. Mend the objective or narrow the search space."
            )
