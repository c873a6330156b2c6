"""The rtnetlink messages of keyed Ethernet-over-GRE tunnels (linux/if_tunnel.h).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from vini.model import Gretap, Value
from vini.node import netlink as nl
from vini.node.place import GROUP
from vini.node.rtnl import SeenLink

_ADDRESS, _IFNAME, _LINKINFO, _IFGROUP, _LINK_NETNSID = 1, 3, 18, 27, 37
_INFO_KIND, _INFO_DATA = 1, 2
_IFLAGS, _OFLAGS, _IKEY, _OKEY, _LOCAL, _REMOTE, _TTL, _PMTUDISC, _FLAGS, _ENCAP_TYPE = 2, 3, 4, 5, 6, 7, 8, 10, 13, 14
_COLLECT_METADATA, _FWMARK = 18, 20
_KEYED = b"\x20\x00"  # GRE_KEY, RFC 2890, and nothing else: no checksum, no sequence number
_NO_ENCAP_LIMIT = 1  # IP6_TNL_F_IGN_ENCAP_LIMIT: without the 8 bytes of RFC 2473, 4.1.1
_HOPS = 64
_KINDS = {4: "gretap", 6: "ip6gretap"}
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change


class SeenGretap(Value, frozen=True):
    """What is particular to such a tunnel; `plain`: all of it but the addresses and the key is as we make it."""

    gre_key: int
    local: str
    remote: str
    plain: bool


def add(below: int, o: Gretap) -> bytes:
    """Make a tunnel in the namespace of the socket that this is sent by, with its name, index, MAC and our mark.

    What carries it is the namespace that has the number `below` there.  One message, so that a crash leaves either
    nothing or a tunnel that can be recognised as ours.  (What carries a GRE tunnel is the namespace that it is born in,
    unlike a VXLAN tunnel.  So the kernel is asked to let it be born below and to move it here: ip_tunnel_newlink in
    net/ipv4/ip_tunnel.c, rtnl_newlink_create in net/core/rtnetlink.c.)
    """
    body = _LINK_BODY.pack(0, 0, o.index, 0, 0) + nl.text(_IFNAME, o.dev)
    body += nl.attribute(_ADDRESS, bytes.fromhex(o.mac.replace(":", ""))) + nl.u32(_IFGROUP, GROUP)
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, body + nl.u32(_LINK_NETNSID, below) + _settings(o))


def change(o: Gretap) -> bytes:
    """Lead a tunnel that is there elsewhere, and have all else of it as we make it."""
    body = _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, o.dev)
    return nl.message(nl.NEWLINK, 0, body + _settings(o))


def _settings(o: Gretap) -> bytes:
    """The hops are our own: else they would be those of the packet inside, and routing protocols say 1 there.
    With path MTU discovery, whoever sends a packet that is too long for the way between nodes is told (RFC 1191)."""
    local, key = ip_address(o.local), o.gre_key.to_bytes(4, "big")
    data = nl.attribute(_IFLAGS, _KEYED) + nl.attribute(_OFLAGS, _KEYED)
    data += nl.attribute(_IKEY, key) + nl.attribute(_OKEY, key)
    data += nl.attribute(_LOCAL, local.packed) + nl.attribute(_REMOTE, ip_address(o.remote).packed)
    data += nl.attribute(_TTL, bytes([_HOPS]))
    data += nl.attribute(_PMTUDISC, b"\1") if local.version == 4 else nl.u32(_FLAGS, _NO_ENCAP_LIMIT)
    return nl.nest(_LINKINFO, nl.text(_INFO_KIND, _KINDS[local.version]), nl.nest(_INFO_DATA, data))


def seen(link: SeenLink) -> SeenGretap | None:
    """What is particular to such a tunnel; None where it is another kind of interface."""
    if b"gretap\0" not in link.info:  # as of nearly all
        return None
    info = nl.attributes(link.info, 0)
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode()
    if kind not in _KINDS.values():
        return None
    a = nl.attributes(info.get(_INFO_DATA, b""), 0)
    flags = int.from_bytes(a.get(_FLAGS, b""), "little")
    plain = (
        a.get(_IFLAGS) == a.get(_OFLAGS) == _KEYED
        and a.get(_IKEY) == a.get(_OKEY)
        and a.get(_TTL) == bytes([_HOPS])
        and not any(any(a.get(kind, b"")) for kind in (_ENCAP_TYPE, _FWMARK))
        and _COLLECT_METADATA not in a
        and (a.get(_PMTUDISC) == b"\1" if kind == "gretap" else flags & _NO_ENCAP_LIMIT != 0)
    )
    gre_key = int.from_bytes(a.get(_IKEY, b""), "big")
    return SeenGretap(gre_key, _text(a.get(_LOCAL, b"")), _text(a.get(_REMOTE, b"")), plain)


def _text(raw: bytes) -> str:
    return str(ip_address(raw)) if raw else ""
