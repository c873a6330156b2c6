"""The rtnetlink messages of VXLAN tunnels, and what the kernel answers, decoded (linux/if_link.h, linux/neighbour.h).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from vini.model import Value, Vxlan
from vini.node import netlink as nl
from vini.node.place import GROUP
from vini.node.rtnl import SeenLink

# Attribute numbers; each address has two, of IPv4 and of IPv6.
_ADDRESS, _IFNAME, _LINKINFO, _IFGROUP, _NS_FD = 1, 3, 18, 27, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VNI, _LEARNING, _PORT = 1, 7, 15
_REMOTE = {4: 2, 6: 16}
_LOCAL = {4: 4, 6: 17}
_NDA_DST, _NDA_LLADDR, _NDA_PORT, _NDA_VNI = 1, 2, 6, 7
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change
_NEIGHBOUR_BODY = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_AF_BRIDGE = 7
_NTF_SELF = 2  # of the tunnel itself, not of a bridge that it is a port of
_PERMANENT = 0x80  # NUD_PERMANENT
_EVERYBODY = bytes(6)  # the MAC address of the entry for all that no other entry names


class SeenTunnel(Value, frozen=True):
    """What is particular to a tunnel; "" stands for an address that it has not."""

    vni: int
    local: str
    remote: str
    port: int
    learns: bool


class Entry(Value, frozen=True):
    """Where frames for a MAC address are sent to; the port and the VNI are the tunnel's own unless given."""

    index: int
    mac: bytes
    remote: str
    rest: bytes = b""  # further attributes, as they came

    @property
    def is_default(self) -> bool:
        """Whether it is for everybody, by the tunnel's own port and VNI."""
        return self.mac == _EVERYBODY and not self.rest


def add(fd: int, o: Vxlan) -> bytes:
    """Make a tunnel whose interface is born in the namespace `fd`, with its name, index, MAC and our mark.

    Its socket is in the namespace of the netlink socket that this is sent by.  One message, so that a crash leaves
    either nothing or a tunnel that can be recognised as ours.
    """
    body = _LINK_BODY.pack(0, 0, o.index, 0, 0) + nl.text(_IFNAME, o.dev)
    body += nl.attribute(_ADDRESS, bytes.fromhex(o.mac.replace(":", ""))) + nl.u32(_IFGROUP, GROUP)
    own = nl.u32(_VNI, o.vni) + nl.attribute(_PORT, o.port.to_bytes(2, "big"))
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, body + nl.u32(_NS_FD, fd) + _settings(o, own))


def change(o: Vxlan) -> bytes:
    """Lead a tunnel that is there elsewhere.  The kernel refuses where the addresses were of the other IP version."""
    body = _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, o.dev)
    return nl.message(nl.NEWLINK, 0, body + _settings(o, nl.u32(_VNI, o.vni)))


def _settings(o: Vxlan, own: bytes) -> bytes:
    """No learning: a tunnel has one other end.  All else is the kernel's own choice: outer checksums, so that what a
    network interface checks covers the inner packet too; the time to live of any packet of the node; a source port
    that tells flows apart to whoever shares load among paths."""
    ends = nl.attribute(_LOCAL[ip_address(o.local).version], ip_address(o.local).packed)
    ends += nl.attribute(_REMOTE[ip_address(o.remote).version], ip_address(o.remote).packed)
    data = nl.nest(_INFO_DATA, own, ends, nl.attribute(_LEARNING, b"\0"))
    return nl.nest(_LINKINFO, nl.text(_INFO_KIND, "vxlan"), data)


def seen(link: SeenLink) -> SeenTunnel | None:
    """What is particular to a tunnel; None where it is another kind of interface."""
    if b"vxlan\0" not in link.info:  # as of nearly all
        return None
    info = nl.attributes(link.info, 0)
    if info.get(_INFO_KIND) != b"vxlan\0":
        return None
    a = nl.attributes(info.get(_INFO_DATA, b""), 0)
    vni = int.from_bytes(a.get(_VNI, b""), "little")
    port = int.from_bytes(a.get(_PORT, b""), "big")
    return SeenTunnel(vni, _either(a, _LOCAL), _either(a, _REMOTE), port, a.get(_LEARNING) != b"\0")


def _either(a: dict[int, bytes], numbers: dict[int, int]) -> str:
    raw = next((a[n] for n in numbers.values() if n in a), b"")
    return str(ip_address(raw)) if raw else ""


def dump_entries() -> bytes:
    """Ask where all tunnels of a namespace send what."""
    return nl.message(nl.GETNEIGH, nl.DUMP, _NEIGHBOUR_BODY.pack(_AF_BRIDGE, 0, 0, 0, 0))


def seen_entry(message: bytes) -> Entry | None:
    """Decode RTM_NEWNEIGH; None where it is not a tunnel's."""
    _, index, _, flags, _ = _NEIGHBOUR_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 28)
    if not flags & _NTF_SELF or _NDA_DST not in a:
        return None
    rest = b"".join(nl.attribute(kind, a[kind]) for kind in (_NDA_PORT, _NDA_VNI) if kind in a)
    return Entry(index, a.get(_NDA_LLADDR, b""), str(ip_address(a[_NDA_DST])), rest)


def add_default(index: int, remote: str) -> bytes:
    """Send all that no other entry names there; no error where it is so."""
    return nl.message(nl.NEWNEIGH, nl.CREATE | nl.APPEND, _entry(Entry(index, _EVERYBODY, remote)))


def delete_entry(entry: Entry) -> bytes:
    """Take an entry away."""
    return nl.message(nl.DELNEIGH, 0, _entry(entry))


def _entry(e: Entry) -> bytes:
    body = _NEIGHBOUR_BODY.pack(_AF_BRIDGE, e.index, _PERMANENT, _NTF_SELF, 0)
    return body + nl.attribute(_NDA_LLADDR, e.mac) + nl.attribute(_NDA_DST, ip_address(e.remote).packed) + e.rest
