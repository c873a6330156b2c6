"""`vini bench isolation`: what other slices on the node do to one that must not wait (after PL-VINI, SIGCOMM 2006).

Two slices.  The path: `a` asks `c`, once over a link, and once by way of `b`, where a process hands datagrams on, as
VINI's first forwarders did.  The others: slivers of which each keeps as many processors busy as it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from vini.bench import attacks, ours, setup
from vini.bench.inside import Trips, asked, measuring, quantile
from vini.bench.result import Found, Missing, row
from vini.client import Client
from vini.model import Command, End, Link, Resources, Sliver, Topology, Value

Say = Callable[[str], None]
_WITHIN_MS = 0.3
_LONGEST_MS = 1000.0  # what a lost one counts as
_SETTLED_S = 3.0  # what a change does to the machine is over: starts of programs, looks that follow it, balancing
_ECHO, _RELAY = 7001, 7000
_CORES = {"a": 0.3, "b": 0.4, "c": 0.2}  # reserved


class Sizes(Value, frozen=True):
    """How much is measured."""

    rounds: int  # of the path, in all conditions in turns
    asked: int  # round trips, of each condition and round
    hogs: int  # slivers that keep processors busy, two processes each
    attacks: attacks.Sizes


FULL = Sizes(5, 400, 4, attacks.Sizes(rounds=5, seconds=1.0, asked=100))
QUICK = Sizes(2, 200, 3, attacks.Sizes(rounds=2, seconds=0.5, asked=50))


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`."""
    chosen = sizes or (QUICK if quick else FULL)
    with ours.alone():
        return setup.told(chosen, lambda: asyncio.run(_all(chosen, say)))


async def _all(sizes: Sizes, say: Say) -> Found:
    async with ours.agent() as client:
        if lacks := {"containers", "disks"} - client.capabilities():
            what = " and ".join(sorted(lacks))
            return [Missing("isolation", f"this machine lacks {what}; `vini doctor` says what is needed")]
        return [*await _path(client, sizes, say), *await attacks.neighbours(client, sizes.attacks, say)]


def path(reserved: bool) -> Topology:
    """The slice that must not wait."""
    runs = {"a": (), "b": (f"relay {_RELAY} 10.0.2.1 {_ECHO}",), "c": (f"echo {_ECHO}",)}
    slivers = {
        name: measuring(name, said, Resources(reserve=_CORES[name] if reserved else 0.0)) for name, said in runs.items()
    }
    links = (_link("a", "b", "10.0.1"), _link("b", "c", "10.0.2"), _link("a", "c", "10.0.3"))
    return Topology("path", slivers, links)


def _link(a: str, b: str, net: str) -> Link:
    return Link((End(a, addresses=(f"{net}.0/31",)), End(b, addresses=(f"{net}.1/31",))))


def hogs(count: int) -> Topology:
    """The others."""
    busy = Command("while :; do :; done", service=True)
    names = [f"hog{i}" for i in range(count)]
    return Topology(
        "hogs", {n: Sliver(n, runtime="container", commands=(busy, Command(busy.run + " #", True))) for n in names}
    )


async def _path(client: Client, sizes: Sizes, say: Say) -> Found:
    found: dict[str, list[Trips]] = {}

    def seen(condition: str, by: tuple[str, int]) -> None:
        found.setdefault(condition, []).append(asked(client, "path", "a", *by, sizes.asked, 3))

    async def up(topology: Topology) -> None:
        await client.up(topology, timeout_s=60)
        await asyncio.sleep(_SETTLED_S)

    relayed, direct = ("10.0.1.1", _RELAY), ("10.0.3.1", _ECHO)
    for i in range(sizes.rounds):
        say(f"round trips beside {sizes.hogs} busy slivers: round {i + 1} of {sizes.rounds}")
        await up(path(False))
        seen("native, idle", direct)
        seen("idle", relayed)
        await up(hogs(sizes.hogs))
        seen("native, busy", direct)
        seen("busy, without reservation", relayed)
        await up(path(True))
        seen("busy, with reservation", relayed)
        await client.down("hogs")
        await client.down("path")
    return _rows(found)


def _rows(found: Mapping[str, list[Trips]]) -> Found:
    out: Found = []
    for condition, rounds in found.items():
        counted = [[_LONGEST_MS if t is None else t for t in trips] for trips in rounds]
        like = found["native, idle" if condition.startswith("native") else "idle"]
        usual = [median(filter(None, trips)) for trips in like]
        near = [100 * fmean(t <= u + _WITHIN_MS for t in trips) for trips, u in zip(counted, usual, strict=True)]
        target = 98.0 if condition == "busy, with reservation" else None
        out += [
            row(f"{condition}: round trips within {_WITHIN_MS} ms of idle ones", near, "%", target, "at least"),
            row(f"{condition}: round trip, median", [median(trips) for trips in counted], "ms"),
            row(f"{condition}: round trip, 98 of 100 are shorter", [quantile(t, 0.98) for t in counted], "ms"),
            row(
                f"{condition}: jitter",
                [_jitter(trips) for trips in counted],
                "ms",
                note="of one round trip to the next",
            ),
        ]
    return out


def _jitter(trips: list[float]) -> float:
    """The mean difference of one to the next: what RFC 3550, 6.4.1, follows with a running mean."""
    return fmean(abs(b - a) for a, b in pairwise(trips))
