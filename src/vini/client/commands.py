"""Commands in slivers of a testbed, over a WebSocket to the central each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from vini import bus
from vini.client.login import Login
from vini.client.remote import refusal, trusted, unreachable
from vini.model import ViniError


@asynccontextmanager
async def opened(login: Login, slice_: str, sliver: str) -> AsyncIterator[ClientConnection]:
    """Where the command and its input go, and its output comes from.  Raises ViniError."""
    url = f"{login.url.replace('http', 'ws', 1)}/v1/slices/{slice_}/slivers/{sliver}/run"
    context = trusted(login.ca) if url.startswith("wss") else None
    try:
        async with connect(
            url, ssl=context, additional_headers={"Authorization": f"Bearer {login.token}"}, max_size=1 << 20
        ) as socket:
            yield socket
    except InvalidStatus as e:
        raise refusal(e.response.status_code, bytes(e.response.body or b"")) from e
    except (OSError, WebSocketException) as e:
        raise unreachable(login.url, e) from e


async def said(socket: ClientConnection) -> AsyncGenerator[bus.Said, None]:
    """What the command says, up to its exit.  Raises the error that it was refused with, or that the line broke."""
    try:
        async for message in bus.said(
            socket, ViniError("The central hung up while the command ran; it has been ended there.")
        ):
            yield message
    except ConnectionClosed as e:
        raise ViniError(f"The connection broke while the command ran ({e}); it has been ended there.") from e


async def output(login: Login, slice_: str, sliver: str, argv: Sequence[str]) -> tuple[int, str]:
    """Exit code and standard output of a command that is given no input."""
    parts: list[bytes] = []
    async with opened(login, slice_, sliver) as socket:
        await socket.send(msgspec.msgpack.encode(bus.Run("", tuple(argv))))
        await socket.send(msgspec.msgpack.encode(bus.Input()))
        async for message in said(socket):
            match message:
                case bus.Output(1, data):
                    parts.append(data)
                case bus.Exited(code):
                    return code, b"".join(parts).decode(errors="replace")
                case _:
                    pass
    raise AssertionError("`said` ends with an exit, or raises")
