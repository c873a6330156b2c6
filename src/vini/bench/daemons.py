"""Routing daemons: from `up` to converged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from vini.bench import ours
from vini.bench.finished import wait_finished
from vini.bench.result import Found, Missing, row
from vini.client import Client
from vini.model import Expect, Routing, Topology, ViniError
from vini.node.probe import FEATURES
from vini.topology import parse

Say = Callable[[str], None]
ABILENE = Path(__file__).resolve().parents[3] / "examples/abilene.yaml"
_TARGETS_S = {"frr": 5.0, "bird": 3.0}
_LIMIT_S = 180.0


async def abilene(client: Client, rounds: int, say: Say) -> Found:
    """The example of 11 routers with OSPF, by each daemon in turns."""
    if not ABILENE.exists():
        return [Missing("Abilene with OSPF", f"there is no {ABILENE}; run the benchmark from a checkout")]
    topology = parse(ABILENE.read_text(encoding="utf-8"), source=str(ABILENE), default_name="abilene")
    times: dict[str, list[float]] = {daemon: [] for daemon in _TARGETS_S}
    missing: dict[str, Missing] = {}
    for i in range(rounds):
        for daemon, seconds in times.items():
            name = f"Abilene with OSPF by {daemon}: up to converged"
            say(f"{name}, round {i + 1} of {rounds}")
            if daemon not in client.capabilities():
                missing[daemon] = Missing(name, _why_not(daemon))
            elif daemon not in missing:
                try:
                    seconds.append(await converge(client, with_daemon(topology, daemon)))
                except ViniError as e:
                    missing[daemon] = Missing(name, str(e).splitlines()[0], failed=True)
    return [
        missing.get(d) or row(f"Abilene with OSPF by {d}: up to converged", times[d], "s", target)
        for d, target in _TARGETS_S.items()
    ]


async def grid(client: Client, rows: int, columns: int, say: Say) -> Found:
    """A grid of BIRD routers that all must reach each other."""
    name = f"grid of {rows * columns} routers with OSPF by bird: up to converged"
    say(name)
    if "bird" not in client.capabilities():
        return [Missing(name, _why_not("bird"))]
    topology = ours.routers(f"grid:{rows}x{columns}", Routing(protocols=("ospf",), daemon="bird"))
    try:
        return [row(name, [await converge(client, structs.replace(topology, expect=(Expect(),)))], "s")]
    except ViniError as e:
        return [Missing(name, str(e).splitlines()[0], failed=True)]


def with_daemon(topology: Topology, daemon: str) -> Topology:
    """The same topology, as the benchmark's slice, with one routing daemon everywhere."""
    slivers = {
        n: structs.replace(s, routing=structs.replace(s.routing, daemon=daemon) if s.routing else None)
        for n, s in topology.slivers.items()
    }
    return structs.replace(topology, name=ours.SLICE, slivers=slivers)


async def converge(client: Client, topology: Topology) -> float:
    """Seconds from asking until all that is expected can be reached; the slice is gone afterwards."""
    started = time.perf_counter()
    try:
        await client.up(topology, timeout_s=_LIMIT_S)
        return time.perf_counter() - started
    finally:
        await client.down(topology.name)
        wait_finished(client.place.mark)


def _why_not(capability: str) -> str:
    remedy = next((f.remedy for f in FEATURES if f.name == capability), "")
    return f"this machine lacks {capability}; {remedy}" if remedy else f"this machine lacks {capability}"
