"""`path`: the exact way between two slivers, there and back, from snapshots of all forwarding tables."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from vini.experiment.paths import computed_rtt_ms, paths_seen, sequence, ways
from vini.experiment.probe import Probe, Stage
from vini.experiment.statistics import Row, lateness_ms, rounded


class Path(Probe, frozen=True):
    """Walks next hops from one sliver to another and back, at a fixed interval.

    `t` is when the snapshot began, `took_ms` how long the machine needed to take it: changes
    inside that time may show as a way that never was.
    """

    source: str
    destination: str
    every_s: float = 0.2

    columns: ClassVar[dict[str, str]] = {
        "t": "float", "there": "str", "there_arrives": "bool", "back": "str", "back_arrives": "bool",
        "computed_rtt_ms": "float", "took_ms": "float",
    }  # fmt: skip

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        due = stage.now()
        while not stage.stop.is_set():
            t = stage.now()
            topology = stage.topology
            fibs = await stage.network.fibs(topology.name)
            took = stage.now() - t
            stage.rows.append(await asyncio.to_thread(self._row, topology, fibs, t) | {"took_ms": took * 1000})
            due = max(due + self.every_s, stage.now())
            await stage.pause(due - stage.now())

    def _row(self, topology: Any, fibs: Any, t: float) -> Row:
        there, back = ways(topology, fibs, self.source, self.destination)
        return {
            "t": t,
            "there": " ".join(there.slivers),
            "there_arrives": there.arrives,
            "back": " ".join(back.slivers),
            "back_arrives": back.arrives,
            "computed_rtt_ms": computed_rtt_ms(topology, there, back),
        }

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        phases = paths_seen(rows, rows[-1]["t"]) if rows else []
        return {
            "snapshots": len(rows),
            "changes": max(0, len(phases) - 1),
            "sequence": sequence(phases),
            "max_took_ms": rounded(max((r["took_ms"] for r in rows), default=None), 3),
            "late_ms": lateness_ms([r["t"] for r in rows], self.every_s),
        }
