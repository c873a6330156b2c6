"""The rtnetlink messages that our objects need, and what the kernel answers, decoded (rtnetlink(7)): of interfaces.

Those of addresses and of routes are in `rtnl_addresses` and `rtnl_routes`.  Functions from values to bytes and back;
what is asked all over is asked by `links`, `addresses` and `routes`.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from vini.model import Value
from vini.node import netlink as nl
from vini.node.place import GROUP

IFF_UP = 1
_IFF_RUNNING, _IFF_NOARP, _IFF_MULTICAST = 0x40, 0x80, 0x1000
# Attribute numbers: linux/if_link.h, linux/veth.h.
_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _IFALIAS, _AF_SPEC, _IFGROUP, _NS_FD = 1, 3, 4, 5, 18, 20, 26, 27, 28
_EXT_MASK, _MASTER, _GSO_MAX_SEGS, _LINK_NETNSID = 29, 10, 40, 37
# Attributes of bridges, linux/if_link.h; the timers in 1/100 s, each the least that the kernel takes: forward delay,
# hello time, and how long a bridge believes what it heard from another.
_BR_STP, _BR_MULTICAST_SNOOPING = 5, 23
BRIDGE_TIMERS = {1: 200, 2: 100, 3: 600}
# IFLA_GSO_MAX_SEGS of an interface by which large segments leave as they are, or cut.  A bound of their size would not
# do: TCP makes them of two packets at least, and programs at the exit see them before they are cut.
WHOLE, SPLIT = 65535, 1
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INET6_CONF, _INET6_ADDR_GEN_MODE, _DEVCONF_DISABLE_IPV6 = 2, 8, 26
# Places of what FamilySettings tells: IPV4_DEVCONF_SEND_REDIRECTS, _RP_FILTER (linux/ip.h, whose numbers begin with 1);
# DEVCONF_ACCEPT_RA, _ACCEPT_REDIRECTS, _ACCEPT_DAD, _KEEP_ADDR_ON_DOWN (linux/ipv6.h).
_BORN_IPV4, _BORN_IPV6 = struct.Struct("=20xi4xi"), struct.Struct("=12xii88xi56xi")
_INET_CONF = 1  # as in IPv6's, the first of its settings is forwarding (IPV4_DEVCONF_FORWARDING, DEVCONF_FORWARDING)
_NETCONF_IFINDEX, _NETCONF_FORWARDING, _NETCONF_RP_FILTER = 1, 2, 3
_NETNSA_NSID, _NETNSA_FD = 1, 3
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change


class SeenLink(Value, frozen=True):
    """An interface as the kernel reports it; `peer` is the index of a veth's other end.

    One that is `running` is up and can carry packets; `families` is IFLA_AF_SPEC as it came.
    """

    index: int
    dev: str
    up: bool
    mtu: int
    mac: str
    group: int
    alias: str
    peer: int
    running: bool
    families: bytes
    master: int = 0  # the index of the bridge that it is a port of
    gso_max: int = WHOLE  # packets in the largest segment that leaves by it uncut
    info: bytes = b""  # IFLA_LINKINFO as it came
    apart: bool = False  # what it stands on, as a tunnel's socket, is in another namespace
    below: int = -1  # the number that this one has for that (`namespace_number`)
    arp: bool = True  # finds out neighbours' MAC addresses, also in IPv6
    multicast: bool = True


class SeenBridge(Value, frozen=True):
    """What is particular to a bridge; `timers` by their attributes, as BRIDGE_TIMERS."""

    stp: bool
    timers: dict[int, int]
    snoops: bool  # keeps multicast from ports where nobody asked for it


def dump_links() -> bytes:
    """Ask for all interfaces of a namespace, without their statistics."""
    return nl.message(nl.GETLINK, nl.DUMP, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.u32(_EXT_MASK, _SKIP_STATS))


def links(socket: nl.Socket) -> list[SeenLink]:
    """All interfaces of a socket's namespace."""
    return [seen_link(m) for m in socket.dump(dump_links())]


def get_link(index: int) -> bytes:
    """Ask for one interface, without its statistics."""
    return nl.message(nl.GETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + nl.u32(_EXT_MASK, _SKIP_STATS))


def get_forwarding(family: int) -> bytes:
    """Ask whether a namespace forwards packets of that family, and filters them by where they come from
    (RTM_GETNETCONF, linux/netconf.h)."""
    everywhere = 0xFFFFFFFF  # NETCONFA_IFINDEX_ALL
    return nl.message(nl.GETNETCONF, 0, struct.pack("=Bxxx", family) + nl.u32(_NETCONF_IFINDEX, everywhere))


