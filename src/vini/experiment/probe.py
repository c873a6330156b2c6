"""What a probe is: its settings, its table, how it measures, and what is said of the result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vini.experiment.clocks import Clocks
from vini.experiment.network import Network
from vini.experiment.statistics import Row
from vini.model import Topology, Value


@dataclass
class Stage:
    """Where one probe measures: the network, the clock, and the place for what it finds.

    Times in rows are seconds since t = 0 of the run.  `stop` is set when the probe shall end; it
    then returns within a few seconds with its children ended.  Rows are appended as they come
    in, so that an interrupted run keeps them.
    """

    name: str
    network: Network
    topology: Topology
    zero: float  # loop time (CLOCK_MONOTONIC) of t = 0
    zero_wall: float  # Unix time of t = 0
    folder: Path  # for files of the probe's own (captures)
    log: Path  # what the probe's programs say
    port: int  # the first of ten that no other probe of the run uses
    clocks: Clocks = field(default_factory=Clocks)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader must know of the measurement itself

    def now(self) -> float:
        """Seconds since t = 0."""
        return asyncio.get_running_loop().time() - self.zero

    def enter(self, sliver: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a sliver of the run."""
        return self.network.enter(self.topology.name, sliver, argv)

    def address(self, sliver: str) -> str:
        """A sliver's IPv4 loopback, so that both directions follow the routing protocol."""
        return self.network.address(self.topology, sliver)

    def zero_wall_at(self, sliver: str) -> float:
        """Unix time of t = 0 by the clock that commands in a sliver see."""
        return self.zero_wall + self.clocks.of(sliver).ahead_s

    def zero_at(self, sliver: str, now: tuple[int, int] | None) -> float:
        """CLOCK_MONOTONIC of t = 0 there, from one moment by both of its clocks, CLOCK_REALTIME and that one (ns).

        Without such a moment, as on this machine, it is ours.
        """
        if now is None or not self.network.lead_s:
            return self.zero
        wall, monotonic = now
        return (monotonic - wall) / 1e9 + self.zero_wall_at(sliver)

    def note(self, sentence: str) -> None:
        """Say it once in the summary and the report."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    async def pause(self, seconds: float) -> bool:
        """Wait, or until the probe shall end; False then."""
        try:
            await asyncio.wait_for(self.stop.wait(), max(0.0, seconds))
        except TimeoutError:
            return True
        return False


class Probe(Value, frozen=True, tag_field="kind", tag=str.lower):
    """The settings of one measurement, and how to take it.

    `columns` is its table (name -> "float", "int", "str" or "bool"; any may be null but `t`),
    `tools` the programs that it needs: (program, Debian package).
    """

    columns: ClassVar[dict[str, str]] = {}
    tools: ClassVar[tuple[tuple[str, str], ...]] = ()

    def slivers(self) -> tuple[str, ...]:
        """The slivers that it names; () where it takes all."""
        return ()

    async def measure(self, stage: Stage) -> None:
        """Append rows to `stage` until `stage.stop`."""
        raise NotImplementedError

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        """The statistics of a table, JSON-able; pure."""
        raise NotImplementedError
