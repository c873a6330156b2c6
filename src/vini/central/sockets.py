"""The WebSockets that a central serves."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from vini.bus import frames


class Sockets(WebSocketsSansIOProtocol):
    """uvicorn's, but that it pings no node: a node is asked for its clock more often than it would be pinged, and one
    that does not answer is cut off earlier (`attendance`).  Pings both ways were half of what an idle fleet sent."""

    def start_keepalive(self) -> None:
        """Of all but nodes."""
        if self.scope["path"] != frames.PATH:
            super().start_keepalive()

    async def run_asgi(self) -> None:
        """A node that is hung up on and doesn't read is not waited for: a close waits until all that was sent is."""
        await super().run_asgi()
        if self.scope["path"] == frames.PATH and not self.writable.is_set():
            self.transport.abort()