def seen_forwarding(message: bytes) -> tuple[str, bool]:
    """Decode the answer: "0" or "1", as in /proc, "" where the kernel lacks the family; and whether it filters."""
    a = nl.attributes(message, 20) if message else {}
    forwards = str(nl.number(a[_NETCONF_FORWARDING])) if _NETCONF_FORWARDING in a else ""
    return forwards, bool(nl.number(a.get(_NETCONF_RP_FILTER)))


def get_namespace_number(fd: int) -> bytes:
    """Ask by which number this namespace knows another one (RTM_GETNSID, linux/net_namespace.h)."""
    return nl.message(nl.GETNSID, 0, bytes(4) + nl.u32(_NETNSA_FD, fd))


def seen_namespace_number(message: bytes) -> int:
    """Decode the answer; -1: it has none for it yet."""
    return int.from_bytes(nl.attributes(message, 20).get(_NETNSA_NSID, b"\xff" * 4), "little", signed=True)


def number_namespace(fd: int) -> bytes:
    """Have this namespace give another one a number."""
    return nl.message(nl.NEWNSID, 0, bytes(4) + nl.u32(_NETNSA_FD, fd) + nl.attribute(_NETNSA_NSID, b"\xff" * 4))


def kind_of(link: SeenLink) -> str:
    """Its kind of virtual interface: "veth", "bridge", ...; "": there is hardware behind it, or it is a loopback."""
    return nl.attributes(link.info, 0).get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")


def is_up(message: bytes) -> bool:
    """Whether RTM_NEWLINK tells of an interface that is up; a twentieth of the work of `seen_link`."""
    return bool(_LINK_BODY.unpack_from(message, 16)[3] & IFF_UP)


def seen_link(message: bytes) -> SeenLink:
    """Decode RTM_NEWLINK."""
    _, _, index, flags, _ = _LINK_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 32)
    return SeenLink(
        index=index,
        dev=a[_IFNAME][:-1].decode(),
        up=bool(flags & IFF_UP),
        mtu=nl.number(a.get(_MTU)),
        mac=":".join(f"{b:02x}" for b in a.get(_ADDRESS, b"")),
        group=nl.number(a.get(_IFGROUP)),
        alias=a[_IFALIAS].rstrip(b"\0").decode(errors="replace") if _IFALIAS in a else "",
        peer=nl.number(a.get(_LINK)),
        running=flags & (IFF_UP | _IFF_RUNNING) == IFF_UP | _IFF_RUNNING,
        families=a.get(_AF_SPEC, b""),
        master=nl.number(a.get(_MASTER)),
        gso_max=nl.number(a.get(_GSO_MAX_SEGS)),
        info=a.get(_LINKINFO, b""),
        apart=_LINK_NETNSID in a,
        below=int.from_bytes(a.get(_LINK_NETNSID, b"\xff" * 4), "little", signed=True),
        arp=not flags & _IFF_NOARP,
        multicast=bool(flags & _IFF_MULTICAST),
    )


def is_tap(link: SeenLink) -> bool:
    """Whether frames that leave by it are read by a process."""
    return nl.attributes(link.info, 0).get(_INFO_KIND) == b"tun\0"


class FamilySettings(NamedTuple):
    """Whether an interface forwards, as in /proc, and what it inherited when it was born; "" and () where it lacks the
    family."""

    ipv4_forwarding: str = ""
    ipv6_forwarding: str = ""
    ipv4_born: tuple[int, ...] = ()  # send_redirects, rp_filter
    ipv6_born: tuple[int, ...] = ()  # accept_ra, accept_redirects, accept_dad, keep_addr_on_down


def family_settings(link: SeenLink) -> FamilySettings:
    """Decode them from IFLA_AF_SPEC, which comes with every interface."""
    families = nl.attributes(link.families, 0)
    ipv4 = nl.attributes(families.get(AF_INET, b""), 0).get(_INET_CONF, b"")
    ipv6 = nl.attributes(families.get(AF_INET6, b""), 0).get(_INET6_CONF, b"")
    return FamilySettings(_first(ipv4), _first(ipv6), _some(ipv4, _BORN_IPV4), _some(ipv6, _BORN_IPV6))


def _first(settings: bytes) -> str:
    return str(nl.number(settings[:4])) if settings else ""


def _some(settings: bytes, chosen: struct.Struct) -> tuple[int, ...]:
    return chosen.unpack_from(settings) if len(settings) >= chosen.size else ()


def has_ipv6(link: SeenLink) -> bool:
    """IPv6 is on there, and link-local addresses are made from MAC addresses, as the kernel does unless told."""
    inet6 = nl.attributes(nl.attributes(link.families, 0).get(AF_INET6, b""), 0)
    settings, mode = inet6.get(_INET6_CONF, b""), inet6.get(_INET6_ADDR_GEN_MODE, b"\0")
    return bool(settings) and not nl.number(settings[4 * _DEVCONF_DISABLE_IPV6 :][:4]) and mode == b"\0"


