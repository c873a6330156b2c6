"""The traffic-control messages that shaping needs, and what the kernel answers, decoded (tc(8), linux/pkt_sched.h).

Functions from values to bytes and back; what is asked all over is asked by `filters`.
"""

from __future__ import annotations

import struct

from vini.model import Value
from vini.node import netlink as nl

ROOT, CLSACT, EGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF3  # parents: TC_H_ROOT, TC_H_CLSACT, its egress side
INGRESS = 0xFFFFFFF2
_CLSACT_HANDLE = 0xFFFF0000
_BODY = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, priority and protocol
_KIND, _OPTIONS, _STATS2, _STATS_QUEUE = 1, 2, 7, 3
_QUEUED = struct.Struct("=II")  # of struct gnet_stats_queue: packets, bytes
_BPF_ACTION, _BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID, _BPF_DIRECT_ACTION = 1, 6, 7, 8, 11, 1
_ACTION_KIND, _ACTION_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_MIRRED = struct.Struct("=IIiiiiI")  # struct tc_mirred: index, capabilities, verdict, 2 counts, what it does, interface
_STOLEN, _REDIRECT_OUT = 4, 1  # TC_ACT_STOLEN, TCA_EGRESS_REDIR
# Filters run by priority: storm control, gates, what shaping has done with already (released, or of a silent link),
# users' programs, MSS clamping, then shaping. An earlier version's shaping came first.
STORM_PRIORITY, GATE_PRIORITY, SHAPED_PRIORITY, PROGRAM_PRIORITY, CLAMP_PRIORITY, SHAPE_PRIORITY = 4, 5, 6, 8, 12, 16
EXIT_PRIORITY = 86  # at the node's own interfaces, where others have theirs: one that hardly anybody takes
SHARE_PRIORITY = 0xFF00  # after all others: what it takes passes by those that would follow
OLD_SHAPE_PRIORITY = 1
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL, in network order
_FILTER_HANDLE = 1


