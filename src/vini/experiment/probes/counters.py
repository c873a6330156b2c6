"""`counters`: packets and bytes of every vif over time."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program
from vini.experiment.statistics import Row
from vini.layout import layout

# One small shell per sliver, of builtins only but for sleep: a program per reading costs 100 times more.
READ = 'while :; do while read -r l; do echo "$l"; done </proc/net/dev; echo .; sleep {every:g}; done'
FIELDS = {"rx_bytes": 0, "rx_packets": 1, "rx_dropped": 3, "tx_bytes": 8, "tx_packets": 9, "tx_dropped": 11}


class Counters(Probe, frozen=True):
    """The kernel's counters of all vifs (/proc/net/dev), at a fixed interval; totals since the vif was made."""

    of: tuple[str, ...] = ()  # slivers; (): all
    every_s: float = 1.0

    columns: ClassVar[dict[str, str]] = {"t": "float", "sliver": "str", "vif": "str"} | dict.fromkeys(FIELDS, "int")

    def slivers(self) -> tuple[str, ...]:
        return self.of

    async def measure(self, stage: Stage) -> None:
        await asyncio.gather(*(self._read(stage, sliver) for sliver in self.of or stage.topology.slivers))
        stage.rows.sort(key=lambda r: r["t"])

    async def _read(self, stage: Stage, sliver: str) -> None:
        vifs = {v.dev for v in layout(stage.topology).vifs[sliver]}  # not the machinery that shapes them
        argv = stage.enter(sliver, ["sh", "-c", READ.format(every=self.every_s)])
        async with Program(argv, stage.log) as program:
            async for at, line in program.lines(stage.stop):
                if (counts := parse_counts(line)) and counts["vif"] in vifs:
                    stage.rows.append({"t": at - stage.zero, "sliver": sliver, **counts})

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        of: dict[str, dict[str, int]] = {}
        first: dict[str, Row] = {}
        for row in rows:
            vif = f"{row['sliver']}:{row['vif']}"
            start = first.setdefault(vif, row)
            of[vif] = {field: row[field] - start[field] for field in FIELDS}
        return {"vifs": len(of), "during_the_run": dict(sorted(of.items()))}


def parse_counts(line: str) -> Row | None:
    """One line of /proc/net/dev; None for headings and lo."""
    vif, colon, numbers = line.partition(":")
    fields = numbers.split()
    if not colon or vif.strip() == "lo" or not fields or not fields[0].isdigit():
        return None
    return {"vif": vif.strip(), **{name: int(fields[at]) for name, at in FIELDS.items()}}
