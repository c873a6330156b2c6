"""Programs inside slivers: run to their end, or running while the test goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from vini.client import Client
from vini.client.child import started
from vini.model import NotFound, Value, ViniError

Command = str | Sequence[str]  # a shell command line, or the words of a command
POLL_S = 0.02
SHOWN_LINES = 5  # of what a failed command said


class Completed(Value, frozen=True):
    """A command that ran in a sliver, and how it ended."""

    sliver: str
    command: str
    returncode: int
    stdout: str
    stderr: str


class CommandFailed(ViniError):
    """A command that had to succeed ended with another status than 0, or not in time."""

    def __init__(self, sentence: str, completed: Completed | None = None):
        self.completed = completed
        super().__init__(sentence)


def command_line(client: Client, slice_: str, sliver: str, command: Command) -> list[str]:
    """The words that run a command in a sliver that is there."""
    ns = f"{slice_}.{sliver}"
    if not client.place.netns(ns).exists():
        raise NotFound(f"Sliver {sliver} of {slice_} is not there at the moment; `vini status -s {slice_}` says why.")
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    return client.enter(slice_, sliver, argv)


def told(command: Command) -> str:
    """A command as one text."""
    return command if isinstance(command, str) else shlex.join(command)


async def run(
    argv: Sequence[str], sliver: str, command: Command, *, check: bool, stdin: str, timeout_s: float | None
) -> Completed:
    """Run it to its end.  Its whole process group is killed when it takes too long, or when we are cancelled."""
    process = await started(
        argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin else None), timeout_s)
    except TimeoutError as e:
        raise CommandFailed(f"`{told(command)}` in sliver {sliver} did not end within {timeout_s:g} s.") from e
    finally:
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    completed = Completed(
        sliver, told(command), process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
    )
    if check and completed.returncode:
        said = last_lines(completed.stderr or completed.stdout) or "(nothing)"
        status = f"ended with status {completed.returncode}"
        raise CommandFailed(f"`{completed.command}` in sliver {sliver} {status}; it said: {said}", completed)
    return completed


class AsyncProcess:
    """A program that runs in a sliver while other things are done: `async with net["a"].popen("iperf3 -s") as p`.

    On the way out it is asked to end (SIGTERM) and then made to, with all that it started.
    """

    def __init__(self, argv: Sequence[str], sliver: str, command: Command):
        self.sliver, self.command = sliver, told(command)
        self._argv = list(argv)
        self._process: asyncio.subprocess.Process | None = None
        self._written: IO[bytes] | None = None  # a file: a program that nobody reads would stop at a pipe's 64 KiB
        self._said = ""  # all of it, once it has ended

    async def start(self) -> None:
        """Start it; `async with` does this."""
        self._written = tempfile.TemporaryFile()  # noqa: SIM115  # lives until stop
        self._process = await started(
            self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._written,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Its process id on the machine."""
        return self._running.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._running.returncode

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ViniError(f"`{self.command}` is not started; use it as `async with sliver.popen(...) as p`.")
        return self._process

    def output(self) -> str:
        """What it has written so far, to stdout and stderr."""
        if self._written is None:
            return self._said
        at = self._written.fileno()
        return os.pread(at, os.fstat(at).st_size, 0).decode(errors="replace")

    async def wait_for(self, pattern: str, timeout_s: float = 10.0) -> str:
        """Return the first text in its output that matches a regular expression, e.g. "listening".

        Raises CommandFailed with its last lines when it ends without, or takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            ended, late = self._running.returncode is not None, time.monotonic() > deadline
            if found := re.search(pattern, self.output(), re.MULTILINE):
                return found[0]
            if ended or late:
                how = f"ended with status {self.returncode}" if ended else f"did not in {timeout_s:g} s"
                said = last_lines(self.output()) or "(nothing)"
                raise CommandFailed(
                    f"`{self.command}` in sliver {self.sliver} should say {pattern!r}, but {how}; it said: {said}"
                )
            await asyncio.sleep(POLL_S)

    async def wait(self, timeout_s: float | None = None) -> int:
        """Its exit status, once it has ended.  Raises CommandFailed when that takes too long."""
        try:
            return await asyncio.wait_for(self._running.wait(), timeout_s)
        except TimeoutError as e:
            raise CommandFailed(f"`{self.command}` in sliver {self.sliver} still runs after {timeout_s:g} s.") from e

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started, if it still runs."""
        if self._running.returncode is None:
            _signal_group(self._running.pid, number)

    async def stop(self, grace_s: float = 2.0) -> int:
        """End it, and return its exit status; what still runs after `grace_s` is killed.

        What a program that ended by itself left running ends with the slice.
        """
        if self._running.returncode is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._running.wait(), grace_s)
            _signal_group(self._running.pid, signal.SIGKILL)
        status = await self._running.wait()
        if self._written is not None:
            self._said = self.output()
            self._written.close()
            self._written = None
        return status

    async def stop_if_started(self) -> None:
        """End it where it runs: for whoever started it and forgot."""
        if self._process is not None:
            await self.stop()


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def last_lines(text: str, n: int = SHOWN_LINES) -> str:
    """The end of what a program said, on one line."""
    return " / ".join(line.strip() for line in text.strip().splitlines()[-n:])
