"""Who may do what on the engine, said in JWTs that all descend from one seed: the operator's.

The operator vouches for two accounts: the server's own, and the testbed's.  In that a scoped signing key makes nodes:
what those may do stands in the account, by the node's own key, and not in what a node is given.  So rights change for
all at once, and whoever steals the signing key still makes nothing but nodes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vini.bus import subjects
from vini.bus.nkeys import Key, nkey
from vini.model import NotFound, ViniError

CENTRAL = "a central"  # what its JWT calls it, and none of a node's: that is no name of one
_SEED = "engine.seed"
_NODE_SUBJECTS = 8  # subscriptions that one node may have
_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS = {**_NO_LIMITS, "imports": 0, "exports": 0, "wildcards": False, "conn": -1, "leaf": -1}


class Rights:
    """What the operator says.  The same seed always says the same, so all centrals of a testbed agree."""

    def __init__(self, seed: bytes, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._operator = Key("operator", _derived(seed, "operator"))
        self._system = Key("account", _derived(seed, "system"))
        self._account = Key("account", _derived(seed, "account"))
        self._signing = Key("account", _derived(seed, "nodes"))

    @property
    def account(self) -> str:
        """The testbed's, as the server names it."""
        return self._account.name

    @property
    def system(self) -> str:
        """The server's own."""
        return self._system.name

    def operator_jwt(self) -> str:
        """For the server's configuration."""
        nats = {"type": "operator", "system_account": self.system}
        return self._operator.claim(self._operator.name, "vini", nats, self._clock())

    def system_jwt(self) -> str:
        """For the server's configuration."""
        return self._operator.claim(
            self.system, "system", {"type": "account", "limits": _ACCOUNT_LIMITS}, self._clock()
        )

    def account_jwt(self, revoked: Mapping[str, int]) -> str:
        """What nodes may do; and whose identities, made until those Unix times (s), are good no more."""
        template = {
            "pub": {"allow": subjects.may_publish()}, "sub": {"allow": subjects.may_hear()},
            **_NO_LIMITS, "subs": _NODE_SUBJECTS,
        }  # fmt: skip
        scope = {"kind": "user_scope", "key": self._signing.name, "role": "node", "template": template}
        nats = {
            "type": "account", "limits": _ACCOUNT_LIMITS, "signing_keys": [scope], "revocations": {**revoked}
        }  # fmt: skip
        return self._operator.claim(self.account, "vini", nats, self._clock())

    def node_jwt(self, name: str, public_key: bytes) -> str:
        """Makes whoever has that key a node on the engine."""
        nats = {"type": "user", "issuer_account": self.account}
        return self._signing.claim(nkey("user", public_key), name, nats, self._clock())

    def central(self) -> tuple[Key, str]:
        """A key and JWT for a central's own connection, which may say and hear everything in the account."""
        return self._member(self._account)

    def administrator(self) -> tuple[Key, str]:
        """The same in the server's account: for claims, and for news of who comes and goes."""
        return self._member(self._system)

    def _member(self, account: Key) -> tuple[Key, str]:
        key = Key("user", os.urandom(32))
        nats: dict[str, Any] = {"type": "user", **_NO_LIMITS}
        return key, account.claim(key.name, CENTRAL, nats, self._clock())


def make(directory: Path) -> Rights:
    """Of a new seed, in a central's directory; the one that is there stays."""
    path = directory / "ca" / _SEED
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(os.urandom(32))
    except FileExistsError:
        pass
    except OSError as e:
        raise ViniError(f"{path} can't be written: {e.strerror}; choose another --dir.") from e
    return read(directory)


def read(directory: Path) -> Rights:
    """Raises NotFound where there is none."""
    path = directory / "ca" / _SEED
    try:
        seed = path.read_bytes()
    except OSError as e:
        raise NotFound(
            f"The engine's seed {path} can't be read: {e.strerror}; restore it from a backup. "
            "With a new one (`vini central init --engine nats`) every nats-server needs its new configuration."
        ) from e
    if len(seed) != 32:
        raise ViniError(f"The engine's seed {path} is damaged; restore it from a backup.")
    return Rights(seed)


def _derived(seed: bytes, what: str) -> bytes:
    return hashlib.blake2b(what.encode(), key=seed, digest_size=32, person=b"vini engine").digest()
