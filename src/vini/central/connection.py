"""One node's connection, as the central sees it: many requests under way at once, each with its number."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import get_args

from vini import bus
from vini.bus import frames
from vini.bus.streams import Inbox
from vini.central.carrier import Carrier, fits


class Misbehaves(Exception):
    """The other side says what no node says; str() is a sentence."""


class Connection:
    """Belongs to one node; a message of another's can't even be said on it."""

    def __init__(self, node: str, carrier: Carrier):
        self.node, self._carrier = node, carrier
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, Inbox] = {}
        self._sending = asyncio.Lock()
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def end(self, why: str, code: int = 1000) -> None:
        """Close it soon, with this sentence for the node, which is not heard any more from now on."""
        if not self._end.done():
            self._end.set_result((code, why))
            self._hang_up()

    async def ended(self, patience_s: float) -> None:
        """Returns when it has been decided that it ends, and the node told so, or has not listened for so long."""
        code, why = await self._end
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._carrier.close(code, why)

    def _hang_up(self) -> None:
        """Nothing comes any more for those who wait."""
        for inbox in self._inboxes.values():
            inbox.put(None)
        self._inboxes = {}

    async def ask(self, request: bus.Request, progress: Callable[[bus.Progress], None] = lambda _: None) -> bus.Reply:
        """The final reply.  Raises NodeAway, or the error that the node refused with."""
        stream = self.stream()
        try:
            await stream.send(request)
            while True:
                match await stream.receive():
                    case bus.Progress() as step:
                        progress(step)
                    case bus.Refusal() as refusal:
                        raise bus.refused(refusal)
                    case None:
                        raise bus.NodeAway(f"Node {self.node} went away before it answered; ask again when it is back.")
                    case reply if isinstance(reply, bus.Reply):
                        return reply
        except ConnectionError as e:
            raise bus.NodeAway(f"Node {self.node} went away before it answered; ask again when it is back.") from e
        finally:
            stream.close()

    def stream(self) -> Stream:
        """A new number, and what comes with it."""
        number = next(self._numbers)
        inbox = self._inboxes[number] = Inbox()
        if self._end.done():
            inbox.put(None)
        return Stream(self, number, inbox)

    async def read(self, hear: Callable[[bus.Report], Awaitable[None]]) -> None:
        """Give out what comes, until the node hangs up.  Raises Misbehaves."""
        try:
            while (body := await self.receive()) is not None:
                number, raw = frames.decode(body)
                if not self._end.done():
                    await self._give(number, _understood(raw), hear)
        except bus.Foreign as e:
            raise Misbehaves(str(e)) from e
        finally:
            self._hang_up()

    async def _give(self, number: int, message: bus.Message, hear: Callable[[bus.Report], Awaitable[None]]) -> None:
        if inbox := self._inboxes.get(number):
            inbox.put(message)
            if isinstance(message, _LAST):
                self._inboxes.pop(number)
        elif number == frames.UNASKED and isinstance(message, bus.Report):
            await hear(message)
        elif number == frames.UNASKED and isinstance(message, bus.Over):
            self.end(message.why, message.code)

    async def receive(self) -> bytes | None:
        """The next frame; None when the node has hung up.  Raises Foreign for what is none."""
        body = await self._carrier.receive()
        return None if body is None else fits(body)

    async def send(self, number: int, message: bus.Message) -> None:
        """Returns when the network takes it.  Raises ConnectionError where the node has gone."""
        body = frames.encode(number, message)
        async with self._sending:
            await self._carrier.send(body)

    def forget(self, number: int) -> None:
        """Nobody waits for it any more; where it isn't over, the node hears of that."""
        if self._inboxes.pop(number, None) is not None:
            task = asyncio.ensure_future(self._cancel(number))
            _cancelling.add(task)
            task.add_done_callback(_cancelling.discard)

    async def _cancel(self, number: int) -> None:
        with suppress(ConnectionError):
            await self.send(number, bus.Cancel())


_cancelling: set[asyncio.Future[None]] = set()  # the loop itself keeps no hold of tasks
_LAST = (*(kind for kind in get_args(bus.Reply) if kind is not bus.Progress), bus.Exited)


class Stream:
    """What bears one number: a request and its answer, or a command's messages."""

    def __init__(self, connection: Connection, number: int, inbox: Inbox):
        self._connection, self._number, self._inbox = connection, number, inbox

    async def send(self, message: bus.Message) -> None:
        """Raises ConnectionError where the node has gone."""
        await self._connection.send(self._number, message)

    async def receive(self) -> bus.Message | None:
        """The next one; None when the node has gone."""
        return await self._inbox.get()

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._connection.forget(self._number)


def _understood(raw: object) -> bus.Message:
    """What another version says is answered for it by a sentence, and harms no other request."""
    try:
        message: bus.Message = frames.understood(raw, bus.ToCentral)  # type: ignore[arg-type]
    except bus.Foreign as e:
        return bus.Refusal("Foreign", f"{e}  Upgrade the older of the node and the central.")
    return message
