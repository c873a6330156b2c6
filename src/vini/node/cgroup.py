"""Process groups that nothing escapes: one cgroup per process of a sliver (cgroups(7), version 2).

Used as the mark on processes, not for limits: who is in `<mark>/<slice>.<sliver>/...` is ours.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from vini.model import Unsupported
from vini.node.place import Place


@cache
def mount() -> Path:
    """Where version 2 is mounted: /sys/fs/cgroup, or beside version 1 on a hybrid machine."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise Unsupported(
        "This machine has no cgroup version 2, which VINI needs to keep track of processes; "
        "boot with systemd.unified_cgroup_hierarchy=1, or `mount -t cgroup2 none /sys/fs/cgroup/unified`."
    )


def of(place: Place, ns: str = "", name: str = "") -> Path:
    """The group of our agent, of a sliver, or of one process of it."""
    return mount() / place.mark / ns / name


def pids(group: Path) -> list[int]:
    """Living processes directly in a group; [] where there is no such group.  Zombies don't count."""
    try:
        return [int(p) for p in (group / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []


def populated(group: Path) -> bool:
    """Whether anything lives in a group or below it."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except OSError:
        return False


def send(group: Path, number: signal.Signals) -> None:
    """Signal every process directly in a group."""
    for pid in pids(group):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(group: Path) -> None:
    """End, at once, everything in a group and below it; it may take a moment until they are gone."""
    with suppress(OSError):
        try:
            (group / "cgroup.kill").write_text("1")  # Linux 5.14
            return
        except FileNotFoundError:
            pass
    for below in [*group.glob("*/"), group]:
        send(below, signal.SIGKILL)


def delete(group: Path, patience_s: float = 5.0) -> bool:
    """Remove an emptied group and those below it; False when something in it would not die."""
    deadline = time.monotonic() + patience_s
    while populated(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    for below in sorted(group.glob("**/"), reverse=True):  # a tenant may have made groups in his
        if below != group:
            with suppress(OSError):
                below.rmdir()
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
