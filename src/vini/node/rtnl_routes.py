"""The messages of routes, and what the kernel answers, decoded (rtnetlink(7)).  See `rtnl`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from vini.model import Value
from vini.node import netlink as nl
from vini.node.place import ROUTE_PROTOCOL
from vini.node.rtnl_addresses import printed

# Attribute numbers: linux/rtnetlink.h.
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 6, 7, 9, 18
_RTA_METRICS, _RTAX_MTU = 8, 2
_RTNH_F_DEAD, _RTM_F_FIB_MATCH = 1, 0x2000
MAIN_TABLE, LOCAL_TABLE = 254, 255
UNICAST, LOCAL, BROADCAST, MULTICAST = 1, 2, 3, 5  # kinds of routes (rtm_type)
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_BY_KERNEL = 2  # the protocol number of the kernel's own routes
_IP6_RT_PRIO_ADDRCONF = 256  # the metric of the kernel's own IPv6 routes to prefixes (net/ip6_route.h)
_BODY = struct.Struct("=BBBBBBBBI")  # family, dst/src length, tos, table, protocol, scope, type, flags


class KernelRoute(NamedTuple):
    """A route that the kernel makes by itself: table, rtm_type, index of its interface, destination, prefix length."""

    table: int
    kind: int
    link: int
    to: bytes
    length: int


class SeenHop(Value, frozen=True):
    """A next hop; the kernel sends nothing by a dead one (RTNH_F_DEAD)."""

    via: str
    index: int
    weight: int
    dead: bool


class SeenRoute(Value, frozen=True):
    """A route of the main table; one has several next hops where paths cost the same."""

    to: str
    protocol: int
    hops: tuple[SeenHop, ...]
    mtu: int = 0  # 0: the interface's

    @property
    def via(self) -> str:
        """The address of the first next hop; "" on the link itself."""
        return self.hops[0].via

    @property
    def index(self) -> int:
        """The interface of the first next hop."""
        return self.hops[0].index


def routes(socket: nl.Socket, family: int = 0, protocol: int = 0, table: int = MAIN_TABLE) -> Iterator[SeenRoute]:
    """What a socket's namespace has in one table, or all if 0; only of one family or protocol number unless 0."""
    return map(seen_route, _dumped(socket, family, protocol, table))


def kernel_routes(socket: nl.Socket) -> Iterator[KernelRoute]:
    """The routes that the kernel made by itself there, of all families and tables."""
    return (_seen_kernel_route(m[16:]) for m in _dumped(socket, 0, _BY_KERNEL, 0))


def _dumped(socket: nl.Socket, family: int, protocol: int, table: int) -> list[bytes]:
    body = _BODY.pack(family, 0, 0, 0, table, protocol, 0, 0, 0)
    return socket.dump(nl.message(nl.GETROUTE, nl.DUMP, body))


def get_route(destination: str) -> bytes:
    """Ask for the route of the tables by which packets go there, with all its next hops (RTM_F_FIB_MATCH)."""
    at = ip_address(destination)
    body = _BODY.pack(2 if at.version == 4 else 10, at.max_prefixlen, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    return nl.message(nl.GETROUTE, 0, body + nl.attribute(_RTA_DST, at.packed))


def seen_route(message: bytes) -> SeenRoute:
    """Decode RTM_NEWROUTE.

    A route that refers to a nexthop object (RTA_NH_ID, as zebra makes them) has the object's next
    hops in it too, as long as net.ipv4.nexthop_compat_mode is what every namespace begins with, 1.
    """
    family, length, _, _, _, protocol, _, _, flags = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 28)
    several = a.get(_RTA_MULTIPATH)
    hops = tuple(_hops(several)) if several else (_hop(a, nl.number(a.get(_RTA_OIF)), 1, flags),)
    destination = a.get(_RTA_DST, b"\0" * (4 if family == 2 else 16))
    mtu = nl.number(nl.attributes(a[_RTA_METRICS], 0).get(_RTAX_MTU)) if _RTA_METRICS in a else 0
    return SeenRoute(f"{printed(family, destination)}/{length}", protocol, hops, mtu)


def _hops(several: bytes) -> Iterator[SeenHop]:
    """Decode RTA_MULTIPATH: each a struct rtnexthop (length, flags, weight - 1, index) and attributes."""
    at = 0
    while at + 8 <= len(several):
        size, flags, less_one, index = struct.unpack_from("=HBBi", several, at)
        if size < 8:
            break
        yield _hop(nl.attributes(several[at : at + size], 8), index, less_one + 1, flags)
        at += (size + 3) & ~3


def _hop(a: dict[int, bytes], index: int, weight: int, flags: int) -> SeenHop:
    gateway = a.get(_RTA_GATEWAY) or a.get(_RTA_VIA, b"")[2:]
    via = str(ip_address(gateway)) if gateway else ""
    return SeenHop(via, index, weight, bool(flags & _RTNH_F_DEAD))


@lru_cache(maxsize=1 << 16)
def _seen_kernel_route(body: bytes) -> KernelRoute:
    """Decode RTM_NEWROUTE of a route of the kernel's own, without its header: that is numbered anew in every dump,
    and all else of the many such routes is the same in each."""
    family, length, _, _, table, _, _, kind, _ = _BODY.unpack_from(body, 0)
    a = nl.attributes(body, 12)
    to = a.get(_RTA_DST, b"\0" * (4 if family == 2 else 16))
    return KernelRoute(table, kind, nl.number(a.get(_RTA_OIF)), to, length)


def add_route(to: str, via: str, index: int, mtu: int = 0) -> bytes:
    """Add or replace a route in the main table, with our protocol number."""
    metrics = nl.nest(_RTA_METRICS, nl.u32(_RTAX_MTU, mtu)) if mtu else b""
    return nl.message(nl.NEWROUTE, nl.CREATE | nl.REPLACE, _route(to, via, index) + metrics)


def add_kernel_route(route: KernelRoute, source: bytes = b"") -> bytes:
    """Add a route as the kernel would have made it, so that it goes with its address; no error where it is there."""
    family = 2 if len(route.to) == 4 else 10
    scope = 0 if family == 10 else _SCOPE_HOST if route.kind == LOCAL else _SCOPE_LINK
    body = _BODY.pack(family, route.length, 0, 0, route.table, _BY_KERNEL, scope, route.kind, 0)
    body += nl.attribute(_RTA_DST, route.to) + nl.u32(_RTA_OIF, route.link)
    if family == 10:
        body += nl.u32(_RTA_PRIORITY, _IP6_RT_PRIO_ADDRCONF)
    if source:
        body += nl.attribute(_RTA_PREFSRC, source)
    return nl.message(nl.NEWROUTE, nl.CREATE | nl.APPEND, body)


def delete_route(to: str, via: str, index: int) -> bytes:
    """Take a route of ours away."""
    return nl.message(nl.DELROUTE, 0, _route(to, via, index))


def _route(to: str, via: str, index: int) -> bytes:
    net = ip_network(to)
    family = 2 if net.version == 4 else 10
    body = _BODY.pack(family, net.prefixlen, 0, 0, MAIN_TABLE, ROUTE_PROTOCOL, 0, UNICAST, 0)
    body += nl.attribute(_RTA_DST, net.network_address.packed)
    return body + nl.attribute(_RTA_GATEWAY, ip_address(via).packed) + nl.u32(_RTA_OIF, index)
