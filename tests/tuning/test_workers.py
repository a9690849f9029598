"""One study and many workers, some of which are killed, interrupted or suspended: every trial is accounted for."""

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState

from sb3_latent.tuning import workers
from sb3_latent.tuning.retries import MAX_RETRIES, STALE, given_up, mark, retry
from sb3_latent.tuning.storage import open_storage
from sb3_latent.tuning.workers import MAX_FAILURES, run_trials

COMPLETE, FAIL, PRUNED = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used"),
]


def history(trial):
    return trial.system_attrs.get("retry_history", [])


class Crew:
    """Worker processes that share a study, and the diary they keep of their trials."""

    def __init__(self, storage, folder):
        self.storage, self.diary, self.processes = storage, folder / "diary", []

    def start(self, n_trials, seconds=0.2):
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), self.storage, str(self.diary)]
        command += ["--n-trials", str(n_trials), "--seconds", str(seconds)]
        log = self.diary.with_name(f"log{len(self.processes)}").open("w")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def lines(self, word, process=None):
        lines = [line.split() for line in self.diary.read_text().splitlines()] if self.diary.exists() else []
        return [line for line in lines if line[0] == word and (process is None or line[1] == str(process.pid))]

    def await_start(self, *processes):
        deadline = time.monotonic() + 30
        while not all(self.lines("start", process) for process in processes):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def logs(self):
        return "\n".join(path.read_text() for path in sorted(self.diary.parent.glob("log*")))

    def join(self, *processes):
        for process in processes:
            assert process.wait(timeout=60) == 0, self.logs()

    def trials(self):
        return optuna.load_study(study_name="shared", storage=open_storage(self.storage)).trials


@pytest.fixture(params=["postgresql", "journal"])
def crew(request, tmp_path):
    storage = request.getfixturevalue("postgres_url") if request.param == "postgresql" else str(tmp_path / "study.log")
    crew = Crew(storage, tmp_path)
    yield crew
    for process in crew.processes:
        process.kill()
        process.wait()


def states(trials):
    return Counter(trial.state for trial in trials)


def test_every_trial_is_accounted_for(crew):
    """Four workers are killed. Of five others one is killed in mid-trial, one is told to stop, and one joins late."""
    first = [crew.start(8, seconds=60) for _ in range(4)]
    crew.await_start(*first)
    for worker in first:
        worker.kill()
    killed, stopped = crew.start(8, seconds=60), crew.start(8, seconds=60)
    crew.await_start(killed, stopped)
    others = [crew.start(8), crew.start(8)]
    killed.kill()
    stopped.send_signal(signal.SIGTERM)
    crew.await_start(*others)
    late = crew.start(8)
    crew.join(*others, late)
    assert stopped.wait(timeout=30) != 0 and "KeyboardInterrupt" in crew.logs()

    trials = crew.trials()
    assert states(trials)[COMPLETE] == 8 and states(trials).keys() == {COMPLETE, FAIL}
    broken_off = [line for worker in (*first, killed, stopped) for line in crew.lines("start", worker)]
    started = {int(number) for _, _, number, _ in crew.lines("start")}
    assert {int(number) for _, _, number, _ in broken_off} == {n for n in started if trials[n].state == FAIL}
    assert all(trial.number in started or f"trial {trial.number} is dropped" in crew.logs() for trial in trials)
    for _, _, number, x in broken_off:
        (again,) = [trial for trial in trials if history(trial)[-1:] == [int(number)]]
        assert trials[int(number)].params == again.params == {"x": float(x)}
    completed = Counter(line[3] for line in crew.lines("end"))
    assert completed.keys() == {str(trial.params["x"]) for trial in trials if trial.state == COMPLETE}
    assert set(completed.values()) == {1}
    assert "waiting for other workers" in crew.logs()


def objective(trial):
    return trial.suggest_float("x", 0, 1)


class Clock:
    """Stands for the module ``time`` in the worker: to sleep takes no time, and something may happen meanwhile."""

    def __init__(self, happens):
        self.now, self.happens, self.n_naps = 0.0, happens, 0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.n_naps += 1
        assert self.n_naps < 100, "the worker waits for ever"
        self.happens(self.n_naps)


@pytest.fixture(autouse=True)
def clock():
    clock = Clock(lambda n_naps: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "time", clock)
        yield clock


def begin(study):
    """A trial of another worker, with its heartbeat."""
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study._storage.record_heartbeat(trial._trial_id)
    return trial


