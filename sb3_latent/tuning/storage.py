"""Where many machines keep one study: a database or a journal file, both with a heartbeat for every running trial."""

import importlib.util
import os
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages._rdb import models
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, create_engine, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sb3_latent.checks import whole_number
from sb3_latent.tuning.retries import STALE, mark, retry

_ALLOWED = (
    "Allowed: 'postgresql://user:password@host/database', 'mysql://user:password@host/database', 'sqlite:///file.db' "
    "(for one machine), or a path that ends in '.log' on a disk that all machines share."
)
# The first of each that is installed is taken for a URL that names none.
_DRIVERS = {
    "postgresql": {"psycopg": "psycopg", "psycopg2": "psycopg2"},
    "mysql": {"pymysql": "pymysql", "mysqldb": "MySQLdb"},
}
_INSTALL = {"postgresql": 'pip install "psycopg[binary]"', "mysql": "pip install pymysql"}
_JOURNAL_START = b'{"op_code":'
_LOCK_GRACE_PERIOD = 30  # seconds, optuna's default
_CONNECT_TIMEOUT = 10  # seconds
_ATTEMPTS = 5

_logger = optuna.logging.get_logger("optuna.sb3_latent")


def open_storage(storage: str, heartbeat_interval: int = 60, grace_period: int = 120) -> BaseStorage:
    """
    Open what a study is kept in, so that workers on many machines may join, leave and crash.

    While a trial runs its worker leaves a sign of life every ``heartbeat_interval``. When there was none for
    ``grace_period``, the next worker that looks fails the trial and puts its parameters back into the queue, at most three
    times (``retries.MAX_RETRIES``); after that the trial stays failed. Both periods are Optuna's (its default for the second
    is twice the first), measured by the clock of the database server or of the file server alone.

    Databases are Optuna's ``RDBStorage`` with one connection per operation, so that hundreds of workers fit into a server
    that allows a hundred connections. A journal file is Optuna's ``JournalStorage``, which has no heartbeat; here it is the
    time of change of one file per running trial in a folder beside it. Its lock is ``JournalFileOpenLock``: atomic since
    NFSv3, and what a killed worker leaves locked is freed after 30 s. The symbolic link that Optuna takes by default is
    never freed if the path is relative.

    :param storage: ``postgresql://user:password@host/database`` (psycopg, or psycopg2 where only that is installed),
        ``mysql://user:password@host/database`` (PyMySQL, or mysqlclient), ``sqlite:///file.db``, which is for the processes of
        one machine, or a path that ends in ``.log``. Its folder has to exist, for a disk that is not mounted must not turn
        into a study of its own.
    :param heartbeat_interval: seconds between two signs of life.
    :param grace_period: seconds without one after which a trial is taken over.
    :return: the storage, for ``optuna.create_study(storage=..., load_if_exists=True)``.
    :raises ValueError: if ``storage`` is none of these, is no journal, or a period is out of range.
    :raises OSError: if the server cannot be reached or the file cannot be written.
    :raises ImportError: if no driver for the database is installed.
    """
    whole_number("heartbeat_interval", heartbeat_interval)
    if whole_number("grace_period", grace_period) <= heartbeat_interval:
        raise ValueError(
            f"grace_period={grace_period} must exceed heartbeat_interval={heartbeat_interval}, or running trials look dead."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if "://" in str(storage):
            return _open_database(_checked_url(storage), heartbeat_interval, grace_period)
        if str(storage).endswith(".log"):
            return _open_journal(Path(storage), heartbeat_interval, grace_period)
    raise ValueError(f"storage {str(storage)!r} is neither a database nor a journal. {_ALLOWED}")


class _Database(RDBStorage):
    """Optuna's, whose heartbeat outlives an outage of the server."""

    def record_heartbeat(self, trial_id: int) -> None:
        try:
            super().record_heartbeat(trial_id)
        except (StorageInternalError, SQLAlchemyError) as error:
            _logger.warning(f"no heartbeat of the running trial could be left ({_cause(error)}); trying again.")

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        trial, heartbeat = models.TrialModel, models.TrialHeartbeatModel
        silent = select(trial.trial_id).where(
            trial.study_id == study_id,
            trial.state == TrialState.RUNNING,
            trial.trial_id.not_in(select(heartbeat.trial_id)),
        )
        with self.scoped_session() as session:
            trial_ids = session.scalars(silent).all()
        for trial_id in trial_ids:
            # Its worker may have died before the first heartbeat, which optuna would wait for without end.
            self.record_heartbeat(trial_id)
        return [trial_id for trial_id in super()._get_stale_trial_ids(study_id) if mark(self, trial_id, STALE)]


class _Journal(JournalStorage, BaseHeartbeat):
    """
    Optuna's, with heartbeats.

    Times of change come from the file server's clock (``os.utime`` without a time) and are compared with that of a file
    touched at the moment. Files are opened before they are looked at, for NFS answers from its cache otherwise.
    """

    def __init__(self, path: Path, heartbeat_interval: int, grace_period: int) -> None:
        self.heartbeat_interval = heartbeat_interval
        self.grace_period = grace_period
        self._heartbeats = path.with_name(f"{path.name}.heartbeats")
        super().__init__(JournalFileBackend(str(path), _Lock(path)))
        self._heartbeats.mkdir(exist_ok=True)

    def record_heartbeat(self, trial_id: int) -> None:
        try:
            _touch(self._heartbeats / str(trial_id))
        except OSError as error:
            _logger.warning(f"no heartbeat of the running trial could be left ({error}); trying again.")

    def get_heartbeat_interval(self) -> int:
        return self.heartbeat_interval

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None]:
        return retry

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        seen = {int(path.name) for path in self._heartbeats.iterdir() if path.name.isdigit()}
        now = _touch(self._heartbeats / "now")
        stale = []
        for trial in self.get_all_trials(study_id, False, (TrialState.RUNNING,)):
            heartbeat = self._heartbeats / str(trial._trial_id)
            if trial._trial_id not in seen:
                _touch(heartbeat)  # As in _Database.
            elif now - _changed(heartbeat) > self.grace_period:
                stale.append(trial._trial_id)
        for trial_id in seen:
            if self.get_trial(trial_id).state.is_finished():
                (self._heartbeats / str(trial_id)).unlink(missing_ok=True)
        return [trial_id for trial_id in stale if mark(self, trial_id, STALE)]


