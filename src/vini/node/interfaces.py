"""The network interfaces of this machine itself: its hardware, and what else has addresses; none of VINI's."""

from __future__ import annotations

from ipaddress import ip_interface

from vini.node import ethtool, rtnl, rtnl_addresses
from vini.node.netlink import Socket
from vini.node.place import OURS
from vini.rules.interfaces import MOST_INTERFACES, NodeInterface

_LOOPBACK = "lo"
_OCTETS = 6  # of a MAC address, each two digits and a colon


def own() -> tuple[NodeInterface, ...]:
    """By name; of more than a central keeps, hardware first.

    A virtual one is the machine's own where it can be reached by it: it has an address beyond its link.  So bridges,
    bonds and VLANs that carry its addresses are told, and other ends of containers are not.
    """
    with Socket() as socket:
        links = [x for x in rtnl.links(socket) if x.group not in OURS]
        addresses: dict[int, list[str]] = {}
        for seen in rtnl_addresses.addresses(socket):
            if not ip_interface(seen.cidr).is_loopback:
                addresses.setdefault(seen.index, []).append(seen.cidr)
        told = [(link, sorted(addresses.get(link.index, ()))) for link in links]
        told = [(link, having) for link, having in told if _is_hardware(link) or _reaches(having)]
        told.sort(key=lambda pair: (not _is_hardware(pair[0]), pair[0].dev))
        found = [_said(socket, link, having) for link, having in told[:MOST_INTERFACES]]
    return tuple(sorted(found, key=lambda one: one.name))


def _is_hardware(link: rtnl.SeenLink) -> bool:
    return link.dev != _LOOPBACK and not rtnl.kind_of(link)


def _reaches(addresses: list[str]) -> bool:
    return any(not ip_interface(cidr).is_link_local for cidr in addresses)


def _said(socket: Socket, link: rtnl.SeenLink, addresses: list[str]) -> NodeInterface:
    mac = link.mac if len(link.mac) == 3 * _OCTETS - 1 and link.dev != _LOOPBACK else ""
    speed = ethtool.speed_mbit(socket.fileno(), link.dev)
    return NodeInterface(link.dev, mac, link.mtu, tuple(addresses), speed)
