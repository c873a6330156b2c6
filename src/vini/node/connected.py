"""What the kernel itself adds to an interface that comes up, and to each address; and how to have it again.

It adds them once, and does not notice when a hand takes them away (fib_add_ifaddr in net/ipv4/fib_frontend.c,
addrconf_prefix_route, init_loopback and addrconf_addr_gen in net/ipv6/addrconf.c).  Functions from what was seen to
what is due and to requests; nothing here touches a socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_interface

from vini import names
from vini.model import Value
from vini.node import rtnl, rtnl_addresses, rtnl_routes
from vini.node.rtnl import SeenLink
from vini.node.rtnl_addresses import BY_KERNEL_LL, BY_KERNEL_LO, SeenAddress
from vini.node.rtnl_routes import KernelRoute

_LO = 1  # the index of lo in every namespace
_IPV6_MTU = 1280  # on a smaller one the kernel has no IPv6 (RFC 8200, 5)
_MULTICAST = bytes([0xFF]) + bytes(15)
_NEW_CS = 100  # the kernel makes the route to a new IPv6 address itself a moment later (addrconf_dad_work)


class Seen(Value, frozen=True):
    """What one namespace has, as far as it is the kernel's own doing or leads to it."""

    links: dict[int, SeenLink]
    addresses: dict[int, list[SeenAddress]]  # by the index of their interface, in the kernel's order
    routes: frozenset[KernelRoute]
    now_cs: int  # since the machine's start, 1/100 s


def is_whole(address: SeenAddress, seen: Seen) -> bool:
    """It has its routes: to itself, and to its prefix.

    None are due while the interface is down, nor, in IPv6, while it has no carrier.
    """
    link = seen.links.get(address.index)
    has_routes = link and (link.running if ":" in address.cidr else link.up)
    return not has_routes or not _lacking(address, seen)


def _lacking(address: SeenAddress, seen: Seen) -> frozenset[KernelRoute]:
    lacking = _due(address.index, address.cidr) - seen.routes
    if lacking and ":" in address.cidr and (address.tentative or seen.now_cs - address.made_cs < _NEW_CS):
        return frozenset(r for r in lacking if r.kind != rtnl_routes.LOCAL)
    return lacking


def is_complete(link: SeenLink, seen: Seen) -> bool:
    """It has what the kernel gave it when it came up: lo 127.0.0.1 and ::1, a vif its link-local address."""
    if not link.running or link.master:  # a switch's port needs no address
        return True
    here = [a for a in seen.addresses.get(link.index, ()) if is_whole(a, seen)]
    if link.index == _LO:
        due = {"127.0.0.1/8"} | ({"::1/128"} if rtnl.has_ipv6(link) else set())
        return due <= {a.cidr for a in here}
    if any(a.cidr.startswith("fe80:") for a in here) and _multicast(link.index) in seen.routes:
        return True
    return not _has_link_local(link)


def _has_link_local(link: SeenLink) -> bool:
    return link.mtu >= _IPV6_MTU and rtnl.has_ipv6(link)


@lru_cache(maxsize=1 << 16)
def _due(index: int, cidr: str) -> frozenset[KernelRoute]:
    """The routes that an address has in tables `local` and `main`."""
    return frozenset(_routes(index, cidr))


def _routes(index: int, cidr: str) -> Iterator[KernelRoute]:
    at = ip_interface(cidr)
    own, net, bits = at.ip.packed, at.network, at.max_prefixlen
    yield KernelRoute(rtnl_routes.LOCAL_TABLE, rtnl_routes.LOCAL, index, own, bits)
    if cidr == "::1/128" or (at.version == 4 and net.prefixlen == bits):
        return
    if at.version == 4 and net.prefixlen < bits - 1:
        yield KernelRoute(rtnl_routes.LOCAL_TABLE, rtnl_routes.BROADCAST, index, net.broadcast_address.packed, bits)
    if at.version == 4 and index == _LO:
        yield KernelRoute(rtnl_routes.LOCAL_TABLE, rtnl_routes.LOCAL, index, net.network_address.packed, net.prefixlen)
    else:
        yield KernelRoute(rtnl_routes.MAIN_TABLE, rtnl_routes.UNICAST, index, net.network_address.packed, net.prefixlen)


def _multicast(index: int) -> KernelRoute:
    return KernelRoute(rtnl_routes.LOCAL_TABLE, rtnl_routes.MULTICAST, index, _MULTICAST, 8)


# --- how to have it again ---------------------------------------------------------------------


def mend_link(link: SeenLink, seen: Seen) -> list[bytes]:
    """Requests that give a link again what the kernel gave it; none where nothing lacks."""
    if is_complete(link, seen):
        return []
    if link.index == _LO:
        loopbacks = ("127.0.0.1/8", "::1/128") if rtnl.has_ipv6(link) else ("127.0.0.1/8",)
        due = [(cidr, BY_KERNEL_LO) for cidr in loopbacks]
        more = []
    else:
        there = [a.cidr for a in seen.addresses.get(link.index, ()) if a.cidr.startswith("fe80:")]
        due = [(cidr, BY_KERNEL_LL) for cidr in there or [f"{names.link_local(link.mac)}/64"]]
        multicast = _multicast(link.index)
        more = [rtnl_routes.add_kernel_route(multicast)] if multicast not in seen.routes else []
    return more + [m for cidr, mark in due for m in mend_address(link.index, cidr, mark, seen)]


def mend_address(index: int, cidr: str, mark: int, seen: Seen) -> list[bytes]:
    """Requests that give an interface an address, or one that is there what it lacks, and touch nothing else.

    IPv6: the kernel restores the route to the prefix itself; that to the address not, so that such an address, which
    nothing can reach, is taken away first.  IPv4: all routes one by one, since to take an address away would take
    along every route that prefers it as its source.
    """
    add = rtnl_addresses.add_address(index, cidr, mark)
    old = next((a for a in seen.addresses.get(index, ()) if a.cidr == cidr), None)
    if old is None or is_whole(old, seen):
        return [add]
    if ":" not in cidr:
        return [add, *_routes_again(old, seen)]
    if any(r.kind == rtnl_routes.LOCAL for r in _lacking(old, seen)):
        return [rtnl_addresses.delete_address(index, cidr), add]
    return [add]


def _routes_again(address: SeenAddress, seen: Seen) -> list[bytes]:
    """The source of an IPv4 address's routes is the first address of the same prefix, which must be `local` before."""
    net = ip_interface(address.cidr).network
    same = (a for a in seen.addresses[address.index] if ip_interface(a.cidr).network == net)
    first = next(same)
    source = ip_interface(first.cidr).ip.packed
    lacking = sorted(_lacking(first, seen) | _lacking(address, seen), key=lambda r: (r.to != source, -r.length, r))
    return [rtnl_routes.add_kernel_route(r, source) for r in lacking]
