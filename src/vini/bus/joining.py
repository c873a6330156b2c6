"""What a machine and a central say to each other once, when the machine joins: over HTTPS, as JSON."""

from __future__ import annotations

import re

from vini.model import Value, ViniError

_TOKEN = re.compile(r"vini1\.([A-Za-z0-9_-]{16,128})\.([0-9a-f]{64})\Z")


class Token(Value, frozen=True):
    """A secret that is good once, and by which the machine knows the central before it believes it anything."""

    secret: str
    fingerprint: str  # SHA-256 of the certificate of the central's authority, 64 hexadecimal digits

    def __str__(self) -> str:
        return f"vini1.{self.secret}.{self.fingerprint}"


def parse_token(text: str) -> Token:
    """Raises ViniError where it is none, or not all of one."""
    found = _TOKEN.fullmatch(text.strip())
    if not found:
        raise ViniError(
            "That is no join token: one looks like vini1.SECRET.FINGERPRINT, in one word; "
            "copy all of what `vini node token` printed."
        )
    return Token(found[1], found[2])


class JoinAsked(Value, frozen=True, forbid_unknown_fields=False):
    """A machine asks to become a node, and says what it is."""

    secret: str
    name: str
    key: bytes  # the public half of its Ed25519 key, 32 bytes
    capabilities: frozenset[str] = frozenset()
    address: str = ""  # by which other nodes reach it; "": the one that the central sees
    mtu: int = 1500
    cores: float = 0.0
    memory_mib: int = 0
    version: str = ""
    disk_mb: int = 0


class Joined(Value, frozen=True, forbid_unknown_fields=False):
    """It is one now."""

    node: str
    site: str
