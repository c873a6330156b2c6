"""A PostgreSQL of the tests' own: a cluster in memory where there is room, on a Unix socket, and no care for disks."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from vini.bench.fleet_postgres import programs, user_of_it

BIN = programs() or Path("/usr/lib/postgresql")


def missing() -> str:
    """Why there can be none; "": there can."""
    if not (BIN / "initdb").exists():
        return "no PostgreSQL, or nobody as whom it may run: apt-get install postgresql"
    return ""


class Cluster:
    """Runs until `stop`."""

    def __init__(self) -> None:
        self._directory = directory = Path(tempfile.mkdtemp(prefix="vini-pg-", dir=_memory()))  # short, as unix(7) asks
        directory.chmod(0o755)
        if user := user_of_it():
            os.chown(directory, user.pw_uid, user.pw_gid)
        try:
            self._make()
            self.start()
        except BaseException:
            with suppress(AssertionError, subprocess.SubprocessError):  # it may have begun all the same
                self._end()
            shutil.rmtree(directory)
            raise

    def _make(self) -> None:
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "vini", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")

    def start(self) -> None:
        """Also again after `kill`."""
        settings = "-c listen_addresses='' -c fsync=off -c autovacuum=off -c max_connections=200 -c shared_buffers=32MB"
        settings += " -c max_wal_size=128MB -c min_wal_size=32MB"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", f"{settings} -k {self._directory}", "start")

    def kill(self) -> None:
        """SIGKILL to all of its processes, and wait until they are gone: what it promised is in its files.

        The first one is stopped before its children are listed: one that it forked in between would live on, hold the
        shared memory, and keep the next `start` from it.
        """
        first = int((self._directory / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)
        while "\nState:\tT" not in Path(f"/proc/{first}/status").read_text():
            time.sleep(0.001)
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        handles = [os.pidfd_open(pid) for pid in (first, *map(int, others)) if Path(f"/proc/{pid}").exists()]
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in handles:
            select.select([handle], [], [], 60)
            os.close(handle)

    def said(self) -> str:
        """The end of its log."""
        return (self._directory / "log").read_text(errors="replace")[-3000:]

    def create(self, name: str, template: str = "") -> str:
        """A new database, empty or a copy of another one that nobody uses; its URL."""
        self._do(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return self._url(name)

    def drop(self, name: str) -> None:
        """It takes 8 MB, of the machine's memory."""
        self._do(f"DROP DATABASE {name} WITH (FORCE)")

    def _url(self, name: str) -> str:
        return f"postgresql://vini@/{name}?host={self._directory}"

    def _do(self, statement: str) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *args: str) -> None:
        user = user_of_it()
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        done = subprocess.run(
            [*prefix, BIN / program, *args], cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr.decode()}"


def _memory() -> str | None:
    """A directory in memory; None, for the usual one, where there is none with room for all clusters of a run."""
    where = Path("/dev/shm")
    return str(where) if where.is_dir() and shutil.disk_usage(where).free > 4 << 30 else None
