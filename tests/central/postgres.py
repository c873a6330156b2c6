"""A PostgreSQL of the tests' own: a cluster in a directory, on a Unix socket, without any care for the disk."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from vini.bench.fleet_postgres import programs, user_of_it

BIN = programs() or Path("/usr/lib/postgresql")


def missing() -> str:
    """Why there can be none; "": there can."""
    if not (BIN / "initdb").exists():
        return "no PostgreSQL, or nobody as whom it may run: apt-get install postgresql"
    return ""


class Cluster:
    """Runs until `stop`."""

    def __init__(self, directory: Path):
        self._directory = directory
        directory.chmod(0o755)
        if user := user_of_it():
            os.chown(directory, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "vini", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        """Also again after `kill`."""
        settings = "-c listen_addresses='' -c fsync=off -c max_connections=200 -c shared_buffers=32MB"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", f"{settings} -k {self._directory}", "start")

    def kill(self) -> None:
        """SIGKILL to all of its processes, and wait until they are gone: what it promised is in its files."""
        first = int((self._directory / "data" / "postmaster.pid").read_text().split()[0])
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        handles = [os.pidfd_open(pid) for pid in (first, *map(int, others)) if Path(f"/proc/{pid}").exists()]
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in handles:
            select.select([handle], [], [], 60)
            os.close(handle)

    def create(self, name: str, template: str = "") -> str:
        """A new database, empty or a copy of another one that nobody uses; its URL."""
        copied = ("-T", template) if template else ()
        self._run("createdb", "-h", str(self._directory), "-U", "vini", *copied, name)
        return f"postgresql://vini@/{name}?host={self._directory}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, program: str, *args: str) -> None:
        user = user_of_it()
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        done = subprocess.run(
            [*prefix, BIN / program, *args], cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode()}"
