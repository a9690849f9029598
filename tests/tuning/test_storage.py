"""Storages that many machines share: the same heartbeat from a database and a journal, and clear words for bad addresses."""

import builtins
import importlib.util
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage, fail_stale_trials
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.trial import TrialState

from sb3_latent.tuning import storage as module
from sb3_latent.tuning.retries import is_stale, retry
from sb3_latent.tuning.storage import open_storage

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used"),
]


def running(study):
    trial = study.ask()
    study._storage.record_heartbeat(trial._trial_id)
    return trial._trial_id


def stale(study):
    return study._storage._get_stale_trial_ids(study._study_id)


def test_the_heartbeat_is_on(place):
    storage = place.study()._storage
    assert is_heartbeat_enabled(storage)
    assert storage.get_heartbeat_interval() == 60
    assert storage.get_heartbeat_stale_trial_callback() is retry
    opened = open_storage(place.url, heartbeat_interval=7, grace_period=8)
    assert isinstance(opened, JournalStorage if place.url.endswith(".log") else RDBStorage)
    assert (opened.heartbeat_interval, opened.grace_period) == (7, 8)


@pytest.mark.filterwarnings("error")
def test_no_warnings_on_opening(place):
    open_storage(place.url)


def test_only_running_trials_without_a_recent_heartbeat_are_stale(place):
    study, other = place.study(), place.study("another")
    dead, alive, done, elsewhere = running(study), running(study), running(study), running(other)
    assert stale(study) == stale(other) == []
    for trial_id in (dead, done, elsewhere):
        place.let_heartbeat_grow_old(trial_id)
    study.tell(study.trials[2].number, 1.0)
    assert stale(place.study()) == [dead]
    assert stale(place.study("another")) == [elsewhere]
    study._storage.record_heartbeat(dead)
    assert stale(study) == []
    assert alive not in stale(study)


def test_the_periods_are_seconds(tmp_path):
    """The heartbeat thread of Optuna's loop keeps a long trial alive beside one that nobody runs."""
    url = str(tmp_path / "study.log")
    study = optuna.create_study(storage=open_storage(url, heartbeat_interval=1, grace_period=2))
    other = optuna.load_study(storage=open_storage(url, heartbeat_interval=1, grace_period=2), study_name=study.study_name)
    seen = []

    def slow(trial):
        seen.append(running(other))
        for seconds in (1.5, 1):
            time.sleep(seconds)
            seen.append(stale(other))
        return 0.0

    study.optimize(slow, n_trials=1)
    dead, early, late = seen
    assert early == [] and late == [dead]


def test_a_running_trial_without_a_heartbeat_gets_one(place):
    study = place.study()
    trial_id = study.ask()._trial_id
    assert stale(study) == []
    place.let_heartbeat_grow_old(trial_id)
    assert stale(study) == [trial_id]


def test_a_stale_trial_is_failed_once_and_queued_once(place):
    study, other = place.study(), place.study()
    trial_id = running(study)
    place.let_heartbeat_grow_old(trial_id)
    both_look = [stale(study), stale(other)]
    assert both_look == [[trial_id], [trial_id]]
    fail_stale_trials(study)
    fail_stale_trials(other)
    failed, queued = other.trials
    assert (failed.state, queued.state) == (TrialState.FAIL, TrialState.WAITING)
    assert is_stale(failed) and not is_stale(queued)
    assert stale(study) == stale(other) == []


def test_a_missed_heartbeat_is_told_and_does_not_end_the_thread(place, caplog, monkeypatch):
    study = place.study()
    trial_id = running(study)
    if place.url.endswith(".log"):
        monkeypatch.setattr(module.os, "utime", lambda *args: exec('raise OSError(5, "the disk is away")'))
    else:
        error = module.StorageInternalError("an exception is raised")
        error.__cause__ = module.SQLAlchemyError("the server is away")
        monkeypatch.setattr(RDBStorage, "record_heartbeat", lambda *args: exec("raise error", {"error": error}))
    study._storage.record_heartbeat(trial_id)
    assert re.search(r"no heartbeat of the running trial could be left \(.*(disk|server) is away\); trying again", caplog.text)


def test_heartbeats_of_finished_trials_are_cleared(tmp_path):
    study = optuna.create_study(storage=open_storage(str(tmp_path / "study.log")))
    study.optimize(lambda trial: 0.0, n_trials=3)
    still = running(study)
    assert stale(study) == []
    assert {path.name for path in (tmp_path / "study.log.heartbeats").iterdir()} == {"now", str(still)}


