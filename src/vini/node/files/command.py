"""A conf file's command: root runs it, with an end to its time, to what it starts, and to what is kept of its words."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vini.node import cgroup

PATIENCE_S = 30.0
_LATE_S = 5.0
_LOOK_S = 0.5  # between looks whether it may still run
_SAID = 300  # bytes of its last words
_PIPE = 1 << 16
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_JOIN = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


async def run(
    command: str, path: str, lock: Path, group: Path, patience_s: float = PATIENCE_S,
    may: Callable[[], bool] = lambda: True,
) -> str:  # fmt: skip
    """Why it failed; "" where it did not.  All that it started ends with it, with us, when its time is over, and when
    it may not run any more: whatever is in `group`, a cgroup.  What others start for it (systemctl(1)) does not.

    Where we are killed, timeout(1) ends it; until then it holds the lock, and our successor runs none beside it.
    """
    held = _held(lock)
    if held is None:
        return "a command that was begun before still runs"
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        if not await asyncio.to_thread(_cleared, group):
            return f"processes that a command before started can't be ended: {', '.join(map(str, cgroup.pids(group)))}"
        group.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            ["/bin/sh", "-c", _JOIN, group, "timeout", "--signal=KILL", f"{patience_s + _LATE_S:g}", "/bin/sh", "-c",
             f"exec </dev/null\n{command}"],
            stdin=held, stdout=theirs, stderr=theirs, cwd="/", start_new_session=True,
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "VINI_CONF_FILE": path},
        )  # fmt: skip
        os.close(theirs)
        theirs = -1
        with _Words(ours) as words:
            why = await _over(process, group, patience_s, may)
            said = words.last()
        if why or not process.returncode:
            return why
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return f"{how}: {said}" if said else how
    finally:
        fcntl.flock(held, fcntl.LOCK_UN)  # whoever of our own threads begins a process just now has it, too
        for fd in (held, ours, theirs):
            if fd >= 0:
                os.close(fd)


def tidied(lock: Path, group: Path) -> bool:
    """Whether nothing is left of commands.  What one left that an agent before us began is ended when that has; one
    that still runs is not touched."""
    if not group.exists():
        return True
    held = _held(lock)
    if held is None:
        return False
    try:
        return _cleared(group)
    finally:
        os.close(held)


def _cleared(group: Path) -> bool:
    """Whether nothing lives in it; then it is gone."""
    cgroup.kill(group)
    return cgroup.delete(group)


def _held(lock: Path) -> int | None:
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


async def _over(process: subprocess.Popen[bytes], group: Path, patience_s: float, may: Callable[[], bool]) -> str:
    """It is, and nothing of what it started is left; why it was ended, "" where it ended itself."""
    loop, ended, end = asyncio.get_running_loop(), asyncio.Event(), time.monotonic() + patience_s
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        while not ended.is_set():
            if (left := end - time.monotonic()) <= 0:
                return f"it had not ended after {patience_s:g} s, and was ended"
            if not may():
                return "this machine does not permit it any more, and it was ended"
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await ended.wait()
        return ""
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody has waited for it, so the number is still its own
        await asyncio.to_thread(process.wait)  # from here on nobody joins the group who is not in it
        await asyncio.to_thread(_cleared, group)


class _Words:
    """The last of what comes out of a pipe."""

    def __init__(self, pipe: int):
        self._pipe, self._said = pipe, b""
        os.set_blocking(pipe, False)

    def __enter__(self) -> _Words:
        """Read from now on, so that whoever writes never waits."""
        asyncio.get_running_loop().add_reader(self._pipe, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        """No more."""
        asyncio.get_running_loop().remove_reader(self._pipe)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, _PIPE)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
        self._said = (self._said + data)[-_SAID:]

    def last(self) -> str:
        """Of all that was said until now."""
        self._read()  # a pipe holds no more than that
        return " ".join(self._said.decode(errors="replace").split())
