"""Probes that measure while the program goes on: the experiment's own, without a timeline."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from vini.api.results import table
from vini.client import Client
from vini.experiment.probe import Probe, Stage
from vini.experiment.statistics import Row
from vini.model import Topology, Unsupported, ViniError

PORTS_PER_PROBE = 10


class Measurement:
    """Probes by name, from entering to leaving: `with net.measure(rtt=Ping("a", "c")) as m`, then `m.table("rtt")`.

    Times are seconds since it was entered; `m.now()` is the time of what the program just did.
    """

    def __init__(self, client: Client, topology: Topology, probes: Mapping[str, Probe], first_port: int):
        self._client, self._topology, self._probes, self._first_port = client, topology, dict(probes), first_port
        self._stages: dict[str, Stage] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._kept = TemporaryDirectory(prefix="vini-measure-")
        self.folder = Path(self._kept.name)  # captures and logs; gone with this object
        self._zero = time.monotonic()

    async def __aenter__(self) -> Self:
        missing = sorted(
            {f"{tool} (apt-get install {package})" for p in self._probes.values() for tool, package in p.tools
             if shutil.which(tool) is None}
        )  # fmt: skip
        if missing:
            raise Unsupported(f"These probes need programs that are not here: {', '.join(missing)}.")
        loop = asyncio.get_running_loop()
        self._zero, zero_wall = loop.time(), time.time()
        for i, name in enumerate(self._probes):
            self._stages[name] = Stage(
                name, self._client, self._topology, self._zero, zero_wall, self.folder,
                self.folder / f"{name}.log", self._first_port + PORTS_PER_PROBE * i,
            )  # fmt: skip
        self._tasks = [asyncio.create_task(p.measure(self._stages[n])) for n, p in self._probes.items()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._stages.values():
            stage.stop.set()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and error is None:
                raise outcome

    def changed(self, topology: Topology) -> None:
        """The slice has a new desired state: probes that walk paths must know of it."""
        for stage in self._stages.values():
            stage.topology = topology

    def now(self) -> float:
        """Seconds since it was entered (CLOCK_MONOTONIC)."""
        return time.monotonic() - self._zero

    def rows(self, name: str) -> list[Row]:
        """What a probe found, one mapping per line; some probes tell only when the block was left."""
        return list(self._stage(name).rows)

    def table(self, name: str) -> Any:
        """The same as a `pyarrow.Table`; `.to_pandas()` of it is a DataFrame."""
        return table(self.rows(name), self._probes[name].columns)

    def summary(self, name: str) -> dict[str, Any]:
        """The statistics of what a probe found."""
        return self._probes[name].summarise(self.rows(name))

    def notes(self, name: str) -> tuple[str, ...]:
        """What a reader must know of the measurement itself: a program that ended and was started again, say."""
        return tuple(self._stage(name).notes)

    def _stage(self, name: str) -> Stage:
        if name not in self._probes:
            raise ViniError(f"Nothing is measured under the name {name!r}; there are: {', '.join(self._probes)}.")
        if name not in self._stages:
            raise ViniError("The measurement has not begun; use it as `with net.measure(...) as m`.")
        return self._stages[name]
