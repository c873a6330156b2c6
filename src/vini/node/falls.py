"""How often links failed with the path that they ride on.

What is over before the central could hear of it, since it was away, is told of all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from vini import mirror
from vini.model import SliceSpec, SliverStatus, Way


class Falls:
    """As far as the agent that runs now has seen; `failed`: the paths that had failed when it began."""

    def __init__(self, failed: Collection[Way]):
        self._failed = frozenset(failed)
        self._of: dict[str, dict[str, int]] = {}  # slice.sliver -> link -> how often

    def look(self, specs: Collection[SliceSpec], failed: frozenset[Way]) -> None:
        """Paths are so now."""
        fallen, self._failed = failed - self._failed, failed
        for ns, link in mirror.riding(specs, fallen):
            of_it = self._of.setdefault(ns, {})
            of_it[link] = of_it.get(link, 0) + 1

        there = {spec.slice for spec in specs}
        self._of = {ns: of_it for ns, of_it in self._of.items() if ns.partition(".")[0] in there}

    def told(self, rows: Iterable[SliverStatus]) -> list[SliverStatus]:
        """The same rows, with that."""
        return [replace(row, falls={**self._of[row.sliver]}) if row.sliver in self._of else row for row in rows]
