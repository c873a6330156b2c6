"""A machine's attempt to become a node: its key is on the disk before a central hears of it.

Whoever dies in between, or hears no answer, tries again with the same token and the same key, and is the same node.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from vini import durable
from vini.bus.joining import parse_token
from vini.model import Conflict, Value, ViniError
from vini.node.identity import authority, directory, read


class Attempt(Value, frozen=True):
    """The last one, which may have come through."""

    token: str  # its secret's SHA-256
    key: bytes  # Ed25519, the private half


def _path(state: Path) -> Path:
    return directory(state) / "joining.json"


def may(state: Path, token: str) -> None:
    """Raises Conflict where the machine is a node of another central than the token's, whose slices would end here."""
    try:
        before = read(state)
    except ViniError:  # whoever it was can't be told: it joins anew
        return
    if before and authority(before) != parse_token(token).fingerprint:
        raise Conflict(
            f"This machine is node {before.node} of {before.central}, and this token is of another central; what "
            "slices have here would end.  If that is meant, `vini node leave` first; else take a token of that central."
        )


def key_for(state: Path, token: str) -> bytes:
    """The key to join with: that of the attempt before with this token, or a new one, which is on the disk then.

    Raises ViniError where that is no token, or the disk takes nothing: the token is as good as it was.
    """
    mark = sha256(parse_token(token).secret.encode()).hexdigest()
    before = _last(state)
    if before and before.token == mark:
        return before.key
    made = Attempt(mark, os.urandom(32))
    path = _path(state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(path, msgspec.json.encode(made))
    except OSError as e:
        raise ViniError(
            f"The node's key {path} can't be written: {e.strerror}; the token was not used, mend that and try again."
        ) from e
    return made.key


def over(state: Path) -> None:
    """The machine is the node that it wanted to be."""
    _path(state).unlink(missing_ok=True)


def _last(state: Path) -> Attempt | None:
    """None also where it can't be read: then another key is made."""
    try:
        return msgspec.json.decode(_path(state).read_bytes(), type=Attempt)
    except (OSError, msgspec.DecodeError):
        return None
