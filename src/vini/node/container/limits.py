"""What a container may take: cgroups(7), version 2, or the controllers of version 1 on a hybrid machine.

Version 2 has one tree: the limits are those of the sliver's group, in which our mark has its processes anyway.  With
version 1 each controller has a tree of its own, in which the sliver has a group too, that its processes must join.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from vini.model import Container
from vini.node import cgroup
from vini.node.place import Place

_PERIOD_US = 100_000
_PAGE = 4096
_MB = 10**6
_NONE = "max"
_CONTROLLERS = ("cpu", "memory", "pids")


@cache
def _trees() -> Mapping[str, Path]:
    """Controller -> where its tree of version 1 is mounted; empty where version 2 has them all."""
    if set(_CONTROLLERS) <= set((cgroup.mount() / "cgroup.controllers").read_text().split()):
        return {}
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup":
            found |= {c: Path(where) for c in _CONTROLLERS if c in options.split(",")}
    return found


def are_there() -> bool:
    """Whether this machine has all the controllers, of either version."""
    with suppress(OSError):
        return not _trees() or set(_trees()) == set(_CONTROLLERS)
    return False


def version_2_apart() -> Path | None:
    """Where version 2 is mounted beside the controllers of version 1."""
    return cgroup.mount() if _trees() else None


def joined(place: Place, ns: str) -> list[Path]:
    """The groups that a sliver's processes must join besides the one that is their mark."""
    return [tree / place.mark / ns for tree in _trees().values()]


def ensure(place: Place, o: Container) -> None:
    """Make the groups, and set the limits.  OSError where the kernel refuses."""
    if not _trees():
        for above in (cgroup.mount(), cgroup.of(place)):
            above.mkdir(exist_ok=True)
            (above / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in _CONTROLLERS))
    for group in joined(place, o.ns) or [cgroup.of(place, o.ns)]:
        group.mkdir(parents=True, exist_ok=True)
    for file, text in files(place, o):
        if file.exists() or file.name not in ("memory.swap.max",):  # a kernel may be built without swap
            file.write_text(text)


def observed(place: Place, o: Container) -> Container:
    """`o` where its limits hold; another where somebody changed one."""
    for file, text in files(place, o):
        try:
            if file.read_text().strip() != text:
                return replace(o, pids=0)  # which nobody wants
        except OSError:
            if file.name != "memory.swap.max":
                return replace(o, pids=0)
    return o


def remove(place: Place, ns: str) -> None:
    """Take the groups of version 1 away; those of version 2 go with the mark."""
    for group in joined(place, ns):
        for directory in (group, group.parent):  # the last sliver takes the latter along
            with suppress(OSError):
                directory.rmdir()


def files(place: Place, o: Container) -> Iterator[tuple[Path, str]]:
    """Files of cgroup file systems, and what they hold when the limits are as asked, as the kernel prints it."""
    quota = str(o.cpu_percent * _PERIOD_US // 100) if o.cpu_percent else ""
    if trees := _trees():
        at = {c: tree / place.mark / o.ns for c, tree in trees.items()}
        yield at["cpu"] / "cpu.shares", str(max(2, o.cpu_weight * 1024 // 100))
        yield at["cpu"] / "cpu.cfs_quota_us", quota or "-1"
        yield at["memory"] / "memory.limit_in_bytes", str(_pages(o.memory_mb))
        if o.memory_high_mb:
            yield at["memory"] / "memory.soft_limit_in_bytes", str(_pages(o.memory_high_mb))
        yield at["pids"] / "pids.max", str(o.pids)
        return
    group = cgroup.of(place, o.ns)
    yield group / "cpu.weight", str(o.cpu_weight)
    yield group / "cpu.max", f"{quota or _NONE} {_PERIOD_US}"
    yield group / "memory.max", str(_pages(o.memory_mb))
    yield group / "memory.high", str(_pages(o.memory_high_mb)) if o.memory_high_mb else _NONE
    yield group / "memory.swap.max", "0"
    yield group / "pids.max", str(o.pids)


def _pages(mb: int) -> int:
    """As the kernel rounds it."""
    return mb * _MB // _PAGE * _PAGE
