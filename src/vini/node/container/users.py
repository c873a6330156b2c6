"""User namespaces of slivers: root inside is nobody outside (user_namespaces(7)).

Nothing holds one but the sliver's network namespace, which it owns; so the pin of that one is the pin of both.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vini.names import digest
from vini.node import netns

RANGE = 65536  # user ids, and group ids, of a sliver
_FIRST, _RANGES = 0x80000, 28_664  # where systemd, too, puts those of containers (systemd's UIDS-GIDS.md)
_AHEAD = 2 * (os.cpu_count() or 1)  # that are being made
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)


def first_id(ns: str) -> int:
    """The user and group id on the node of the root of `slice.sliver`.

    By its name alone, as systemd-nspawn does it.  Two slivers that share one share the kernel's accounts per user.
    """
    return _FIRST + RANGE * (digest("user namespace", ns) % _RANGES)


class NewNetworks:
    """New network namespaces, each owned by a new user namespace, for a thread that enters one after the other.

    The kernel moves no thread of several into another user namespace: so a process makes both, and we go by it.  Some
    are started ahead, and their ends are waited for together: both take the kernel longer than us.
    """

    def __init__(self, count: int):
        self._to_start = count
        self._started: deque[subprocess.Popen[bytes]] = deque()
        self._ended: list[subprocess.Popen[bytes]] = []

    def enter(self, ns: str) -> None:
        """Move this thread into one that is `slice.sliver`'s."""
        self._start()
        holder = self._started.popleft()
        try:
            assert holder.stdout
            if not holder.stdout.readline():
                raise OSError(f"this kernel makes no user namespace (unshare(1) ended with {holder.wait()})")
            at = Path(f"/proc/{holder.pid}")
            for ids in ("uid_map", "gid_map"):
                (at / ids).write_text(f"0 {first_id(ns)} {RANGE}")
            netns.enter(at / "ns/net")
        finally:
            self._end(holder)

    def close(self) -> None:
        """End those that nobody needed, and wait until all have ended."""
        while self._started:
            self._end(self._started.popleft())
        for holder in self._ended:
            holder.wait()

    def _start(self) -> None:
        command = ["unshare", "--user", "--net", "sh", "-c", "echo; read _"]
        while not self._started or (self._to_start > 0 and len(self._started) < _AHEAD):
            self._started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            self._to_start -= 1

    def _end(self, holder: subprocess.Popen[bytes]) -> None:
        holder.kill()
        self._ended.append(holder)
        for pipe in (holder.stdin, holder.stdout):
            assert pipe
            pipe.close()


@contextmanager
def owner(network: Path) -> Iterator[int]:
    """A descriptor of the user namespace that owns a pinned network namespace.  OSError where there is none."""
    fd = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = fcntl.ioctl(fd, _NS_GET_USERNS)
    finally:
        os.close(fd)
    try:
        yield found
    finally:
        os.close(found)


def is_tenant(network: Path) -> bool:
    """Whether a pinned network namespace is owned by a user namespace of its sliver, and not by the node's."""
    try:
        with owner(network) as fd:
            return os.fstat(fd).st_ino != Path("/proc/thread-self/ns/user").stat().st_ino
    except OSError:
        return False
