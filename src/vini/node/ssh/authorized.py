"""Who may come into which slice with which key: two files on the node's disk, complete at every moment.

One is as the central says, whose word about a slice of its own is all; the other is of this machine's own slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from vini import durable
from vini.bus import Admission
from vini.model import ViniError
from vini.node.stamp import stamp

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
        durable.write(path, msgspec.json.encode(table))
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

    def __init__(self, state: Path, clock: Callable[[], float] = time.time):
        self._state, self._clock = state, clock
        self._seen: tuple[tuple[int, int], ...] = ()
        self._table: Table = {}
        self._central: Table = {}

    def table(self) -> Table:
        """As it is on disk now."""
        now = tuple(stamp(directory(self._state) / name) for name in _FILES.values())
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

    def opens(self, slice_: str, sliver: str, key: str) -> bool:
        """Whether this key ("ssh-ed25519 AAAA...") does at this moment, as a member's or as a guest's."""
        said = self.of(slice_)
        return any(k.key == key for k in said.keys) or any(
            g.key == key and (not g.slivers or sliver in g.slivers) and (not g.until or self._clock() < g.until)
            for g in said.guests
        )

    def person(self, slice_: str, key: str) -> str:
        """Whose key that is; where nobody says so, the key stands for him."""
        said = self.of(slice_)
        known = {k.key: k.person for k in said.guests} | {k.key: k.person for k in said.keys}
        return known.get(key) or key
