"""The network between nodes, as this machine sees it."""

from __future__ import annotations

from vini.node import rtnl
from vini.node.netlink import Socket


def mtu_of(address: str) -> int:
    """The MTU of the interface that has this address, bytes; Ethernet's where none has it."""
    with Socket() as socket:
        links = {link.index: link for link in map(rtnl.seen_link, socket.dump(rtnl.dump_links()))}
        for seen in map(rtnl.seen_address, socket.dump(rtnl.dump_addresses())):
            if seen.cidr.partition("/")[0] == address and seen.index in links:
                return min(links[seen.index].mtu, 9000)
    return 1500
