"""The agent's part that keeps conf files: it takes what the central asks for, and looks again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from vini import bus
from vini.node import cgroup
from vini.node.files import permit
from vini.node.files.keeper import Keeper
from vini.node.files.permit import NOTHING, Permit
from vini.node.files.record import Asked, Record
from vini.node.place import Place
from vini.rules.conf_files import FileThere

_GROUP = "conf-files"  # no sliver is called so: they have a dot in their names
_LOOK_S = 10.0  # between looks whether all is as asked, where there is anything
_ANSWER_S = 5.0  # a central waits so long to hear what became of what it asked
_FIRST_S, _LONGEST_S = 10.0, 600.0  # before what failed is tried again: twice as long each time


class _Rest:
    """A file that failed, which is not tried before some moment (monotonic, s)."""

    def __init__(self, failed: FileThere, said: Permit, until: float, seconds: float):
        self.failed, self.said, self.until, self.seconds = failed, said, until, seconds


class ConfFileService:
    """One place's.  `owner`: which central asks now, and as which node; "" where there is none.  What another one asked
    for is neither kept up nor taken away."""

    def __init__(self, place: Place, owner: Callable[[], str], look_s: float = _LOOK_S):
        self._place, self._owner, self._look_s = place, owner, look_s
        self._record = Record(place.state)
        self._keeper = Keeper(self._record, (place.state, place.run), lambda: cgroup.of(place, _GROUP))
        self._woken, self._over = asyncio.Event(), asyncio.Condition()
        self._begun = self._ended = 0  # passes
        self._there: tuple[FileThere, ...] = ()
        self._rests: dict[str, _Rest] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """Another number whenever there is something else; 0: there is nothing, and was not since the agent began."""
        return self._changes

    def version(self) -> str:
        """Of what the central that asks now asked for last."""
        asked = self._record.asked
        return asked.version if self._owner() and asked.owner == self._owner() else ""

    async def configure(self, asked: bus.Configure) -> bus.ConfFiles:
        """Keep to this from now on.  Raises ViniError where the disk does not take it."""
        await asyncio.to_thread(self._record.ask, Asked(self._owner(), asked.version, asked.files))
        due = self._begun + 1
        self._woken.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_S), self._over:
                await self._over.wait_for(lambda: self._ended >= due)
        return self.there()

    def there(self) -> bus.ConfFiles:
        """What the last pass found and made; before the first one, nothing that counts."""
        return bus.ConfFiles(self._there, self._changes, looked=self._ended > 0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            self._begun += 1
            await self._pass()
            async with self._over:
                self._ended = self._begun
                self._over.notify_all()
            tidied = await asyncio.to_thread(self._keeper.tidied)
            idle = tidied and not self._record.book and not self.version()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if idle else self._look_s):
                    await self._woken.wait()

    async def _pass(self) -> None:
        asked = self._record.asked
        rows = await self._kept(asked) if self._is_current() else []
        now = tuple(sorted(rows, key=lambda row: row.path)) if self._is_current() else ()
        if now != self._there or (self._is_current() and not self._ended):
            self._there = now
            self._changes = max(self._changes + 1, time.time_ns())  # an agent that begins anew has others

    def _is_current(self) -> bool:
        return bool(self._owner()) and self._record.asked.owner == self._owner()

    def _said(self) -> Permit:
        """What is permitted at this moment to the central that asked."""
        return permit.read(self._place.state, self._owner()) if self._is_current() else NOTHING

    async def _kept(self, asked: Asked) -> list[FileThere]:
        paths = {f.path for f in asked.files}
        rows = [await self._keep(file, self._said()) for file in asked.files]
        for path in sorted(self._record.book.keys() - paths):
            if row := await self._keeper.let_go(path, self._said):
                rows.append(row)
        self._rests = {path: rest for path, rest in self._rests.items() if path in paths}
        return rows

    async def _keep(self, asked: bus.NodeFile, said: Permit) -> FileThere:
        rest = self._rests.get(asked.path)
        is_same = rest is not None and rest.failed.version == asked.version and rest.said == said
        if rest is not None and is_same and time.monotonic() < rest.until:
            return rest.failed
        row = await self._keeper.keep(asked, self._said)
        self._rests.pop(asked.path, None)
        if row.state == "failed":
            seconds = min(_LONGEST_S, 2 * rest.seconds) if rest is not None and is_same else _FIRST_S
            self._rests[asked.path] = _Rest(row, said, time.monotonic() + seconds, seconds)
        return row
