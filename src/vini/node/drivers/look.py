"""What the namespace has that the calling thread is in, each asked for in one go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from socket import if_nametoindex

from vini.model import SYSCTLS, AnyObject
from vini.node import connected, rtnl, rtnl_addresses, rtnl_routes
from vini.node.netlink import Socket
from vini.node.rtnl_addresses import SeenAddress

Settings = tuple[tuple[str, str], ...]  # as a Sysctl has them


def look(socket: Socket) -> connected.Seen:
    """The links, addresses and routes of the kernel's own in the namespace of that socket."""
    links = {link.index: link for link in rtnl.links(socket)}
    addresses: dict[int, list[SeenAddress]] = {}
    for address in rtnl_addresses.addresses(socket):
        addresses.setdefault(address.index, []).append(address)
    routes = frozenset(rtnl_routes.kernel_routes(socket))
    return connected.Seen(links, addresses, routes, now_cs=int(time.monotonic() * 100))


def forwarding(socket: Socket) -> tuple[Settings, bool]:
    """The settings of SYSCTLS, asked of the socket that is open anyway: 0.01 ms where /proc takes 0.1.  And whether
    packets are filtered by where they come from (rp_filter), which comes with them."""
    families = {"ipv4/ip_forward": 2, "ipv6/conf/all/forwarding": 10}
    told = [rtnl.seen_forwarding(socket.ask(rtnl.get_forwarding(families[name]))) for name in SYSCTLS]
    settings = tuple((name, forwards) for name, (forwards, _) in zip(SYSCTLS, told, strict=True))
    return settings, any(filters for _, filters in told)


def indexes(batch: Sequence[AnyObject]) -> dict[str, int]:
    """Interface name -> index here; 0, which the kernel refuses, where it is missing."""
    out = {"lo": 1}
    for o in batch:
        dev = getattr(o, "dev", "")
        if dev not in out:
            try:
                out[dev] = if_nametoindex(dev)
            except OSError:
                out[dev] = 0
    return out