def die(place, study):
    """Another worker begins a trial and is killed; it is failed by the next worker that looks."""
    trial = begin(study)
    place.let_heartbeat_grow_old(trial._trial_id)
    return trial


def test_trials_of_former_runs_count(place):
    study = place.study()
    for n_trials, expected in [(2, 2), (5, 5), (5, 5), (3, 5)]:
        run_trials(study, objective, n_trials)
        assert states(study.trials) == {COMPLETE: expected}
    run_trials(place.study(), objective, 2, per_worker=True)
    assert states(study.trials) == {COMPLETE: 7}


def test_what_ends_without_a_value_does_not_count(place):
    def some_fail(trial):
        trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            raise ZeroDivisionError
        if trial.number == 2:
            return float("nan")
        if trial.number == 3:
            raise optuna.TrialPruned
        return 0.0

    study = place.study()
    seen = []
    run_trials(study, some_fail, 3, catch=(ZeroDivisionError,), callbacks=[lambda study, trial: seen.append(trial.number)])
    assert [trial.state for trial in study.trials] == [COMPLETE, FAIL, FAIL, PRUNED, COMPLETE]
    assert seen == [0, 1, 2, 3, 4]


def test_an_exception_of_the_objective_goes_up_and_is_not_repeated(place):
    def wrong(trial):
        trial.suggest_float("x", 0, 1)
        raise TypeError("no such setting")

    study = place.study()
    with pytest.raises(TypeError, match="no such setting"):
        run_trials(study, wrong, 3)
    assert states(study.trials) == {FAIL: 1}
    run_trials(study, objective, 1)
    assert states(study.trials) == {FAIL: 1, COMPLETE: 1}


def test_an_objective_that_always_fails_stops_the_worker():
    study = optuna.create_study()
    with pytest.raises(RuntimeError, match=f"{MAX_FAILURES} trials in a row failed"):
        run_trials(study, lambda trial: float("nan"), 3)
    assert states(study.trials) == {FAIL: MAX_FAILURES}


def test_failures_between_results_do_not_stop_the_worker():
    study = optuna.create_study()
    run_trials(study, lambda trial: 0.0 if trial.number % MAX_FAILURES == MAX_FAILURES - 1 else float("nan"), 3)
    assert states(study.trials) == {FAIL: 3 * (MAX_FAILURES - 1), COMPLETE: 3}


def test_a_callback_may_stop_the_worker(place):
    study = place.study()
    run_trials(study, objective, 5, callbacks=[lambda study, trial: study.stop()])
    assert states(study.trials) == {COMPLETE: 1}


def test_a_worker_waits_for_the_last_trial_of_another(place, clock, caplog):
    other = place.study()
    trial = begin(other)
    clock.happens = lambda n_naps: n_naps == 3 and other.tell(trial, 0.5)
    run_trials(place.study(), objective, 1)
    assert states(other.trials) == {COMPLETE: 1} and clock.n_naps == 3
    assert caplog.text.count("waiting for other workers, which run the last 1 of 1 trials.") == 1


def test_a_worker_takes_over_the_last_trial_of_another(place, clock):
    other = place.study()
    trial = begin(other)
    clock.happens = lambda n_naps: n_naps == 3 and place.let_heartbeat_grow_old(trial._trial_id)
    run_trials(place.study(), objective, 1)
    killed, again = other.trials
    assert (killed.state, again.state) == (FAIL, COMPLETE)
    assert again.params == killed.params == trial.params


def test_a_worker_that_counts_its_own_trials_does_not_wait(place, clock):
    other = place.study()
    begin(other)
    run_trials(place.study(), objective, 2, per_worker=True)
    assert states(other.trials) == {RUNNING: 1, COMPLETE: 2} and clock.n_naps == 0


def test_without_a_heartbeat_nobody_waits(clock):
    study = optuna.create_study()
    study.ask()
    run_trials(study, objective, 2)
    assert states(study.trials) == {RUNNING: 1, COMPLETE: 2} and clock.n_naps == 0


def test_a_worker_that_died_before_its_first_heartbeat(place, clock):
    other = place.study()
    trial = other.ask()
    clock.happens = lambda n_naps: n_naps == 3 and place.let_heartbeat_grow_old(trial._trial_id)
    run_trials(place.study(), objective, 1)
    assert [trial.state for trial in other.trials] == [FAIL, COMPLETE]


def in_between(study, monkeypatch, act):
    """Let another worker act after this one has decided to run a trial, and before it gets one."""
    ask = study.ask

    def late(*args, **kwargs):
        monkeypatch.undo()
        act()
        return ask(*args, **kwargs)

    monkeypatch.setattr(study, "ask", late)


