"""What a node tells its central unasked: how slices are, when that has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from vini import bus
from vini.bus import frames
from vini.node.talk import Talk


class Reports:
    """What was told, and what waits to be."""

    def __init__(self, push_s: float):
        self._push_s = push_s  # between two batches
        self._sent: dict[str, bus.Report] = {}
        self._unsent: dict[str, bus.Report] = {}
        self._news = asyncio.Event()

    def begin(self) -> None:
        """To somebody who knows nothing yet: all is told anew."""
        self._sent, self._unsent = {}, {}

    def hear(self, reports: Sequence[bus.Report]) -> None:
        """After every look of the agent: what is not as it was told last is told."""
        for report in reports:
            if self._sent.get(report.slice) != report:
                self._unsent[report.slice] = report
            else:
                self._unsent.pop(report.slice, None)
        if self._unsent:
            self._news.set()

    def has_told(self, report: bus.Report) -> None:
        """In an answer."""
        self._sent[report.slice] = replace(report, ops=0, seconds=0.0)

    async def push(self, talk: Talk) -> None:
        """Until cancelled.  Raises ConnectionError where the central has gone."""
        while True:
            await self._news.wait()
            self._news.clear()
            unsent, self._unsent = self._unsent, {}
            for slice_, report in unsent.items():
                await talk.send(frames.UNASKED, report)
                self._sent[slice_] = report
            await asyncio.sleep(self._push_s)
