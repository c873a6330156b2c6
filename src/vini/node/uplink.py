"""A node's connection to its central: dialled by the node, again and again, for as long as it is a member.

The agent needs none of it: with the central away for ever it works on from its ledger.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from vini import bus
from vini.bus import frames
from vini.bus.streams import Inbox
from vini.model import Denied, Value, ViniError
from vini.node import identity as identities
from vini.node.agent import Agent
from vini.node.answers import Answers
from vini.node.identity import Identity
from vini.node.ssh import authorized

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger("vini.agent")
_BUSY = 256  # requests under way at once; more are refused


class Rhythm(Value, frozen=True):
    """How often things are tried, in s."""

    first: float = 0.2  # before the first new try; then twice as long each time
    longest: float = 8.0  # a central that was away for long has all its nodes back within 10 s
    patience: float = 20.0  # for a central that is dialled and says nothing
    look: float = 1.0  # between looks whether the machine has joined, or joined anew
    push: float = 0.1  # between two batches of reports
    lasting: float = 10.0  # a connection that lasted for so long was a good one


class _Rejoined(Exception):
    """The identity on disk is another one now."""


class _Talk:
    """One connection that the central has welcomed."""

    def __init__(self, socket: ClientConnection, answers: Answers, told: Callable[[bus.Report], None]):
        self._socket, self._answers, self._told = socket, answers, told
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._inboxes: dict[int, Inbox] = {}

    async def run(self) -> None:
        """Answer, until the connection ends."""
        try:
            async for body in self._socket:
                self._take(body)
        finally:
            for inbox in self._inboxes.values():
                inbox.put(None)
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _take(self, body: str | bytes) -> None:
        if isinstance(body, str):
            raise bus.Foreign("The central sent text where VINI's frames are binary.")
        number, raw = frames.decode(body)
        try:
            message: bus.ToNode = frames.understood(raw, bus.ToNode)
        except bus.Foreign as e:
            sentence = f"Node {self._answers.node} is of another version: {e}  Upgrade the older side."
            self._spawn(number, self.send(number, bus.Refusal("Unsupported", sentence)))
            return
        match message:
            case bus.Cancel():
                self._cancel(number)
            case bus.Input() | bus.Resize() | bus.Signal() | bus.Credit():
                if inbox := self._inboxes.get(number):
                    inbox.put(message)
            case bus.Challenge() | bus.Welcome() | bus.Refusal():
                pass
            case _:
                self._ask(number, message)

    def _ask(self, number: int, request: bus.Request) -> None:
        if len(self._tasks) >= _BUSY:
            busy = bus.Refusal("ViniError", f"Node {self._answers.node} has {_BUSY} requests under way; try again.")
            self._spawn(number, self.send(number, busy))
        elif isinstance(request, bus.Stream):
            inbox = self._inboxes[number] = Inbox()
            self._spawn(number, self._answers.run(request, "central", _Stream(self, number, inbox)))
        else:
            self._spawn(number, self._answer(number, request))

    def _cancel(self, number: int) -> None:
        if inbox := self._inboxes.get(number):
            inbox.put(bus.Cancel())  # the command ends in its own way
        elif task := self._tasks.get(number):
            task.cancel()

    def _spawn(self, number: int, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            try:
                with suppress(OSError, bus.Foreign):  # ConnectionClosed is handled by whoever reads
                    await work
            finally:
                if self._tasks.get(number) is asyncio.current_task():
                    self._tasks.pop(number, None)
                    self._inboxes.pop(number, None)

        self._tasks[number] = asyncio.create_task(quietly())

    async def _answer(self, number: int, request: bus.Request) -> None:
        reply = await self._answers.to(request, "central", self._progress(number))
        try:
            await self.send(number, reply)
        except bus.Foreign as e:  # too large
            await self.send(number, bus.refusal(e))
        if isinstance(request, bus.Accept) and isinstance(reply, bus.Report):
            self._told(reply)

    def _progress(self, number: int) -> Callable[[int, int, str], None]:
        """From the worker thread; who falls behind misses some steps."""
        loop = asyncio.get_running_loop()

        async def tell(step: bus.Progress) -> None:
            with suppress(OSError):
                await self.send(number, step)

        def said(done: int, total: int, what: str) -> None:
            with suppress(RuntimeError):
                step = bus.Progress(done, total, what)
                loop.call_soon_threadsafe(lambda: asyncio.ensure_future(tell(step)))

        return said

    async def send(self, number: int, message: bus.Message) -> None:
        """Raises ConnectionError where the central has gone."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(frames.encode(number, message))
        except ConnectionClosed as e:
            raise ConnectionError("The central has gone.") from e


