"""A command's stream over one WebSocket of whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

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

    async def run(
        self,
        begin: Callable[[AsyncIterator[bus.Typed]], AsyncIterator[bus.Said]],
        guard: Coroutine[Any, Any, None] | None = None,
    ) -> None:
        """Whoever goes first, the command ends with him; or by the `guard`, with the error that it raises."""
        telling = asyncio.ensure_future(self._tell(begin(self._typed())))
        guarding = {asyncio.ensure_future(guard)} if guard else set()
        try:
            await asyncio.wait({telling, self._gone, *guarding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in guarding if task.done()]
            for task in (telling, *guarding):
                task.cancel()
            await asyncio.gather(telling, *guarding, return_exceptions=True)
        for task in ended:
            task.result()
        if telling.cancelled():
            raise WebSocketDisconnect
        telling.result()

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
