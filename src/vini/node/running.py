"""Commands in slivers for whoever isn't on this machine, or wants their output as it comes: a stream each.

A command is a process group of its own, in the sliver's cgroup.  When its asker goes, all of it ends.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vini.bus.messages.commands import Cancel, Credit, Exited, Input, Logs, Output, Resize, Run, Signal
from vini.bus.streams import CHUNK, Channel, Window, cost
from vini.model import NotFound, Value, ViniError, is_sliver
from vini.node import cgroup, environment
from vini.node.container import crun
from vini.node.drivers.contents import enter
from vini.node.drivers.halt import check_running
from vini.node.place import Place

_GRACE_S = 2.0  # between asking a command to end and ending it
_SETTLED_S = 0.2  # without output: what a command that has ended left in the background keeps its output for itself
_BIN = Path(__file__).parent.parent / "cli" / "bin"  # vtysh and birdc that talk to the sliver's own daemons
_numbers = itertools.count(1)


class Prepared(Value, frozen=True):
    """A command line as the node runs it, and what ends all that it started."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    end: Callable[[bool], None] = lambda _: None  # with True; with False it only clears away what is empty


Prepare = Callable[[Run], Prepared]  # raises ViniError where it can't be run


def in_sliver(place: Place) -> Prepare:
    """Runs commands inside this place's slivers: their network, private root, cgroup, names and tools."""

    def prepare(run: Run) -> Prepared:
        sliver = _there(place, run.ns)
        check_running(place, run.ns)
        argv = run.argv
        # Without names, as where an image brings its own, names and tools are its maker's business.
        if run.hosts and not crun.is_contained(place, run.ns):
            home = place.sliver(run.ns)
            home.mkdir(parents=True, exist_ok=True)
            own = Path("/etc/hosts").read_text() if Path("/etc/hosts").exists() else ""
            (home / "hosts").write_text(own + run.hosts)
            argv = ("unshare", "--mount", "--uts", f"{_BIN}/inside", *argv)
        group = cgroup.of(place, run.ns, "exec") / f"run-{next(_numbers)}"
        group.mkdir(parents=True, exist_ok=True)
        join = f'echo 0 > "{group / "cgroup.procs"}" && exec "$@"'
        command = ("sh", "-c", join, "sh", *enter(place, run.ns, environment.given(place, run.ns, argv)))
        return Prepared(command, _environment(place, run, sliver), lambda kill: _end(group, kill))

    return prepare


def _there(place: Place, ns: str) -> str:
    """The sliver of that namespace.  NotFound where it is none: in what carries a slice's links, who enters is the
    node's root."""
    slice_, _, sliver = ns.partition(".")
    if not sliver or not is_sliver(ns) or "/" in ns or not place.netns(ns).exists():
        raise NotFound(f"Sliver {sliver!r} of {slice_!r} is not there at the moment; `vini status` says why.")
    return sliver


def reads_logs(place: Place) -> Callable[[Logs], Prepared]:
    """Reads what the processes of this place's slivers said; on the node, not in the sliver."""

    def prepare(asked: Logs) -> Prepared:
        sliver, home = _there(place, asked.ns), place.sliver(asked.ns)
        there = sorted(p.stem for p in home.glob("*.log"))
        for name in asked.processes:
            if name not in there:
                raise NotFound(f"Sliver {sliver!r} has no log of {name!r}; there are: {', '.join(there) or 'none'}.")
        program = str(Path(__file__).with_name("logs.py"))
        words = (str(home), str(max(0, asked.lines)), str(int(asked.follow)), str(int(asked.boot)), *asked.processes)
        return Prepared((sys.executable, "-I", "-S", program, *words), {"PATH": os.environ.get("PATH", os.defpath)})

    return prepare


def _environment(place: Place, run: Run, sliver: str) -> dict[str, str]:
    return {
        "PATH": f"{_BIN}:{os.environ.get('PATH', os.defpath)}",
        "HOME": "/root",
        "TERM": "xterm-256color",
        "VINI_SLIVER": run.ns,
        "VINI_NAME": sliver,
        "VINI_SLIVER_DIR": str(place.sockets(run.ns)),
        "PS1": f"{sliver}# ",
        "debian_chroot": sliver,
        **run.environment,
    }


def _end(group: Path, kill: bool) -> None:
    if kill:
        cgroup.kill(group)
    cgroup.delete(group, patience_s=1.0 if kill else 0.0)


async def run(command: Run, channel: Channel, prepare: Prepare) -> None:
    """Run it, until it has exited or its asker has gone.  Raises ViniError where it can't be started."""
    prepared = prepare(command)
    running = await _start(command, prepared)
    try:
        await _attend(running, channel)
    finally:
        await asyncio.shield(running.end(prepared.end))


