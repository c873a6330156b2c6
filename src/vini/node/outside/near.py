"""The IPv6 networks that the node itself is in.  Their addresses are public, but it is the site that uses them."""

from __future__ import annotations

from ipaddress import IPv6Interface, IPv6Network

from vini.node import rtnl_addresses, rtnl_routes
from vini.node.netlink import Socket
from vini.node.outside.rules import RANGE6

_FROM_ADDRESSES, _FROM_ANNOUNCEMENTS = 2, 9  # RTPROT_KERNEL, RTPROT_RA
_V6 = 10
_EVERY_TABLE = 0


def networks() -> tuple[str, ...]:
    """Those on the links of this thread's namespace, as its addresses and its routers' announcements tell, by whatever
    table it routes to them."""
    with Socket() as socket:
        routes = [
            route
            for protocol in (_FROM_ADDRESSES, _FROM_ANNOUNCEMENTS)
            for route in rtnl_routes.routes(socket, _V6, protocol, _EVERY_TABLE)
        ]
        addresses = [address.cidr for address in rtnl_addresses.addresses(socket)]
    found = {IPv6Network(r.to) for r in routes if not r.via}
    found |= {IPv6Interface(cidr).network for cidr in addresses if ":" in cidr}  # some have no such route
    return tuple(sorted(str(n) for n in found if _is_of_site(n)))


def _is_of_site(n: IPv6Network) -> bool:
    """Not the node's own addresses and groups (the local table has these), nor what is never let out."""
    return 0 < n.prefixlen < n.max_prefixlen and not n.is_link_local and not n.is_multicast and not n.subnet_of(RANGE6)