def test_clocks_of_machines_need_not_agree(tmp_path, monkeypatch):
    """This machine's own clock is asked for nothing."""
    study = optuna.create_study(storage=open_storage(str(tmp_path / "study.log")))
    trial_id = running(study)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert stale(study) == []
    os.utime(tmp_path / "study.log.heartbeats" / str(trial_id), (0, 0))
    assert stale(study) == [trial_id]


def test_storages_survive_pickling(place):
    study = place.study()
    copied = pickle.loads(pickle.dumps(study._storage))
    assert copied.get_heartbeat_interval() == 60 and len(copied.get_all_studies()) == 1


@pytest.mark.filterwarnings("ignore:The value of `grace_period` might be too small")
def test_a_lock_left_by_a_killed_worker_is_freed(tmp_path, monkeypatch):
    """The path is relative, where optuna's default lock would be tried for ever."""
    monkeypatch.setattr(module, "_LOCK_GRACE_PERIOD", 1)
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    open_storage("folder/study.log")
    script = """
        import os, signal
        from optuna.storages.journal import JournalFileOpenLock
        JournalFileOpenLock("folder/study.log").acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, script.splitlines()))])
    assert killed.returncode == -signal.SIGKILL and Path("folder/study.log.lock").exists()
    start = time.monotonic()
    study = optuna.create_study(storage=open_storage("folder/study.log"))
    assert 1 <= time.monotonic() - start < 10
    study.optimize(lambda trial: 0.0, n_trials=1)
    assert not Path("folder/study.log.lock").exists()


def test_half_a_line_of_a_killed_worker_is_cut_off(tmp_path):
    path = tmp_path / "study.log"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="shared")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":5,"trial_id":1,"param')
    late = optuna.load_study(storage=open_storage(str(path)), study_name="shared")
    for one in (study, late):
        one.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    again = optuna.load_study(storage=open_storage(str(path)), study_name="shared")
    assert path.read_bytes().startswith(whole) and [trial.state for trial in again.trials] == [TrialState.COMPLETE] * 4
    assert not (tmp_path / "study.log.lock").exists()


def test_workers_that_start_together_make_the_tables_once_and_keep_no_connection(postgres_url):
    """A server allows a hundred connections, and there may be more workers."""
    import psycopg

    script = "\n".join(
        [
            "import optuna, sys, threading",
            f"sys.path[0] = {str(Path(__file__).parent)!r}",
            "import worker",
            "go = threading.Barrier(6)",
            "def start():",
            "    go.wait()",
            "    storages.append(worker.open_storage(sys.argv[1]))",
            "storages = []",
            "threads = [threading.Thread(target=start) for _ in range(6)]",
            "[thread.start() for thread in threads]",
            "[thread.join() for thread in threads]",
            "print(len(storages), flush=True)",
            "input()",
        ]
    )
    command = [sys.executable, "-c", script, postgres_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "6\n"
        with psycopg.connect(postgres_url) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            assert connection.execute(query).fetchone() == (1,), "the test's own"
        process.communicate("", timeout=30)


def one_line(error):
    message = str(error.value)
    assert "\n" not in message and "(Background on this error" not in message and "sqlalche.me" not in message
    return message


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("study.txt", "storage 'study.txt' is neither a database nor a journal. Allowed: 'postgresql://"),
        ("", "storage '' is neither"),
        (None, "storage 'None' is neither"),
        ("redis://host/0", "storage 'redis://host/0' cannot be shared. Allowed: "),
        ("postgres://me:secret@host/db", r"storage 'postgres://me:\*\*\*@host/db' cannot be shared. Allowed: "),
        ("sqlite://", "storage 'sqlite://' cannot be shared"),
        ("sqlite:///:memory:", "cannot be shared"),
        ("postgresql://me:secret@host:port/db", r"storage 'postgresql://\.\.\.' is no valid URL. Allowed: "),
        ("://", "is no valid URL"),
        ("postgresql+nothing://me:secret@host/db", r"'postgresql\+nothing://me:\*\*\*@host/db' is no valid URL \(Can't load"),
    ],
)
def test_an_address_that_is_none_is_told(storage, said):
    with pytest.raises(ValueError, match=said) as error:
        open_storage(storage)
    assert "secret" not in one_line(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:9/db",
        "postgresql://me@127.0.0.1:9/db?password=secret",
        "mysql+pymysql://me:secret@127.0.0.1:9/db",
    ],
)
def test_a_server_that_is_away_is_told_without_the_password(url):
    pytest.importorskip("psycopg" if "postgres" in url else "pymysql")
    with pytest.raises(
        OSError, match=r"cannot be opened \(.*refused.*\); check the URL, and whether the server is up\.$"
    ) as error:
        open_storage(url)
    assert "secret" not in one_line(error) and "127.0.0.1:9/db" in one_line(error)


def test_a_database_that_is_missing_is_told(postgres_url):
    with pytest.raises(OSError, match='database "nothing" does not exist') as error:
        open_storage(re.sub("/test_[0-9]+", "/nothing", postgres_url))
    one_line(error)


def test_a_user_without_rights_is_told(postgres_url, monkeypatch):
    import psycopg

    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(OSError, match="permission denied for schema public") as error:
        open_storage(postgres_url.replace("tuner", "guest"))
    one_line(error)


@pytest.mark.parametrize("backend", ["postgresql", "mysql"])
def test_a_missing_driver_is_told(backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    install = re.escape({"postgresql": 'pip install "psycopg[binary]"', "mysql": "pip install pymysql"}[backend])
    with pytest.raises(ImportError, match=rf"storage '{backend}://me:\*\*\*@host/db' needs a driver.*{install}$") as error:
        open_storage(f"{backend}://me:secret@host/db")
    one_line(error)


def test_a_missing_driver_that_was_asked_for_is_told(monkeypatch):
    real = builtins.__import__
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert real("sqlalchemy")
    with pytest.raises(ImportError, match=r"storage 'postgresql\+psycopg2://host/db' needs the module psycopg2") as error:
        open_storage("postgresql+psycopg2://host/db")
    one_line(error)


@pytest.mark.parametrize(("installed", "driver"), [({"psycopg", "psycopg2"}, "psycopg"), ({"psycopg2"}, "psycopg2")])
def test_the_driver_that_is_installed_is_taken(installed, driver, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    assert module._checked_url("postgresql://host/db").drivername == f"postgresql+{driver}"
    assert module._checked_url("postgresql+pg8000://host/db").drivername == "postgresql+pg8000"


def test_passwords_with_any_sign_reach_the_server(postgres_url):
    """Optuna fills braces in URLs, and alembic's file takes percent signs."""
    storage = open_storage(postgres_url.replace("tuner@", "tuner:%7Bp%25%40%7D@"))
    assert storage.get_all_studies() == []


