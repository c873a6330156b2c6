"""Identities as NATS has them: Ed25519 keys written as nkeys, and claims about them that another key has signed.

The forms are those of https://github.com/nats-io/nkeys and of https://github.com/nats-io/jwt, version 2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Kind = Literal["operator", "account", "user"]
_PREFIX: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}  # they show as O, A and U
_SEED = 18 << 3
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


def nkey(kind: Kind, public: bytes) -> str:
    """A public key of 32 bytes, as NATS writes it: 56 letters and digits, the first of which tells its kind."""
    return _base32(bytes([_PREFIX[kind]]) + public)


def _base32(body: bytes) -> str:
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def public_key(user: str) -> bytes:
    """The 32 bytes of a user's key.  Raises ValueError where it is none."""
    body = base64.b32decode(user)
    if len(body) != 35 or nkey("user", body[1:33]) != user:
        raise ValueError(f"{user[:60]!r} is no user's key")
    return body[1:33]


class Key:
    """A private key of one kind, and what it may sign."""

    def __init__(self, kind: Kind, seed: bytes):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private, self._kind = Ed25519PrivateKey.from_private_bytes(seed), kind
        self.name = nkey(kind, self._private.public_key().public_bytes_raw())

    def seed(self) -> str:
        """The private half, as NATS writes it: S, then the letter of its kind."""
        prefix = _PREFIX[self._kind]
        body = bytes([_SEED | prefix >> 5, (prefix & 31) << 3]) + self._private.private_bytes_raw()
        return _base32(body)

    def signed(self, nonce: bytes) -> bytes:
        """A server's challenge, in the form in which it wants that."""
        return base64.urlsafe_b64encode(self._private.sign(nonce)).rstrip(b"=")

    def claim(self, subject: str, name: str, nats: Mapping[str, Any], at: float) -> str:
        """A JWT: this key says so of the key `subject`, at a Unix time (s)."""
        said: dict[str, Any] = {"iat": int(at), "iss": self.name, "name": name, "sub": subject, "nats": {**nats}}
        said["nats"]["version"] = 2
        digest = hashlib.sha256(msgspec.json.encode(said, order="sorted")).digest()
        said["jti"] = base64.b32encode(digest).decode().rstrip("=")
        text = f"{_part(msgspec.json.encode(_HEADER))}.{_part(msgspec.json.encode(said))}"
        return f"{text}.{self.signed(text.encode()).decode()}"


def claimed(jwt: str) -> dict[str, Any]:
    """What a JWT says; whether its signature is good is for whoever is shown it.  Raises ValueError for none."""
    try:
        part = jwt.split(".")[1]
        said: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, msgspec.DecodeError) as e:
        raise ValueError("that is no JWT") from e
    return said


def _part(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()
