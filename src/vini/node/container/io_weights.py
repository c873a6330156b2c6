"""Slivers' shares of the node's disk where that is busy: the weights of cgroups version 2.

Who heeds them is the disk's scheduler, BFQ, or the controller io.cost where an operator has set it up; without either
the kernel takes weights, and nothing comes of them.  Version 1 charges what is written late to nobody, so we have none
there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from vini.model import Container, Unsupported
from vini.node import cgroup
from vini.node.place import Place

_BFQ, _COST = "io.bfq.weight", "io.weight"
_USUAL = 100


@cache
def file(state: Path) -> str:
    """The file of a group that says its weight, as the disk below that directory heeds it; "": none does."""
    with suppress(OSError, Unsupported):
        if "io" not in (cgroup.mount() / "cgroup.controllers").read_text().split():
            return ""
        there = next(p for p in (state, *state.parents, Path("/")) if p.exists()).stat().st_dev
        numbers = f"{os.major(there)}:{os.minor(there)}"
        at = Path("/sys/dev/block", numbers).resolve(strict=True)
        disk = at if (at / "queue").exists() else at.parent  # a partition's is its disk's
        if "[bfq]" in (disk / "queue/scheduler").read_text():
            return _BFQ if _is_in_groups(_BFQ) else ""
        cost = (cgroup.mount() / "io.cost.qos").read_text().splitlines()
        if any(line.startswith(f"{(disk / 'dev').read_text().strip()} enable=1") for line in cost):
            return _COST if _is_in_groups(_COST) else ""
    return ""


def _is_in_groups(name: str) -> bool:
    """Whether this kernel was built with it: told by a group that is there for a moment, since the root has none."""
    (cgroup.mount() / "cgroup.subtree_control").write_text("+io")
    trial = cgroup.mount() / f"vini-trial-{os.getpid()}"
    trial.mkdir(exist_ok=True)
    try:
        return (trial / name).exists()
    finally:
        trial.rmdir()


def ensure(place: Place, o: Container) -> None:
    """OSError where its weight can't be had."""
    name = file(place.state)
    if not name:
        if o.io_weight != _USUAL:
            raise OSError("the node's disk heeds no weights; leave `io_weight` out")
        return
    for above in (cgroup.mount(), cgroup.of(place)):
        (above / "cgroup.subtree_control").write_text("+io")
    (cgroup.of(place, o.ns) / name).write_text(str(o.io_weight))


def holds(place: Place, o: Container) -> bool:
    """Whether it has the weight that was asked for."""
    name = file(place.state)
    if not name:
        return o.io_weight == _USUAL
    with suppress(OSError):
        return (cgroup.of(place, o.ns) / name).read_text().split() == ["default", str(o.io_weight)]
    return False
