"""Storm control at a switch's port: an eBPF program that polices what a loop of bridges would multiply.

Policed by a token bucket a port are frames to groups, frames to stations that the switch has not heard, and frames
from a station that another port heard less than a second ago: that is what a loop makes of every sender, and where a
bridge's own table begins to send frames in circles.  Frames that bridges send to each other (IEEE 802.1D, 7.12.6)
always pass, so that the Spanning Tree Protocol works in a storm.  The switch is one program with two maps, stations
(address -> port, time) and buckets (port -> time); a race between two processors lets a few frames more pass.

Made from instructions as those of `bpf` are; RFC 9669 has their meaning.
"""

from __future__ import annotations

import os
import struct

from vini.node import bpf
from vini.node.assembly import Step, assembled, call, constant, copy, large

NAME = "vini_storm"
_MOVE_NS = 1_000_000_000  # a station that another port heard so recently has not moved
_FRESH_NS = 100_000_000  # the time in the table is written only so often
_FORGOTTEN_NS = 300_000_000_000  # as the bridge's own table forgets (ageing time)
_BURST_NS = 100_000_000  # the bucket holds what comes in that time at the rate
_STATIONS = 4096  # per switch, of about 72 bytes each
_PORTS = 1023  # that a bridge can have
_LRU_HASH, _HASH, _NO_PREALLOC = 9, 1, 1
_DATA, _DATA_END, _IFINDEX = 76, 80, 40  # offsets in struct __sk_buff
_LOOKUP, _UPDATE, _NOW = 1, 2, 5  # helpers: bpf_map_lookup_elem, bpf_map_update_elem, bpf_ktime_get_ns
_UNSPEC, _SHOT = -1, 2  # TC_ACT_: go on as if there were no filter; drop
_WORD, _HALF, _LONG = 0x61, 0x69, 0x79  # loads of 4, 2 and 8 bytes
_STORE_LONG = 0x7B


def name(storm_kpps: int) -> str:
    """Of the filter that polices at that rate."""
    return f"{NAME} {storm_kpps}"


def load(storm_kpps: int) -> int:
    """A descriptor of a new switch's program, the caller's to close.  OSError if refused."""
    stations = bpf.create_map(_LRU_HASH, 8, 16, _STATIONS)
    try:
        buckets = bpf.create_map(_HASH, 8, 8, _PORTS, _NO_PREALLOC)
        try:
            return bpf.load_instructions(NAME, assembled(_program(stations, buckets, storm_kpps)))
        finally:
            os.close(buckets)
    finally:
        os.close(stations)


def _program(stations: int, buckets: int, storm_kpps: int) -> list[Step]:
    """r6: context, r7: now in ns, r8: destination, r9: source."""
    return [
        copy(6, 1),
        call(_NOW),
        copy(7, 0),
        *_addresses(),
        *large(2, _as_number("fffffffffff0") | 0xFFFF << 48),
        copy(1, 8),
        (0x5F, 1, 2, 0, 0),  # r1 &= r2
        *large(2, _as_number("0180c2000000")),
        (0x1D, 1, 2, "pass", 0),  # from bridge to bridge
        *_heard(stations),
        "destination",
        (0x45, 8, 0, "police", _as_number("010000000000")),  # if r8 & 1: to a group
        *_find(stations, 8),
        (0x15, 0, 0, "police", 0),  # never heard
        *_age(),
        *large(1, _FORGOTTEN_NS),
        (0xAD, 3, 1, "pass", 0),  # if r3 < r1
        "police",
        *_bucket(buckets, 1_000_000 // storm_kpps),
        "pass",
        constant(0, _UNSPEC),
        (0x95, 0, 0, 0, 0),
        "drop",
        constant(0, _SHOT),
        (0x95, 0, 0, 0, 0),
    ]


def _addresses() -> list[Step]:
    """r8, r9 = the Ethernet header's; a shorter frame passes, as no bridge takes it."""
    return [
        (_WORD, 2, 6, _DATA, 0),
        (_WORD, 3, 6, _DATA_END, 0),
        copy(1, 2),
        (0x07, 1, 0, 0, 14),
        (0x2D, 1, 3, "pass", 0),  # if r1 > r3
        *(step for register, at in ((8, 0), (9, 6)) for step in _address(register, at)),
    ]


def _address(register: int, at: int) -> list[Step]:
    """The six bytes at r2 + `at`, as `_as_number` has them."""
    return [
        (_WORD, register, 2, at, 0),
        (_HALF, 1, 2, at + 4, 0),
        (0x67, 1, 0, 0, 32),  # r1 <<= 32
        (0x4F, register, 1, 0, 0),  # register |= r1
    ]


def _heard(stations: int) -> list[Step]:
    """Notes where the source is."""
    return [
        *_find(stations, 9),
        (0x15, 0, 0, "new", 0),
        *_age(),
        (_LONG, 1, 0, 0, 0),
        (_WORD, 4, 6, _IFINDEX, 0),
        (0x1D, 1, 4, "same", 0),
        (0xA5, 3, 0, "police", _MOVE_NS),  # if r3 < ...: it can't have moved
        (_STORE_LONG, 0, 4, 0, 0),
        (0x05, 0, 0, "note", 0),
        "same",
        (0xA5, 3, 0, "destination", _FRESH_NS),
        "note",
        (_STORE_LONG, 0, 7, 8, 0),
        (0x05, 0, 0, "destination", 0),
        "new",
        (_WORD, 4, 6, _IFINDEX, 0),
        (_STORE_LONG, 10, 4, -24, 0),
        (_STORE_LONG, 10, 7, -16, 0),
        *_put(stations, -24),
    ]


def _bucket(buckets: int, interval_ns: int) -> list[Step]:
    """The generic cell rate algorithm (ITU-T I.371): of each port the time at which its next frame is due."""
    return [
        (_WORD, 4, 6, _IFINDEX, 0),
        *_find(buckets, 4),
        (0x55, 0, 0, "due", 0),  # if r0 != 0
        (_STORE_LONG, 10, 7, -16, 0),
        *_put(buckets, -16),
        (0x05, 0, 0, "pass", 0),
        "due",
        (_LONG, 1, 0, 0, 0),
        (0x2D, 1, 7, "ahead", 0),  # if r1 > r7
        copy(1, 7),
        "ahead",
        copy(2, 1),
        (0x1F, 2, 7, 0, 0),  # r2 -= r7
        (0x25, 2, 0, "drop", _BURST_NS),  # if r2 > ...
        (0x07, 1, 0, 0, interval_ns),
        (_STORE_LONG, 0, 1, 0, 0),
    ]


def _find(map_: int, key: int) -> list[Step]:
    """r0 = where the map has the value of the key in that register."""
    return [(_STORE_LONG, 10, key, -8, 0), *large(1, map_, 1), copy(2, 10), (0x07, 2, 0, 0, -8), call(_LOOKUP)]


def _put(map_: int, value: int) -> list[Step]:
    """The key that was just looked for gets the value at that place of the stack."""
    stack: list[Step] = [copy(2, 10), (0x07, 2, 0, 0, -8), copy(3, 10), (0x07, 3, 0, 0, value)]
    return [*large(1, map_, 1), *stack, constant(4, 0), call(_UPDATE)]


def _age() -> list[Step]:
    """r3 = how long ago the station at r0 was heard, ns."""
    return [(_LONG, 2, 0, 8, 0), copy(3, 7), (0x1F, 3, 2, 0, 0)]


def _as_number(address: str) -> int:
    """A MAC address as the program has it in a register of this machine."""
    word, half = struct.unpack("=IH", bytes.fromhex(address))
    return int(word | half << 32)
