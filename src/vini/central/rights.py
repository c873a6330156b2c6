"""Who may do what on the engine, said in JWTs that all descend from one seed: the operator's.

The operator vouches for two accounts: the server's own, and the testbed's.  In that a scoped signing key makes nodes:
what those may do stands in the account, by the node's own key, and not in what a node is given.  So rights change for
all at once, and whoever steals the signing key still makes nothing but nodes.

A site that has servers of the engine has an account of its own, in which these servers and its nodes are.  Between it
and the testbed's goes only what the nodes of that site say and hear: each is named in both accounts.  Rights of a leaf
node's user would not do, since a nats-server leaves it to the leaf node to keep to what it may say (seen with 2.9.10).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vini.bus import subjects
from vini.bus.nkeys import Key, Kind, nkey
from vini.model import NotFound, Value, ViniError

CENTRAL = "a central"  # what its JWT calls it, and none of a node's: that is no name of one
_SEED = "engine.seed"
_NODE_SUBJECTS = 8  # subscriptions that one node may have
_LONG_AGO = 1.0
_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # its order (SEC 2, 2.4.2)
_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS = {**_NO_LIMITS, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}


class Site(Value, frozen=True):
    """What is at a site: the numbers of its servers of the engine, and its nodes' keys, as NATS writes them."""

    servers: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()


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

    def system_jwt(self) -> str:
        """For the server's configuration."""
        nats = {"type": "account", "limits": {**_ACCOUNT_LIMITS, "leaf": 0}}
        return self._operator.claim(self.system, "system", nats, _LONG_AGO)

    def account_jwt(self, revoked: Mapping[str, int], sites: Mapping[str, Site] | None = None) -> str:
        """What nodes may do; whose identities, made until those Unix times (s), are good no more; and what is heard of
        the sites that have servers."""
        template = {
            "pub": {"allow": subjects.may_publish()}, "sub": {"allow": subjects.may_hear()},
            **_NO_LIMITS, "subs": _NODE_SUBJECTS,
        }  # fmt: skip
        scope = {"kind": "user_scope", "key": self._signing.name, "role": "node", "template": template}
        heard = [
            _stream(subject, subject, self.site_account(name))
            for name, site in sorted((sites or {}).items())
            for subject in (subjects.may_publish(*site.nodes) if site.nodes else ())
        ]
        nats = {
            "type": "account", "limits": {**_ACCOUNT_LIMITS, "leaf": 0}, "imports": heard,
            "exports": [_stream(s, s) for s in (subjects.to_node("*", "*", "*"), subjects.CALL)],
            "signing_keys": [scope], "revocations": {**revoked},
        }  # fmt: skip
        return self._operator.claim(self.account, "vini", nats, self._clock())

    def site_jwt(self, name: str, site: Site, revoked: Mapping[str, int], fixed: bool = False) -> str:
        """A site's account; without servers, nobody may be in it.  `fixed`: for the configuration of a server there."""
        makers = [f"nodes of {name}", *(f"server {number}" for number in sorted(site.servers))] if site.servers else []
        heard = [*subjects.may_hear(*site.nodes)] if site.nodes else []
        nats = {
            "type": "account", "limits": _ACCOUNT_LIMITS, "imports": [_stream(s, s, self.account) for s in heard],
            "exports": [_stream(s, s) for s in subjects.may_publish("*")],
            "signing_keys": [self._of("account", maker).name for maker in makers],
            "revocations": {**revoked},
        }  # fmt: skip
        return self._operator.claim(
            self.site_account(name), f"site {name}", nats, _LONG_AGO if fixed else self._clock()
        )

    def ended_jwt(self, account: str) -> str:
        """The account of a site without servers, by its key: nobody is in it, and nothing is heard there."""
        nats = {"type": "account", "limits": {**_ACCOUNT_LIMITS, "conn": 0, "leaf": 0}}
        return self._operator.claim(account, "no site", nats, self._clock())

    def site_account(self, name: str) -> str:
        """As the server names it."""
        return self._of("account", f"site {name}").name

    def site_credentials(self, number: int, site: str) -> str:
        """Of a server at a site, in the form in which nats-server reads them from a file."""
        user, signing = self._of("user", f"user of server {number}"), self._of("account", f"server {number}")
        nats = {
            "type": "user", "issuer_account": self.site_account(site), **_NO_LIMITS,
            "allowed_connection_types": ["LEAFNODE"],
        }  # fmt: skip
        jwt = signing.claim(user.name, f"server {number}", nats, _LONG_AGO)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed()}\n------END USER NKEY SEED------\n"
        )

    def tls_key(self, number: int) -> ec.EllipticCurvePrivateKey:
        """Of an added server; 0: of those that centrals run."""
        found = int.from_bytes(_derived(self._seed, f"TLS of server {number}"))
        return ec.derive_private_key(found % (_P256 - 1) + 1, ec.SECP256R1())

    def pin(self, number: int) -> str:
        """By which other servers of the cluster know that key: SHA-256 of its public half (DER)."""
        public = self.tls_key(number).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).hexdigest()

    def _of(self, kind: Kind, what: str) -> Key:
        return Key(kind, _derived(self._seed, what))

    def node_jwt(self, name: str, public_key: bytes, site: str = "") -> str:
        """Makes whoever has that key a node on the engine; `site`: its own, where that has servers.

        There its rights are in what it is given: only so is it no leaf node, which could say what others of the site
        say (nats-server 2.9.10 passes over the kinds of connections that a signing key's template names)."""
        key = nkey("user", public_key)
        if not site:
            return self._signing.claim(key, name, {"type": "user", "issuer_account": self.account}, self._clock())
        nats = {
            "type": "user", "issuer_account": self.site_account(site), "pub": {"allow": subjects.may_publish(key)},
            "sub": {"allow": subjects.may_hear(key)}, **_NO_LIMITS, "subs": _NODE_SUBJECTS,
            "allowed_connection_types": ["STANDARD"],
        }  # fmt: skip
        return self._of("account", f"nodes of {site}").claim(key, name, nats, self._clock())

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


def _stream(name: str, subject: str, account: str = "") -> dict[str, str]:
    """What an account gives out; with another account, what it takes from that."""
    return {"name": name, "subject": subject, "type": "stream", **({"account": account} if account else {})}


def _derived(seed: bytes, what: str) -> bytes:
    return hashlib.blake2b(what.encode(), key=seed, digest_size=32, person=b"vini engine").digest()