class _Stream:
    """One command's messages."""

    def __init__(self, talk: _Talk, number: int, inbox: Inbox):
        self._talk, self._number, self._inbox = talk, number, inbox

    async def send(self, message: bus.Message) -> None:
        await self._talk.send(self._number, message)

    async def receive(self) -> bus.Message | None:
        return await self._inbox.get()

    def close(self) -> None:
        """The last message said it."""


class Uplink:
    """Keeps a machine that has joined connected, and tells its central how slices are when that changes."""

    def __init__(self, agent: Agent, answers: Answers, state: Path, rhythm: Rhythm | None = None):
        self._agent, self._answers, self._state, self._rhythm = agent, answers, state, rhythm or Rhythm()
        self._sent: dict[str, bus.Report] = {}
        self._unsent: dict[str, bus.Report] = {}
        self._news = asyncio.Event()
        self._told = ""
        self._owner: str | None = None  # whose the slices of the central's ledger are

    async def run(self) -> None:
        """Dial, talk, wait; until cancelled."""
        waits = self._rhythm.first
        while True:
            identity = self._identity()
            if isinstance(identity, Identity):
                started = time.monotonic()
                denied = await self._once(identity)
                lasted = time.monotonic() - started
                waits = self._rhythm.first if lasted > self._rhythm.lasting else waits
                await self._pause(identity, (self._rhythm.longest if denied else waits) * random.uniform(0.5, 1.0))
                waits = min(self._rhythm.longest, 2 * waits)
            else:
                if identity is None:
                    await self._belong("")
                    await asyncio.to_thread(authorized.forget, self._state, "central")
                    self._answers.node, self._answers.uplink = "local", ""
                await self._pause(identity, self._rhythm.look)

    async def _belong(self, owner: str) -> None:
        if owner != self._owner:
            await self._agent.belong(owner)
            self._owner = owner

    def _identity(self) -> Identity | str | None:
        """Who we are; None where we have joined no central, a sentence where that can't be told."""
        try:
            return identities.read(self._state)
        except ViniError as e:
            self._say(str(e))
            return str(e)

    async def _pause(self, identity: Identity | str | None, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._rhythm.look))
            if left > self._rhythm.look and self._identity() != identity:
                return

    async def _once(self, identity: Identity) -> bool:
        """One connection from its beginning to its end; whether trying again soon is of no use."""
        self._answers.node = identity.node
        await self._belong(f"{sha256(identity.ca.encode()).hexdigest()} {identity.node}")
        try:
            await self._connected(identity)
        except Denied as e:
            self._say(f"{e}  It is tried again every {self._rhythm.longest:g} s.")
            return True
        except _Rejoined:
            self._say(f"not connected to {identity.central}: the machine joins anew")
        except ViniError as e:
            self._say(f"not connected to {identity.central}: {e}")
        finally:
            self._agent.listener = None
        return False

    def _say(self, what: str) -> None:
        """In the log, once; and where people look: in the greeting, and in a file for those without an agent."""
        if what == self._told:
            return
        log.info("uplink: %s", what)
        self._told = self._answers.uplink = what
        with suppress(OSError):
            path = identities.directory(self._state) / "status.json"
            new = path.with_suffix(".new")  # whoever reads it meanwhile sees all of the old one
            new.write_bytes(msgspec.json.encode({"uplink": what, "since": time.time()}))
            new.rename(path)

    async def _connected(self, identity: Identity) -> None:
        """Raises a ViniError that says why not, or why not any more."""
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import WebSocketException
        except ImportError as e:
            raise ViniError("this machine lacks a library for it; `pip install 'vini[node]'`.") from e
        url = identity.central.replace("https://", "wss://", 1) + frames.PATH
        try:
            async with connect(
                url, ssl=trusting(identity.ca), max_size=frames.LARGEST, compression=None, proxy=None,
                open_timeout=self._rhythm.patience, ping_interval=self._rhythm.patience / 2,
                ping_timeout=self._rhythm.patience / 2, close_timeout=1.0,
            ) as socket:  # fmt: skip
                await self._introduce(socket, identity)
                await self._talk(socket, identity)
        except (OSError, EOFError, WebSocketException, TimeoutError) as e:
            raise ViniError(unreachable(e)) from e

    async def _introduce(self, socket: ClientConnection, identity: Identity) -> None:
        async with asyncio.timeout(self._rhythm.patience):
            challenge = await self._first(socket)
            if not isinstance(challenge, bus.Challenge):
                raise ViniError("it answers, but not as a VINI central does.")
            if not frames.speaks(challenge.wire):
                older = "central" if challenge.wire < bus.WIRE else "node"
                raise ViniError(
                    f"it speaks version {challenge.wire} of the messages, this node version {bus.WIRE}; "
                    f"upgrade the {older}."
                )
            greeting = self._answers.greeting("central")
            proof = bus.Proof(identity.node, identity.sign(challenge.nonce), greeting)
            await socket.send(frames.encode(frames.UNASKED, proof))
            match await self._first(socket):
                case bus.Welcome():
                    pass
                case bus.Refusal() as refusal:
                    raise bus.refused(refusal)
                case _:
                    raise ViniError("it answers, but not as a VINI central does.")

    async def _first(self, socket: ClientConnection) -> bus.ToNode:
        body = await socket.recv()
        if isinstance(body, str):
            raise ViniError("it answers, but not as a VINI central does.")
        first: bus.ToNode = frames.understood(frames.decode(body)[1], bus.ToNode)
        return first

    async def _talk(self, socket: ClientConnection, identity: Identity) -> None:
        from websockets.exceptions import ConnectionClosed

        self._say(f"connected to {identity.central} as {identity.node}")
        self._sent, self._unsent = {}, {}
        self._agent.listener = self._hear
        talk = _Talk(socket, self._answers, self._has_told)
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(talk.run()), asyncio.create_task(self._push(talk)), asyncio.create_task(
                self._watch(identity))]  # fmt: skip
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, (ConnectionClosed, ConnectionError)):
                raise error
        raise _closed(socket.close_code, socket.close_reason)

    async def _watch(self, identity: Identity) -> None:
        """Raises when the machine joins anew, or leaves."""
        while (now := self._identity()) == identity or isinstance(now, str):
            await asyncio.sleep(self._rhythm.look)
        raise _Rejoined

    # --- reports ------------------------------------------------------------------------------

    def _hear(self, reports: Sequence[bus.Report]) -> None:
        """After every look of the agent: what is not as it was told last is told."""
        for report in reports:
            if self._sent.get(report.slice) != report:
                self._unsent[report.slice] = report
            else:
                self._unsent.pop(report.slice, None)
        if self._unsent:
            self._news.set()

    def _has_told(self, report: bus.Report) -> None:
        self._sent[report.slice] = replace(report, ops=0, seconds=0.0)

    async def _push(self, talk: _Talk) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            unsent, self._unsent = self._unsent, {}
            for slice_, report in unsent.items():
                await talk.send(frames.UNASKED, report)
                self._sent[slice_] = report
            await asyncio.sleep(self._rhythm.push)


