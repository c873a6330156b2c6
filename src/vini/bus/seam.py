"""The seam between what a central decides and how it reaches its nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Protocol

from vini.bus.messages.directions import Reply, Request, Said, Stream, Typed
from vini.bus.messages.message import Progress


class Bus(Protocol):
    """Reaches nodes by name.  Specs are not sent by it but fetched: `wake` only says that there are newer ones."""

    async def ask(self, node: str, request: Request, progress: Callable[[Progress], None] = ...) -> Reply:
        """The node's final reply.  Raises NodeAway, or the error that the node refused with."""
        ...

    def run(self, node: str, command: Stream, typed: AsyncIterator[Typed]) -> AsyncIterator[Said]:
        """What a command in a sliver says, until it has `Exited`.  Closing the iterator, or cancelling who waits for
        it, ends the command and all that it started.  Raises as `ask` does."""
        ...

    def wake(self, nodes: Collection[str]) -> None:
        """What is asked of these nodes has changed."""
        ...

    def connected(self) -> frozenset[str]:
        """The nodes that can be asked at this moment."""
        ...