def test_of_two_that_start_the_last_trial_one_is_dropped(place, clock, monkeypatch, caplog):
    study, other = place.study(), place.study()
    trials = []
    in_between(study, monkeypatch, lambda: trials.append(begin(other)))
    clock.happens = lambda n_naps: other.tell(trials[0], 0.5)
    called = []
    run_trials(study, lambda trial: called.append(trial), 1)
    assert [trial.state for trial in other.trials] == [COMPLETE, FAIL] and not called
    assert "trial 1 is dropped: others run the last of 1 trials." in caplog.text


def test_of_two_that_start_the_last_trial_a_queued_one_goes_back(place, clock, monkeypatch):
    study, other = place.study(), place.study()
    study.enqueue_trial({"x": 0.25})
    study.enqueue_trial({"x": 0.75})
    trials = []
    in_between(study, monkeypatch, lambda: trials.append(begin(other)))
    clock.happens = lambda n_naps: other.tell(trials[0], 0.5)
    run_trials(study, objective, 1)
    assert [trial.state for trial in other.trials] == [COMPLETE, FAIL, WAITING]
    run_trials(study, objective, 2)
    assert other.trials[2].state == COMPLETE and other.trials[2].params == {"x": 0.75}


def test_a_retry_keeps_the_place_of_its_first_try(place):
    """A trial that was queued meanwhile must not take it: the retry would wait for ever."""
    study = place.study()
    killed = die(place, study)
    study.enqueue_trial({"x": 0.75})
    run_trials(study, objective, 1)
    assert [trial.params for trial in study.trials if trial.state == COMPLETE] == [killed.params]
    assert states(study.trials)[WAITING] == 1


def test_a_retry_that_was_queued_twice_runs_once(place, caplog):
    study = place.study()
    die(place, study)
    fail_stale_trials(study)
    retry(study, study.trials[0])
    assert [history(trial) for trial in study.trials] == [[], [0], [0]]
    run_trials(study, objective, 2)
    assert [trial.state for trial in study.trials] == [FAIL, COMPLETE, FAIL, COMPLETE]
    assert "trial 2 is dropped: another worker has queued it already." in caplog.text


def die_in_between(place, study):
    """Another worker is killed in mid-trial, and the one that failed the trial before it could queue it again."""
    killed = die(place, study)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", lambda *args: exec("raise SystemExit"))
        with pytest.raises(SystemExit):
            fail_stale_trials(study)
    return killed


def test_a_worker_dies_between_failing_a_trial_and_queueing_it(place, clock):
    study = place.study()
    killed = die_in_between(place, study)
    assert states(study.trials) == {FAIL: 1}
    run_trials(place.study(), objective, 1)
    _, again = study.trials
    assert again.state == COMPLETE and again.params == killed.params
    assert clock.now > 60, "the one that failed it gets the time to queue it"


def test_what_is_about_to_be_queued_keeps_its_place(place, monkeypatch):
    study, other = place.study(), place.study()
    in_between(study, monkeypatch, lambda: die_in_between(place, other))
    run_trials(study, objective, 1)
    killed, dropped, again = study.trials
    assert (killed.state, dropped.state, again.state) == (FAIL, FAIL, COMPLETE)
    assert history(again) == [killed.number] and again.params == killed.params


def study_of_a_suspended_worker(place):
    """One that leaves no sign of life, for its own would come at a moment nobody knows."""
    study = place.study()
    study._storage.record_heartbeat = lambda trial_id: None
    return study


def test_a_worker_that_wakes_up_before_it_is_replaced_keeps_its_trial(place):
    study, other = study_of_a_suspended_worker(place), place.study()

    def suspended(trial):
        other._storage.record_heartbeat(trial._trial_id)
        place.let_heartbeat_grow_old(trial._trial_id)
        assert other._storage._get_stale_trial_ids(other._study_id) == [trial._trial_id]
        return 1.0

    def broken(study, trial):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_trials(study, suspended, 1, callbacks=[broken])
    run_trials(study, objective, 2)
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE]


