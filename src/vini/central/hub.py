"""The WebSocket hub inside a central: nodes dial it and prove who they are, and are asked and told over that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.websockets import WebSocket

from vini.bus import frames
from vini.central.asking import Asking
from vini.central.attendance import CUT, Attendance, away
from vini.central.connection import Connection
from vini.central.delivery import Desk, Desks, Identity, Rhythm
from vini.central.door import Door
from vini.central.doubles import Doubles, sentence

__all__ = ["Desk", "Hub", "Identity", "Rhythm"]
log = logging.getLogger("vini.hub")


class Hub(Asking):
    """A `bus.seam.Bus` over the nodes that are connected to this process.  All methods but `wake` and `drop`, which
    any thread may call, belong to the loop that serves `endpoint`."""

    def __init__(self, desk: Desk, *, clock: Callable[[], float] = time.time, rhythm: Rhythm | None = None):
        self._desk, self._clock, self._rhythm = Desks(desk), clock, rhythm or Rhythm()
        self._lines: dict[str, Attendance] = {}
        self._heard: dict[str, float] = {}  # node -> when its connection ended
        self._doubles = Doubles()
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- Bus ------------------------------------------------------------------------------------

    def connected(self) -> frozenset[str]:
        """The nodes that can be asked at this moment."""
        return frozenset(list(self._lines))

    def attended(self) -> frozenset[str]:
        """Those whose clocks we measure."""
        return self.connected()

    def wake(self, nodes: Collection[str], written: int | None = None) -> None:
        """What is asked of these nodes has changed; those that aren't connected hear of it when they come.

        `written`: no spec was since the one with that number, so who has looked since then knows.
        """

        def wake() -> None:
            for node in nodes:
                if line := self._lines.get(node):
                    line.delivery.wake(written)

        self._soon(wake)

    def connection(self, node: str) -> Connection:
        """Raises NodeAway where there is none."""
        if node not in self._lines:
            raise away(node, self._heard.get(node), self._clock())
        return self._lines[node].connection

    # --- who may connect ------------------------------------------------------------------------

    def drop(self, node: str, why: str = CUT) -> None:
        """Cut it off at once.  It may come back if the desk allows it."""

        def drop() -> None:
            if line := self._lines.get(node):
                line.connection.end(why, frames.REFUSED)

        self._soon(drop)

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and all connections with it
                self._loop.call_soon_threadsafe(act)

    async def endpoint(self, socket: WebSocket) -> None:
        """A node's connection, from its first byte to its last."""
        self._loop = asyncio.get_running_loop()
        entered = await Door(self._desk.identities, self._rhythm.patience).let_in(socket)
        if entered:
            connection, proof, identity = entered
            line = Attendance(connection, proof.greeting, identity, self._desk, self._rhythm, self._clock)
            line.host = socket.client.host if socket.client else ""
            await self._attend(line)

    async def _attend(self, line: Attendance) -> None:
        node = line.connection.node
        if older := self._lines.get(node):
            older.connection.end("A newer connection of this node took its place.", frames.DISPLACED)
            if self._doubles.displaced(node, older.pid, line.pid):
                line.doubt = sentence(*sorted((older.host, line.host)))
                log.warning("node %s: %s", node, line.doubt)
        self._lines[node] = line
        log.info("node %s is connected", node)
        reading = asyncio.create_task(line.connection.read(line.delivery.tell))
        try:
            with suppress(ConnectionError):
                await line.run(reading)
        finally:
            reading.cancel()
            if self._lines.get(node) is line:
                del self._lines[node]
                self._heard[node] = self._clock()
                log.info("node %s is not connected any more", node)
