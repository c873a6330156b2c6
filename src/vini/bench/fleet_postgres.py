"""A PostgreSQL of a benchmark's own: a cluster in a directory, on a Unix socket, with what an operator would set."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vini.model import ViniError

_PATIENCE_S = 30.0
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}  # durable as by default: fsync, and a commit waits for the disk


def programs() -> Path | None:
    """Where the newest one's programs are; None where there is none, or nobody as whom it may run."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    return found[-1].parent if found and (os.geteuid() != 0 or user_of_it()) else None


@contextmanager
def postgres(bin_: Path, directory: Path, nice: int = 0) -> Iterator[tuple[str, int]]:
    """URL of an empty database, and the server's process; it is gone afterwards, its directory is not."""
    directory.mkdir(mode=0o755)
    if user := user_of_it():
        os.chown(directory, user.pw_uid, user.pw_gid)
    _run(bin_, directory, "initdb", "-D", "data", "-A", "trust", "-U", "vini", "-E", "UTF8", "--locale=C.UTF-8")
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    server = subprocess.Popen(
        [*_as_user("INT"), str(bin_ / "postgres"), "-D", "data", "-k", str(directory), *settings],
        cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        os.setpriority(os.PRIO_PROCESS, server.pid, nice)
        _wait(bin_, directory)
        _run(bin_, directory, "createdb", "-h", str(directory), "-U", "vini", "vini")
        yield f"postgresql://vini@/vini?host={directory}", server.pid
    finally:
        server.send_signal(signal.SIGINT)  # hangs up on everybody; with SIGQUIT segments of shared memory stay
        server.wait()


def _wait(bin_: Path, directory: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    ready = [*_as_user(), str(bin_ / "pg_isready"), "-q", "-h", str(directory)]
    while subprocess.run(ready, cwd=directory).returncode:
        if time.monotonic() > deadline:
            raise ViniError(f"PostgreSQL did not start in {directory}.")
        time.sleep(0.05)


def _run(bin_: Path, directory: Path, program: str, *args: str) -> None:
    done = subprocess.run([*_as_user(), str(bin_ / program), *args], cwd=directory, capture_output=True)
    if done.returncode:
        raise ViniError(f"PostgreSQL's {program} failed in the benchmark: {done.stderr.decode().strip()[-500:]}")


def _as_user(dies_by: str = "") -> list[str]:
    """It refuses to run as root.  With `dies_by`, a signal, it ends with us, however we end."""
    user = user_of_it()
    who = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
    return ["setpriv", *who, *([f"--pdeathsig={dies_by}"] if dies_by else ["--nnp"])]


def user_of_it() -> pwd.struct_passwd | None:
    """As whom it runs; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
