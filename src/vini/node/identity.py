"""Who a node is to its central: a key pair, its name, where the central is, and by what it knows the central."""

from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path

import msgspec

from vini import durable
from vini.bus.frames import statement
from vini.model import Denied, Value, ViniError
from vini.node.stamp import stamp


class Identity(Value, frozen=True):
    """What a machine got when it joined; `key` never leaves it."""

    node: str
    site: str
    central: str  # URL, https://central.example[:port]
    key: bytes  # Ed25519 (RFC 8032), the private half, 32 bytes
    ca: str  # PEM; whoever shows a certificate by it is the central, and nobody else
    ssh_port: int = 2222  # where members of slices log in; 0: at no port of the node, only through the central

    @property
    def owner(self) -> str:
        """Which central, and as which node: also where that has moved (`vini node follow`)."""
        return f"{sha256(self.ca.encode()).hexdigest()} {self.node}"

    def sign(self, nonce: bytes) -> bytes:
        """Proves to a central that we are this node."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.key).sign(statement(nonce, self.node))


def authority(identity: Identity) -> str:
    """SHA-256 of its central's authority's certificate, as join tokens tell it."""
    return sha256(ssl.PEM_cert_to_DER_cert(identity.ca)).hexdigest()


def public_half(key: bytes) -> bytes:
    """Of a private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def directory(state: Path) -> Path:
    """Where a place keeps all that concerns its central."""
    return state / "uplink"


def _path(state: Path) -> Path:
    return directory(state) / "identity.json"


def version(state: Path) -> tuple[int, int]:
    """Another one whenever what is read may be another."""
    return stamp(_path(state))


def read(state: Path) -> Identity | None:
    """None where the machine has joined no central.  Raises ViniError where the file can't be read."""
    path = _path(state)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except PermissionError as e:
        raise Denied(f"The node's identity {path} is root's alone; run this with sudo.") from e
    except (OSError, msgspec.DecodeError) as e:
        raise ViniError(f"The node's identity {path} can't be read ({e}); `vini node join` makes a new one.") from e


def write(state: Path, identity: Identity) -> None:
    """It is complete on disk, for root only, or the one before it is."""
    path = _path(state)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        durable.write(path, msgspec.json.encode(identity))
    except OSError as e:
        raise ViniError(f"The node's identity {path} can't be written: {e.strerror}; nothing was changed.") from e


def forget(state: Path) -> bool:
    """Leave the central: the agent then ends what it asked for.  Whether there was one."""
    path = _path(state)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there
