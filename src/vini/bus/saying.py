"""What a command that runs elsewhere says, as it comes over a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import msgspec

from vini.bus.errors import refused
from vini.bus.messages.commands import Exited
from vini.bus.messages.directions import Said
from vini.bus.messages.message import Refusal
from vini.model import ViniError

_SAID: msgspec.msgpack.Decoder[Said | Refusal] = msgspec.msgpack.Decoder(Said | Refusal)


async def said(frames: AsyncIterable[str | bytes], hung_up: ViniError) -> AsyncIterator[Said]:
    """All up to its exit.  Raises the error that it was refused with; `hung_up` where the frames end before its exit;
    msgspec.DecodeError where they are something else."""
    async for raw in frames:
        message = _SAID.decode(raw if isinstance(raw, bytes) else raw.encode())
        if isinstance(message, Refusal):
            raise refused(message)
        yield message
        if isinstance(message, Exited):
            return
    raise hung_up
