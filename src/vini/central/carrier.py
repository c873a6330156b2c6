"""What carries frames between a central and one node."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from vini import bus
from vini.bus import frames

_REASON = 120  # bytes that a close frame has room for (RFC 6455, 5.5)


class Carrier(Protocol):
    """Frames arrive in the order in which they are sent, each once, or it has ended."""

    async def send(self, body: bytes) -> None:
        """Returns when the network takes it.  Raises ConnectionError where the node has gone."""
        ...

    async def receive(self) -> bytes | None:
        """The next one; None when the node has gone.  Raises Foreign for what is no frame."""
        ...

    async def close(self, code: int, why: str) -> None:
        """Tell the node so; that it has gone is no error."""
        ...


class WebSocketCarrier:
    """Over a WebSocket that the node has dialled."""

    def __init__(self, socket: WebSocket):
        self._socket = socket

    async def send(self, body: bytes) -> None:
        """As in `Carrier`."""
        try:
            await self._socket.send_bytes(body)
        except (OSError, RuntimeError, WebSocketDisconnect) as e:  # RuntimeError: it was closed before
            raise ConnectionError("the node has gone") from e

    async def receive(self) -> bytes | None:
        """As in `Carrier`."""
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            return None
        body: bytes | None = event.get("bytes")
        if body is None:
            raise bus.Foreign("Text came where VINI's frames are binary.")
        return body

    async def close(self, code: int, why: str) -> None:
        """As in `Carrier`."""
        with suppress(OSError, RuntimeError, WebSocketDisconnect):
            await self._socket.close(code, why.encode()[:_REASON].decode(errors="ignore"))


def fits(body: bytes) -> bytes:
    """Raises Foreign where it is larger than any frame."""
    if len(body) > frames.LARGEST:
        raise bus.Foreign(f"A frame of {len(body) >> 20} MiB came; {frames.LARGEST >> 20} MiB are the most.")
    return body
