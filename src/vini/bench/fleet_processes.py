"""The processes of `vini bench fleet`: begun, ended with it, and what they take."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 180.0  # with each of them
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def running(argv: Sequence[str], log: Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that ends with the block, or with us, however we end.  A Ctrl-C is for us alone."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=TERM", *argv], stderr=file, start_new_session=True,
            **{"stdin": subprocess.DEVNULL, "stdout": file, **how},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def cpu_s(pid: int) -> float:
    """Processor time of a process, and of its children, those that have ended among them (proc_pid_stat(5))."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = read(path).rpartition(b")")[2].split()
        if not fields:
            continue
        if int(path.parent.name) == pid:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / _TICKS


def children(parent: int) -> list[int]:
    """The processes that it has."""
    stats = {int(p.parent.name): read(p).rpartition(b")")[2].split() for p in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, fields in stats.items() if fields and int(fields[1]) == parent]


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000
