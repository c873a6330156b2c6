"""The kernel's connection tracking, as it tells of it over netlink (linux/netfilter/nfnetlink_conntrack.h).  Pure.

Only flows whose first packet came from a sliver's `outside` are taken out of what it tells.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vini.node import netlink as nl
from vini.node.outside.rules import RANGE, RANGE6

NETFILTER = 12  # NETLINK_NETFILTER
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
NEW, GET, DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
GROUPS = 1 << 0 | 1 << 2  # NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY, as nl_groups counts them
_TUPLE_ORIG, _TUPLE_REPLY, _COUNTERS_ORIG, _COUNTERS_REPLY, _ID, _TIMESTAMP = 1, 2, 9, 10, 12, 20
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_V4_SRC, _V4_DST, _V6_SRC, _V6_DST = 1, 2, 3, 4
_PROTO_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3
_ICMP = {1: (4, 5, 6), 58: (7, 8, 9)}  # where ICMP and ICMPv6 have their identifier, type and code
_PACKETS, _BYTES = 1, 2
_START, _STOP = 1, 2
_OURS = {r.max_prefixlen // 8: (int(r.network_address), int(r.broadcast_address)) for r in (RANGE, RANGE6)}
_BODY = 20  # nlmsghdr and nfgenmsg
DUMP = nl.message(GET, 0, struct.pack("=BBH", 0, 0, 0))  # all, of both IP versions


class Flow(NamedTuple):
    """One flow as the kernel has it; addresses are numbers, those of IPv6 of 2^32 and more, as none of ::/96 is let
    out; a counter that nobody kept is 0.

    Of ICMP `sport` is the identifier, and `dport` is type * 256 + code.
    """

    id: int  # of the kernel's; with the addresses nobody else's
    protocol: int
    src: int  # the sliver's
    sport: int
    nat: int  # the node's, by which the world sees it
    nat_port: int
    dst: int
    dport: int
    out_packets: int = 0
    out_bytes: int = 0
    in_packets: int = 0
    in_bytes: int = 0
    start: float = 0.0  # Unix time, s; 0: not told
    stop: float = 0.0


def decode(message: bytes) -> Flow | None:
    """A message with its header; None where it is of no sliver's."""
    a = nl.attributes(message, _BODY)
    orig = a.get(_TUPLE_ORIG)
    if orig is None:
        return None
    first = _tuple(orig)
    if first is None:
        return None
    protocol, src, dst, sport, dport, size = first
    low, high = _OURS[size]
    if not low <= src <= high:
        return None
    back = _tuple(a.get(_TUPLE_REPLY, b"")) or (protocol, dst, src, dport, sport, size)
    nat_port = back[3] if protocol in _ICMP else back[4]  # an identifier is the same in both directions
    out, back_in = _counted(a.get(_COUNTERS_ORIG)), _counted(a.get(_COUNTERS_REPLY))
    times = nl.attributes(a[_TIMESTAMP], 0) if _TIMESTAMP in a else {}
    return Flow(
        _number(a.get(_ID)), protocol, src, sport, back[2], nat_port, dst, dport, *out, *back_in,
        _number(times.get(_START)) / 1e9, _number(times.get(_STOP)) / 1e9,
    )  # fmt: skip


def _tuple(raw: bytes) -> tuple[int, int, int, int, int, int] | None:
    """Protocol, source, destination, the ports or what takes their place, and how many bytes an address has."""
    a = nl.attributes(raw, 0)
    if _TUPLE_IP not in a or _TUPLE_PROTO not in a:
        return None
    ip, proto = nl.attributes(a[_TUPLE_IP], 0), nl.attributes(a[_TUPLE_PROTO], 0)
    source, to = ip.get(_V4_SRC, ip.get(_V6_SRC)), ip.get(_V4_DST, ip.get(_V6_DST))
    if source is None or to is None:
        return None
    protocol = _number(proto.get(_PROTO_NUM))
    if protocol in _ICMP:
        sport, kind, code = (_number(proto.get(a)) for a in _ICMP[protocol])
        dport = kind << 8 | code
    else:
        sport, dport = _number(proto.get(_SRC_PORT)), _number(proto.get(_DST_PORT))
    return protocol, _number(source), _number(to), sport, dport, len(source)


def _counted(raw: bytes | None) -> tuple[int, int]:
    if not raw:
        return 0, 0
    a = nl.attributes(raw, 0)
    return _number(a.get(_PACKETS)), _number(a.get(_BYTES))


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw, "big") if raw else 0