class SeenQdisc(Value, frozen=True):
    """A queueing discipline as the kernel reports it."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes


def dump_qdiscs() -> bytes:
    """Ask for all queueing disciplines of a namespace."""
    return nl.message(nl.GETQDISC, nl.DUMP, _BODY.pack(0, 0, 0, 0, 0))


def seen_qdisc(message: bytes) -> SeenQdisc:
    """Decode one answer to `dump_qdiscs`."""
    _, index, handle, parent, _ = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 16 + _BODY.size)
    return SeenQdisc(index, handle, parent, a[_KIND].rstrip(b"\0").decode(), a.get(_OPTIONS, b""))


class Waiting(Value, frozen=True):
    """What waits in a queueing discipline that packets come to first; nothing in another, which is a part of such."""

    index: int
    kind: str
    packets: int
    bytes: int  # as they will be on the wire
    handle: int = 0


def seen_waiting(message: bytes) -> Waiting:
    """Decode one answer to `dump_qdiscs`."""
    _, index, handle, parent, _ = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 16 + _BODY.size)
    kind, statistics = a[_KIND].rstrip(b"\0").decode(), nl.attributes(a.get(_STATS2, b""), 0)
    if parent != ROOT or _STATS_QUEUE not in statistics:
        return Waiting(index, kind, 0, 0, handle)
    packets, size = _QUEUED.unpack_from(statistics[_STATS_QUEUE])
    return Waiting(index, kind, packets, size, handle)


def add_clsact(index: int) -> bytes:
    """Give a vif its hooks for filters; one that has them keeps them."""
    body = _BODY.pack(0, index, _CLSACT_HANDLE, CLSACT, 0)
    return nl.message(nl.NEWQDISC, nl.CREATE, body + nl.text(_KIND, "clsact"))


def delete_clsact(index: int) -> bytes:
    """Take the hooks away, with all filters."""
    return nl.message(nl.DELQDISC, 0, _BODY.pack(0, index, _CLSACT_HANDLE, CLSACT, 0))


class SeenFilter(Value, frozen=True):
    """An eBPF program that a filter runs: its priority, the name it was given there, the kernel's number of it, and the
    number of the filter among those of its priority."""

    priority: int
    name: str
    program: int
    handle: int


def filters(socket: nl.Socket, index: int, parent: int = EGRESS) -> list[SeenFilter]:
    """Those at one hook of a vif; none where it has no hooks, or went away meanwhile."""
    try:
        told = socket.dump(nl.message(nl.GETTFILTER, nl.DUMP, _BODY.pack(0, index, 0, parent, 0)))
    except OSError:
        return []
    return [_seen_filter(m) for m in told]


def is_used(socket: nl.Socket, index: int) -> bool:
    """Whether anybody has a filter at the hooks of a vif, so that they stay when ours goes."""
    return any(filters(socket, index, side) for side in (EGRESS, INGRESS))


def _seen_filter(message: bytes) -> SeenFilter:
    """Decode one of them; without a name where it is another kind, or only the head of a list."""
    _, _, handle, _, priority = _BODY.unpack_from(message, 16)
    options = nl.attributes(message, 16 + _BODY.size).get(_OPTIONS, b"")
    found = nl.attributes(options, 0)
    name = found.get(_BPF_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return SeenFilter(priority >> 16, name, int.from_bytes(found.get(_BPF_ID, b""), "little"), handle)


def set_filter(
    index: int, fd: int, name: str, parent: int = EGRESS, priority: int = SHAPE_PRIORITY, handle: int = _FILTER_HANDLE
) -> bytes:
    """Run this eBPF program at one hook of a vif, in place of ours of that priority from before (atomic)."""
    body = _BODY.pack(0, index, handle, parent, priority << 16 | _ALL_PROTOCOLS)
    options = nl.nest(_OPTIONS, nl.u32(_BPF_FD, fd), nl.text(_BPF_NAME, name), nl.u32(_BPF_FLAGS, _BPF_DIRECT_ACTION))
    return nl.message(nl.NEWTFILTER, nl.CREATE, body + nl.text(_KIND, "bpf") + options)


def set_redirecting_filter(index: int, fd: int, name: str, to: int, handle: int) -> bytes:
    """Where packets leave an interface, have those that this eBPF program chooses leave by the interface `to` instead;
    in place of the filter of that handle from before (atomic)."""
    body = _BODY.pack(0, index, handle, EGRESS, SHARE_PRIORITY << 16 | _ALL_PROTOCOLS)
    mirred = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _REDIRECT_OUT, to)
    action = nl.nest(1, nl.text(_ACTION_KIND, "mirred"), nl.nest(_ACTION_OPTIONS, nl.attribute(_MIRRED_PARMS, mirred)))
    options = nl.nest(_OPTIONS, nl.nest(_BPF_ACTION, action), nl.u32(_BPF_FD, fd), nl.text(_BPF_NAME, name))
    return nl.message(nl.NEWTFILTER, nl.CREATE, body + nl.text(_KIND, "bpf") + options)


def delete_filter(
    index: int, parent: int = EGRESS, priority: int = SHAPE_PRIORITY, handle: int = _FILTER_HANDLE
) -> bytes:
    """Take our filter of that priority away."""
    body = _BODY.pack(0, index, handle, parent, priority << 16 | _ALL_PROTOCOLS)
    return nl.message(nl.DELTFILTER, 0, body + nl.text(_KIND, "bpf"))


def set_qdisc(index: int, handle: int, parent: int, kind: str, options: bytes = b"") -> bytes:
    """Make a qdisc, or change the one with this handle; packets in it stay.  One with another handle is replaced."""
    body = _BODY.pack(0, index, handle, parent, 0) + nl.text(_KIND, kind)
    return nl.message(nl.NEWQDISC, nl.CREATE | nl.REPLACE, body + (nl.attribute(_OPTIONS, options) if options else b""))


def delete_qdisc(index: int, handle: int, parent: int = ROOT) -> bytes:
    """Take the qdisc there away; the kernel refuses where it has another handle."""
    return nl.message(nl.DELQDISC, 0, _BODY.pack(0, index, handle, parent, 0))