class _Running:
    """A command that runs, and our ends of its input and output.

    They are ours and not asyncio's: its `wait` waits for whoever else holds the other ends, too.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stdin: asyncio.StreamWriter,
        outputs: Mapping[int, _Output],
        terminal: BinaryIO | None,
    ):
        self.process, self.stdin, self.outputs, self._terminal = process, stdin, outputs, terminal
        self.passed_on = 0  # bytes
        self.passing_on = 0  # outputs of which some is on its way to the asker

    @property
    def on_terminal(self) -> bool:
        """Whether its input and output are a terminal's."""
        return self._terminal is not None

    def send(self, number: int) -> None:
        """To its group; on a terminal, to what is in the foreground there."""
        group = self.process.pid
        if self._terminal:
            with suppress(OSError):
                group = os.tcgetpgrp(self._terminal.fileno())
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal, and by SIGWINCH those in its foreground."""
        if self._terminal:
            _resize(self._terminal.fileno(), rows, columns)

    async def end(self, rest: Callable[[bool], None]) -> None:
        """Nothing of it is left when this returns, if it has not exited by itself."""
        self.stdin.close()
        for output in self.outputs.values():
            output.transport.close()
        if self._terminal:
            self._terminal.close()
        alive = self.process.returncode is None
        if alive:
            self._to_group(signal.SIGHUP)
            self._to_group(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await self.process.wait()
            self._to_group(signal.SIGKILL)
        await asyncio.to_thread(rest, alive)
        await self.process.wait()

    def _to_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class _Output:
    """One of its outputs: our end."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport):
        self.reader, self.transport = reader, transport


async def _start(command: Run, prepared: Prepared) -> _Running:
    try:
        return await (_on_terminal if command.tty else _on_pipes)(command, prepared)
    except OSError as e:
        raise ViniError(f"{prepared.argv[0]!r} can't be started on the node: {e.strerror}.") from e


async def _on_pipes(_: Run, prepared: Prepared) -> _Running:
    theirs_in, ours_in = os.pipe()
    (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *prepared.argv, stdin=theirs_in, stdout=theirs_out, stderr=theirs_err,
            env=prepared.environment, start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError:
        _close(ours_in, ours_out, ours_err)
        raise
    finally:
        _close(theirs_in, theirs_out, theirs_err)
    outputs = {1: await _output(ours_out), 2: await _output(ours_err)}
    return _Running(process, await _input(ours_in), outputs, None)


async def _on_terminal(command: Run, prepared: Prepared) -> _Running:
    """In a session of its own that a new pseudo-terminal controls (pty(7), setsid(1))."""
    ours, theirs = os.openpty()
    _resize(ours, command.rows, command.columns)
    argv = prepared.argv if shutil.which(prepared.argv[0], path=prepared.environment.get("PATH")) else ()
    try:
        if not argv:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        process = await asyncio.create_subprocess_exec(
            "setsid", "--ctty", *argv, stdin=theirs, stdout=theirs, stderr=theirs, env=prepared.environment, cwd="/"
        )
    except OSError:
        _close(ours)
        raise
    finally:
        _close(theirs)
    outputs = {1: await _output(os.dup(ours))}
    return _Running(process, await _input(os.dup(ours)), outputs, os.fdopen(ours, "r+b", buffering=0))


async def _output(fd: int) -> _Output:
    reader = asyncio.StreamReader(limit=CHUNK)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return _Output(reader, transport)


async def _input(fd: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(fd, "wb", 0))
    return asyncio.StreamWriter(transport, flow, None, loop)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def _resize(terminal: int, rows: int, columns: int) -> None:
    with suppress(OSError, struct.error):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def _attend(running: _Running, channel: Channel) -> None:
    """Returns when it has exited and its output is passed on, or when its asker has gone."""
    window = Window()
    inputs: asyncio.Queue[bytes] = asyncio.Queue()
    pumps = [asyncio.create_task(_pump(running, fd, o.reader, channel, window)) for fd, o in running.outputs.items()]
    obeying = asyncio.create_task(_obey(running, channel, window, inputs))
    typing = asyncio.create_task(_type(running, channel, inputs))
    ending = asyncio.create_task(_exited(running, pumps))
    tasks: Sequence[asyncio.Task[object]] = [*pumps, obeying, typing, ending]
    try:
        await asyncio.wait({obeying, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            with suppress(ConnectionError):
                await channel.send(Exited(ending.result()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(running: _Running, fd: int, reader: asyncio.StreamReader, channel: Channel, window: Window) -> None:
    with suppress(OSError):  # EIO: nobody holds the terminal's other end any more
        while data := await reader.read(CHUNK):
            said = Output(fd, data)
            running.passing_on += 1
            await window.take(said)
            await channel.send(said)
            running.passing_on -= 1
            running.passed_on += len(data)


async def _obey(running: _Running, channel: Channel, window: Window, inputs: asyncio.Queue[bytes]) -> None:
    """Returns when the asker has gone."""
    while True:
        match await channel.receive():
            case Input(data):
                inputs.put_nowait(data)  # no more than a window of it: we give credit when it was passed on
            case Credit(amount):
                window.give(amount)
            case Resize(rows, columns):
                running.resize(rows, columns)
            case Signal(number):
                running.send(number)
            case Cancel() | None:
                return


async def _type(running: _Running, channel: Channel, inputs: asyncio.Queue[bytes]) -> None:
    """Pass input on, at the pace at which it is read; what is sent to one that reads no more is lost, as by a pipe."""
    while data := await inputs.get():
        with suppress(OSError):
            running.stdin.write(data)
            await running.stdin.drain()
        with suppress(ConnectionError):
            await channel.send(Credit(cost(Input(data))))
    if running.on_terminal:
        running.stdin.write(b"\x04")  # termios(3), VEOF
    else:
        running.stdin.close()


async def _exited(running: _Running, pumps: Sequence[asyncio.Task[None]]) -> int:
    """Its exit code, when its output is passed on; what it left in the background is not waited for."""
    code = await running.process.wait()
    while any(not p.done() for p in pumps):
        before = running.passed_on
        await asyncio.wait(pumps, timeout=_SETTLED_S)
        if running.passed_on == before and not running.passing_on:
            break
    return code if code >= 0 else 128 - code
