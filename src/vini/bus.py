"""How specs reach a node and reports come back: messages over a Unix socket of this machine.

Each message is four bytes of length and a MessagePack value.  A request is answered by any
number of `Progress` and then by one final reply.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import (
    Conflict,
    Denied,
    DriverError,
    NotFound,
    SliceSpec,
    SliverStatus,
    Stale,
    Unsupported,
    Value,
    ViniError,
)
from vini.reach import FibEntry

_LENGTH = struct.Struct("!I")
_PATIENCE_S = 10.0  # without a reply; then the agent is asked whether it is still well, and given as long again


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
    forgotten: int = 0  # the highest generation of those that ended and are not named in `ended` any more


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


class AskMaps(Message, frozen=True):
    """What the maps of a sliver's program hold.  Answered by `Maps`."""

    ns: str
    names: tuple[str, ...] | None = None  # only these; None: all


class WriteRow(Message, frozen=True):
    """Set a row of a map of a sliver's program; without a value, take it out.  Answered by `Lines`."""

    ns: str
    map: str
    key: bytes
    value: bytes | None


class Stop(Message, frozen=True):
    """End the agent; slices run on.  Answered by `Lines`."""

    pid: int = 0  # only if it is this process (its successor may listen by now); 0: whichever it is


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


class MapRows(Value, frozen=True):
    """A map of a program, and what it holds: keys with their values, one or one for each processor."""

    type: str  # "hash", "lpm_trie", "percpu_array", ...
    key_size: int  # bytes
    value_size: int
    max_entries: int
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...]


class Maps(Message, frozen=True):
    """Map name -> what it holds; and how many packets the program handled, and were beyond its budget."""

    maps: dict[str, MapRows]
    packets: int
    over_budget: int
    slice_kpps: int  # the budget of the whole slice in force


class Refusal(Message, frozen=True):
    """The request can't be met; `kind` names the error class."""

    kind: str
    sentence: str


Request = Hello | Accept | Foresee | AskStatus | AskFibs | AskMaps | WriteRow | Stop
Reply = Greeting | Progress | Report | Lines | Fibs | Maps | Refusal
_ERRORS: dict[str, type[ViniError]] = {
    "Stale": Stale,
    "Conflict": Conflict,
    "Unsupported": Unsupported,
    "DriverError": DriverError,
    "NotFound": NotFound,
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


class AgentHangs(ViniError):
    """The agent runs but does not even say hello; asking again won't help."""


class Foreign(ViniError):
    """The agent's answer makes no sense to us: it is of another version."""


def _understood(body: bytes) -> Reply:
    try:
        reply: Reply = msgspec.msgpack.decode(body, type=Reply)
    except msgspec.DecodeError as e:
        raise Foreign("The agent is of a version that this command does not understand; stop it and try again.") from e
    return reply


def _listener(writer: asyncio.StreamWriter) -> int:
    """The process at the other end, unix(7), SO_PEERCRED."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


class Bus:
    """The central's side: asks the agent behind one socket."""

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
                    raise _ERRORS.get(reply.kind, ViniError)(reply.sentence)
                else:
                    return reply
        except ConnectionError as e:
            raise AgentGone("The agent ended in the middle of a request.") from e
        finally:
            writer.close()
