"""`path`: the exact way between two slivers, there and back, from the forwarding tables."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from vini.experiment.paths import computed_rtt_ms, paths_seen, sequence, way, ways
from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program
from vini.experiment.statistics import Row, lateness_ms, rounded
from vini.model import Topology, Value
from vini.reach import FibEntry, NextHop

MOST_MONITORS = 100  # slivers; beyond, one `ip monitor` in each would be a load of its own
NEXT_HOP = "\tnexthop"  # begins each next hop of a multipath route (iproute2, ip/iproute.c)
CHANGE = re.compile(r"\[(?P<at>[^]]+)\]\s*(?P<gone>Deleted )?(?P<prefix>default|[\d.]+(?:/\d+)?) ")


class RouteChange(Value, frozen=True):
    """A route that came, or went; `at` is Unix time."""

    at: float
    gone: bool
    prefix: str
    hops: tuple[tuple[str, str], ...]  # (next hop or "", vif) of each equal-cost next hop


class Path(Probe, frozen=True):
    """Walks next hops from one sliver to another and back, along all equal-cost paths.

    It looks at snapshots of all tables at a fixed interval, and between them at each change of a
    route that matters, as the kernels report it (rtnetlink): so ways that last milliseconds are
    seen too.  `origin` says which; `took_ms` is how long a snapshot needed.  Where a change comes
    while a snapshot is being taken, the snapshot is dropped: it would mix old and new.
    """

    source: str
    destination: str
    every_s: float = 0.2

    columns: ClassVar[dict[str, str]] = {
        "t": "float", "there": "str", "there_arrives": "bool", "back": "str", "back_arrives": "bool",
        "computed_rtt_ms": "float", "computed_rtt_max_ms": "float", "origin": "str", "took_ms": "float",
    }  # fmt: skip
    tools: ClassVar[tuple[tuple[str, str], ...]] = (("ip", "iproute2"),)

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        watch = _Watch(self, stage)
        async with contextlib.AsyncExitStack() as programs:
            following = []
            if len(stage.topology.slivers) <= MOST_MONITORS:
                for sliver in stage.topology.slivers:
                    argv = stage.enter(sliver, ["env", "TZ=UTC0", "ip", "-4", "-o", "-ts", "monitor", "route"])
                    program = await programs.enter_async_context(Program(argv, stage.log))
                    following.append(asyncio.create_task(watch.follow(sliver, program.lines(stage.stop))))
            else:
                stage.note(f"More than {MOST_MONITORS} slivers: ways are seen in snapshots only.")
            await watch.look()
            await asyncio.gather(*following)
        stage.rows.sort(key=lambda r: r["t"])

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        phases = paths_seen(rows, rows[-1]["t"]) if rows else []
        snapshots = [r for r in rows if r["origin"] == "snapshot"]
        return {
            "snapshots": len(snapshots),
            "route_changes": len(rows) - len(snapshots),
            "changes": max(0, len(phases) - 1),
            "sequence": sequence(phases),
            "max_took_ms": rounded(max((r["took_ms"] for r in snapshots), default=None), 3),
            "late_ms": lateness_ms([r["t"] for r in snapshots], self.every_s) if len(snapshots) == len(rows) else None,
        }


class _Watch:
    """The tables as they are known now, from the last snapshot and the changes since."""

    def __init__(self, probe: Path, stage: Stage):
        self.probe, self.stage = probe, stage
        self.tables: dict[str, list[FibEntry]] = {}
        self.changes = 0
        self.ends = [ip_address(stage.address(s)) for s in probe.slivers()]

    async def look(self) -> None:
        """Snapshots, until the probe shall end."""
        stage, due = self.stage, self.stage.now()
        while not stage.stop.is_set():
            t, seen, topology = stage.now(), self.changes, stage.topology
            fibs = await stage.network.fib_entries(topology.name)
            if seen == self.changes:
                self.tables = {s: list(fib) for s, fib in fibs.items()}
                self.add(topology, t, "snapshot", (stage.now() - t) * 1000)
            due = max(due + self.probe.every_s, stage.now())
            await stage.pause(due - stage.now())

    async def follow(self, sliver: str, lines: AsyncIterator[tuple[float, str]]) -> None:
        """The changes of one sliver's routes."""
        async for _, line in lines:
            change = parse_change(line)
            if change and self.tables and any(end in ip_network(change.prefix) for end in self.ends):
                self.changes += 1
                self.tables[sliver] = applied(self.tables.get(sliver, []), change)
                self.add(self.stage.topology, change.at - self.stage.zero_wall_at(sliver), "change", None)

    def add(self, topology: Topology, t: float, origin: str, took_ms: float | None) -> None:
        found = ways(topology, self.tables, self.probe.source, self.probe.destination)
        there, back = map(way, found)
        rtt_ms, rtt_max_ms = computed_rtt_ms(topology, *found)
        self.stage.rows.append(
            {
                "t": t,
                "there": there.text,
                "there_arrives": there.arrives,
                "back": back.text,
                "back_arrives": back.arrives,
                "computed_rtt_ms": rtt_ms,
                "computed_rtt_max_ms": rtt_max_ms,
                "origin": origin,
                "took_ms": took_ms,
            }
        )


def parse_change(line: str) -> RouteChange | None:
    """One line of `TZ=UTC0 ip -4 -o -ts monitor route`; None for other tables and for kinds that forward nothing."""
    found = CHANGE.match(line)
    parts = line.split(NEXT_HOP)
    parts = [p for p in parts[1:] or parts if (found and found["gone"]) or "dead" not in p.split()]
    hops = [(_word("via", part), _word("dev", part)) for part in parts]
    if not found or not hops or not all(dev for _, dev in hops):
        return None
    prefix = {"default": "0.0.0.0/0"}.get(found["prefix"], found["prefix"])
    prefix = prefix if "/" in prefix else f"{prefix}/32"
    at = datetime.fromisoformat(found["at"]).replace(tzinfo=UTC).timestamp()
    return RouteChange(at, bool(found["gone"]), prefix, tuple(hops))


def _word(name: str, text: str) -> str:
    found = re.search(rf" {name} (?:inet6? )?(\S+)", text)
    return found[1] if found else ""


def applied(fib: list[FibEntry], change: RouteChange) -> list[FibEntry]:
    """The table after a change.  The end of a route that was already replaced by another changes nothing."""
    if change.gone:
        old = set(change.hops)
        return [e for e in fib if e.to != change.prefix or not {(hop.via, hop.dev) for hop in e.hops} <= old]
    (via, dev), *others = change.hops
    came = FibEntry(change.prefix, via, dev, others=tuple(NextHop(v, d) for v, d in others))
    return [e for e in fib if e.to != change.prefix] + [came]
