"""`routes`: what changed in the forwarding tables, and when."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.statistics import Row, lateness_ms, rounded


class Routes(Probe, frozen=True):
    """Snapshots of main routing tables at a fixed interval, kept as changes.

    The first snapshot's routes have change "+" and the lowest `t`; afterwards a row is a route
    that came ("+") or went ("-") since the snapshot before.  Each of a route's equal-cost next hops
    is a row of its own.
    """

    of: tuple[str, ...] = ()  # slivers; (): all
    every_s: float = 1.0

    columns: ClassVar[dict[str, str]] = {
        "t": "float", "sliver": "str", "change": "str", "prefix": "str", "via": "str", "dev": "str",
    }  # fmt: skip

    def slivers(self) -> tuple[str, ...]:
        return self.of

    async def measure(self, stage: Stage) -> None:
        before: set[tuple[str, str, str, str]] = set()
        times: list[float] = []
        while not stage.stop.is_set():
            times.append(stage.now())
            fibs = await stage.network.fib_entries(stage.topology.name)
            shown = {s: entries for s, entries in fibs.items() if not self.of or s in self.of}
            have = {(s, e.to, hop.via, hop.dev) for s, entries in shown.items() for e in entries for hop in e.hops}
            stage.rows += changes(before, have, times[-1])
            before = have
            await stage.pause(times[-1] + self.every_s - stage.now())
        if (late := lateness_ms(times, self.every_s)) and late > self.every_s * 1000:
            stage.note(f"Snapshots of routes came {late:.0f} ms late (95th percentile): the interval is too short.")

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        start = rows[0]["t"] if rows else 0.0
        later = [r for r in rows if r["t"] > start]
        return {
            "routes_at_start": len(rows) - len(later),
            "changes": len(later),
            "changes_of": dict(sorted(Counter(r["sliver"] for r in later).items())),
            "last_change_s": rounded(max((r["t"] for r in later), default=None), 3),
        }


def changes(before: set[tuple[str, str, str, str]], have: set[tuple[str, str, str, str]], t: float) -> list[Row]:
    """Rows for what went and what came, in a stable order; pure."""
    out: list[Row] = []
    for sign, routes in (("-", before - have), ("+", have - before)):
        for sliver, prefix, via, dev in sorted(routes):
            out.append({"t": t, "sliver": sliver, "change": sign, "prefix": prefix, "via": via, "dev": dev})
    return out
