"""Who may connect: a node says its name, and proves by its key that it is that one."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from vini import bus
from vini.bus import frames
from vini.central.batch import Batch
from vini.central.carrier import WebSocketCarrier
from vini.central.connection import Connection
from vini.central.delivery import Identity
from vini.model import ViniError

log = logging.getLogger("vini.hub")


class Door:
    """Before a WebSocket belongs to a node."""

    def __init__(self, identities: Batch[str, Identity | None], patience_s: float):
        self._identities, self._patience_s = identities, patience_s

    async def let_in(self, socket: WebSocket) -> tuple[Connection, bus.Proof, Identity] | None:
        """The node's connection, who it is, and what is known of it; None for whoever was refused."""
        await socket.accept()
        carrier = WebSocketCarrier(socket)
        stranger = Connection("", carrier)
        try:
            async with asyncio.timeout(self._patience_s):
                proof, identity = await self._proven(stranger)
        except (ViniError, TimeoutError, ConnectionError) as e:
            await self._refuse(socket, stranger, e)
            return None
        return Connection(proof.node, carrier), proof, identity

    async def _proven(self, stranger: Connection) -> tuple[bus.Proof, Identity]:
        nonce = os.urandom(32)
        await stranger.send(frames.UNASKED, bus.Challenge(nonce))
        body = await stranger.receive()
        if body is None:
            raise ConnectionError("hung up")
        if len(body) > frames.STRANGER:
            raise bus.Foreign("What came is too large for a node's introduction.")
        proof = frames.understood(frames.decode(body)[1], bus.Proof)
        check_version(proof.wire)
        try:
            identity = await self._identities.ask(proof.node)
        except ViniError as e:  # the database is away
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


def check_version(wire: int) -> None:
    """Raises Foreign where we don't understand a node of that version."""
    if not frames.speaks(wire):
        older = "node" if wire < bus.WIRE else "central"
        raise bus.Foreign(f"The node speaks version {wire} of the messages, this central version {bus.WIRE}; "
                          f"upgrade the {older}.")  # fmt: skip


def _refusal(identity: Identity | None, proof: bus.Proof, nonce: bytes) -> str:
    """Why it is not the node that it says; "" where it is, and may connect."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(identity.public_key) if identity else None
        if key:
            key.verify(proof.signature, frames.statement(nonce, proof.node))
        proven = True
    except (InvalidSignature, ValueError):
        proven = False
    return unfit(proof.node, identity, proven)


def unfit(node: str, identity: Identity | None, proven: bool) -> str:
    """Why a node may not connect, that has `proven` to have the key that is known of it, or not; "": it may."""
    again = f"`vini node join` on it, with a new token, makes it one: `vini node token`, node {node}."
    if identity is None:
        return f"The central knows no node {node!r}; {again}"
    if not proven:
        return f"That is not the key with which node {node!r} joined; {again}"
    if not identity.allowed:
        return identity.why or f"Node {node!r} is disabled; an administrator may enable it."
    return ""
