"""The rtnetlink messages that our objects need, and what the kernel answers, decoded (rtnetlink(7)).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from vini.model import Value
from vini.node import netlink as nl
from vini.node.place import GROUP, ROUTE_PROTOCOL

IFF_UP = 1
_IFF_RUNNING, _IFF_NOARP, _IFF_MULTICAST = 0x40, 0x80, 0x1000
# Attribute numbers: linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h, linux/veth.h.
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
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 6, 8, 11
_IFA_F_NODAD, _IFA_F_TENTATIVE, _IFA_F_NOPREFIXROUTE = 2, 0x40, 0x200
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_VIA = 1, 4, 5, 6, 7, 9, 18
_RTA_METRICS, _RTAX_MTU = 8, 2
_RTNH_F_DEAD, _RTM_F_FIB_MATCH = 1, 0x2000
MAIN_TABLE, LOCAL_TABLE = 254, 255
UNICAST, LOCAL, BROADCAST, MULTICAST = 1, 2, 3, 5  # kinds of routes (rtm_type)
_BY_KERNEL = 2  # the protocol number of the kernel's own routes
BY_KERNEL_LO, BY_KERNEL_LL = 1, 3  # and those of its own addresses: of lo, link-local (linux/if_addr.h)
_IP6_RT_PRIO_ADDRCONF = 256  # the metric of the kernel's own IPv6 routes to prefixes (net/ip6_route.h)
_INET6_CONF, _INET6_ADDR_GEN_MODE, _DEVCONF_DISABLE_IPV6 = 2, 8, 26
# Places of what FamilySettings tells: IPV4_DEVCONF_SEND_REDIRECTS, _RP_FILTER (linux/ip.h, whose numbers begin with 1);
# DEVCONF_ACCEPT_RA, _ACCEPT_REDIRECTS, _ACCEPT_DAD, _KEEP_ADDR_ON_DOWN (linux/ipv6.h).
_BORN_IPV4, _BORN_IPV6 = struct.Struct("=20xi4xi"), struct.Struct("=12xii88xi56xi")
_INET_CONF = 1  # as in IPv6's, the first of its settings is forwarding (IPV4_DEVCONF_FORWARDING, DEVCONF_FORWARDING)
_RTNH_F_DEAD = 1
_NETCONF_IFINDEX, _NETCONF_FORWARDING, _NETCONF_RP_FILTER = 1, 2, 3
_NETNSA_NSID, _NETNSA_FD = 1, 3
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDR_BODY = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE_BODY = struct.Struct("=BBBBBBBBI")  # family, dst/src length, tos, table, protocol, scope, type, flags


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


class SeenAddress(Value, frozen=True):
    """An address with its prefix length; `mark` is its protocol number (None: unmarked)."""

    index: int
    cidr: str
    mark: int | None
    tentative: bool  # duplicates of it are still looked for
    made_cs: int  # since the machine's start, 1/100 s


class KernelRoute(NamedTuple):
    """A route that the kernel makes by itself: table, rtm_type, index of its interface, destination, prefix length."""

    table: int
    kind: int
    link: int
    to: bytes
    length: int


class SeenHop(Value, frozen=True):
    """A next hop; the kernel sends nothing by a dead one (RTNH_F_DEAD)."""

    via: str
    index: int
    weight: int
    dead: bool


class SeenRoute(Value, frozen=True):
    """A route of the main table; one has several next hops where paths cost the same."""

    to: str
    protocol: int
    hops: tuple[SeenHop, ...]
    mtu: int = 0  # 0: the interface's

    @property
    def via(self) -> str:
        """The address of the first next hop; "" on the link itself."""
        return self.hops[0].via

    @property
    def index(self) -> int:
        """The interface of the first next hop."""
        return self.hops[0].index


def dump_links() -> bytes:
    """Ask for all interfaces of a namespace, without their statistics."""
    return nl.message(nl.GETLINK, nl.DUMP, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.u32(_EXT_MASK, _SKIP_STATS))


def get_link(index: int) -> bytes:
    """Ask for one interface, without its statistics."""
    return nl.message(nl.GETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + nl.u32(_EXT_MASK, _SKIP_STATS))


def dump_addresses() -> bytes:
    """Ask for all addresses of a namespace."""
    return nl.message(nl.GETADDR, nl.DUMP, _ADDR_BODY.pack(0, 0, 0, 0, 0))


def dump_routes(family: int, protocol: int = 0, table: int = MAIN_TABLE) -> bytes:
    """Ask for one table, or all if 0, of one family; only of one protocol number unless 0."""
    body = _ROUTE_BODY.pack(family, 0, 0, 0, table, protocol, 0, 0, 0)
    return nl.message(nl.GETROUTE, nl.DUMP, body)


def dump_kernel_routes() -> bytes:
    """Ask for the routes that the kernel made by itself, of all families and tables."""
    return nl.message(nl.GETROUTE, nl.DUMP, _ROUTE_BODY.pack(0, 0, 0, 0, 0, _BY_KERNEL, 0, 0, 0))


def get_route(destination: str) -> bytes:
    """Ask for the route of the tables by which packets go there, with all its next hops (RTM_F_FIB_MATCH)."""
    at = ip_address(destination)
    body = _ROUTE_BODY.pack(2 if at.version == 4 else 10, at.max_prefixlen, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    return nl.message(nl.GETROUTE, 0, body + nl.attribute(_RTA_DST, at.packed))


def get_forwarding(family: int) -> bytes:
    """Ask whether a namespace forwards packets of that family, and filters them by where they come from
    (RTM_GETNETCONF, linux/netconf.h)."""
    everywhere = 0xFFFFFFFF  # NETCONFA_IFINDEX_ALL
    return nl.message(nl.GETNETCONF, 0, struct.pack("=Bxxx", family) + nl.u32(_NETCONF_IFINDEX, everywhere))


def seen_forwarding(message: bytes) -> tuple[str, bool]:
    """Decode the answer: "0" or "1", as in /proc, "" where the kernel lacks the family; and whether it filters."""
    a = nl.attributes(message, 20) if message else {}
    return str(_u32(a[_NETCONF_FORWARDING])) if _NETCONF_FORWARDING in a else "", bool(_u32(a.get(_NETCONF_RP_FILTER)))


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
        mtu=_u32(a.get(_MTU)),
        mac=":".join(f"{b:02x}" for b in a.get(_ADDRESS, b"")),
        group=_u32(a.get(_IFGROUP)),
        alias=a[_IFALIAS].rstrip(b"\0").decode(errors="replace") if _IFALIAS in a else "",
        peer=_u32(a.get(_LINK)),
        running=flags & (IFF_UP | _IFF_RUNNING) == IFF_UP | _IFF_RUNNING,
        families=a.get(_AF_SPEC, b""),
        master=_u32(a.get(_MASTER)),
        gso_max=_u32(a.get(_GSO_MAX_SEGS)),
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
    return str(_u32(settings[:4])) if settings else ""


def _some(settings: bytes, chosen: struct.Struct) -> tuple[int, ...]:
    return chosen.unpack_from(settings) if len(settings) >= chosen.size else ()


def has_ipv6(link: SeenLink) -> bool:
    """IPv6 is on there, and link-local addresses are made from MAC addresses, as the kernel does unless told."""
    inet6 = nl.attributes(nl.attributes(link.families, 0).get(AF_INET6, b""), 0)
    settings, mode = inet6.get(_INET6_CONF, b""), inet6.get(_INET6_ADDR_GEN_MODE, b"\0")
    return bool(settings) and not _u32(settings[4 * _DEVCONF_DISABLE_IPV6 :][:4]) and mode == b"\0"


def seen_address(message: bytes) -> SeenAddress:
    """Decode RTM_NEWADDR."""
    family, length, flags, _, index = _ADDR_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 24)
    raw = a.get(_IFA_LOCAL) or a[_IFA_ADDRESS]
    mark = a[_IFA_PROTO][0] if _IFA_PROTO in a else None
    made_cs = _u32(a.get(_IFA_CACHEINFO, b"")[8:12])  # struct ifa_cacheinfo: preferred, valid, made, changed
    return SeenAddress(index, f"{_ip(family, raw)}/{length}", mark, bool(flags & _IFA_F_TENTATIVE), made_cs)


def _ip(family: int, raw: bytes) -> str:
    """As ipaddress prints it; inet_ntop is ten times faster, but writes IPv4 inside of IPv6 in dots."""
    printed = inet_ntop(AF_INET if family == 2 else AF_INET6, raw)
    return str(IPv6Address(raw)) if family == 10 and "." in printed else printed


def seen_route(message: bytes) -> SeenRoute:
    """Decode RTM_NEWROUTE.

    A route that refers to a nexthop object (RTA_NH_ID, as zebra makes them) has the object's next
    hops in it too, as long as net.ipv4.nexthop_compat_mode is what every namespace begins with, 1.
    """
    family, length, _, _, _, protocol, _, _, flags = _ROUTE_BODY.unpack_from(message, 16)
    a = nl.attributes(message, 28)
    several = a.get(_RTA_MULTIPATH)
    hops = tuple(_hops(several)) if several else (_hop(a, _u32(a.get(_RTA_OIF)), 1, flags),)
    destination = a.get(_RTA_DST, b"\0" * (4 if family == 2 else 16))
    mtu = _u32(nl.attributes(a[_RTA_METRICS], 0).get(_RTAX_MTU)) if _RTA_METRICS in a else 0
    return SeenRoute(f"{_ip(family, destination)}/{length}", protocol, hops, mtu)


def _hops(several: bytes) -> Iterator[SeenHop]:
    """Decode RTA_MULTIPATH: each a struct rtnexthop (length, flags, weight - 1, index) and attributes."""
    at = 0
    while at + 8 <= len(several):
        size, flags, less_one, index = struct.unpack_from("=HBBi", several, at)
        if size < 8:
            break
        yield _hop(nl.attributes(several[at : at + size], 8), index, less_one + 1, flags)
        at += (size + 3) & ~3


def _hop(a: dict[int, bytes], index: int, weight: int, flags: int) -> SeenHop:
    gateway = a.get(_RTA_GATEWAY) or a.get(_RTA_VIA, b"")[2:]
    via = str(ip_address(gateway)) if gateway else ""
    return SeenHop(via, index, weight, bool(flags & _RTNH_F_DEAD))


@lru_cache(maxsize=1 << 16)
def seen_kernel_route(body: bytes) -> KernelRoute:
    """Decode RTM_NEWROUTE of a route of the kernel's own, without its header: that is numbered anew in every dump,
    and all else of the many such routes is the same in each."""
    family, length, _, _, table, _, _, kind, _ = _ROUTE_BODY.unpack_from(body, 0)
    a = nl.attributes(body, 12)
    return KernelRoute(table, kind, _u32(a.get(_RTA_OIF)), a.get(_RTA_DST, b"\0" * (4 if family == 2 else 16)), length)


def _u32(raw: bytes | None) -> int:
    return int.from_bytes(raw, "little") if raw else 0


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
    timers = {kind: _u32(settings.get(kind)) for kind in BRIDGE_TIMERS}
    return SeenBridge(bool(_u32(settings.get(_BR_STP))), timers, settings.get(_BR_MULTICAST_SNOOPING) == b"\1")


def delete_link(dev: str) -> bytes:
    """Take an interface away; of a pair both ends go."""
    return nl.message(nl.DELLINK, 0, _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev))


@lru_cache(maxsize=1 << 14)
def _packed(cidr: str) -> tuple[int, bytes, int]:
    ip, _, length = cidr.partition("/")
    parsed = ip_address(ip)
    return (2 if parsed.version == 4 else 10), parsed.packed, int(length)


def add_address(index: int, cidr: str, mark: int = ROUTE_PROTOCOL, *, only_new: bool = False) -> bytes:
    """Give an interface an address, without duplicate address detection (RFC 4862 would keep it tentative).

    With `only_new`, one that it has already is refused with EEXIST.
    """
    family, packed, length = _packed(cidr)
    scope = _SCOPE_HOST if cidr.startswith("127.") else 0
    flags = _IFA_F_NODAD if mark == ROUTE_PROTOCOL else 0
    flags |= _IFA_F_NOPREFIXROUTE if cidr == "::1/128" else 0  # the kernel's has no route in `main` either
    body = _ADDR_BODY.pack(family, length, 0, scope, index) + nl.attribute(_IFA_LOCAL, packed)
    body += nl.attribute(_IFA_ADDRESS, packed) + nl.u32(_IFA_FLAGS, flags)
    how = nl.EXCL if only_new else nl.REPLACE
    return nl.message(nl.NEWADDR, nl.CREATE | how, body + nl.attribute(_IFA_PROTO, bytes([mark])))


def delete_address(index: int, cidr: str) -> bytes:
    """Take an address away."""
    family, packed, length = _packed(cidr)
    body = _ADDR_BODY.pack(family, length, 0, 0, index)
    return nl.message(nl.DELADDR, 0, body + nl.attribute(_IFA_LOCAL, packed) + nl.attribute(_IFA_ADDRESS, packed))


def add_route(to: str, via: str, index: int, mtu: int = 0) -> bytes:
    """Add or replace a route in the main table, with our protocol number."""
    metrics = nl.nest(_RTA_METRICS, nl.u32(_RTAX_MTU, mtu)) if mtu else b""
    return nl.message(nl.NEWROUTE, nl.CREATE | nl.REPLACE, _route(to, via, index) + metrics)


def add_kernel_route(route: KernelRoute, source: bytes = b"") -> bytes:
    """Add a route as the kernel would have made it, so that it goes with its address; no error where it is there."""
    family = 2 if len(route.to) == 4 else 10
    scope = 0 if family == 10 else _SCOPE_HOST if route.kind == LOCAL else _SCOPE_LINK
    body = _ROUTE_BODY.pack(family, route.length, 0, 0, route.table, _BY_KERNEL, scope, route.kind, 0)
    body += nl.attribute(_RTA_DST, route.to) + nl.u32(_RTA_OIF, route.link)
    if family == 10:
        body += nl.u32(_RTA_PRIORITY, _IP6_RT_PRIO_ADDRCONF)
    if source:
        body += nl.attribute(_RTA_PREFSRC, source)
    return nl.message(nl.NEWROUTE, nl.CREATE | nl.APPEND, body)


def delete_route(to: str, via: str, index: int) -> bytes:
    """Take a route of ours away."""
    return nl.message(nl.DELROUTE, 0, _route(to, via, index))


def _route(to: str, via: str, index: int) -> bytes:
    net = ip_network(to)
    family = 2 if net.version == 4 else 10
    body = _ROUTE_BODY.pack(family, net.prefixlen, 0, 0, MAIN_TABLE, ROUTE_PROTOCOL, 0, UNICAST, 0)
    body += nl.attribute(_RTA_DST, net.network_address.packed)
    return body + nl.attribute(_RTA_GATEWAY, ip_address(via).packed) + nl.u32(_RTA_OIF, index)
