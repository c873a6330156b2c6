"""Where a place's SSH server is: its host key, the port that it keeps, and what the one that runs says of itself."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vini import durable
from vini.model import Value, ViniError
from vini.node import identity as identities
from vini.node.place import Place
from vini.node.ssh.authorized import directory


class Address(Value, frozen=True):
    """Where it listens; host "" is every address of the machine, port 0 any that is free."""

    host: str
    port: int


class Running(Value, frozen=True, forbid_unknown_fields=False):
    """A server that listens."""

    pid: int
    version: str
    asked: Address  # where it was told to listen
    port: int
    host_key: str  # the public half


def wanted(place: Place) -> Address:
    """A node of a testbed is there for everybody; another machine for itself, at a port that it keeps."""
    try:
        identity = identities.read(place.state)
    except ViniError:  # one that can't be read is told of by the uplink
        identity = None
    if identity is not None and identity.ssh_port:
        return Address("", identity.ssh_port)
    return Address("127.0.0.1", 0)


def lock(place: Place) -> Path:
    """Held by the server that listens."""
    return place.run / "ssh.lock"


def running(place: Place) -> Running | None:
    """What the newest server said; whether it lives, the lock tells."""
    try:
        return msgspec.json.decode((place.run / "ssh.json").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def tell(place: Place, now: Running) -> None:
    """It listens; the port is kept for the next one."""
    new = place.run / "ssh.json.new"
    new.write_bytes(msgspec.json.encode(now))
    new.rename(place.run / "ssh.json")
    (directory(place.state) / "port").write_text(str(now.port))


def kept_port(place: Place) -> int:
    """That of the server before; 0: there was none."""
    try:
        return int((directory(place.state) / "port").read_text())
    except (OSError, ValueError):
        return 0


def host_key(place: Place) -> bytes:
    """The private half, in OpenSSH's format; made when first needed, and kept for as long as the node's state is."""
    path = directory(place.state) / "host_ed25519"
    if not path.exists():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        durable.write(path, key)
    return path.read_bytes()
