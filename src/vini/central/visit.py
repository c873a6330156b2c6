"""One node's connection to the engine, as one central talks with it; the central may attend to it, or only ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vini import bus
from vini.bus import frames
from vini.central.attendance import Attendance
from vini.central.connection import Connection, Misbehaves
from vini.central.delivery import Desks, Identity, Rhythm

log = logging.getLogger("vini.engine")
_MOST = 64 << 20  # bytes of frames that wait to be read; a node that says more without being read is cut off
_OVERHEAD = 512  # bytes that a frame costs besides what is in it


class NatsCarrier:
    """A `Carrier` on two subjects."""

    def __init__(self, say: Callable[[bytes], Awaitable[None]], revoke: Callable[[], None]):
        self._say, self._revoke = say, revoke
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._held = 0
        self._closed = self._gone = False

    def put(self, body: bytes) -> None:
        """One came."""
        self._held += len(body) + _OVERHEAD
        if self._held > _MOST:
            self.gone()
        elif not self._gone:
            self._frames.put_nowait(body)

    def gone(self) -> None:
        """The node is not there any more, or is not listened to."""
        if not self._gone:
            self._gone = True
            self._frames.put_nowait(None)

    async def send(self, body: bytes) -> None:
        """As in `Carrier`."""
        if self._gone:
            raise ConnectionError("the node has gone")
        await self._say(body)

    async def receive(self) -> bytes | None:
        """As in `Carrier`."""
        body = await self._frames.get()
        self._held -= len(body) + _OVERHEAD if body is not None else 0
        return body

    async def close(self, code: int, why: str) -> None:
        """As in `Carrier`; a node that may not connect is cut off by the engine too."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(ConnectionError, TimeoutError):
                if not self._gone:
                    await self._say(frames.encode(frames.UNASKED, bus.Over(code, why)))
        finally:
            if code == frames.REFUSED:
                self._revoke()
            self.gone()


class Visit:
    """From the first word of a node's epoch to its last."""

    def __init__(
        self, node: str, key: str, epoch: str, carrier: NatsCarrier, desk: Desks, rhythm: Rhythm,
        clock: Callable[[], float],
    ):  # fmt: skip
        self.node, self.key, self.epoch, self.carrier = node, key, epoch, carrier
        self._desk, self._rhythm, self._clock = desk, rhythm, clock
        self.connection = Connection(node, carrier)
        self.identity: Identity | None = None
        self.attendance: Attendance | None = None
        self.heard = time.monotonic()
        self._attending: asyncio.Task[None] | None = None

    def begin(self, ended: Callable[[Visit], None]) -> None:
        """Listen; `ended` is called when it is over."""
        self._reading = asyncio.create_task(self.connection.read(self._report))
        self._living = asyncio.create_task(self._live(ended))

    async def over(self) -> None:
        """Returns when it is."""
        await asyncio.wait({self._living})

    def attend(self, greeting: bus.Greeting) -> None:
        """The node looks for somebody who does; where we do, it has missed that we said so."""
        if self.identity is None or self._reading.done():
            return
        if self._attending is None:
            self.attendance = Attendance(
                self.connection, greeting, self.identity, self._desk, self._rhythm, self._clock
            )
            self._attending = asyncio.create_task(self._attend(self.attendance))
        else:
            _spawn(self.connection.send(frames.UNASKED, bus.Welcome()))

    async def _attend(self, attendance: Attendance) -> None:
        try:
            with suppress(ConnectionError):
                await attendance.run(self._reading)
        finally:
            self.connection.end("The central ends this connection.")

    async def _report(self, report: bus.Report) -> None:
        if self.attendance:
            await self.attendance.delivery.tell(report)

    async def _live(self, ended: Callable[[Visit], None]) -> None:
        ending = asyncio.create_task(self.connection.ended(self._rhythm.patience))
        try:
            await asyncio.wait({self._reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done() and isinstance(error := self._reading.exception(), Misbehaves):
                log.warning("node %s: %s", self.node, error)
                await self.carrier.close(frames.MISBEHAVED, str(error))
        finally:
            ended(self)
            self.carrier.gone()
            tasks = [task for task in (self._reading, ending, self._attending) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _spawn(work: Awaitable[None]) -> None:
    async def quietly() -> None:
        with suppress(ConnectionError, TimeoutError):
            await work

    task = asyncio.create_task(quietly())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


_under_way: set[asyncio.Task[None]] = set()  # the loop itself keeps no hold of tasks
