"""Whom a central pings."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import uvicorn
from fake_agents import Server, eventually
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Opcode

from vini.bus import frames
from vini.central.sockets import Sockets


class _Counting(ClientConnection):
    """Counts the pings that come."""

    pings = 0

    def process_event(self, event: Any) -> None:
        self.pings += getattr(event, "opcode", None) is Opcode.PING
        super().process_event(event)


async def test_a_central_pings_people_but_not_nodes_whom_it_asks_for_their_clocks() -> None:
    async def endpoint(opened: WebSocket) -> None:
        await opened.accept()
        await opened.receive()

    app = Starlette(routes=[WebSocketRoute(frames.PATH, endpoint), WebSocketRoute("/other", endpoint)])
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(uvicorn.Config(app, ws=Sockets, ws_ping_interval=0.01, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve([listening]))
    try:
        async with AsyncExitStack() as stack:
            node, person = [
                await stack.enter_async_context(
                    connect(url + path, create_connection=_Counting, ping_interval=None, proxy=None)
                )
                for path in (frames.PATH, "/other")
            ]
            await eventually(lambda: person.pings >= 5)
            assert node.pings == 0
    finally:
        server.should_exit = server.force_exit = True
        await serving
