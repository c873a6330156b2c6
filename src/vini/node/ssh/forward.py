"""Forwarded ports: every socket of a forwarding is made inside the sliver's network namespace, and nowhere else.

So "localhost" is the sliver's own, and what the sliver can't reach, nobody reaches through it: not the node's services,
not other slices.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from weakref import WeakSet

from asyncssh import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED, ChannelOpenError, SSHServerConnection
from asyncssh.forward import SSHForwarder, SSHLocalPortForwarder
from asyncssh.listener import SSHForwardListener

from vini.node import netns
from vini.node.undo import closed_on_failure

Forwarded = WeakSet[SSHForwarder]  # connections that are forwarded, and perhaps some that have ended
_PATIENCE_S = 10.0
_BACKLOG = 64


def lives(one: SSHForwarder) -> bool:
    """Whether it still has a socket."""
    return one._transport is not None


class _NoRoom(asyncio.Protocol):
    """For whoever in the sliver connects too often to what is forwarded to a client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """He is hung up on."""
        transport.close()


class Inside:
    """The network of one sliver."""

    def __init__(self, pin: Path, hosts: str, forwarded: Forwarded, has_room: Callable[[], bool]):
        self._pin, self._hosts, self._forwarded, self._has_room = pin, hosts, forwarded, has_room

    async def connect(self, host: str, port: int) -> SSHForwarder:
        """To an address, `localhost` or a sliver's name, as a program in the sliver would."""
        try:
            peer = await self._connected(self._address(host), port)
        except OSError as e:
            raise ChannelOpenError(OPEN_CONNECT_FAILED, e.strerror or "Connection timed out") from None
        self._forwarded.add(peer)
        return SSHForwarder(peer)

    def _address(self, host: str) -> str:
        if host in ("localhost", ""):
            return "127.0.0.1"
        try:
            return str(ip_address(host.partition("%")[0]))
        except ValueError:
            pass
        for line in self._hosts.splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            if host in names:
                return address
        raise ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, f"no sliver {host!r} here; give an address")

    async def _connected(self, address: str, port: int) -> SSHForwarder:
        """No thread waits for who does not answer: there are few, for all slices."""
        loop = asyncio.get_running_loop()
        with closed_on_failure(await asyncio.to_thread(self._socket, address)) as ours:
            ours.setblocking(False)
            async with asyncio.timeout(_PATIENCE_S):
                await loop.sock_connect(ours, (address, port))
            _, peer = await loop.create_connection(SSHForwarder, sock=ours)
        return peer

    def _socket(self, address: str) -> socket.socket:
        """A socket belongs to the namespace that it was made in, whoever uses it (network_namespaces(7))."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.inside(self._pin):
            # by its number: then asyncio sends what is small at once (TCP_NODELAY)
            return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP)

    async def listen(self, conn: SSHServerConnection, host: str, port: int) -> SSHForwardListener | bool:
        """Connections to that port of the sliver go to the client.  Only at the sliver's loopback, unless the client
        asks for another address by name, as sshd's `GatewayPorts clientspecified` has it."""
        try:
            ours = await asyncio.to_thread(
                self._listening, self._address("" if host in ("", "localhost") else host), port
            )
        except (OSError, ChannelOpenError):
            return False
        opened = int(ours.getsockname()[1])

        async def onward(session: Callable[[], SSHForwarder], *origin: object) -> object:
            return await conn.create_connection(session, host, opened, *origin)  # type: ignore[arg-type]

        def accepted() -> asyncio.BaseProtocol:
            if not self._has_room():
                return _NoRoom()
            made = SSHLocalPortForwarder(conn, onward)
            self._forwarded.add(made)
            return made

        server = await asyncio.get_running_loop().create_server(accepted, sock=ours)
        return SSHForwardListener(conn, [server], (host, port or opened), opened)

    def _listening(self, address: str, port: int) -> socket.socket:
        with closed_on_failure(self._socket(address)) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.bind((address, port))
            ours.listen(_BACKLOG)
        ours.setblocking(False)
        return ours
