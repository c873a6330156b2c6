"""A command's stream over one WebSocket of whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from vini import bus

_TYPED: msgspec.msgpack.Decoder[bus.Stream | bus.Typed] = msgspec.msgpack.Decoder(bus.Stream | bus.Typed)
_ENCODE = msgspec.msgpack.Encoder()


class Relay:
    """One command's, after its first message."""

    def __init__(self, socket: WebSocket):
        self._socket = socket
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, begin: Callable[[AsyncIterator[bus.Typed]], AsyncIterator[bus.Said]]) -> None:
        """Whoever goes first, the command ends with him."""
        telling = asyncio.ensure_future(self._tell(begin(self._typed())))
        await asyncio.wait({telling, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        try:
            await telling
        except asyncio.CancelledError:
            raise WebSocketDisconnect from None

    async def _tell(self, said: AsyncIterator[bus.Said]) -> None:
        async for message in said:
            await self.say(message)

    async def _typed(self) -> AsyncIterator[bus.Typed]:
        while True:
            try:
                message = _TYPED.decode(await self._socket.receive_bytes())
            except (WebSocketDisconnect, msgspec.DecodeError, KeyError, RuntimeError):
                if not self._gone.done():
                    self._gone.set_result(None)
                return
            if not isinstance(message, bus.Stream):
                yield message

    async def say(self, message: bus.Message) -> None:
        """One message to whoever asked."""
        await self._socket.send_bytes(_ENCODE.encode(message))
