"""The rtnetlink messages that our objects need, and what the kernel answers, decoded (rtnetlink(7)).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop

from vini.model import Value
from vini.node import netlink as nl
from vini.node.place import GROUP, ROUTE_PROTOCOL

IFF_UP = 1
# Attribute numbers: linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h, linux/veth.h.
_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _IFALIAS, _IFGROUP, _NS_FD, _EXT_MASK = 1, 3, 4, 5, 18, 20, 27, 28, 29
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 9, 18
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_NETCONF_IFINDEX, _NETCONF_FORWARDING = 1, 2
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDR_BODY = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE_BODY = struct.Struct("=BBBBBBBBI")  # family, dst/src length, tos, table, protocol, scope, type, flags


class SeenLink(Value, frozen=True):
    """An interface as the kernel reports it; `peer` is the index of a veth's other end."""

    index: int
    dev: str
    up: bool
    mtu: int
    mac: str
    group: int
    alias: str
    peer: int


class SeenRoute(Value, frozen=True):
    """A route of the main table; `index` is the interface of its first next hop."""

    to: str
    via: str
    index: int
    protocol: int


def dump_links() -> bytes:
    """Ask for all interfaces of a namespace, without their statistics."""
    return nl.message(nl.GETLINK, nl.DUMP, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.u32(_EXT_MASK, _SKIP_STATS))


def dump_addresses() -> bytes:
    """Ask for all addresses of a namespace."""
    return nl.message(nl.GETADDR, nl.DUMP, _ADDR_BODY.pack(0, 0, 0, 0, 0))


def dump_routes(family: int, protocol: int = 0) -> bytes:
    """Ask for the main table of one family; only of one protocol number unless 0."""
    body = _ROUTE_BODY.pack(family, 0, 0, 0, _RT_TABLE_MAIN, protocol, 0, 0, 0)
    return nl.message(nl.GETROUTE, nl.DUMP, body)


def get_forwarding(family: int) -> bytes:
    """Ask whether a namespace forwards packets of that family (RTM_GETNETCONF, linux/netconf.h)."""
    everywhere = 0xFFFFFFFF  # NETCONFA_IFINDEX_ALL
    return nl.message(nl.GETNETCONF, 0, struct.pack("=Bxxx", family) + nl.u32(_NETCONF_IFINDEX, everywhere))


def seen_forwarding(message: bytes) -> str:
    """Decode the answer: "0" or "1", as in /proc; "" where the kernel lacks the family."""
    value = nl.attributes(message, 20).get(_NETCONF_FORWARDING) if message else None
    return str(_u32(value)) if value else ""


def seen_link(message: bytes) -> SeenLink:
    """Decode RTM_NEWLINK."""
    _, _, index, flags, _ = _LINK_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 32)
    return SeenLink(
        index=index,
        dev=a[_IFNAME][:-1].decode(),
        up=bool(flags & IFF_UP),
        mtu=_u32(a.get(_MTU)),
        mac=":".join(f"{b:02x}" for b in a.get(_ADDRESS, b"")),
        group=_u32(a.get(_IFGROUP)),
        alias=a[_IFALIAS].rstrip(b"\0").decode(errors="replace") if _IFALIAS in a else "",
        peer=_u32(a.get(_LINK)),
    )


def seen_address(message: bytes) -> tuple[int, str, int | None]:
    """Decode RTM_NEWADDR: interface index, address with prefix length, protocol mark (None: unmarked)."""
    family, length, _, _, index = _ADDR_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 24)
    raw = a.get(_IFA_LOCAL) or a[_IFA_ADDRESS]
    return index, f"{_ip(family, raw)}/{length}", a[_IFA_PROTO][0] if _IFA_PROTO in a else None


def _ip(family: int, raw: bytes) -> str:
    """As ipaddress prints it; inet_ntop is ten times faster, but writes IPv4 inside of IPv6 in dots."""
    printed = inet_ntop(AF_INET if family == 2 else AF_INET6, raw)
    return str(IPv6Address(raw)) if family == 10 and "." in printed else printed


