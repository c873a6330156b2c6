"""Who logged in to slivers of the central's, and out again: the SSH server writes it, the agent tells the central.

A line for each; only so many are kept, the newest: what a central that is away for long misses is the oldest.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from vini.model import Value
from vini.node.ledgers import owner_of
from vini.node.ssh.authorized import directory
from vini.node.stamp import stamp
from vini.rules.logins import Login

log = logging.getLogger("vini.ssh")
_FULL = 1 << 18  # bytes of a file; there are two
_MOST = 200  # in one answer
_TAIL = 1 << 16  # bytes where the last number is looked for: some lines, however long


class _Line(Value, frozen=True, forbid_unknown_fields=False):
    owner: str  # which central was this machine's then (`Ledgers.owner`)
    login: Login


class Journal:
    """One place's: its SSH server writes, at an upgrade the old one beside the new one; the agent reads."""

    def __init__(self, state: Path):
        self._state = state
        self._at = directory(state) / "logins"
        self._old = self._at.with_name("logins.old")
        self._seen: tuple[tuple[int, int], ...] = ()
        self._lines: list[_Line] = []

    def note(self, login: Login, owner: str = "") -> str:
        """It gets its number here: higher than all before, also after a reinstallation.  The central that it is told
        to: this one, or the machine's now."""
        owner = owner or owner_of(self._state)
        try:
            with _alone(self._at.with_name("logins.lock")):
                self._write(owner, login)
        except OSError as e:
            log.warning("that %s was in %s can't be written down: %s", login.person, login.user, e)
        return owner

    def _write(self, owner: str, login: Login) -> None:
        tail = _tail(self._at)
        last = max((line.login.number for line in _lines(tail or _tail(self._old))), default=0)
        numbered = msgspec.structs.replace(login, number=max(last + 1, time.time_ns() // 1000))  # a clock may go back
        line = msgspec.json.encode(_Line(owner, numbered)) + b"\n"
        if tail and self._at.stat().st_size > _FULL:
            self._at.replace(self._old)
        elif tail and not tail.endswith(b"\n"):  # a crash cut it
            line = b"\n" + line
        fd = os.open(self._at, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(line)

    def newest(self) -> int:
        """The number of the newest that is the central's business; 0: there is none."""
        return max((login.number for login in self._mine()), default=0)

    def after(self, number: int) -> tuple[Login, ...]:
        """Some of those with higher numbers, the oldest first."""
        mine = sorted(self._mine(), key=lambda login: login.number)
        return tuple([login for login in mine if login.number > number][:_MOST])

    def _mine(self) -> list[Login]:
        now = stamp(self._old), stamp(self._at)
        if now != self._seen:
            self._seen, self._lines = now, [line for at in (self._old, self._at) for line in _lines(_tail(at, None))]
        if not self._lines:
            return []
        owner = owner_of(self._state)
        return [line.login for line in self._lines if line.owner == owner]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _tail(path: Path, most: int | None = _TAIL) -> bytes:
    """The last bytes of it, or all; nothing where it is not there."""
    try:
        with path.open("rb") as file:
            if most is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read()
    except FileNotFoundError:
        return b""


def _lines(raw: bytes) -> list[_Line]:
    """Without what a crash left half-written."""
    lines = []
    for one in raw.splitlines():
        with suppress(msgspec.DecodeError):
            lines.append(msgspec.json.decode(one, type=_Line))
    return lines
