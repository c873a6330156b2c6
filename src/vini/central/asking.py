"""How nodes are asked, over whatever connections there are to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TypeVar

from vini import bus
from vini.bus import streams
from vini.central.connection import Connection
from vini.model import ViniError

T = TypeVar("T")


async def every(nodes: Iterable[str], ask: Callable[[str], Coroutine[object, object, T]]) -> dict[str, T | ViniError]:
    """Each node's answer, or why there is none; all are asked at once."""

    async def one(node: str) -> T | ViniError:
        try:
            return await ask(node)
        except ViniError as e:
            return e

    names = sorted(nodes)
    return dict(zip(names, await asyncio.gather(*(one(n) for n in names)), strict=True))


class Asking(ABC):
    """The half of a `bus.seam.Bus` that follows from one connection for each node."""

    @abstractmethod
    def connection(self, node: str) -> Connection:
        """Raises NodeAway where there is none."""

    async def ask(
        self, node: str, request: bus.Request, progress: Callable[[bus.Progress], None] = lambda _: None
    ) -> bus.Reply:
        """The node's final reply.  Raises NodeAway, or the error that the node refused with."""
        return await self.connection(node).ask(request, progress)

    async def run(self, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        """What a command in a sliver says, until it has `Exited`.  Closing the iterator, or cancelling who waits for
        it, ends the command and all that it started."""
        said = streams.converse(self.connection(node).stream(), command, typed)
        try:
            async for message in said:
                yield message
        finally:
            await said.aclose()
