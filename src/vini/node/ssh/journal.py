"""Who logged in to slivers of the central's, and out again: the SSH server writes it, the agent tells the central.

A line for each; only so many are kept, the newest: what a central that is away for long misses is the oldest.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
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


class _Line(Value, frozen=True, forbid_unknown_fields=False):
    owner: str  # which central was this machine's then (`Ledgers.owner`)
    login: Login


class Journal:
    """One place's: one process writes, another one reads."""

    def __init__(self, state: Path):
        self._state = state
        self._at = directory(state) / "logins"
        self._old = self._at.with_name("logins.old")
        self._seen: tuple[tuple[int, int], ...] = ()
        self._lines: list[_Line] = []
        self._last = 0

    def note(self, login: Login) -> None:
        """It gets its number here: higher than all before, also after a reinstallation."""
        if not self._last:  # a clock may go back
            self._last = max((line.login.number for at in (self._old, self._at) for line in _read(at)), default=0)
        self._last = max(self._last + 1, time.time_ns() // 1000)
        line = _Line(owner_of(self._state), msgspec.structs.replace(login, number=self._last))
        try:
            if self._at.exists() and self._at.stat().st_size > _FULL:
                self._at.replace(self._old)
            fd = os.open(self._at, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
        except OSError as e:
            log.warning("that %s was in %s can't be written down: %s", login.person, login.user, e)

    def newest(self) -> int:
        """The number of the newest that is the central's business; 0: there is none."""
        return max((login.number for login in self._mine()), default=0)

    def after(self, number: int) -> tuple[Login, ...]:
        """Some of those with higher numbers, the oldest first."""
        return tuple([login for login in self._mine() if login.number > number][:_MOST])

    def _mine(self) -> list[Login]:
        now = stamp(self._old), stamp(self._at)
        if now != self._seen:
            self._seen, self._lines = now, [*_read(self._old), *_read(self._at)]
        if not self._lines:
            return []
        owner = owner_of(self._state)
        return [line.login for line in self._lines if line.owner == owner]


def _read(path: Path) -> list[_Line]:
    """Without what a crash left half-written."""
    lines = []
    with suppress(OSError):
        for raw in path.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):
                lines.append(msgspec.json.decode(raw, type=_Line))
    return lines
