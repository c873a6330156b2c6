"""How specs reach a node and reports come back: messages over a Unix socket of this machine.

Each message is four bytes of length and a MessagePack value.  A request is answered by any
number of `Progress` and then by one final reply.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec

from vini.model import Conflict, Denied, DriverError, SliceSpec, SliverStatus, Stale, Unsupported, Value, ViniError
from vini.reach import FibEntry

_LENGTH = struct.Struct("!I")


class Message(Value, frozen=True, tag=str.lower, tag_field="message"):
    """What goes over the bus."""


class Hello(Message, frozen=True):
    """Who are you?  Answered by `Greeting`."""


class Greeting(Message, frozen=True):
    """An agent presents itself."""

    version: str
    pid: int
    node: str
    capabilities: frozenset[str]
    generations: dict[str, int]  # slice -> newest accepted generation, of slices that are asked for
    ended: dict[str, int] = {}  # the same, of slices whose end was asked for


class Accept(Message, frozen=True):
    """A new desired state.  Answered by `Report` when one pass has been made."""

    spec: SliceSpec


class Foresee(Message, frozen=True):
    """What would this desired state change?  Answered by `Lines`; nothing is touched."""

    spec: SliceSpec


class AskStatus(Message, frozen=True):
    """How is this slice?  Answered by `Report`."""

    slice: str


class AskFibs(Message, frozen=True):
    """The main forwarding tables of a slice.  Answered by `Fibs`."""

    slice: str


class Stop(Message, frozen=True):
    """End the agent; slices run on.  Answered by `Lines`."""


class Progress(Message, frozen=True):
    """A step of something longer."""

    done: int
    total: int
    what: str


class Report(Message, frozen=True):
    """How the slivers of a slice are, after a pass of `seconds` that made `ops` steps."""

    slivers: tuple[SliverStatus, ...]
    ops: int = 0
    seconds: float = 0.0


class Lines(Message, frozen=True):
    """Text for a person."""

    lines: tuple[str, ...]


class Fibs(Message, frozen=True):
    """Sliver name -> its main table."""

    tables: dict[str, tuple[FibEntry, ...]]


class Refusal(Message, frozen=True):
    """The request can't be met; `kind` names the error class."""

    kind: str
    sentence: str


Request = Hello | Accept | Foresee | AskStatus | AskFibs | Stop
Reply = Greeting | Progress | Report | Lines | Fibs | Refusal
_ERRORS: dict[str, type[ViniError]] = {
    "Stale": Stale,
    "Conflict": Conflict,
    "Unsupported": Unsupported,
    "DriverError": DriverError,
}


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


class AgentGone(ViniError):
    """The agent doesn't answer (any more); starting it and asking again is safe."""


class Foreign(ViniError):
    """The agent's answer makes no sense to us: it is of another version."""


def _understood(body: bytes) -> Reply:
    try:
        reply: Reply = msgspec.msgpack.decode(body, type=Reply)
    except msgspec.DecodeError as e:
        raise Foreign("The agent is of a version that this command does not understand; stop it and try again.") from e
    return reply


class Bus:
    """The central's side: asks the agent behind one socket."""

    def __init__(self, path: Path):
        self._path = path

    async def ask(self, request: Request, progress: Callable[[Progress], None] = lambda _: None) -> Reply:
        """The final reply.  Raises AgentGone, or the error that the agent refused with."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as e:
            raise AgentGone("No agent runs on this machine.") from e
        except PermissionError as e:
            raise Denied(f"The agent's socket {self._path} is only for root; run this with sudo.") from e
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
                    raise _ERRORS.get(reply.kind, ViniError)(reply.sentence)
                else:
                    return reply
        except ConnectionError as e:
            raise AgentGone("The agent ended in the middle of a request.") from e
        finally:
            writer.close()