def add_veth(
    fds: tuple[int, int], devs: tuple[str, str], indexes: tuple[int, int], macs: tuple[str, str], group: int = GROUP
) -> bytes:
    """Make a pair, each end right away in its namespace, with its name, index (0: the kernel's choice), MAC and our
    mark.

    One message, so that a crash leaves either nothing or a pair that can be recognised as ours.
    """
    ends = [
        _LINK_BODY.pack(0, 0, index, 0, 0)
        + nl.text(_IFNAME, dev)
        + nl.attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + nl.u32(_IFGROUP, group)
        + nl.u32(_NS_FD, fd)
        for fd, dev, index, mac in zip(fds, devs, indexes, macs, strict=True)
    ]
    info = nl.nest(_LINKINFO, nl.text(_INFO_KIND, "veth"), nl.nest(_INFO_DATA, nl.attribute(_VETH_PEER, ends[1])))
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, ends[0] + info)


def set_link(
    dev: str, *, mtu: int, up: bool, alias: str, master: int | None = None, gso_max: int | None = None,
    point_to_point: bool = False,
) -> bytes:  # fmt: skip
    """Set MTU, administrative state and alias of an interface, and have it use ARP and multicast; and unless None the
    index of the bridge that it is a port of (0: of none), and the bytes of the largest segment that leaves by it uncut.
    One that is `point_to_point` has no use for ARP or multicast.
    """
    flags, of = (IFF_UP if up else 0), IFF_UP
    if dev != "lo" and not point_to_point:
        flags, of = flags | _IFF_MULTICAST, of | _IFF_MULTICAST | _IFF_NOARP
    body = _LINK_BODY.pack(0, 0, 0, flags, of) + nl.text(_IFNAME, dev)
    body += nl.u32(_MTU, mtu) + nl.text(_IFALIAS, alias)
    body += nl.u32(_MASTER, master) if master is not None else b""
    body += nl.u32(_GSO_MAX_SEGS, gso_max) if gso_max is not None else b""
    return nl.message(nl.NEWLINK, 0, body)


def set_arp(index: int, on: bool) -> bytes:
    """Have the kernel find out neighbours' MAC addresses at an interface, or not."""
    return nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0 if on else _IFF_NOARP, _IFF_NOARP))


def set_master(index: int, master: int) -> bytes:
    """Make an interface a port of that bridge (0: of none)."""
    return nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + nl.u32(_MASTER, master))


def add_bridge(dev: str, mac: str) -> bytes:
    """Make a bridge that is down, with our mark from the first."""
    body = _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev) + nl.u32(_IFGROUP, GROUP)
    body += nl.attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, body + nl.nest(_LINKINFO, nl.text(_INFO_KIND, "bridge")))


def add_ifb(dev: str) -> bytes:
    """Make an interface that gives back what it is given (ifb), with our mark from the first."""
    body = _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev) + nl.u32(_IFGROUP, GROUP)
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, body + nl.nest(_LINKINFO, nl.text(_INFO_KIND, "ifb")))


def set_bridge(dev: str, *, stp: bool, alias: str) -> bytes:
    """Bring a bridge up, with our timers, and with the Spanning Tree Protocol or without."""
    body = _LINK_BODY.pack(0, 0, 0, IFF_UP, IFF_UP) + nl.text(_IFNAME, dev) + nl.text(_IFALIAS, alias)
    timers = [nl.u32(kind, value) for kind, value in BRIDGE_TIMERS.items()]
    settings = nl.nest(_INFO_DATA, *timers, nl.attribute(_BR_MULTICAST_SNOOPING, b"\0"), nl.u32(_BR_STP, int(stp)))
    return nl.message(nl.NEWLINK, 0, body + nl.nest(_LINKINFO, nl.text(_INFO_KIND, "bridge"), settings))


def seen_bridge(link: SeenLink) -> SeenBridge | None:
    """What is particular to a bridge; None where it is another kind of interface."""
    info = nl.attributes(link.info, 0)
    if info.get(_INFO_KIND, b"").rstrip(b"\0") != b"bridge":
        return None
    settings = nl.attributes(info.get(_INFO_DATA, b""), 0)
    timers = {kind: nl.number(settings.get(kind)) for kind in BRIDGE_TIMERS}
    return SeenBridge(bool(nl.number(settings.get(_BR_STP))), timers, settings.get(_BR_MULTICAST_SNOOPING) == b"\1")


def delete_link(dev: str) -> bytes:
    """Take an interface away; of a pair both ends go."""
    return nl.message(nl.DELLINK, 0, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev))