def seen_route(message: bytes) -> SeenRoute:
    """Decode RTM_NEWROUTE."""
    family, length, _, _, _, protocol, _, _, _ = _ROUTE_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 28)
    if _RTA_MULTIPATH in a:  # struct rtnexthop: length, flags, hops, index
        hop = a[_RTA_MULTIPATH]
        size, _, _, index = struct.unpack_from("=HBBi", hop, 0)
        a = {**a, **nl.attributes(hop[:size], 8), _RTA_OIF: struct.pack("=i", index)}
    destination = a.get(_RTA_DST, b"\0" * (4 if family == 2 else 16))
    gateway = a.get(_RTA_GATEWAY) or a.get(_RTA_VIA, b"")[2:]
    via = str(ip_address(gateway)) if gateway else ""
    return SeenRoute(f"{_ip(family, destination)}/{length}", via, _u32(a.get(_RTA_OIF)), protocol)


def _u32(raw: bytes | None) -> int:
    return int.from_bytes(raw, "little") if raw else 0


def add_veth(fds: tuple[int, int], devs: tuple[str, str], indexes: tuple[int, int], macs: tuple[str, str]) -> bytes:
    """Make a pair, each end right away in its namespace, with its name, index, MAC and our mark.

    One message, so that a crash leaves either nothing or a pair that can be recognised as ours.
    """
    ends = [
        _LINK_BODY.pack(0, 0, index, 0, 0)
        + nl.text(_IFNAME, dev)
        + nl.attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + nl.u32(_IFGROUP, GROUP)
        + nl.u32(_NS_FD, fd)
        for fd, dev, index, mac in zip(fds, devs, indexes, macs, strict=True)
    ]
    info = nl.nest(_LINKINFO, nl.text(_INFO_KIND, "veth"), nl.nest(_INFO_DATA, nl.attribute(_VETH_PEER, ends[1])))
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, ends[0] + info)


def set_link(dev: str, *, mtu: int, up: bool, alias: str) -> bytes:
    """Set MTU, administrative state and alias of an interface."""
    body = _LINK_BODY.pack(0, 0, 0, IFF_UP if up else 0, IFF_UP) + nl.text(_IFNAME, dev)
    return nl.message(nl.NEWLINK, 0, body + nl.u32(_MTU, mtu) + nl.text(_IFALIAS, alias))


def delete_link(dev: str) -> bytes:
    """Take an interface away; of a pair both ends go."""
    return nl.message(nl.DELLINK, 0, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev))


@lru_cache(maxsize=1 << 14)
def _packed(cidr: str) -> tuple[int, bytes, int]:
    ip, _, length = cidr.partition("/")
    parsed = ip_address(ip)
    return (2 if parsed.version == 4 else 10), parsed.packed, int(length)


def add_address(index: int, cidr: str) -> bytes:
    """Give an interface an address, without duplicate address detection (RFC 4862 would keep it tentative)."""
    family, packed, length = _packed(cidr)
    body = _ADDR_BODY.pack(family, length, 0, 0, index) + nl.attribute(_IFA_LOCAL, packed)
    body += nl.attribute(_IFA_ADDRESS, packed) + nl.u32(_IFA_FLAGS, _IFA_F_NODAD)
    mark = nl.attribute(_IFA_PROTO, bytes([ROUTE_PROTOCOL]))
    return nl.message(nl.NEWADDR, nl.CREATE | nl.REPLACE, body + mark)


def delete_address(index: int, cidr: str) -> bytes:
    """Take an address away."""
    family, packed, length = _packed(cidr)
    body = _ADDR_BODY.pack(family, length, 0, 0, index)
    return nl.message(nl.DELADDR, 0, body + nl.attribute(_IFA_LOCAL, packed) + nl.attribute(_IFA_ADDRESS, packed))


def add_route(to: str, via: str, index: int) -> bytes:
    """Add or replace a route in the main table, with our protocol number."""
    return nl.message(nl.NEWROUTE, nl.CREATE | nl.REPLACE, _route(to, via, index))


def delete_route(to: str, via: str, index: int) -> bytes:
    """Take a route of ours away."""
    return nl.message(nl.DELROUTE, 0, _route(to, via, index))


def _route(to: str, via: str, index: int) -> bytes:
    net = ip_network(to)
    family = 2 if net.version == 4 else 10
    body = _ROUTE_BODY.pack(family, net.prefixlen, 0, 0, _RT_TABLE_MAIN, ROUTE_PROTOCOL, 0, _RTN_UNICAST, 0)
    body += nl.attribute(_RTA_DST, net.network_address.packed)
    return body + nl.attribute(_RTA_GATEWAY, ip_address(via).packed) + nl.u32(_RTA_OIF, index)
