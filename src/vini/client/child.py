"""Child processes that are listened to."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from vini.model import Value

_CHUNK = 1 << 16
_LOOK_S = 0.005
_GRACE_S = 2.0  # between asking a program to end and ending it
_SETTLED_S = 0.5  # for the rest of its output; what it left in the background may hold that open for ever


class Said(Value, frozen=True):
    """What a program printed, and how it ended."""

    code: int  # its exit code; 128 + n where signal n ended it, 124 where its time was over, as timeout(1) has it
    stdout: bytes
    stderr: bytes
    cut: bool = False  # it printed more than is kept


async def output(command: Sequence[str]) -> tuple[int, str]:
    """A program's exit code, and what it printed.  It ends with us when we are interrupted."""
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    try:
        text = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await process.wait(), text


async def started(command: Sequence[str], **options: Any) -> asyncio.subprocess.Process:
    """A program in a session of its own.  Where we are cancelled meanwhile it ends with all that it started.

    asyncio itself would then kill the program alone, and wait until nobody has its outputs open: for as long as what
    it had started lives.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, start_new_session=True, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _end(await starting)
        raise


async def outputs(
    command: Sequence[str], environment: Mapping[str, str], most: int, timeout_s: float | None = None
) -> Said:
    """All that a program prints, of each output `most` bytes at most; the rest is read and thrown away.

    When its time is over, or we are interrupted, it ends with what it started (SIGTERM, then SIGKILL to its group).
    What it leaves in the background when it ends by itself is not waited for.
    """
    process = await started(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=dict(environment))
    assert process.stdout and process.stderr
    kept = _Kept(most), _Kept(most)
    reading = [asyncio.create_task(k.read(s)) for k, s in zip(kept, (process.stdout, process.stderr), strict=True)]
    ended = asyncio.create_task(_ended(process))
    try:
        done, _ = await asyncio.wait({ended}, timeout=timeout_s)
        code = ended.result() if done else 124
        if not done:
            await _end(process)
        await asyncio.wait(reading, timeout=_SETTLED_S)
    finally:
        for task in (*reading, ended):
            task.cancel()
        if process.returncode is None:
            await _end(process)
    return Said(code if code >= 0 else 128 - code, bytes(kept[0].kept), bytes(kept[1].kept), any(k.cut for k in kept))


async def _ended(process: asyncio.subprocess.Process) -> int:
    """asyncio's own `wait` also waits for whoever else holds the other ends of its outputs."""
    while process.returncode is None:
        await asyncio.sleep(_LOOK_S)
    return process.returncode


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await _ended(process)
                break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it had started and what is left of that


class _Kept:
    """The first bytes of a stream that is read to its end."""

    def __init__(self, most: int):
        self.kept, self.cut, self._most = bytearray(), False, most

    async def read(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(_CHUNK):
            room = self._most - len(self.kept)
            self.kept += data[:room]
            self.cut = self.cut or len(data) > room
