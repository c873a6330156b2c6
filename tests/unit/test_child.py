"""Child processes that are listened to."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path

import pytest

from vini.client.child import started


def living(word: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in file.read_bytes():
                found.append(file.parent.name)
    return found


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 20])
async def test_who_is_cancelled_while_a_program_starts_leaves_nothing_of_it(steps: int) -> None:
    """And does not wait for what that had started, which holds its outputs open."""
    word = f"1000.{os.getpid()}{steps:02}"
    task = asyncio.create_task(
        started(["sh", "-c", f"sleep {word} & sleep {word}"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    )
    for _ in range(steps):
        await asyncio.sleep(0.001)
    task.cancel()
    try:
        process = await asyncio.wait_for(task, 60)
    except asyncio.CancelledError:
        assert not living(word)
    else:  # it had been started before
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
