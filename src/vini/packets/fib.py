"""The kernel's forwarding table, which routing daemons write, asked by a data plane of one's own (rtnetlink(7)).

Answers are kept until the kernel tells of a change in routes, rules, addresses, links or neighbours.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import NamedTuple

from vini.node import netlink as nl

_NEWNEIGH, _GETNEIGH = 28, 30
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_NDA_DST, _NDA_LLADDR = 1, 2
_IFNAME, _ADDRESS, _MTU, _LINKINFO, _INFO_KIND = 3, 1, 4, 18, 1
_UNICAST = 1  # rtm_type
_REACHED = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # NUD_REACHABLE, STALE, DELAY, PROBE, PERMANENT: its MAC address is known
_USE = 1  # NTF_USE: the kernel looks for it as if it had a packet to send
_MOST = 1 << 16  # destinations kept
# Multicast groups of changes (RTNLGRP_*): links, neighbours, addresses, routes and rules of both families.
_GROUPS = (1, 3, 5, 7, 8, 9, 11, 19)
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class Link(NamedTuple):
    """An interface of the sliver."""

    name: str
    mac: bytes
    mtu: int
    kind: str

    @property
    def is_vif(self) -> bool:
        """Whether it is a link's end; else the sliver's own affair."""
        return self.kind in ("veth", "vxlan", "gretap", "ip6gretap")


class Hop(NamedTuple):
    """Where a packet goes next: by which vif, and its new MAC addresses (the neighbour's, then that vif's)."""

    vif: str
    macs: bytes


class Fib:
    """Of the namespace that it is made in."""

    def __init__(self) -> None:
        self._kernel = nl.Socket()
        self.changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        self.changes.bind((0, 0))  # one without an address hears nothing
        for group in _GROUPS:
            self.changes.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._hops: dict[bytes, Hop | None] = {}
        self._links: dict[int, Link] = {}

    def lookup(self, destination: bytes | str) -> Hop | None:
        """Where to send what is for this address: of 4 or 16 bytes, or as text.

        None where nothing is to be sent on: it is the sliver's own, a group's or a link-local address, there is no
        route, or the neighbour's MAC address isn't known yet; the kernel has then been told to ask for it.
        """
        if isinstance(destination, str):
            destination = ip_address(destination).packed
        try:
            return self._hops[destination]
        except KeyError:
            if len(self._hops) >= _MOST:
                self._hops.clear()
            hop = self._hops[destination] = self._look(destination)
            return hop

    def changed(self) -> bool:
        """Whether anything changed since the last call; then what was kept is forgotten."""
        changed = False
        try:
            while True:
                self.changes.recv(1 << 16)
                changed = True
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: more changes than there was room for
            changed = True
        if changed:
            self._hops.clear()
            self._links.clear()
        return changed

    def links(self) -> dict[int, Link]:
        """Index -> interface."""
        if not self._links:
            for message in self._kernel.dump(nl.message(nl.GETLINK, nl.DUMP, bytes(16))):
                (index,) = struct.unpack_from("=i", message, 20)
                a = nl.attributes(message, 32)
                kind = nl.attributes(a.get(_LINKINFO, b""), 0).get(_INFO_KIND, b"")
                mtu = int.from_bytes(a.get(_MTU, b""), "little")
                name = a[_IFNAME].rstrip(b"\0").decode()
                self._links[index] = Link(name, a.get(_ADDRESS, b""), mtu, kind.rstrip(b"\0").decode())
        return self._links

    def _look(self, destination: bytes) -> Hop | None:
        if not _routable(destination):
            return None
        family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBBBBBI", family, 8 * len(destination), 0, 0, 0, 0, 0, 0, 0)
        answer = self._kernel.ask(nl.message(nl.GETROUTE, 0, body + nl.attribute(_RTA_DST, destination)))
        if not answer or answer[16 + 7] != _UNICAST:
            return None
        a = nl.attributes(answer, 28)
        link = self.links().get(int.from_bytes(a.get(_RTA_OIF, b""), "little"))
        if link is None or not link.is_vif:
            return None
        via = a.get(_RTA_GATEWAY) or a.get(_RTA_VIA, b"")[2:] or destination
        mac = self._neighbour(int.from_bytes(a[_RTA_OIF], "little"), via)
        return Hop(link.name, mac + link.mac) if mac else None

    def _neighbour(self, index: int, address: bytes) -> bytes:
        """Its MAC address; b"" where it isn't known (yet)."""
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        who = nl.attribute(_NDA_DST, address)
        asked = nl.message(_GETNEIGH, 0, _neighbour_body(family, index, 0) + who)
        if mac := _known(self._kernel.ask(asked)):
            return mac
        self._kernel.transact([nl.message(_NEWNEIGH, nl.CREATE, _neighbour_body(family, index, _USE) + who)])
        return _known(self._kernel.ask(asked))  # over a link without delay it has answered already


def _known(neighbour: bytes) -> bytes:
    """The MAC address in RTM_NEWNEIGH; b"" where it isn't known, or there is no such neighbour."""
    if not neighbour or not struct.unpack_from("=H", neighbour, 24)[0] & _REACHED:
        return b""
    return nl.attributes(neighbour, 28).get(_NDA_LLADDR, b"")


def _neighbour_body(family: int, index: int, flags: int) -> bytes:
    """struct ndmsg."""
    return struct.pack("=BxxxiHBB", family, index, 0, flags, 0)


def _routable(address: bytes) -> bool:
    """Whether a router may pass on what is for it (RFC 1812 5.3, RFC 4291 2)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224 and address[:2] != b"\xa9\xfe"
    return address[0] != 0xFF and not (address[0] == 0xFE and address[1] & 0xC0 == 0x80) and any(address[:15])
