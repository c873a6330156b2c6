"""Servers of the engine besides those that centrals run: of its cluster, and at sites, as leaf nodes of the cluster."""

from __future__ import annotations

import re
from ipaddress import ip_address

from vini.model import Value
from vini.rules.errors import Invalid

PORT = 4222
ROUTES, LEAVES = 2000, 3000  # above the port for centrals and nodes: those for the cluster, and for sites' servers
_MOST = 65535 - LEAVES
_DNS = r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


class EngineServer(Value, frozen=True):
    """One of them."""

    number: int  # no two ever have the same, also those that were removed
    address: str  # NAME:PORT by which centrals and nodes reach it
    site: str  # whose nodes it is for; "": it is one of the cluster

    @property
    def name(self) -> str:
        """The DNS name or IP address alone, as a certificate has it."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where centrals and nodes dial it."""
        return int(self.address.rpartition(":")[2])

    @property
    def url(self) -> str:
        """For who dials it."""
        return f"tls://{self.address}"

    def at(self, offset: int) -> str:
        """NAME:PORT of another of its ports."""
        return f"{self.address.rpartition(':')[0]}:{self.port + offset}"


def address(said: str) -> str:
    """What somebody calls it, always written the same way.  Raises Invalid where it can be none."""
    bare = said.lower()
    host, colon, port = bare.rpartition(":")
    if not colon or (bare.count(":") > 1 and not host.endswith("]")):
        host, port = bare, str(PORT)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MOST):
        raise Invalid(
            f"{said[:80]!r} names no port from 1 to {_MOST} (it takes two more, {ROUTES} and {LEAVES} above it);"
            f" it looks like nats1.example or nats1.example:{PORT}."
        )
    try:
        found = ip_address(host)
    except ValueError:
        if re.fullmatch(_DNS, host) and not re.fullmatch(r"[0-9.]+", host):
            return f"{host}:{int(port)}"
        raise Invalid(
            f"{said[:80]!r} is no address of a server; it looks like nats1.example or nats1.example:{PORT}."
        ) from None
    return f"[{found}]:{int(port)}" if found.version == 6 else f"{found}:{int(port)}"
