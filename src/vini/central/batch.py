"""Questions that come together are asked together: while one lot is out, the next one gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
_MOST = 250  # in one lot


class Batch(Generic[Q, A]):
    """Asks in a thread, one lot at a time: a thousand nodes that want to know something at once cost a few questions,
    and one that is alone waits for nobody.  A lot that fails fails for all who asked."""

    def __init__(self, answer: Callable[[Sequence[Q]], Sequence[A]]):
        self._answer = answer
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer to it."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await future

    async def _ask(self) -> None:
        try:
            while self._waiting:
                lot, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._ask_lot([(q, f) for q, f in lot if not f.done()])
        finally:
            self._asking = None

    async def _ask_lot(self, lot: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await asyncio.to_thread(self._answer, [q for q, _ in lot])
        except Exception as e:  # told to each who asked, who knows what to do
            for _, future in lot:
                if not future.done():
                    future.set_exception(e)
            return
        for (_, future), answer in zip(lot, answers, strict=True):
            if not future.done():
                future.set_result(answer)
