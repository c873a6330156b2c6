"""The clocks of a testbed's nodes during a run, as its record has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vini.client.times import Ahead, NodeClock
from vini.experiment.statistics import Row, rounded

COLUMNS = {"t": "float", "node": "str", "ahead_s": "float", "error_s": "float"}
EVERY_S = 10.0  # as often as a central measures them


class Clocks:
    """All is on this machine, and by its clock, until something else is told."""

    def __init__(self) -> None:
        self.now: dict[str, NodeClock] = {}
        self._of: dict[str, str] = {}  # sliver -> node
        self.rows: list[Row] = []

    def learn(self, found: Mapping[str, NodeClock], t: float) -> None:
        """How they go at that moment (s since t = 0)."""
        self.now = dict(found)
        self._of = {s: node for node, c in found.items() for s in c.slivers}
        self.rows += [
            {"t": t, "node": n, "ahead_s": c.clock.ahead_s, "error_s": c.clock.error_s} for n, c in found.items()
        ]

    def of(self, sliver: str) -> Ahead:
        """The clock that commands in a sliver see."""
        node = self.now.get(self._of.get(sliver, ""))
        return node.clock if node else Ahead()

    def summary(self) -> dict[str, Any]:
        """Node -> its slivers, and its clock as it was known last."""
        return {
            n: {
                "slivers": list(c.slivers),
                "clock_ahead_s": rounded(c.clock.ahead_s, 6),
                "clock_error_s": rounded(c.clock.error_s, 6),
            }
            for n, c in self.now.items()
        }

    def reasons(self, limit_ms: float) -> list[str]:
        """Why times of different nodes can't be compared; [] where they can."""
        worst = {n: max(r["error_s"] * 1000 for r in self.rows if r["node"] == n) for n in self.now}
        vague = [
            f"The clock of node {n} was known to {ms:.0f} ms only, limit {limit_ms:g} ms."
            for n, ms in worst.items()
            if ms > limit_ms
        ]
        return vague + [
            f"The clock of node {n} and this machine's moved by {ms:.0f} ms against each other, limit {limit_ms:g} ms: "
            "one of them was set, or goes wrong."
            for n in self.now
            if (ms := self._moved_ms(n)) > limit_ms
        ]

    def _moved_ms(self, node: str) -> float:
        """Surely, during the run."""
        rows = [r for r in self.rows if r["node"] == node]
        least, most = max(r["ahead_s"] - r["error_s"] for r in rows), min(r["ahead_s"] + r["error_s"] for r in rows)
        return float(least - most) * 1000