@pytest.mark.parametrize("storage", ["missing/study.log", "missing/deeper/study.log"])
def test_a_folder_that_is_missing_is_told(storage, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .* is missing; make or mount it first") as error:
        open_storage(str(tmp_path / storage))
    one_line(error)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("url", ["/proc/study.log", "sqlite:////proc/study.db"])
def test_a_folder_that_cannot_be_written_is_told(url):
    with pytest.raises(OSError, match=r"storage '.*/proc/study\.(log|db)' cannot be (written|opened) \(") as error:
        open_storage(url)
    one_line(error)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OSError, match="cannot be written"):
        open_storage(str(tmp_path / "study.log"))


@pytest.mark.parametrize(
    "content", ["epoch 1: loss 0.5", "one\ntwo\n", '{"op_code":0,"study_name":3}\n', '{"op_code":99}\n{}\n']
)
def test_a_file_that_is_no_journal_is_told_and_left_alone(content, tmp_path):
    path = tmp_path / "train.log"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"storage '.*train\.log' (holds something else|is no journal)") as error:
        open_storage(str(path))
    one_line(error)
    assert path.read_text() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("periods", [{"heartbeat_interval": 0}, {"grace_period": -1}, {"heartbeat_interval": 1.5}])
def test_periods_are_whole_seconds(periods, tmp_path):
    ((name, value),) = periods.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be an integer of at least 1"):
        open_storage(str(tmp_path / "study.log"), **periods)


def test_the_grace_period_exceeds_the_interval(tmp_path):
    with pytest.raises(ValueError, match="grace_period=60 must exceed heartbeat_interval=60, or running trials look dead"):
        open_storage(str(tmp_path / "study.log"), 60, 60)
