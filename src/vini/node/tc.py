"""The traffic-control messages that shaping needs, and what the kernel answers, decoded (tc(8), linux/pkt_sched.h).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from statistics import NormalDist

from vini.model import Value
from vini.node import netlink as nl

ROOT, CLSACT, EGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF3  # parents: TC_H_ROOT, TC_H_CLSACT, its egress side
INGRESS = 0xFFFFFFF2
_CLSACT_HANDLE = 0xFFFF0000
_BODY = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, priority and protocol
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_DIRECT_ACTION = 6, 7, 8, 1
_PRIORITY, _ALL_PROTOCOLS = 1, 0x0300  # ETH_P_ALL, in network order
_FILTER_HANDLE = 1
_NETEM = struct.Struct("=IIIIII")  # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
_DISTRIBUTION, _RATE, _RATE64, _LATENCY64, _JITTER64 = 2, 6, 8, 10, 11
_RATE_BODY = struct.Struct("=IiIi")  # struct tc_netem_rate: bytes/s, and three that we leave at zero
_ALWAYS = 0xFFFFFFFF  # a probability of 1
_NORMAL_STEPS, _SIGMA = 4096, 8192  # NETEM_DIST_SCALE


class SeenQdisc(Value, frozen=True):
    """A queueing discipline as the kernel reports it."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes


class Netem(Value, frozen=True):
    """The settings of one netem qdisc that we use; `loss` of 2**32 - 1 is certainty, `rate` is in bytes/s."""

    limit: int
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: int = 0
    rate: int = 0


def dump_qdiscs() -> bytes:
    """Ask for all queueing disciplines of a namespace."""
    return nl.message(nl.GETQDISC, nl.DUMP, _BODY.pack(0, 0, 0, 0, 0))


def seen_qdisc(message: bytes) -> SeenQdisc:
    """Decode one answer to `dump_qdiscs`."""
    _, index, handle, parent, _ = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 16 + _BODY.size)
    return SeenQdisc(index, handle, parent, a[_KIND].rstrip(b"\0").decode(), a.get(_OPTIONS, b""))


def add_clsact(index: int) -> bytes:
    """Give a vif its hooks for filters; one that has them keeps them."""
    body = _BODY.pack(0, index, _CLSACT_HANDLE, CLSACT, 0)
    return nl.message(nl.NEWQDISC, nl.CREATE, body + nl.text(_KIND, "clsact"))


def delete_clsact(index: int) -> bytes:
    """Take the hooks away, with all filters."""
    return nl.message(nl.DELQDISC, 0, _BODY.pack(0, index, _CLSACT_HANDLE, CLSACT, 0))


def dump_filters(index: int, parent: int = EGRESS) -> bytes:
    """Ask for the filters at one hook of a vif."""
    return nl.message(nl.GETTFILTER, nl.DUMP, _BODY.pack(0, index, 0, parent, 0))


def seen_filter(message: bytes) -> str:
    """The name of the eBPF program that a filter runs; "" where it is another kind, or only the head of a list."""
    options = nl.attributes(message, 16 + _BODY.size).get(_OPTIONS, b"")
    return nl.attributes(options, 0).get(_BPF_NAME, b"").rstrip(b"\0").decode(errors="replace")


def set_filter(index: int, fd: int, name: str) -> bytes:
    """Run this eBPF program on what leaves by a vif, in place of the one that we put there before (atomic)."""
    body = _BODY.pack(0, index, _FILTER_HANDLE, EGRESS, _PRIORITY << 16 | _ALL_PROTOCOLS)
    options = nl.nest(_OPTIONS, nl.u32(_BPF_FD, fd), nl.text(_BPF_NAME, name), nl.u32(_BPF_FLAGS, _BPF_DIRECT_ACTION))
    return nl.message(nl.NEWTFILTER, nl.CREATE, body + nl.text(_KIND, "bpf") + options)


def delete_filter(index: int) -> bytes:
    """Take our filter away."""
    body = _BODY.pack(0, index, _FILTER_HANDLE, EGRESS, _PRIORITY << 16 | _ALL_PROTOCOLS)
    return nl.message(nl.DELTFILTER, 0, body + nl.text(_KIND, "bpf"))


def set_netem(index: int, handle: int, parent: int, netem: Netem) -> bytes:
    """Make a netem qdisc, or change the one with this handle; packets in it stay."""
    options = _NETEM.pack(0, netem.limit, netem.loss, 0, 0, 0)
    options += nl.attribute(_LATENCY64, struct.pack("=q", netem.delay_ns))
    options += nl.attribute(_JITTER64, struct.pack("=q", netem.jitter_ns))
    options += nl.attribute(_RATE, _RATE_BODY.pack(min(netem.rate, 0xFFFFFFFF), 0, 0, 0))
    if netem.rate > 0xFFFFFFFF:
        options += nl.attribute(_RATE64, struct.pack("=Q", netem.rate))
    if netem.jitter_ns:
        options += nl.attribute(_DISTRIBUTION, _normal())
    body = _BODY.pack(0, index, handle, parent, 0) + nl.text(_KIND, "netem") + nl.attribute(_OPTIONS, options)
    return nl.message(nl.NEWQDISC, nl.CREATE | nl.REPLACE, body)


def seen_netem(options: bytes) -> Netem:
    """Decode the options of a netem qdisc."""
    _, limit, loss, *_ = _NETEM.unpack_from(options)
    a = nl.attributes(options, _NETEM.size)
    rate = _RATE_BODY.unpack_from(a[_RATE])[0] if _RATE in a else 0
    if _RATE64 in a:
        rate = struct.unpack_from("=Q", a[_RATE64])[0]
    delay, jitter = (struct.unpack_from("=q", a[k])[0] for k in (_LATENCY64, _JITTER64))
    return Netem(limit, delay, jitter, loss, rate)


def delete_qdisc(index: int, handle: int) -> bytes:
    """Take the root qdisc away; the kernel refuses where it has another handle."""
    return nl.message(nl.DELQDISC, 0, _BODY.pack(0, index, handle, ROOT, 0))


def probability(ppm: int) -> int:
    """Parts per million in netem's scale, where 2**32 - 1 is certainty."""
    return round(ppm * _ALWAYS / 1_000_000)


def parts_per_million(probability: int) -> int:
    """The inverse of `probability`, exact."""
    return round(probability * 1_000_000 / _ALWAYS)


@lru_cache(maxsize=1)
def _normal() -> bytes:
    """The quantiles of the normal distribution, as tc(8) reads them from normal.dist."""
    normal = NormalDist(0, _SIGMA)
    steps = [round(normal.inv_cdf((i + 0.5) / _NORMAL_STEPS)) for i in range(_NORMAL_STEPS)]
    return struct.pack(f"={_NORMAL_STEPS}h", *(max(-32768, min(32767, s)) for s in steps))