@pytest.mark.parametrize("late", ["value", "report", "exception", "caught", "interrupt"])
def test_the_late_result_of_a_suspended_worker_is_dropped(place, late, caplog):
    study, other = study_of_a_suspended_worker(place), place.study()

    def suspended(trial):
        x = trial.suggest_float("x", 0, 1)
        if history(trial.study.trials[trial.number]):
            return x
        other._storage.record_heartbeat(trial._trial_id)
        place.let_heartbeat_grow_old(trial._trial_id)
        run_trials(other, objective, 1)
        if late == "report":
            trial.report(0.5, step=1)
        if late in {"exception", "caught"}:
            raise ValueError("too late")
        if late == "interrupt":
            raise KeyboardInterrupt
        return 100.0

    if late == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            run_trials(study, suspended, 1)
    else:
        run_trials(study, suspended, 1, catch=(ValueError,) if late == "caught" else ())
        assert "trial 0 was taken over while this worker gave no sign of life; its late result is dropped." in caplog.text
    first, again = study.trials
    assert (first.state, first.value) == (FAIL, None)
    assert (again.state, again.value) == (COMPLETE, first.params["x"])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_is_queued_again_however_often(place, interrupt):
    def interrupted(trial):
        trial.suggest_float("x", 0, 1)
        raise interrupt

    study = place.study()
    for _ in range(MAX_RETRIES + 2):
        with pytest.raises(interrupt):
            run_trials(study, interrupted, 1)
    run_trials(study, objective, 1)
    *interrupted_ones, last = study.trials
    assert {trial.state for trial in interrupted_ones} == {FAIL}
    assert last.state == COMPLETE and history(last) == list(range(MAX_RETRIES + 2))
    assert {trial.params["x"] for trial in study.trials} == {last.params["x"]}
    assert not given_up(study.trials)


def test_a_trial_is_taken_over_while_its_worker_gives_it_back(place, monkeypatch):
    def interrupted(trial):
        raise KeyboardInterrupt

    def overtaken(storage, trial_id, reason):
        marked = mark(storage, trial_id, STALE)
        storage.set_trial_state_values(trial_id, FAIL)
        retry(study, storage.get_trial(trial_id))
        return marked

    study = place.study()
    monkeypatch.setattr(workers, "mark", overtaken)
    with pytest.raises(KeyboardInterrupt):
        run_trials(study, interrupted, 1)
    assert [trial.state for trial in study.trials] == [FAIL, WAITING]


def test_a_trial_that_kills_its_workers_is_given_up(place, caplog):
    study = place.study()
    for _ in range(MAX_RETRIES + 1):
        deadly = die(place, study)
        fail_stale_trials(study)
    assert states(study.trials) == {FAIL: MAX_RETRIES + 1}
    run_trials(study, objective, 1)
    assert states(study.trials) == {FAIL: MAX_RETRIES + 1, COMPLETE: 1}
    assert study.trials[-1].params != deadly.params
    (given,) = given_up(study.trials)
    assert given.number == MAX_RETRIES and given.params == deadly.params
    assert f"trial {MAX_RETRIES} was given up, its workers died again and again; parameters: {given.params}." in caplog.text


def test_a_retry_that_fails_by_itself_is_not_repeated(place):
    def wrong(trial):
        raise TypeError("no such setting")

    study = place.study()
    die(place, study)
    with pytest.raises(TypeError, match="no such setting"):
        run_trials(study, wrong, 1)
    run_trials(study, objective, 1)
    assert [trial.state for trial in study.trials] == [FAIL, FAIL, COMPLETE]
    assert not history(study.trials[2])


def test_the_database_goes_away_and_comes_back_during_a_trial(postgres, postgres_url, caplog):
    def outage(trial):
        x = trial.suggest_float("x", 0, 1)
        postgres.stop()
        time.sleep(1.5)
        postgres.start()
        return x

    storage = open_storage(postgres_url, heartbeat_interval=1, grace_period=30)
    study = optuna.create_study(storage=storage)
    run_trials(study, outage, 1)
    assert states(study.trials) == {COMPLETE: 1}
    assert "no heartbeat of the running trial could be left" in caplog.text


def test_the_progress_bar_counts_the_trials_of_all(capsys):
    study = optuna.create_study()
    run_trials(study, objective, 2)
    assert "%|" not in capsys.readouterr().err
    run_trials(study, objective, 3, progress_bar=True)
    shown = capsys.readouterr().err
    assert "2/3" in shown and "3/3" in shown and "Trial 2 finished" in shown


@pytest.mark.parametrize("n_trials", [0, -1, 1.5, True, None])
def test_the_number_of_trials_is_checked(n_trials):
    with pytest.raises(ValueError, match=f"n_trials={n_trials} must be an integer of at least 1"):
        run_trials(optuna.create_study(), objective, n_trials)
