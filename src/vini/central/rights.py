"""Who may do what on the engine, said in JWTs that all descend from one seed: the operator's.

The operator vouches for two accounts: the server's own, and the testbed's.  In that a scoped signing key makes nodes:
what those may do stands in the account, by the node's own key, and not in what a node is given.  So rights change for
all at once, and whoever steals the signing key still makes nothing but nodes.

A server at a site has a scoped signing key of its own in either account, and what may pass through it stands there too:
what the nodes of that site say and hear, and claims.  Who is not named there any more is cut off.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vini.bus import subjects
from vini.bus.nkeys import Key, Kind, nkey
from vini.model import NotFound, ViniError

CENTRAL = "a central"  # what its JWT calls it, and none of a node's: that is no name of one
_SEED = "engine.seed"
_NODE_SUBJECTS = 8  # subscriptions that one node may have
_LONG_AGO = 1.0
_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # its order (SEC 2, 2.4.2)
_CLAIMS = "$SYS.REQ.CLAIMS.UPDATE"
_NOTHING = {"deny": [">"]}  # an empty `allow` would mean all
_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS = {**_NO_LIMITS, "imports": 0, "exports": 0, "wildcards": False, "conn": -1, "leaf": -1}


class Rights:
    """What the operator says.  The same seed always says the same, so all centrals of a testbed agree."""

    def __init__(self, seed: bytes, clock: Callable[[], float] = time.time):
        self._seed, self._clock = seed, clock
        self._operator = self._of("operator", "operator")
        self._system = self._of("account", "system")
        self._account = self._of("account", "account")
        self._signing = self._of("account", "nodes")

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
        return self._operator.claim(self._operator.name, "vini", nats, _LONG_AGO)

    def system_jwt(self, sites: Collection[int] | None = None) -> str:
        """With the numbers of servers at sites, which hear of claims.  None: for the configuration of a server, so old
        that it takes the place of none that a central brought."""
        scopes = [self._scope(number, "system", _NOTHING, {"allow": [_CLAIMS]}) for number in sorted(sites or ())]
        nats = {"type": "account", "limits": _ACCOUNT_LIMITS, "signing_keys": scopes}
        return self._operator.claim(self.system, "system", nats, self._at(sites))

    def account_jwt(self, revoked: Mapping[str, int], sites: Mapping[int, Collection[bytes]] | None = None) -> str:
        """What nodes may do; whose identities, made until those Unix times (s), are good no more; and by the number of
        each server at a site the keys of the nodes there.  None: as with `system_jwt`."""
        template = {
            "pub": {"allow": subjects.may_publish()}, "sub": {"allow": subjects.may_hear()},
            **_NO_LIMITS, "subs": _NODE_SUBJECTS, "allowed_connection_types": ["STANDARD"],
        }  # fmt: skip
        scope = {"kind": "user_scope", "key": self._signing.name, "role": "node", "template": template}
        at_sites = [self._site_scope(number, keys) for number, keys in sorted((sites or {}).items())]
        nats = {
            "type": "account", "limits": _ACCOUNT_LIMITS, "signing_keys": [scope, *at_sites],
            "revocations": {**revoked},
        }  # fmt: skip
        return self._operator.claim(self.account, "vini", nats, self._at(sites))

    def _site_scope(self, number: int, keys: Collection[bytes]) -> dict[str, Any]:
        names = [nkey("user", key) for key in keys]
        says = {"allow": subjects.may_publish(*names)} if names else _NOTHING
        hears = {"allow": subjects.may_hear(*names) if names else [subjects.CALL]}
        return self._scope(number, "account", says, hears)

    def _scope(self, number: int, account: str, says: Mapping[str, Any], hears: Mapping[str, Any]) -> dict[str, Any]:
        template = {"pub": says, "sub": hears, **_NO_LIMITS, "allowed_connection_types": ["LEAFNODE"]}
        key = self._of("account", f"site {number} in {account}").name
        return {"kind": "user_scope", "key": key, "role": f"site {number}", "template": template}

    def site_credentials(self, number: int) -> tuple[str, str]:
        """Of a server at a site: for the testbed's account, and for the server's own; in the form in which nats-server
        reads them from files."""
        user = self._of("user", f"site {number}")
        out = []
        for account, name in (("account", self.account), ("system", self.system)):
            nats = {"type": "user", "issuer_account": name}
            signing = self._of("account", f"site {number} in {account}")
            jwt = signing.claim(user.name, f"site {number}", nats, _LONG_AGO)
            out.append(
                f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
                f"-----BEGIN USER NKEY SEED-----\n{user.seed()}\n------END USER NKEY SEED------\n"
            )
        return out[0], out[1]

    def tls_key(self, number: int) -> ec.EllipticCurvePrivateKey:
        """Of an added server; 0: of those that centrals run."""
        found = int.from_bytes(_derived(self._seed, f"server {number}"))
        return ec.derive_private_key(found % (_P256 - 1) + 1, ec.SECP256R1())

    def pin(self, number: int) -> str:
        """By which other servers of the cluster know that key: SHA-256 of its public half (DER)."""
        public = self.tls_key(number).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).hexdigest()

    def _at(self, sites: object) -> float:
        return _LONG_AGO if sites is None else self._clock()

    def _of(self, kind: Kind, what: str) -> Key:
        return Key(kind, _derived(self._seed, what))

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
