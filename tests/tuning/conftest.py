"""A PostgreSQL server of the tests' own with one database per test, and storages whose heartbeats a test can let grow old."""

import glob
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import optuna
import pytest

from sb3_latent.tuning.storage import open_storage


class Server:
    """Debian's binaries on a temporary folder, reached through a socket in it; the superuser is ``tuner``."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder = Path(binaries), Path(folder)
        # The server refuses to run as root.
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self._call("initdb", "--username=tuner", "--auth=trust", "--no-sync", "--pgdata", self.folder / "data")

    def _call(self, program, *arguments):
        group = pwd.getpwnam(self.user).pw_gid if self.user else None
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            user=self.user,
            group=group,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=20"
        self._call("pg_ctl", "start", "--wait", "--pgdata", self.folder / "data", "-o", options)

    def stop(self):
        self._call("pg_ctl", "stop", "--wait", "--mode=immediate", "--pgdata", self.folder / "data")

    def new_database(self, name):
        self._call("createdb", f"--host={self.folder}", "--username=tuner", name)
        return f"postgresql://tuner@/{name}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres():
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is missing: pip install 'psycopg[binary]'")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = tempfile.mkdtemp(prefix="postgres")
    server = Server(found[-1], folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres, request):
    return postgres.new_database(f"test_{abs(hash(request.node.nodeid))}")


class Place:
    """A storage on disk with one study, which any number of workers open as processes of their own would."""

    def __init__(self, url):
        self.url = url

    def study(self, name="shared"):
        storage = open_storage(self.url)
        sampler = optuna.samplers.RandomSampler(seed=0)
        return optuna.create_study(storage=storage, study_name=name, sampler=sampler, load_if_exists=True)

    def let_heartbeat_grow_old(self, trial_id):
        """As if the worker had died or slept an hour ago."""
        if self.url.endswith(".log"):
            os.utime(f"{self.url}.heartbeats/{trial_id}", (0, 0))
        else:
            with sqlite3.connect(self.url.removeprefix("sqlite:///")) as connection:
                change = "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour') WHERE trial_id = ?"
                assert connection.execute(change, [trial_id]).rowcount == 1
            connection.close()


@pytest.fixture(params=["sqlite", "journal"])
def place(request, tmp_path):
    return Place(str(tmp_path / "study.log") if request.param == "journal" else f"sqlite:///{tmp_path}/study.db")
