"""The WebSocket hub inside a central: nodes dial it and prove who they are, and are asked and told over that."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from vini import bus
from vini.bus import frames, streams
from vini.central.connection import Connection, Misbehaves
from vini.central.delivery import Delivery, Desk, Desks, Identity, Rhythm, asked
from vini.model import ViniError

__all__ = ["Desk", "Hub", "Identity", "Rhythm"]
log = logging.getLogger("vini.hub")
_CUT = "This node may not connect any more."
_DRIFT_S = 0.001  # a clock that moved by more, beyond what the way there makes uncertain, is told of


class _Line:
    """A node that is connected."""

    def __init__(self, connection: Connection, delivery: Delivery):
        self.connection, self.delivery = connection, delivery


class Hub:
    """A `bus.seam.Bus` over the nodes that are connected to this process.  All methods but `wake` and `drop`, which
    any thread may call, belong to the loop that serves `endpoint`."""

    def __init__(self, desk: Desk, *, clock: Callable[[], float] = time.time, rhythm: Rhythm | None = None):
        self._desk, self._clock, self._rhythm = Desks(desk), clock, rhythm or Rhythm()
        self._lines: dict[str, _Line] = {}
        self._heard: dict[str, float] = {}  # node -> when its connection ended
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- Bus ------------------------------------------------------------------------------------

    def connected(self) -> frozenset[str]:
        """The nodes that can be asked at this moment."""
        return frozenset(list(self._lines))

    def wake(self, nodes: Collection[str]) -> None:
        """What is asked of these nodes has changed; those that aren't connected hear of it when they come."""

        def wake() -> None:
            for node in nodes:
                if line := self._lines.get(node):
                    line.delivery.wake()

        self._soon(wake)

    async def ask(
        self, node: str, request: bus.Request, progress: Callable[[bus.Progress], None] = lambda _: None
    ) -> bus.Reply:
        """The node's final reply.  Raises NodeAway, or the error that the node refused with."""
        return await self._line(node).connection.ask(request, progress)

    async def run(self, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        """What a command in a sliver says, until it has `Exited`.  Closing the iterator, or cancelling who waits for
        it, ends the command and all that it started."""
        said = streams.converse(self._line(node).connection.stream(), command, typed)
        try:
            async for message in said:
                yield message
        finally:
            await said.aclose()

    def _line(self, node: str) -> _Line:
        line = self._lines.get(node)
        if line is None:
            heard = self._heard.get(node)
            last = f"last heard {self._clock() - heard:.0f} s ago" if heard else "not heard since the central started"
            raise bus.NodeAway(f"Node {node} is not connected ({last}).")
        return line

    # --- who may connect ------------------------------------------------------------------------

    def drop(self, node: str, why: str = _CUT) -> None:
        """Cut it off at once.  It may come back if the desk allows it."""

        def drop() -> None:
            if line := self._lines.get(node):
                line.connection.end(why, frames.REFUSED)

        self._soon(drop)

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and all connections with it
                self._loop.call_soon_threadsafe(act)

    async def endpoint(self, socket: WebSocket) -> None:
        """A node's connection, from its first byte to its last."""
        self._loop = asyncio.get_running_loop()
        await socket.accept()
        stranger = Connection("", socket)
        try:
            async with asyncio.timeout(self._rhythm.patience):
                proof, identity = await self._proven(stranger)
        except (ViniError, TimeoutError, ConnectionError) as e:
            await self._refuse(socket, stranger, e)
            return
        connection = Connection(proof.node, socket)
        await self._attend(connection, proof.greeting, identity)

    async def _proven(self, stranger: Connection) -> tuple[bus.Proof, Identity]:
        nonce = os.urandom(32)
        await stranger.send(frames.UNASKED, bus.Challenge(nonce))
        body = await stranger.receive()
        if body is None:
            raise ConnectionError("hung up")
        if len(body) > frames.STRANGER:
            raise bus.Foreign("What came is too large for a node's introduction.")
        proof = frames.understood(frames.decode(body)[1], bus.Proof)
        if not frames.speaks(proof.wire):
            older = "node" if proof.wire < bus.WIRE else "central"
            raise bus.Foreign(f"The node speaks version {proof.wire} of the messages, this central version {bus.WIRE}; "
                              f"upgrade the {older}.")  # fmt: skip
        try:
            identity = await self._desk.identities.ask(proof.node)
        except Exception as e:  # the database is away
            log.warning("the central's database can't be asked: %s", e)
            raise ViniError("The central can't look up its nodes at the moment; it is tried again.") from e
        why = _refusal(identity, proof, nonce)
        if identity is None or why:
            raise bus.refused(bus.Refusal("Denied", why))
        return proof, identity

    async def _refuse(self, socket: WebSocket, stranger: Connection, error: Exception) -> None:
        where = f"{socket.client.host}:{socket.client.port}" if socket.client else "somebody"
        log.info("refused %s: %s", where, error or type(error).__name__)
        with suppress(OSError, RuntimeError, WebSocketDisconnect):  # it may have gone by itself
            if isinstance(error, ViniError):
                await stranger.send(frames.UNASKED, bus.refusal(error))
            await socket.close(frames.REFUSED if isinstance(error, ViniError) else 1008)

    # --- a connection that belongs to a node ------------------------------------------------------

    async def _attend(self, connection: Connection, greeting: bus.Greeting, identity: Identity) -> None:
        node = connection.node
        line = _Line(connection, Delivery(connection, greeting, self._desk, self._rhythm))
        if older := self._lines.get(node):
            older.connection.end("A newer connection of this node took its place.", frames.DISPLACED)
        self._lines[node] = line
        log.info("node %s is connected", node)
        try:
            with suppress(ConnectionError):
                await connection.send(frames.UNASKED, bus.Welcome())
                await line.delivery.tell(greeting)
                await self._until_over(line, identity)
        finally:
            if self._lines.get(node) is line:
                del self._lines[node]
                self._heard[node] = self._clock()
                log.info("node %s is not connected any more", node)

    async def _until_over(self, line: _Line, identity: Identity) -> None:
        connection, delivery = line.connection, line.delivery
        reading = asyncio.create_task(connection.read(delivery.tell))
        ending = asyncio.create_task(connection.ended())
        tasks = [
            reading, ending, asyncio.create_task(delivery.deliver()), asyncio.create_task(delivery.telling()),
            asyncio.create_task(delivery.authorize()), asyncio.create_task(self._beat(line)),
            asyncio.create_task(self._guard(line, identity)),
        ]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for error in (task.exception() for task in done):
                if error and not isinstance(error, (bus.NodeAway, ConnectionError)):
                    expected = isinstance(error, Misbehaves)
                    log.warning("node %s: %s", connection.node, error, exc_info=None if expected else error)
                    connection.end(str(error), frames.MISBEHAVED if expected else 1011)
            if not reading.done() or reading.exception():  # it has not hung up
                connection.end("The central ends this connection.")
                await ending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, line: _Line, identity: Identity) -> None:
        """Returns when the node may not connect any more: what another central decided is noticed by looking."""
        while True:
            now = await asked(self._desk.identities, line.connection.node, self._rhythm)
            if now is None or not now.allowed or now.public_key != identity.public_key:
                line.connection.end((now.why if now else "") or _CUT, frames.REFUSED)
                return
            await asyncio.sleep(self._rhythm.beat)

    async def _beat(self, line: _Line) -> None:
        """Measure the node's clock; one that does not answer has gone."""
        told, told_at = bus.Offset(0.0, 0.0), -self._rhythm.review
        while True:
            try:
                async with asyncio.timeout(self._rhythm.patience):
                    offset = await self._offset(line.connection)
            except TimeoutError:
                line.connection.end("This node does not answer.", 1001)
                return
            now = time.monotonic()
            if now - told_at >= self._rhythm.review or abs(offset.ahead_s - told.ahead_s) > offset.rtt_s + _DRIFT_S:
                told, told_at = offset, now
                await line.delivery.tell(offset)
                line.delivery.wake()
            await asyncio.sleep(self._rhythm.beat)

    async def _offset(self, connection: Connection) -> bus.Offset:
        """By four moments, as NTP does it (RFC 5905, 8)."""
        asked_at, started = self._clock(), time.monotonic()
        reply = await connection.ask(bus.AskClock())
        took = time.monotonic() - started
        if not isinstance(reply, bus.Clock):
            raise Misbehaves(f"Asked for its clock, the node answered with a {type(reply).__name__}.")
        ahead = (reply.received + reply.answered) / 2 - (asked_at + took / 2)
        return bus.Offset(ahead, max(0.0, took - (reply.answered - reply.received)))


def _refusal(identity: Identity | None, proof: bus.Proof, nonce: bytes) -> str:
    """Why it is not the node that it says; "" where it is, and may connect."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    again = f"`vini node join` on it, with a new token, makes it one: `vini node token`, node {proof.node}."
    if identity is None:
        return f"The central knows no node {proof.node!r}; {again}"
    try:
        key = Ed25519PublicKey.from_public_bytes(identity.public_key)
        key.verify(proof.signature, frames.statement(nonce, proof.node))
    except (InvalidSignature, ValueError):
        return f"That is not the key with which node {proof.node!r} joined; {again}"
    if not identity.allowed:
        return identity.why or f"Node {proof.node!r} is disabled; an administrator may enable it."
    return ""