class _Lock(JournalFileOpenLock):
    """Whoever holds it finds whole lines: the half line of a worker that died while writing would spoil the next one."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _LOCK_GRACE_PERIOD)
        self._path = path

    def acquire(self) -> bool:
        super().acquire()
        try:
            with self._path.open("r+b") as journal:
                journal.seek(max(journal.seek(0, os.SEEK_END) - 1, 0))
                if journal.read() not in {b"", b"\n"}:
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        except BaseException:
            self.release()
            raise
        return True


def _touch(path: Path) -> float:
    """:return: the time of the file server."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _changed(path: Path) -> float:
    """:return: when, or that it never was if the trial has finished meanwhile: then it cannot be taken over anyhow."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _open_journal(path: Path, heartbeat_interval: int, grace_period: int) -> BaseStorage:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"storage {str(path)!r}: the folder {str(path.parent)!r} is missing; make or mount it first.")
    try:
        with path.open("ab+") as journal:
            journal.seek(0)
            start = journal.read(len(_JOURNAL_START))
    except OSError as error:
        raise OSError(f"storage {str(path)!r} cannot be written ({error.strerror}); give a path you may write to.") from error
    if not _JOURNAL_START.startswith(start):
        raise ValueError(f"storage {str(path)!r} holds something else than a journal of Optuna; choose another name.")
    try:
        return _Journal(path, heartbeat_interval, grace_period)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"storage {str(path)!r} is no journal that this version of Optuna reads ({error!r}).") from error


def _checked_url(storage: str) -> URL:
    """Complete with the driver that is installed."""
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        raise ValueError(f"storage '{storage.split('://')[0]}://...' is no valid URL. {_ALLOWED}") from None
    backend = url.get_backend_name()
    if backend not in {*_DRIVERS, "sqlite"} or (backend == "sqlite" and url.database in {None, "", ":memory:"}):
        raise ValueError(f"storage {_shown(url)!r} cannot be shared. {_ALLOWED}")
    if url.drivername != backend or backend == "sqlite":
        return url
    for driver, module in _DRIVERS[backend].items():
        if importlib.util.find_spec(module) is not None:
            return url.set(drivername=f"{backend}+{driver}")
    raise ImportError(f"storage {_shown(url)!r} needs a driver, and none is installed: {_INSTALL[backend]}")


def _open_database(url: URL, heartbeat_interval: int, grace_period: int) -> BaseStorage:
    options: dict[str, Any] = {"connect_args": {"timeout": 60}}  # Seconds that SQLite waits for another process.
    if url.get_backend_name() != "sqlite":
        limit = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_TIMEOUT}
        options = {"connect_args": limit, "poolclass": NullPool}
    try:
        create_engine(url, **options).connect().close()
        for attempt in range(_ATTEMPTS):
            try:
                return _Database(
                    url.render_as_string(hide_password=False),
                    options,
                    heartbeat_interval=heartbeat_interval,
                    grace_period=grace_period,
                    heartbeat_stale_trial_callback=retry,
                )
            except (SQLAlchemyError, StorageInternalError):
                # Workers that start together make the same tables.
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(random.random())
    except ModuleNotFoundError as error:
        raise ImportError(f"storage {_shown(url)!r} needs the module {error.name}; install it.") from error
    except ArgumentError as error:
        raise ValueError(f"storage {_shown(url)!r} is no valid URL ({_cause(error)}). {_ALLOWED}") from error
    except RuntimeError as error:
        raise ValueError(f"storage {_shown(url)!r} cannot be used: {error}") from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise OSError(
            f"storage {_shown(url)!r} cannot be opened ({_cause(error)}); check the URL, and whether the server is up."
        ) from error
    raise AssertionError("the last attempt returns or raises")


def shown(storage: str) -> str:
    """
    :param storage: see :func:`open_storage`.
    :return: the same without passwords, to be printed.
    """
    return _shown(_checked_url(storage)) if "://" in storage else storage


def _shown(url: URL) -> str:
    hidden = {key: "hidden" for key in url.query if "pass" in key}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _cause(error: BaseException) -> str:
    """What the driver said, in one line, without what SQLAlchemy and optuna wrap it in."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]
