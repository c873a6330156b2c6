"""Passwords: what is kept is what argon2id makes of them (RFC 9106)."""

from __future__ import annotations

from base64 import b64encode
from threading import Semaphore

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

_hasher = PasswordHasher()
# What is kept of a password that nobody has: as long to try as any, and made at once, which a hash of one is not.
_NOBODYS = "$argon2id$v=19$m={},t={},p={}${}${}".format(
    _hasher.memory_cost, _hasher.time_cost, _hasher.parallelism,
    *(b64encode(bytes(n)).decode().rstrip("=") for n in (_hasher.salt_len, _hasher.hash_len)),
)  # fmt: skip
_turns = Semaphore(2)  # each takes 64 MiB and 50 ms of a core: many at once must not take the machine


def hashed(password: str) -> str:
    """What to keep of a new one."""
    with _turns:
        return _hasher.hash(password)


def fits(kept: str, password: str) -> bool:
    """Whether it is the one; takes as long where there is none (`kept` is "")."""
    with _turns:
        try:
            return _hasher.verify(kept or _NOBODYS, password) and bool(kept)
        except (Argon2Error, InvalidHashError):
            return False
