"""Messages between a command and the agent of the same machine, over a Unix socket.

Each message is four bytes of length and a MessagePack value.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from vini.bus import streams
from vini.bus.errors import AgentGone, AgentHangs, Foreign, NodeAway, refused
from vini.bus.messages.commands import Run
from vini.bus.messages.directions import Reply, Request, Said, ToCentral, Typed
from vini.bus.messages.message import Message, Progress, Refusal
from vini.bus.messages.states import Hello
from vini.model import Denied, ViniError

_LENGTH = struct.Struct("!I")
_PATIENCE_S = 10.0  # without a reply; then the agent is asked whether it is still well, and given as long again


async def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Send one message."""
    body = msgspec.msgpack.encode(message)
    writer.write(_LENGTH.pack(len(body)) + body)
    await writer.drain()


async def receive_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the other side has hung up."""
    body = await _receive(reader)
    if body is None:
        return None
    request: Request = msgspec.msgpack.decode(body, type=Request)
    return request


async def _receive(reader: asyncio.StreamReader) -> bytes | None:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(4))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _understood(body: bytes) -> ToCentral:
    try:
        reply: ToCentral = msgspec.msgpack.decode(body, type=ToCentral)
    except msgspec.DecodeError as e:
        raise Foreign("The agent is of a version that this command does not understand; stop it and try again.") from e
    return reply


def _listener(writer: asyncio.StreamWriter) -> int:
    """The process at the other end, unix(7), SO_PEERCRED."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


class LineChannel:
    """One stream that has a connection for itself; what comes is one of the types `of`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, of: Any):
        self._reader, self._writer, self._decoder = reader, writer, msgspec.msgpack.Decoder(of)

    async def send(self, message: Message) -> None:
        """Raises ConnectionError where the other side has gone."""
        await send(self._writer, message)

    async def receive(self) -> Message | None:
        """The next one; None when the other side has gone."""
        body = await _receive(self._reader)
        try:
            return None if body is None else self._decoder.decode(body)
        except msgspec.DecodeError as e:
            raise Foreign("The other side is of a version that we don't understand; stop the agent.") from e

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Line:
    """Asks the agent behind one socket."""

    def __init__(self, path: Path, log: Path | None = None):
        self._path, self._log = path, log

    async def ask(self, request: Request, progress: Callable[[Progress], None] = lambda _: None) -> Reply:
        """The final reply.  Raises AgentGone, AgentHangs, or the error that the agent refused with."""
        talk = asyncio.ensure_future(self._converse(request, progress))
        try:
            while not (await asyncio.wait({talk}, timeout=_PATIENCE_S))[0]:
                with suppress(AgentGone):  # then `talk` ends with it
                    await self._greet()
            return talk.result()
        finally:
            talk.cancel()

    async def run(self, command: Run, typed: AsyncIterator[Typed]) -> AsyncIterator[Said]:
        """What a command in a sliver says, until it has exited; see `streams.converse`.  Raises AgentGone."""
        channel = LineChannel(*await self._connect(), ToCentral)
        said = streams.converse(channel, command, typed)
        try:
            async for message in said:
                yield message
        except NodeAway as e:
            raise AgentGone("The agent ended while the command ran.") from e
        finally:
            await said.aclose()

    async def _greet(self) -> None:
        """However long its work takes, an agent that is well answers `Hello` at once."""
        reader, writer = await self._connect()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await send(writer, Hello())
                await _receive(reader)
        except TimeoutError as e:
            pid = _listener(writer)
            log = f" Its log is {self._log}." if self._log else ""
            raise AgentHangs(
                f"The agent (process {pid}) runs but does not answer.{log} "
                f"`kill -CONT {pid}` wakes one that was stopped; after `kill -9 {pid}` slices run on, "
                "and the next command starts another agent."
            ) from e
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as e:
            raise AgentGone("No agent runs on this machine.") from e
        except PermissionError as e:
            raise Denied(f"The agent's socket {self._path} is only for root; run this with sudo.") from e
        except OSError as e:
            raise ViniError(f"The agent's socket {self._path} can't be used: {e.strerror or e}; see VINI_RUN.") from e

    async def _converse(self, request: Request, progress: Callable[[Progress], None]) -> Reply:
        reader, writer = await self._connect()
        try:
            await send(writer, request)
            while True:
                body = await _receive(reader)
                if body is None:
                    raise AgentGone("The agent ended in the middle of a request.")
                reply = _understood(body)
                if isinstance(reply, Progress):
                    progress(reply)
                elif isinstance(reply, Refusal):
                    raise refused(reply)
                elif isinstance(reply, Reply):
                    return reply
        except ConnectionError as e:
            raise AgentGone("The agent ended in the middle of a request.") from e
        finally:
            writer.close()
