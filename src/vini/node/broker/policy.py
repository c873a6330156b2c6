"""What is granted to slices on this node: what the central says of its own, and root of this machine of all others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from vini import durable
from vini.model import ViniError
from vini.node.ssh.authorized import Book
from vini.rules import grants

log = logging.getLogger("vini.broker")
_Table = dict[str, tuple[str, ...]]  # slice -> its grants


class Policy:
    """Read again whenever it is another."""

    def __init__(self, state: Path):
        self._state, self._book = state, Book(state)
        self._complaint = ""

    def granted(self, slice_: str) -> tuple[grants.Ports, ...]:
        """To a slice, now.  What can't be read grants nothing, and the log says so."""
        central = self._book.from_central(slice_)
        try:
            words = central.grants if central is not None else read(self._state).get(slice_, ())
            granted, complaint = grants.parsed(" ".join(words)), ""
        except ViniError as e:
            granted, complaint = (), str(e)
        if complaint and complaint != self._complaint:
            log.warning("nothing is granted to slice %s: %s", slice_, complaint)
        self._complaint = complaint
        return granted


def _path(state: Path) -> Path:
    return state / "grants.json"


def read(state: Path) -> _Table:
    """What root of this machine granted.  Raises ViniError where that can't be read."""
    path = _path(state)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Table)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise ViniError(
            f"What is granted on this node can't be read from {path} ({why}); mend that file, or delete it and grant "
            "anew."
        ) from e


def write(state: Path, table: Mapping[str, tuple[str, ...]]) -> None:
    """It is on disk as a whole, or the one before it is.  Raises ViniError where the disk does not take it."""
    path = _path(state)
    try:
        durable.write(path, msgspec.json.encode({k: v for k, v in sorted(table.items()) if v}))
    except OSError as e:
        raise ViniError(f"What is granted can't be written to {path}: {e.strerror}; check the disk.") from e
