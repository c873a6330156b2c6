"""What a routing daemon plugin is given, and what it reports."""

from __future__ import annotations

from vini.model.asked import Routing
from vini.model.value import Value


class RouterVif(Value, frozen=True):
    """One vif of a router as its routing daemon sees it; addresses with prefix length."""

    dev: str
    peer: str  # the sliver at the other end; on a LAN a switch
    addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]  # on a LAN those of all its others
    cost: int
    protocols: tuple[str, ...]  # spoken over this vif: we and another speak them and the link allows them
    area: str
    passive: tuple[str, ...] = ()  # IGPs that announce its prefix though they are not spoken over it (to a host)
    neighbors: dict[str, int] = {}  # on a LAN: how many others speak each of the protocols there; else one


class BgpPeer(Value, frozen=True):
    """A BGP session, derived from the topology: eBGP over a link, iBGP between loopbacks."""

    name: str
    address: str  # without prefix length
    asn: int
    internal: bool = False
    source: str = ""  # our address of an iBGP session


class Router(Value, frozen=True):
    """All that a routing daemon plugin may know of one sliver."""

    ns: str
    name: str
    router_id: str  # dotted quad
    loopbacks: tuple[str, ...]  # "a/32", "a/128"
    routing: Routing
    vifs: tuple[RouterVif, ...]
    peers: tuple[BgpPeer, ...] = ()


class Adjacency(Value, frozen=True):
    """A routing neighbour as a daemon reports it."""

    protocol: str
    neighbor: str  # router id or address
    dev: str
    state: str
    up: bool
