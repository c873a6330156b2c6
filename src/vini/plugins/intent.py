"""What the routing daemon plugins read out of a `Router` in the same way, whichever daemon it is for."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from ipaddress import ip_interface

from msgspec.structs import replace

from vini.model import Adjacency, BgpPeer, Router, RouterVif, Unsupported

RIP_TIMERS = (5, 15, 10)  # s: update, timeout, garbage collection; RFC 2453 3.8 says 30, 180, 120
BFD_INTERVAL_MS = 100  # between control packets, both ways
BFD_MULTIPLIER = 3  # packets lost in a row that mean "down" (RFC 5880 6.8.1)
TWO_WAY = ("2-Way", "Twoway")  # as the daemons print that state
BGP_KEEPALIVE_S, BGP_HOLD_S = 1, 3  # 3 s is the least that RFC 4271 4.2 allows


def digest(*texts: str) -> str:
    """A short digest of configuration texts, the same on every machine."""
    return blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()


def active(router: Router, protocol: str) -> tuple[RouterVif, ...]:
    """The vifs over which a neighbour speaking `protocol` is expected."""
    return tuple(v for v in router.vifs if protocol in v.protocols)


def passive(router: Router, protocol: str) -> tuple[RouterVif, ...]:
    """The vifs whose prefixes `protocol` announces although it is not spoken there."""
    return tuple(v for v in router.vifs if protocol in v.passive)


def leaves(router: Router) -> tuple[RouterVif, ...]:
    """The vifs over which no routing protocol is spoken: to hosts."""
    return tuple(v for v in router.vifs if not set(v.protocols) - {"static"})


def neighbors(vif: RouterVif, protocol: str) -> int:
    """How many neighbours speak `protocol` over a vif."""
    return vif.neighbors.get(protocol, 1) if protocol in vif.protocols else 0


def shared(vif: RouterVif, protocol: str) -> bool:
    """Whether more than two routers speak `protocol` there: a broadcast network, else a link from point to point."""
    return neighbors(vif, protocol) > 1


def version(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def loopback(router: Router, family: int) -> str:
    """The first loopback address of IPv4 (4) or IPv6 (6), without prefix length; "" where there is none."""
    return next((a.partition("/")[0] for a in router.loopbacks if version(a) == family), "")


def originated(router: Router, family: int) -> tuple[str, ...]:
    """The prefixes that BGP originates: loopbacks, prefixes of hosts' links, and `Routing.announce`; sorted."""
    local: Iterable[str] = (*router.loopbacks, *(a for v in leaves(router) for a in v.addresses))
    prefixes = {str(ip_interface(a).network) for a in (*local, *router.routing.announce) if version(a) == family}
    return tuple(sorted(prefixes))


def peers(router: Router, family: int) -> tuple[BgpPeer, ...]:
    """The BGP sessions over IPv4 (4) or IPv6 (6)."""
    return tuple(p for p in router.peers if version(p.address) == family)


def expected_adjacencies(router: Router) -> int:
    """How many adjacencies are up once every neighbour is: one a protocol and neighbour, one a BGP session."""
    igps = (p for p in router.routing.protocols if p not in ("bgp", "static"))
    sessions = len(router.peers) if "bgp" in router.routing.protocols else 0
    return sum(neighbors(v, p) for p in igps for v in router.vifs) + sessions


def settled(found: Iterable[Adjacency]) -> tuple[Adjacency, ...]:
    """OSPF's neighbours, in which those that need no more than two-way communication are up too: on a LAN whose
    designated router is fully adjacent to us (RFC 2328, 10.4)."""
    found = tuple(found)
    full = {a.dev for a in found if a.up}
    return tuple(replace(a, up=a.up or (a.state.startswith(TWO_WAY) and a.dev in full)) for a in found)


def whole_seconds(router: Router, what: str, value: float) -> int:
    """`value` as the whole seconds that a daemon's syntax asks for; Unsupported rather than another value."""
    if value != int(value) or value < 1:
        daemon = router.routing.daemon
        raise Unsupported(
            f"Sliver {router.name} asks for a {what} of {value:g} s; {daemon} takes whole seconds from 1."
        )
    return int(value)