def _closed(code: int | None, reason: str | None) -> ViniError:
    if code == frames.DISPLACED:
        return Denied("another connection took this node's place: does a second machine use a copy of its identity?")
    if code == frames.REFUSED:
        return Denied(f"the central closed the connection: {reason}")
    return ViniError(f"the central closed the connection: {reason}" if reason else "the central hung up.")


def trusting(ca: str) -> ssl.SSLContext:
    """Believes those whose certificate is of this authority, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    return context


def unreachable(error: BaseException) -> str:
    """Why a central could not be talked to, as a sentence with a next step."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=9):
            return "its certificate is not valid yet by this machine's clock; set the clock (`timedatectl`)."
        case ssl.SSLCertVerificationError(verify_code=10):
            return "its certificate has expired, by this machine's clock; compare the clocks of both (`timedatectl`)."
        case ssl.SSLCertVerificationError(verify_code=18 | 19 | 20 | 21):
            return "it is not the central that this machine joined: its certificate is of another authority."
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not for this name: {error.verify_message}; on the central, "
                "`vini central init --name NAME` adds one."
            )
        case ssl.SSLError():
            return f"what answers there does not speak TLS as a central does ({error.reason or error})."
        case TimeoutError():
            return "it does not answer; check the address, and that no firewall is in between."
        case ConnectionRefusedError():
            return "nobody listens there; is the central running (`vini central run`), and is the port right?"
        case OSError():
            return f"there is no way to it ({error.strerror or error}); check the address and this machine's network."
        case _:
            return f"the connection broke ({error or type(error).__name__})."
