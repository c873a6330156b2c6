"""How many packets a sliver's programs, and a slice's, may see per second; and how long its programs run.

The two structures are those of dispatcher.c, which charges for each packet.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vini.model import BUDGET_KPPS, Value
from vini.node import libbpf

# Of all slivers of a slice together. The shortest program forwards 12 million packets/s on one processor of ours, so
# this bounds only a storm; what programs may take of a processor is measured (guard.py).
SLICE_KPPS = BUDGET_KPPS
_BURST_NS = 10_000_000
_BATCH, _BATCH_NS = 64, 100_000  # packets that a processor takes at once: at most so many, and of so much time
_BUDGET, _SHARE = struct.Struct("=QQQQ"), struct.Struct("=QQQ")
_ONLY = struct.pack("=I", 0)


# An estimate of what the kernel takes to bring a packet from one program to the next over a veth: what loops of packets
# took of our processors (some 115 ns a round in XDP), less the programs' own time.  Other processors differ, so the
# guard holds the sum against the time that the kernel counts for packets of all sorts.
MOVING_NS = {"xdp": 100, "tc": 600}


class Counted(Value, frozen=True):
    """A pinned dispatcher, and the hook that it is at."""

    path: Path
    hook: Literal["tc", "xdp"]


class Spent(Value, frozen=True):
    """Packets that a sliver's programs saw, and those beyond a budget."""

    passed: int
    dropped: int


def set_kpps(fd: int, kpps: int) -> None:
    """Give the budget of that map this rate, in 1000 packets per second; at once."""
    head = libbpf.map_record(fd)
    found = libbpf.lookup(fd, head, _ONLY)
    paid_until = _BUDGET.unpack(found[0])[0] if found else 0
    batch = max(1, min(_BATCH, kpps * _BATCH_NS // 1_000_000))
    libbpf.update(fd, head, _ONLY, _BUDGET.pack(paid_until, 1024 * 1_000_000 // kpps, _BURST_NS, batch))


def kpps(fd: int) -> int:
    """The rate of the budget of that map; 0: it was never set."""
    found = libbpf.lookup(fd, libbpf.map_record(fd), _ONLY)
    cost: int = _BUDGET.unpack(found[0])[1] if found else 0
    return round(1024 * 1_000_000 / cost) if cost else 0


def spent(fd: int) -> Spent:
    """The sum over all processors of a sliver's shares."""
    shares = [_SHARE.unpack(v) for v in libbpf.lookup(fd, libbpf.map_record(fd), _ONLY) or []]
    return Spent(sum(s[1] for s in shares), sum(s[2] for s in shares))


def running_ns_per_s(dispatchers: Mapping[str, Sequence[Counted]], over_s: float = 0.05) -> dict[str, float]:
    """For each name, what the programs behind its dispatchers take of processors: ns in a second (1e9: all of one).

    That is the time they run, which the kernel counts while we look, for `over_s` (counting makes each run some 20 ns
    longer), and an estimate (MOVING_NS) of that in which it moves their packets to the next vif: two programs that
    pass one packet to and fro keep a processor busy, though they run for a small part of it.  A program's time is that
    of the dispatcher that called it.
    """
    fds = {name: _opened(several) for name, several in dispatchers.items()}
    try:
        counting = libbpf.statistics()
        try:
            before, began = _taken_ns(fds), time.monotonic_ns()
            time.sleep(over_s)
            after, ended = _taken_ns(fds), time.monotonic_ns()
        finally:
            os.close(counting)
    finally:
        for fd in (fd for several in fds.values() for fd, _ in several):
            os.close(fd)
    return {name: (after[name] - before[name]) * 1e9 / (ended - began) for name in fds}


def _taken_ns(fds: Mapping[str, list[tuple[int, int]]]) -> dict[str, int]:
    out = {}
    for name, several in fds.items():
        records = [(libbpf.program_record(fd), moving_ns) for fd, moving_ns in several]
        out[name] = sum(r.run_ns + r.runs * moving_ns for r, moving_ns in records)
    return out


def _opened(several: Sequence[Counted]) -> list[tuple[int, int]]:
    out = []
    for c in several:
        try:
            out.append((libbpf.pinned(c.path), MOVING_NS[c.hook]))
        except OSError:  # it went away meanwhile
            continue
    return out
