"""Parts of the agent that slices can be kept up without: one that fails is begun again, and is told of meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from vini.model import Value

log = logging.getLogger("vini.agent")
_FIRST_S, _LONGEST_S = 1.0, 60.0  # before it is begun again: twice as long each time
_WELL_S = 300.0  # without a failure: it is well again


class Failure(Value, frozen=True):
    """That a part failed: how often in a row, when last (monotonic, s), and why."""

    times: int
    at: float
    why: str


class Parts:
    """Some of them, by a name that says to a person what is missing."""

    def __init__(
        self, parts: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], clock: Callable[[], float] = time.monotonic
    ):
        self._parts, self._clock = parts, clock
        self._failures: dict[str, Failure] = {}

    async def run(self) -> None:
        """All of them, until cancelled; what each does at its end is done then."""
        tasks = [asyncio.create_task(self._keep(name)) for name in self._parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def failing(self) -> tuple[str, ...]:
        """A sentence of each that failed lately."""
        now = self._clock()
        return tuple(
            f"{name} failed{f' {f.times} times' if f.times > 1 else ''}, last {now - f.at:.0f} s ago ({f.why}); the "
            "agent begins it again by itself, and its log says more."
            for name, f in sorted(self._failures.items())
            if now - f.at < _WELL_S
        )

    def ailing(self) -> tuple[str, ...]:
        """The same for who remembers it: without what is another at each look."""
        now = self._clock()
        return tuple(
            f"{name} fails ({f.why}). Its agent begins that again by itself, and its log says more."
            for name, f in sorted(self._failures.items())
            if now - f.at < _WELL_S
        )

    async def _keep(self, name: str) -> None:
        while True:
            try:
                await self._parts[name]()
                raise AssertionError("it ended by itself")
            except Exception as e:  # a mistake of ours; slices, and the other parts, go on without it
                before, now = self._failures.get(name), self._clock()
                times = before.times + 1 if before and now - before.at < _WELL_S else 1
                self._failures[name] = Failure(times, now, _why(e))
                pause = min(_LONGEST_S, _FIRST_S * 2 ** (times - 1))
                log.error("%s failed; it is begun again in %g s", name, pause, exc_info=e)
            await asyncio.sleep(pause)


def _why(e: BaseException) -> str:
    """In a line; of several that failed together, the first."""
    while isinstance(e, BaseExceptionGroup):
        e = e.exceptions[0]
    return f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
