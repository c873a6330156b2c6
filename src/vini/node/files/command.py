"""A conf file's command: root runs it, with an end to its time and to what is kept of what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL
from contextlib import suppress

PATIENCE_S = 30.0
_LATE_S = 5.0
_SAID = 300  # bytes of its last words
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run(command: str, path: str, patience_s: float = PATIENCE_S) -> str:
    """Why it failed; "" where it did not.  It ends with us, and all of its process group when its time is over.

    What it leaves in the background is its own affair: its output goes to a file, so nobody waits for that.  Where we
    are killed, timeout(1) ends it.
    """
    late = f"{patience_s + _LATE_S:g}"
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            "timeout", "--signal=KILL", late, "/bin/sh", "-c", command,
            stdin=DEVNULL, stdout=said, stderr=said, cwd="/", start_new_session=True,
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "VINI_CONF_FILE": path},
        )  # fmt: skip
        try:
            async with asyncio.timeout(patience_s):
                code = await process.wait()
        except TimeoutError:
            return f"it had not ended after {patience_s:g} s, and was ended"
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code == 0:
            return ""
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
        words = " ".join(said.read().decode(errors="replace").split())
    how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
    return f"{how}: {words}" if words else how
