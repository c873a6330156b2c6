"""`traceroute`: the hops that answer, as a user inside a sliver would see them."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program
from vini.experiment.statistics import Row
from vini.layout import layout
from vini.model import Topology

HOP = re.compile(r" *(?P<hop>\d+) +(?:(?P<address>[0-9a-f.:]+) +(?P<rtt>[\d.]+) ms|\*)")


class Traceroute(Probe, frozen=True):
    """ICMP traceroute between two slivers' loopbacks, again and again; all hops are asked at the same time.

    A row is one hop of one round; `t` is the round's start.  `address` null: nobody answered
    within `wait_s`.  Rounds that take longer than `every_s` delay the next one.
    """

    source: str
    destination: str
    every_s: float = 1.0
    wait_s: float = 0.8
    max_hops: int = 16

    columns: ClassVar[dict[str, str]] = {
        "t": "float", "hop": "int", "address": "str", "sliver": "str", "rtt_ms": "float",
    }  # fmt: skip
    tools: ClassVar[tuple[tuple[str, str], ...]] = (("traceroute", "traceroute"),)

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        owner = owners(stage.topology)
        while not stage.stop.is_set():
            t = stage.now()
            hops: list[Row] = []
            async with Program(stage.enter(self.source, self._argv(stage)), stage.log, grace_s=0.2) as program:
                async for _, line in program.lines(stage.stop):
                    if hop := parse_hop(line, owner):
                        hops.append({"t": t, **hop})
            if not stage.stop.is_set():  # a round that was cut short would look like a path that ends early
                stage.rows += hops
            await stage.pause(t + self.every_s - stage.now())

    def _argv(self, stage: Stage) -> list[str]:
        asking = ["-I", "-n", "-q", "1", "-N", str(self.max_hops), "-w", f"{self.wait_s:g}", "-m", str(self.max_hops)]
        return ["traceroute", *asking, "-s", stage.address(self.source), stage.address(self.destination)]

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        rounds = by_round(rows)
        seen: list[dict[str, Any]] = []
        for t, way in rounds:
            if not seen or seen[-1]["path"] != way:
                seen.append({"from_s": round(t, 3), "path": way})
        return {"rounds": len(rounds), "paths": seen}


def owners(topology: Topology) -> dict[str, str]:
    """Address without prefix length -> the sliver that answers from it."""
    made = layout(topology)
    out = {a.partition("/")[0]: v.sliver for vifs in made.vifs.values() for v in vifs for a in v.addresses}
    return out | {a.partition("/")[0]: s for s, all_ in made.loopbacks.items() for a in all_}


def parse_hop(line: str, owner: dict[str, str]) -> Row | None:
    """One line of `traceroute -n -q 1`."""
    found = HOP.match(line)
    if not found:
        return None
    address = found["address"]
    rtt = float(found["rtt"]) if address else None
    return {"hop": int(found["hop"]), "address": address, "sliver": owner.get(address or ""), "rtt_ms": rtt}


def by_round(rows: list[Row]) -> list[tuple[float, list[str]]]:
    """(start, names of the hops; "*" for silence, trailing ones dropped) of each round."""
    rounds: dict[float, dict[int, str]] = {}
    for row in rows:
        rounds.setdefault(row["t"], {})[row["hop"]] = row["sliver"] or row["address"] or "*"
    out = []
    for t, hops in sorted(rounds.items()):
        way = [hops.get(i, "*") for i in range(1, max(hops) + 1)]
        while way and way[-1] == "*":
            way.pop()
        out.append((t, way))
    return out
