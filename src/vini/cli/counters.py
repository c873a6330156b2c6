"""What the counters of programs of elements do, by their names, as `vini top` shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from vini.bus.errors import NodeAway
from vini.cli.out import line, table
from vini.client import Slices
from vini.model import NotFound, Topology
from vini.program_view import View

Counted = dict[str, tuple[int, int]]  # counter -> packets and bytes that it has counted
_AT_ONCE = 16  # slivers that are asked


class Counters:
    """Those of one slice, looked at again and again."""

    def __init__(self, client: Slices):
        self._client = client
        self._topology: Topology | None = None
        self._views: dict[str, View] = {}

    async def read(self, topology: Topology, slivers: Iterable[str]) -> dict[str, Counted]:
        """Of each of these slivers that has such a program loaded, what its counters hold."""
        if topology != self._topology:
            found = {name: s.program for name, s in topology.slivers.items() if s.program}
            self._views = {name: View(topology, name) for name, p in found.items() if p.kind == "elements"}
            self._topology = topology
        asked = [name for name in slivers if name in self._views]
        gate = asyncio.Semaphore(_AT_ONCE)
        told = await asyncio.gather(*(self._of(topology.name, name, gate) for name in asked))
        return {name: counted for name, counted in zip(asked, told, strict=True) if counted}

    async def _of(self, slice_: str, sliver: str, gate: asyncio.Semaphore) -> Counted:
        view = self._views[sliver]
        if not (names := view.counter_maps()):
            return {}
        async with gate:
            try:
                maps = (await self._client.maps(slice_, sliver, names)).maps
            except (NotFound, NodeAway):  # not loaded yet, or gone since: its row above says how it fares
                return {}
        return view.counted({name: dict(m.rows) for name, m in maps.items()})


def rates(was: Counted, now: Counted, span_s: float) -> dict[str, dict[str, float]]:
    """Of each counter what it holds, and how fast that grew; one that was set back grew by nothing."""
    out = {}
    for name, held in now.items():
        grown = [max(0, n - o) / span_s for n, o in zip(held, was.get(name, held), strict=True)]
        out[name] = {"packets": held[0], "bytes": held[1], "pps": grown[0], "mbit": grown[1] * 8e-6}
    return out


def show_counters(rows: Iterable[dict[str, object]]) -> None:
    """A table of all that the slivers' programs count; nothing where none does."""
    shown = []
    for row in rows:
        counters: dict[str, dict[str, float]] = row.get("counters", {})  # type: ignore[assignment]
        shown += [
            (str(row["sliver"]), name, f"{c['pps']:.0f}", f"{c['mbit']:.3f}", f"{c['packets']:.0f}")
            for name, c in counters.items()
        ]
    if shown:
        line("")
        table(("PROGRAM OF", "COUNTER", "p/s", "Mbit/s", "PACKETS"), shown, right=("p/s", "Mbit/s", "PACKETS"))
