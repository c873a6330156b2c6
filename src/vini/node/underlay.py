"""The network between nodes, as this machine sees it."""

from __future__ import annotations

from ipaddress import ip_address

from vini.node import rtnl, rtnl_addresses
from vini.node.netlink import Socket
from vini.rules.interfaces import MOST_MTU

_ETHERNET_MTU = 1500


def mtu_of(address: str) -> int:
    """The MTU of the interface that has this address, bytes; Ethernet's where none has it."""
    return interface_of(address)[1]


def interface_of(address: str) -> tuple[str, int]:
    """The interface that has this address, and its MTU, bytes; "" and Ethernet's where none has it."""
    address = _as_written(address)
    with Socket() as socket:
        links = {link.index: link for link in rtnl.links(socket)}
        for seen in rtnl_addresses.addresses(socket):
            if seen.cidr.partition("/")[0] == address and seen.index in links:
                link = links[seen.index]
                return link.dev, min(link.mtu, MOST_MTU)
    return "", _ETHERNET_MTU


def _as_written(address: str) -> str:
    """As the kernel's addresses are; what is none stays, and nothing has it."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address
