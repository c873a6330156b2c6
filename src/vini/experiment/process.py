"""Programs that probes and actions run: started, read line by line, and surely ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

GRACE_S = 3.0  # between SIGINT and SIGKILL: iperf3 and tcpdump write their last lines in it


class Program:
    """A running program and all that it started: one process group.

    `output` goes to a file where one is given, else it is read with `lines()`; stderr is appended
    to `log`.  Use it with `async with`: on the way out the group is interrupted, then killed.
    """

    def __init__(self, argv: Sequence[str], log: Path, *, output: Path | None = None, grace_s: float = GRACE_S):
        self.argv, self.log, self.output, self.grace_s = list(argv), log, output, grace_s
        self.process: asyncio.subprocess.Process
        self.ended = False

    async def __aenter__(self) -> Program:
        with contextlib.ExitStack() as files:
            err: IO[bytes] = files.enter_context(self.log.open("ab"))
            out: int | IO[bytes] = asyncio.subprocess.PIPE
            if self.output:
                out = files.enter_context(self.output.open("wb"))
            self.process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C at the terminal is for us, and we pass it on in order
                limit=1 << 20,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def lines(self, stop: asyncio.Event) -> AsyncIterator[tuple[float, str]]:
        """(loop time of arrival, line) until the program ends; it is interrupted when `stop` is set."""
        assert self.process.stdout is not None
        ending = asyncio.create_task(self._end_on(stop))
        loop = asyncio.get_running_loop()
        try:
            while line := await self.process.stdout.readline():
                yield loop.time(), line.decode(errors="replace").rstrip("\n")
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def wait(self, stop: asyncio.Event) -> int:
        """The exit status; when `stop` is set the program is interrupted first."""
        ending = asyncio.create_task(self._end_on(stop))
        try:
            return await self.process.wait()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def end(self) -> int:
        """Interrupt the group, kill what is left after the grace time; the exit status."""
        if not self.ended:
            self.ended = True
            if self.process.returncode is None:
                self._signal(signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.process.wait(), self.grace_s)
            self._signal(signal.SIGKILL)
        return await self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def _end_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await self.end()


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, on one line: where a program says why it died."""
    if not log.exists():
        return ""
    return " / ".join(x.strip() for x in log.read_text(errors="replace").splitlines()[-lines:] if x.strip())
