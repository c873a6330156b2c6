"""The eBPF programs that lead what a WireGuard is to encrypt round by the node and back (`detour`).

Made from instructions as those of `bpf` are.  They put `room` around a packet, for what will be there on the wire.
"""

from __future__ import annotations

import os
from functools import partial
from socket import htons

from vini.node import bpf
from vini.node.assembly import Step, assembled, call, constant, copy

ASIDE, TURN, BACK = "vini_aside", "vini_turn", "vini_back"
_CAME_BY, _IFINDEX = 36, 40  # offsets in struct __sk_buff
_WORD, _STORE_HALF, _STORE_WORD = 0x61, 0x6A, 0x63
_STORE_BYTES, _REDIRECT, _CHANGE_HEAD, _ADJUST_ROOM = 9, 23, 43, 50  # helpers: bpf_skb_store_bytes and so on
_ETHERNET, _ETHERTYPE_AT, _IPV4 = 14, 12, 0x0800
_AFTER_MAC, _SEGMENTS_STAY = 1, 1  # BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO
_SHOT, _UNSPEC = 2, -1  # TC_ACT_: drop; go on as if there were no filter
_END: list[Step] = [(0x95, 0, 0, 0, 0)]
_DROP: list[Step] = ["drop", constant(0, _SHOT), *_END]


def load_aside(to: int, room: int) -> int:
    """A descriptor of the program where a WireGuard is left: on by the interface `to`, but for what came by that."""
    return bpf.load_instructions(ASIDE, assembled(_aside(to, room)))


def load_turn() -> int:
    """Of the one that sends what comes in by an interface out by the same."""
    return bpf.load_instructions(TURN, assembled([(_WORD, 1, 1, _IFINDEX, 0), *_sent()]))


def load_back(to: int, room: int) -> int:
    """Of the one that sends what comes in on by a WireGuard, without the room around it."""
    return bpf.load_instructions(BACK, assembled(_back(to, room)))


def can_load() -> bool:
    """Whether the kernel takes such programs."""
    try:
        for load in (partial(load_aside, 1, 60), load_turn, partial(load_back, 1, 60)):
            os.close(load())
    except OSError:
        return False
    return True


def _aside(to: int, room: int) -> list[Step]:
    """WireGuard has no Ethernet header, the pair wants one.  What a tunnel sends came by no interface: the kernel
    forgets that where a packet changes its namespace."""
    return [
        copy(6, 1),
        (_WORD, 1, 6, _CAME_BY, 0),
        (0x15, 1, 0, "came back", to),
        copy(1, 6),
        constant(2, _ETHERNET + room),
        constant(3, 0),
        call(_CHANGE_HEAD),
        (0x55, 0, 0, "drop", 0),
        (_STORE_HALF, 10, 0, -8, htons(_IPV4)),
        copy(1, 6),
        constant(2, _ETHERTYPE_AT),
        copy(3, 10),
        (0x07, 3, 0, 0, -8),
        constant(4, 2),
        constant(5, 0),
        call(_STORE_BYTES),
        (0x55, 0, 0, "drop", 0),
        constant(1, to),
        *_sent(),
        "came back",
        constant(0, _UNSPEC),
        *_END,
        *_DROP,
    ]


def _back(to: int, room: int) -> list[Step]:
    """A segment that is large yet, as of a TAP, whose number of packets nobody knew, stays as it is.  It leaves by the
    WireGuard a second time, where what shapes its link (`exit`) has let it go the first time."""
    return [
        constant(3, bpf.IS_RELEASED),
        (_STORE_WORD, 1, 3, bpf.TC_INDEX, 0),
        constant(2, -room),
        constant(3, _AFTER_MAC),
        constant(4, _SEGMENTS_STAY),
        call(_ADJUST_ROOM),
        (0x55, 0, 0, "drop", 0),
        constant(1, to),
        *_sent(),
        *_DROP,
    ]


def _sent() -> list[Step]:
    """Out by the interface whose index is in r1."""
    return [constant(2, 0), call(_REDIRECT), *_END]
