"""Child processes that are listened to."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence


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
