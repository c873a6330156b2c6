"""What a container may take: cgroups(7), version 2, or the controllers of version 1 on a hybrid machine.

Version 2 has one tree: the limits are those of the sliver's group, in which our mark has its processes anyway.  With
version 1 each controller has a tree of its own, in which the sliver has a group too, that its processes must join.

A reservation is a cap, a weight and a short slice.  The cap makes that no reserved sliver takes what is another's; the
weight, of which no other sliver has more than a tenth, that it need not wait: the scheduler (EEVDF, before Linux 6.6
CFS) lets who wakes up and has had less than its share go first; the slice (`slices`) that it goes at once.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from threading import Lock

from msgspec.structs import replace

from vini.model import Container, Unsupported
from vini.node import cgroup
from vini.node.container import io_weights, slices
from vini.node.place import Place

_PERIOD_US = 100_000
_SHORT_US = 10_000  # the period of a reservation: who has used it up waits no longer than that
_FINEST_PERCENT = 10  # the kernel takes no quota below 1 ms
_RESERVED, _MOST = 10_000, 1_000  # the weight of who has a reservation, and the most of others
_SLIVERS = 1_000  # of all slivers together once one has a reservation, against the node's own processes' 100
_PAGE = 4096
_MB = 10**6
_NONE = "max"
_LEFT_WITHIN_S = 1.0
_MIN = "memory.min"
_CONTROLLERS = ("cpu", "memory", "pids")
_SOCKETS = "memory.kmem.tcp.limit_in_bytes"  # of version 1, which counts what sockets hold apart from all else
_REMOVED = ("memory.swap.max", _SOCKETS)  # a kernel may be built without


@cache
def _mounted() -> Mapping[str, Path]:
    """Controller of version 1 -> where its tree is mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup":
            found |= {c: Path(where) for c in (*_CONTROLLERS, "blkio") if c in options.split(",")}
    return found


@cache
def _trees() -> Mapping[str, Path]:
    """The controllers of containers that are of version 1; empty where version 2 has them all."""
    if set(_CONTROLLERS) <= set((cgroup.mount() / "cgroup.controllers").read_text().split()):
        return {}
    return {c: at for c, at in _mounted().items() if c in _CONTROLLERS}


def tree(controller: str) -> Path | None:
    """Where the tree of a controller of version 1 is mounted; None where it isn't."""
    return _mounted().get(controller)


def are_there() -> bool:
    """Whether this machine has all the controllers, of either version."""
    with suppress(OSError):
        return not _trees() or set(_trees()) == set(_CONTROLLERS)
    return False


def version_2_apart() -> Path | None:
    """Where version 2 is mounted beside the controllers of version 1."""
    return cgroup.mount() if _trees() else None


def can_reserve_memory() -> bool:
    """Only version 2 guarantees memory; the soft limit of version 1 says what goes first, not what stays."""
    with suppress(OSError, Unsupported):
        return not _trees() and "memory" in (cgroup.mount() / "cgroup.controllers").read_text().split()
    return False


def joined(place: Place, ns: str) -> list[Path]:
    """The groups that a sliver's processes must join besides the one that is their mark."""
    return [tree / place.mark / ns for tree in _trees().values()]


def delegate(place: Place, *controllers: str) -> bool:
    """Have version 2's controllers at work in our slivers' groups; False where it has not all of them."""
    if not set(controllers) <= set((cgroup.mount() / "cgroup.controllers").read_text().split()):
        return False
    for above in (cgroup.mount(), cgroup.of(place)):
        above.mkdir(exist_ok=True)
        (above / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in controllers))
    return True


def ensure(place: Place, o: Container) -> None:
    """Make the groups, and set the limits; then `settle`.  OSError where the kernel refuses."""
    if o.memory_reserved_mb and not can_reserve_memory():
        raise OSError("this machine's cgroups guarantee no memory (version 1); leave `memory_reserve` out")
    if not _trees():
        delegate(place, *_CONTROLLERS)
    for group in joined(place, o.ns) or [cgroup.of(place, o.ns)]:
        group.mkdir(parents=True, exist_ok=True)
    for file, text in files(place, o):
        if file.exists() or file.name not in _REMOVED:
            file.write_text(text)
    io_weights.ensure(place, o)
    slices.ensure(cgroup.of(place, o.ns), short=o.cpu_reserved)


def settle(place: Place) -> None:
    """Have the group above all slivers be as those in it now need it: done once after many changes, since it looks at
    each of them."""
    _guarantee(place)
    _lower(place)


class Promises:
    """What the group above keeps for those in it, compared with what they were promised at most once."""

    def __init__(self, place: Place):
        self._place = place

    @cached_property
    def are_kept(self) -> bool:
        """Whether both are the same."""
        return _guaranteed(self._place) == _promised(self._place)


def observed(place: Place, o: Container, promises: Promises | None = None) -> Container:
    """`o` where its limits hold; another where somebody changed one.  Slices are given anew to who has none.

    Who asks for many asks with the same `promises`.
    """
    for file, text in files(place, o):
        try:
            if file.read_text().strip() != text:
                return replace(o, pids=0)  # which nobody wants
        except OSError:
            if file.name not in _REMOVED:
                return replace(o, pids=0)
    if o.cpu_reserved:  # repaired here, and not told: who joins has them a moment later, and who wants can lose them
        slices.ensure(cgroup.of(place, o.ns), short=True)
    if o.memory_reserved_mb and not (promises or Promises(place)).are_kept:
        return replace(o, memory_reserved_mb=-1)
    return o if io_weights.holds(place, o) else replace(o, io_weight=0)


