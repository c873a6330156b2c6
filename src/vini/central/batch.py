"""Questions that come together are asked together: while one lot is out, the next one gathers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
_MOST = 250  # in one lot
_CALM = 50  # in one of those who are in no hurry: whoever is then waits for no more than that
_LATE_S = 2.0  # so long after their time those are in a hurry, too


class _Waiting(NamedTuple, Generic[Q, A]):
    due: float  # when it is asked at the latest, by the loop's clock
    calm: bool  # in no hurry
    question: Q
    answer: asyncio.Future[A]


class Batch(Generic[Q, A]):
    """Asks in a thread, one lot at a time: a thousand nodes that want to know something at once cost a few questions,
    and one that is alone waits for nobody.  A lot that fails fails for all who asked."""

    def __init__(self, answer: Callable[[Sequence[Q]], Sequence[A]]):
        self._answer = answer
        self._waiting: list[_Waiting[Q, A]] = []
        self._asking: asyncio.Task[None] | None = None
        self._until, self._hurry = math.inf, asyncio.Event()  # when the next lot goes, and that it is to go earlier

    async def ask(self, question: Q, within: float = 0.0) -> A:
        """The answer to it.  With `within` (s), who is in no hurry waits so long for others to ask with."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        due = loop.time() + within
        self._waiting.append(_Waiting(due, within > 0, question, future))
        if due < self._until:
            self._hurry.set()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await future

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._ask_lot([w for w in self._lot() if not w.answer.done()])
        finally:
            self._asking = None

    def _lot(self) -> list[_Waiting[Q, A]]:
        """Those in a hurry, for themselves: what the others ask may take long; and those only where nobody is."""
        late = asyncio.get_running_loop().time() - _LATE_S
        self._waiting.sort(key=lambda w: (w.calm and w.due > late, w.due))
        hasty = sum(not w.calm or w.due <= late for w in self._waiting)
        count = min(hasty, _MOST) or _CALM
        lot, self._waiting = self._waiting[:count], self._waiting[count:]
        return lot

    async def _gather(self) -> None:
        """Until somebody can't wait any longer."""
        loop = asyncio.get_running_loop()
        while (due := min(w.due for w in self._waiting)) > loop.time():
            self._until = due
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._hurry.wait()
        self._until = math.inf

    async def _ask_lot(self, lot: Sequence[_Waiting[Q, A]]) -> None:
        try:
            answers = await asyncio.to_thread(self._answer, [w.question for w in lot])
        except Exception as e:  # told to each who asked, who knows what to do
            for waiting in lot:
                if not waiting.answer.done():
                    waiting.answer.set_exception(e)
            return
        for waiting, answer in zip(lot, answers, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(answer)
