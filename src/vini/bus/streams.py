"""The stream of one command: input there, output back, and never more of either under way than fits a window."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Protocol

from vini.bus.errors import Foreign, NodeAway, refused
from vini.bus.messages.commands import Credit, Exited, Input, Output
from vini.bus.messages.directions import Said, Stream, Typed
from vini.bus.messages.message import Message, Refusal

WINDOW = 1 << 18  # what may be under way in one direction, in bytes
CHUNK = 1 << 15  # bytes of data in one message
_OVERHEAD = 64  # bytes that a message costs besides its data, so that empty ones are not free


class Channel(Protocol):
    """Messages to and from the other side of one stream."""

    async def send(self, message: Message) -> None:
        """Returns when it is on its way.  Raises ConnectionError where the other side has gone."""
        ...

    async def receive(self) -> Message | None:
        """The next one; None when the other side has gone."""
        ...

    def close(self) -> None:
        """We have gone: the other side ends what it does for us."""
        ...


def cost(message: Output | Input) -> int:
    """What a message takes of the window."""
    return len(message.data) + _OVERHEAD


class Window:
    """How much may still be sent."""

    def __init__(self) -> None:
        self._left = WINDOW
        self._more = asyncio.Event()

    async def take(self, message: Output | Input) -> None:
        """Wait until there is room for it."""
        while self._left < cost(message):
            self._more.clear()
            await self._more.wait()
        self._left -= cost(message)

    def give(self, amount: int) -> None:
        """The other side has passed on so much."""
        self._left = min(WINDOW, self._left + max(0, amount))
        self._more.set()


class Inbox:
    """Where what came waits; whoever sends more than a window holds is cut off."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._held = 0

    def put(self, message: Message | None) -> None:
        """Raises Foreign where the other side sends without credit."""
        self._held += _weight(message)
        if message is not None and self._held > 2 * WINDOW:
            raise Foreign("The other side sends more than it was given credit for.")
        self._queue.put_nowait(message)

    async def get(self) -> Message | None:
        """The next one, in the order in which they came."""
        message = await self._queue.get()
        self._held -= _weight(message)
        return message


def _weight(message: Message | None) -> int:
    return cost(message) if isinstance(message, (Output, Input)) else _OVERHEAD


async def converse(channel: Channel, command: Stream, typed: AsyncIterator[Typed]) -> AsyncGenerator[Said, None]:
    """The asker's side: what the command says, until it has exited."""
    window = Window()
    feeding: asyncio.Task[None] | None = None
    try:
        await channel.send(command)
        feeding = asyncio.create_task(_feed(channel, typed, window))
        while True:
            match await channel.receive():
                case Output() as said:
                    yield said
                    await channel.send(Credit(cost(said)))
                case Exited() as said:
                    yield said
                    return
                case Credit(amount):
                    window.give(amount)
                case Refusal() as refusal:
                    raise refused(refusal)
                case None:
                    raise NodeAway("The node went away while the command ran; it has been ended there.")
    except ConnectionError as e:
        raise NodeAway("The node went away while the command ran; it has been ended there.") from e
    finally:
        if feeding:
            feeding.cancel()
        channel.close()


async def _feed(channel: Channel, typed: AsyncIterator[Typed], window: Window) -> None:
    with suppress(ConnectionError):  # `converse` notices too
        async for message in typed:
            if not isinstance(message, Input):
                await channel.send(message)
                continue
            for at in range(0, len(message.data) or 1, CHUNK):
                part = Input(message.data[at : at + CHUNK])
                await window.take(part)
                await channel.send(part)
