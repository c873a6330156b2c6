"""Who may come into which slice with which key: two files on the node's disk, complete at every moment.

One is as the central says, whose word about a slice of its own is all; the other is of this machine's own slices.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from vini.bus import Admission
from vini.model import ViniError

Asker = Literal["here", "central"]
Table = dict[str, Admission]  # by slice
_FILES: dict[Asker, str] = {"here": "here.json", "central": "central.json"}


def directory(state: Path) -> Path:
    """Where a place keeps all that concerns SSH."""
    return state / "ssh"


def write(state: Path, asker: Asker, table: Mapping[str, Admission]) -> None:
    """It is on disk as a whole, or the one before it is.  Raises ViniError where the disk does not take it."""
    path = directory(state) / _FILES[asker]
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new = path.with_suffix(".new")
        with new.open("wb") as f:
            f.write(msgspec.json.encode(table))
            f.flush()
            os.fsync(f.fileno())
        new.rename(path)
    except OSError as e:
        raise ViniError(f"Who may log in can't be written to {path}: {e.strerror}; check the disk.") from e


def forget(state: Path, asker: Asker) -> None:
    """Nobody whom this asker named may come in any more."""
    (directory(state) / _FILES[asker]).unlink(missing_ok=True)


def read(state: Path, asker: Asker) -> Table:
    """Empty where there is none, or none that can be read: then nobody comes in."""
    try:
        return msgspec.json.decode((directory(state) / _FILES[asker]).read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError):
        return {}


class Book:
    """Both files, read again whenever one is another."""

    def __init__(self, state: Path):
        self._state = state
        self._seen: tuple[tuple[int, int], ...] = ()
        self._table: Table = {}
        self._central: Table = {}

    def table(self) -> Table:
        """As it is on disk now."""
        now = tuple(_version(directory(self._state) / name) for name in _FILES.values())
        if now != self._seen:
            self._central = read(self._state, "central")
            self._table = {**read(self._state, "here"), **self._central}
            self._seen = now
        return self._table

    def of(self, slice_: str) -> Admission:
        """Of one slice; of one that nobody named, that nobody may come in."""
        return self.table().get(slice_, Admission())

    def from_central(self, slice_: str) -> Admission | None:
        """What the central says of one of its slices; None: it is none of its."""
        self.table()
        return self._central.get(slice_)

    def opens(self, slice_: str, key: str) -> bool:
        """Whether this key ("ssh-ed25519 AAAA...") does at this moment."""
        return any(k.key == key for k in self.of(slice_).keys)


def _version(path: Path) -> tuple[int, int]:
    try:
        seen = path.stat()
    except OSError:
        return 0, 0
    return seen.st_ino, seen.st_mtime_ns
