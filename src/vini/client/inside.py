"""A command in a sliver of a testbed, as a program: `python -m vini.client.inside SLICE SLIVER -- COMMAND ...`;
or its processes' logs: `... SLICE SLIVER logs LINES FOLLOW BOOT PROCESS ...`; or, for ssh(1) as its ProxyCommand, a
connection to the SSH server of its node: `... SLICE SLIVER ssh`.

Its input, output, signals, terminal and exit code are the command's own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from vini import bus
from vini.client import login as logins
from vini.client.commands import opened, said
from vini.model import ViniError

_CHUNK = 1 << 15
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_ENCODE = msgspec.msgpack.Encoder()


def main() -> None:
    """Run it; errors are a sentence, and exit code 255 as ssh(1) has it: the command's own codes stay apart."""
    slice_, sliver, what, *argv = sys.argv[1:]
    try:
        code = asyncio.run(_run(slice_, sliver, _asked(what, argv)))
    except ViniError as e:
        print(f"error: {e}", file=sys.stderr)
        code = 255
    sys.stdout.flush()
    os._exit(code)  # a thread may still wait for input that nobody will type


def _asked(what: str, words: list[str]) -> bus.Stream:
    if what == "logs":  # LINES FOLLOW BOOT PROCESS...
        return bus.Logs("", int(words[0]), words[1] == "1", tuple(words[3:]), words[2] == "1")
    if what == "ssh":
        return bus.SshThrough("")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    columns, rows = shutil.get_terminal_size()
    return bus.Run("", tuple(words), terminal, rows, columns)


async def _run(slice_: str, sliver: str, asked: bus.Stream) -> int:
    login = logins.current()
    if login is None:
        raise ViniError("Nobody is logged in to a central; `vini login URL`.")
    async with opened(login, slice_, sliver) as socket:
        return await _converse(socket, asked)


async def _converse(socket: ClientConnection, asked: bus.Stream) -> int:
    terminal = isinstance(asked, bus.Run) and asked.tty
    await socket.send(_ENCODE.encode(asked))
    with _around(asked, socket):
        feeding = asyncio.create_task(_feed(socket))
        if terminal:
            asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, lambda: _soon(socket, _size()))
        try:
            return await _listen(socket)
        finally:
            feeding.cancel()


async def _listen(socket: ClientConnection) -> int:
    async for message in said(socket):
        match message:
            case bus.Output(fd, data):
                await asyncio.to_thread(_write, fd, data)
            case bus.Exited(code):
                return code
    raise AssertionError("`said` ends with an exit, or raises")


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def _feed(socket: ClientConnection) -> None:
    while data := await asyncio.to_thread(os.read, 0, _CHUNK):
        await socket.send(_ENCODE.encode(bus.Input(data)))
    with suppress(ConnectionClosed):
        await socket.send(_ENCODE.encode(bus.Input()))


def _size() -> bus.Resize:
    columns, rows = shutil.get_terminal_size()
    return bus.Resize(rows, columns)


def _soon(socket: ClientConnection, message: bus.Message) -> None:
    async def send() -> None:
        with suppress(ConnectionClosed):
            await socket.send(_ENCODE.encode(message))

    asyncio.ensure_future(send())


def _around(asked: bus.Stream, socket: ClientConnection) -> AbstractContextManager[None]:
    if isinstance(asked, bus.SshThrough):  # there is nobody to tell of a signal; it ends us
        return nullcontext()
    return _raw() if isinstance(asked, bus.Run) and asked.tty else _passing_on(socket)


@contextmanager
def _raw() -> Iterator[None]:
    """The terminal passes on every key; it is as before at the end."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _passing_on(socket: ClientConnection) -> Iterator[None]:
    """Signals go to the command, which decides."""
    loop = asyncio.get_running_loop()
    for number in _PASSED_ON:
        loop.add_signal_handler(number, lambda n=number: _soon(socket, bus.Signal(n)))  # type: ignore[misc]
    try:
        yield
    finally:
        for number in _PASSED_ON:
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    main()
