"""Whether the central at the other end of a WebSocket is still there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_QUIET = 0.6  # of the patience; a central that lives asks each node for its clock earlier, so it is not pinged


class Pulse:
    """Pings it only when it has said nothing for a while; one that dies is noticed `patience_s` after its last word."""

    def __init__(self, socket: ClientConnection, patience_s: float):
        self._socket, self._quiet_s, self._answers_s = socket, _QUIET * patience_s, (1 - _QUIET) * patience_s
        self.heard()

    def heard(self) -> None:
        """It has just said something."""
        self._heard_at = time.monotonic()

    async def watch(self) -> None:
        """Raises TimeoutError when it does not answer any more."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                while (left := self._heard_at + self._quiet_s - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                async with asyncio.timeout(self._answers_s):
                    await (await self._socket.ping())
                self.heard()
        except ConnectionClosed:
            await asyncio.Future()  # who reads what comes notices too, and why