_SUM = Lock()  # of one agent's threads


def has_reservation(place: Place, ns: str) -> bool:
    """Whether a sliver has one of processor time now."""
    if trees := _trees():
        file, text = trees["cpu"] / place.mark / ns / "cpu.shares", str(_shares(_RESERVED))
    else:
        file, text = cgroup.of(place, ns) / "cpu.weight", str(_RESERVED)
    with suppress(OSError):
        return file.read_text().strip() == text
    return False


def _guarantee(place: Place) -> None:
    """Have the group above hold what those in it were promised: no group keeps more than the one above keeps for it."""
    if can_reserve_memory():
        with _SUM:
            if (promised := _promised(place)) != _guaranteed(place):
                (cgroup.of(place) / _MIN).write_text(str(promised))


def _guaranteed(place: Place) -> int:
    return _bytes(cgroup.of(place) / _MIN)


def _promised(place: Place) -> int:
    return sum(map(_bytes, cgroup.of(place).glob(f"*/{_MIN}")))


def _bytes(file: Path) -> int:
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return 0


def remove(place: Place, ns: str) -> None:
    """Take the groups of version 1 away; those of version 2 go with the mark, and what they promised with them.  Then
    `settle`."""
    for group in joined(place, ns):
        if not group.is_dir():  # each attempt waits for the kernel's lock of all groups
            continue
        _remove_emptied(group)
        with suppress(OSError):  # the last sliver takes it along
            group.parent.rmdir()


def _lower(place: Place) -> None:
    """Without any reservation all slivers together weigh as much as anything else on the node, as before the first."""
    if trees := _trees():
        every, name, raised, usual, one = trees["cpu"] / place.mark, "cpu.shares", _SLIVERS, 100, _shares(_RESERVED)
        high, low = _shares(raised), _shares(usual)
    else:
        every, name, high, low, one = cgroup.of(place), "cpu.weight", _SLIVERS, 100, _RESERVED
    with suppress(OSError):  # there is none any more
        if (every / name).read_text().strip() == str(high) and not _any_has(every, name, str(one)):
            (every / name).write_text(str(low))


def _any_has(every: Path, name: str, text: str) -> bool:
    for file in every.glob(f"*/{name}"):
        with suppress(OSError):
            if file.read_text().strip() == text:
                return True
    return False


def _remove_emptied(group: Path) -> None:
    """A process that has ended stays in its group until its parent has asked how; so wait a little for that."""
    deadline = time.monotonic() + _LEFT_WITHIN_S
    while True:
        try:
            group.rmdir()
        except OSError as e:
            if e.errno == errno.EBUSY and time.monotonic() < deadline:
                time.sleep(0.005)
                continue
        return


def files(place: Place, o: Container) -> Iterator[tuple[Path, str]]:
    """Files of cgroup file systems, and what they hold when the limits are as asked, as the kernel prints it."""
    period = _SHORT_US if o.cpu_reserved and o.cpu_percent >= _FINEST_PERCENT else _PERIOD_US
    quota = str(o.cpu_percent * period // 100) if o.cpu_percent else ""
    weight = _RESERVED if o.cpu_reserved else min(o.cpu_weight, _MOST)
    if trees := _trees():
        at = {c: tree / place.mark / o.ns for c, tree in trees.items()}
        if o.cpu_reserved:
            yield at["cpu"].parent / "cpu.shares", str(_shares(_SLIVERS))
        yield at["cpu"] / "cpu.shares", str(_shares(weight))
        yield at["cpu"] / "cpu.cfs_period_us", str(period)
        yield at["cpu"] / "cpu.cfs_quota_us", quota or "-1"
        yield at["memory"] / "memory.limit_in_bytes", str(_pages(o.memory_mb))
        if o.memory_high_mb:
            yield at["memory"] / "memory.soft_limit_in_bytes", str(_pages(o.memory_high_mb))
        yield at["pids"] / "pids.max", str(o.pids)
        yield at["memory"] / _SOCKETS, str(_pages(o.memory_mb))  # the last: refused (EBUSY) below what is held now
        return
    group = cgroup.of(place, o.ns)
    if o.cpu_reserved:
        yield group.parent / "cpu.weight", str(_SLIVERS)
    yield group / "cpu.weight", str(weight)
    yield group / "cpu.max", f"{quota or _NONE} {period}"
    yield group / "memory.max", str(_pages(o.memory_mb))
    yield group / "memory.high", str(_pages(o.memory_high_mb)) if o.memory_high_mb else _NONE
    if o.memory_reserved_mb or (group / _MIN).exists():
        yield group / _MIN, str(_pages(o.memory_reserved_mb))
    yield group / "memory.swap.max", "0"
    yield group / "pids.max", str(o.pids)


def _shares(weight: int) -> int:
    """What version 1 calls it."""
    return max(2, weight * 1024 // 100)


def _pages(mb: int) -> int:
    """As the kernel rounds it."""
    return mb * _MB // _PAGE * _PAGE
