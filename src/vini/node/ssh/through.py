"""Connections to a node's SSH server that come by way of its central: for nodes that can't be dialled.

The central has seen that whoever asks may enter the slice; he logs in to the server by his key all the same, and what
he says is encrypted from his ssh(1) to the server: the central carries what it can't read.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vini.bus.messages.commands import Cancel, Credit, Exited, Input, Output
from vini.bus.streams import CHUNK, Channel, Window, cost
from vini.model import CapacityError, ViniError
from vini.names import digest
from vini.node.ssh.fairness import PER_SLICE


class Carrier:
    """One node's.  No slice has more connections under way than may be in."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()

    async def carry(self, slice_: str, port: int, channel: Channel) -> None:
        """To the server at that port of this machine, until either side has gone.  Raises ViniError where it does not
        answer, or the slice has too many."""
        if self._under_way[slice_] >= PER_SLICE:
            raise CapacityError(f"Slice {slice_!r} has {PER_SLICE} connections to this node already; end some.")
        self._under_way[slice_] += 1
        try:
            await _carry(await _dialled(slice_, port), channel)
        finally:
            self._under_way[slice_] -= 1
            if not self._under_way[slice_]:
                del self._under_way[slice_]


def source_of(slice_: str) -> str:
    """The address of this machine that a slice's connections come from: the server tells them apart by it, so that
    no slice uses up what another may have before it has logged in."""
    number = digest("ssh through", slice_)
    return f"127.{1 + number % 254}.{(number >> 8) & 0xFF}.{1 + (number >> 16) % 254}"


class Came(NamedTuple):
    """From where a client came to the server, and to which of its addresses."""

    source: str
    port: int = 0
    at: str = ""
    at_port: int = 0


def came(peer: Sequence[Any] | None, own: Sequence[Any] | None) -> Came:
    """By a socket's two names."""
    return Came(str(peer[0]), int(peer[1]), str(own[0]), int(own[1])) if peer and own else Came("somebody")


def is_carried(slice_: str, c: Came) -> bool:
    """Whether it is the agent that carries this connection for the central: it comes from the slice's address here, and
    its socket is of our own user, root.  Anybody on the machine may have the address, but not the socket.  Such a
    connection is asked of while it lives."""
    if c.source != source_of(slice_) or c.at != "127.0.0.1":
        return False
    return _is_ours(Path("/proc/net/tcp").read_text(), _hex(c.source, c.port), _hex(c.at, c.at_port))


def _hex(address: str, port: int) -> str:
    """As proc_net_tcp(5) has it."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"


def _is_ours(table: str, local: str, remote: str) -> bool:
    for line in table.splitlines()[1:]:
        _, mine, its, _, _, _, _, uid, _, inode, *_ = line.split()
        if (mine, its) == (local, remote):
            return int(uid) == os.geteuid() and inode != "0"  # 0: nobody holds it any more, whosoever it was
    return False


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _dialled(slice_: str, port: int) -> Streams:
    ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours.bind((source_of(slice_), 0))
        await asyncio.get_running_loop().sock_connect(ours, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=ours, limit=CHUNK)
    except OSError as e:
        ours.close()
        raise ViniError(f"The node's SSH server does not answer ({e.strerror}); try again.") from e


async def _carry(server: Streams, channel: Channel) -> None:
    reader, writer = server
    window = Window()
    inputs: asyncio.Queue[bytes] = asyncio.Queue()
    ending = asyncio.create_task(_out(reader, channel, window))
    obeying = asyncio.create_task(_obey(channel, window, inputs))
    tasks = [ending, obeying, asyncio.create_task(_in(writer, channel, inputs))]
    try:
        await asyncio.wait({ending, obeying}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            with suppress(ConnectionError):
                await channel.send(Exited(0))
    finally:
        for task in tasks:
            task.cancel()
        writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _out(reader: asyncio.StreamReader, channel: Channel, window: Window) -> None:
    """Returns when the server has hung up."""
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            said = Output(1, data)
            await window.take(said)
            await channel.send(said)


async def _obey(channel: Channel, window: Window, inputs: asyncio.Queue[bytes]) -> None:
    """Returns when the asker has gone."""
    while True:
        match await channel.receive():
            case Input(data):
                inputs.put_nowait(data)  # no more than a window of it: we give credit when the server has taken it
            case Credit(amount):
                window.give(amount)
            case Cancel() | None:
                return
            case _:
                pass


async def _in(writer: asyncio.StreamWriter, channel: Channel, inputs: asyncio.Queue[bytes]) -> None:
    with suppress(ConnectionError):
        while data := await inputs.get():
            writer.write(data)
            await writer.drain()
            await channel.send(Credit(cost(Input(data))))
        writer.write_eof()
