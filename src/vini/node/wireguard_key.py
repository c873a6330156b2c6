"""The key pair of a node's encrypted tunnels.  Its private half never leaves the node."""

from __future__ import annotations

import os
from base64 import b64encode
from functools import lru_cache
from pathlib import Path

from vini import durable
from vini.model import ViniError

_SIZE = 32


def _path(state: Path) -> Path:
    return state / "wireguard.key"


def private(state: Path) -> bytes:
    """The node's own; made when it is first asked for.  Raises ViniError where it can't be read or written."""
    path = _path(state)
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return _made(path)
    except OSError as e:
        raise ViniError(f"The key of this node's tunnels {path} can't be read: {e.strerror}.") from e
    if len(key) != _SIZE:
        raise ViniError(f"The key of this node's tunnels {path} is spoilt; remove it, and the agent makes another.")
    return key


def _made(path: Path) -> bytes:
    """It is complete on disk, for root only, before anybody uses it."""
    key = bytearray(os.urandom(_SIZE))
    key[0] &= 248  # RFC 7748, 5
    key[31] = key[31] & 127 | 64
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, bytes(key))
    except OSError as e:
        raise ViniError(f"The key of this node's tunnels {path} can't be written: {e.strerror}.") from e
    return bytes(key)


@lru_cache(maxsize=4)
def public(key: bytes) -> str:
    """Of a private key, in base64."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # only nodes that have joined load it

    return b64encode(X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()).decode()
