"""Which sliver a packet that leaves the node is of, and whether it goes where that is not counted: an eBPF program.

It gives the packet its class (skb->priority, which htb goes by) and chooses it for the filter's action.  What is none
of a sliver that has a Share passes untouched.  Made from instructions as those of `bpf` are.

Whoever sends from a sliver chooses what is in a packet: so only the first of its fragments is asked for a number, and
the others go as that did; and of what came by an interface only that interface counts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from vini.node import bpf
from vini.node.assembly import Step, assembled, call, constant, copy, large, loaded

NAME = "vini_share"
BY_INTERFACE = 1 << 16  # in place of a UDP port: the number is that of the interface by which a packet came
EXEMPT = 0x8000  # added to a sliver's class
NONE = 0  # in place of the class of what passes, whatever is in it: of an interface by which a sliver without one sends
Number = tuple[int, int]  # UDP port and number of a VXLAN tunnel, 0 and the key of GRE, or BY_INTERFACE and an index
_LOOKUP, _UPDATE, _DELETE = 1, 2, 3  # bpf_map_lookup_elem, bpf_map_update_elem, bpf_map_delete_elem
_HASH, _LRU, _LPM, _NO_PREALLOC = 1, 9, 11, 1
_FRAGMENTED = 4096  # packets of which the class is known while their fragments leave
_PRIORITY, _CAME_BY = 32, 36  # offsets in struct __sk_buff
_BYTE, _HALF, _WORD = 0x71, 0x69, 0x61  # loads of 1, 2 and 4 bytes
_UDP, _GRE, _KEYED = 17, 47, 0x2000
_FRAGMENT = 44  # the IPv6 header of one (RFC 8200, 4.5)
_MAPPED = 0xFFFF  # ::ffff:0:0/96, as what IPv4 addresses are looked up
_WHOSE_BYTES = 40  # number, addresses, and of IPv4 the protocol
# Places on the stack; the last two: which packet a fragment is of, and whether the packet is the first of some.
_IP, _NEXT, _KEY, _TO, _WHOSE, _FIRST = -24, -40, -48, -72, -112, -120


def load(numbers: Mapping[Number, int], exempt: Sequence[str], behind: int = 0) -> int:
    """A descriptor of the program, the caller's to close; `numbers` has the class of each.  OSError if refused.

    Where packets have come round by the node (`detour`), the IP header is so many bytes `behind` where the kernel takes
    it to be, and by which interface they came says nothing.
    """
    of_slivers = bpf.create_map(_HASH, 8, 4, max(1, len(numbers)))
    try:
        for (kind, number), handle in numbers.items():
            bpf.put(of_slivers, struct.pack("=II", number, kind), struct.pack("=I", handle))
        networks = bpf.create_map(_LPM, 20, 4, max(1, len(exempt)), _NO_PREALLOC)
        try:
            for network in exempt:
                bpf.put(networks, _prefix(ip_network(network)), struct.pack("=I", 1))
            fragments = bpf.create_map(_LRU, _WHOSE_BYTES, 4, _FRAGMENTED)
            try:
                return bpf.load_instructions(NAME, assembled(_program(of_slivers, networks, fragments, behind)))
            finally:
                os.close(fragments)  # the program holds them
        finally:
            os.close(networks)
    finally:
        os.close(of_slivers)


def _prefix(network: IPv4Network | IPv6Network) -> bytes:
    packed = network.network_address.packed
    if network.version == 4:
        return struct.pack("=I", 96 + network.prefixlen) + bytes(10) + b"\xff\xff" + packed
    return struct.pack("=I", network.prefixlen) + packed


def _program(of_slivers: int, networks: int, fragments: int, behind: int = 0) -> list[Step]:
    """r6: context, r7: where the IP header ends, r8: the class, r9: the IP version."""
    return [
        copy(6, 1),
        (0x62, 10, 0, _FIRST, 0),
        # Before Linux 6.3 the verifier forgets that zero: it looks at any packet as if it were the first of some.
        *((0x7A, 10, 0, _WHOSE + at, 0) for at in range(0, _WHOSE_BYTES, 8)),
        *loaded(constant(2, behind), _IP, 20),
        (_BYTE, 9, 10, _IP, 0),
        copy(7, 9),
        (0x77, 9, 0, 0, 4),  # r9 >>= 4
        *([] if behind else _by_interface(of_slivers)),
        "made here",
        (0x15, 9, 0, "v4", 4),
        (0x55, 9, 0, "pass", 6),
        *_of_v6(behind),
        (0x05, 0, 0, "next", 0),
        "v4",
        *_of_v4(behind),
        (0x05, 0, 0, "next", 0),
        "later",
        *_class_of_fragments(fragments),
        call(_LOOKUP),
        (0x55, 0, 0, "found", 0),
        (0x05, 0, 0, "pass", 0),
        "next",
        *_of_tunnel(),
        *_looked_up(of_slivers),
        (0x15, 0, 0, "pass", 0),
        "found",
        (_WORD, 8, 0, 0, 0),
        (0x15, 8, 0, "pass", NONE),
        *_kept_for_fragments(fragments),
        *_is_exempt(networks, behind),
        (0x15, 0, 0, "send", 0),
        (0x47, 8, 0, 0, EXEMPT),  # r8 |= ...
        "send",
        (0x63, 6, 8, _PRIORITY, 0),
        constant(0, -1),  # chosen
        (0x95, 0, 0, 0, 0),
        "pass",
        (_WORD, 1, 10, _FIRST, 0),
        (0x15, 1, 0, "passes", 0),
        *_class_of_fragments(fragments),  # an earlier packet's of the same number, which its fragments would go by
        call(_DELETE),
        "passes",
        constant(0, 0),
        (0x95, 0, 0, 0, 0),
    ]


def _by_interface(of_slivers: int) -> list[Step]:
    """What came by an interface is of that one, or of nobody."""
    return [
        (_WORD, 1, 6, _CAME_BY, 0),
        (0x15, 1, 0, "made here", 0),
        constant(2, BY_INTERFACE),
        *_looked_up(of_slivers),
        (0x55, 0, 0, "found", 0),
        (0x15, 9, 0, "pass", 4),  # not of IPv6: there tunnels keep by what the packet in them came
    ]


def _of_tunnel() -> list[Step]:
    """r1: the tunnel's number, r2: its UDP port, 0 of GRE."""
    return [
        (0x15, 3, 0, "gre", _GRE),
        (0x55, 3, 0, "pass", _UDP),
        *loaded(copy(2, 7), _NEXT, 16),
        (_HALF, 2, 10, _NEXT + 2, 0),
        (0xDC, 2, 0, 0, 16),  # as this machine counts: the port
        (_WORD, 1, 10, _NEXT + 12, 0),
        (0xDC, 1, 0, 0, 32),
        (0x77, 1, 0, 0, 8),  # the number is followed by a byte that says nothing (RFC 7348, 5)
        (0x05, 0, 0, "tunnel", 0),
        "gre",
        *loaded(copy(2, 7), _NEXT, 8),
        (_HALF, 2, 10, _NEXT, 0),
        (0xDC, 2, 0, 0, 16),
        (0x55, 2, 0, "pass", _KEYED),
        constant(2, 0),
        (_WORD, 1, 10, _NEXT + 4, 0),
        (0xDC, 1, 0, 0, 32),
        "tunnel",
    ]


def _kept_for_fragments(table: int) -> list[Step]:
    """Of the first of some: its class in r8 is theirs, too."""
    return [
        (_WORD, 1, 10, _FIRST, 0),
        (0x15, 1, 0, "go on", 0),
        (0x63, 10, 8, _FIRST, 0),
        *_class_of_fragments(table),
        copy(3, 10),
        (0x07, 3, 0, 0, _FIRST),
        constant(4, 0),
        call(_UPDATE),
        "go on",
    ]


def _of_v4(behind: int) -> list[Step]:
    """r7: where the header ends, r3: what follows it; or on to "later"."""
    return [
        (0x57, 7, 0, 0, 0x0F),
        (0x67, 7, 0, 0, 2),
        (0x07, 7, 0, 0, behind),
        (_BYTE, 3, 10, _IP + 9, 0),
        (_HALF, 1, 10, _IP + 6, 0),
        (0xDC, 1, 0, 0, 16),
        (0x57, 1, 0, 0, 0x3FFF),  # more fragments follow, and where this one begins (RFC 791, 3.1)
        (0x15, 1, 0, "next", 0),
        (_HALF, 2, 10, _IP + 4, 0),
        (0x63, 10, 2, _WHOSE, 0),
        (_WORD, 2, 10, _IP + 12, 0),
        (0x63, 10, 2, _WHOSE + 4, 0),
        (_WORD, 2, 10, _IP + 16, 0),
        (0x63, 10, 2, _WHOSE + 8, 0),
        (0x63, 10, 3, _WHOSE + 12, 0),
        (0x57, 1, 0, 0, 0x1FFF),
        (0x55, 1, 0, "later", 0),
        (0x62, 10, 0, _FIRST, 1),
    ]


def _of_v6(behind: int) -> list[Step]:
    """As `_of_v4`."""
    return [
        constant(7, behind + 40),
        (_BYTE, 3, 10, _IP + 6, 0),
        (0x55, 3, 0, "next", _FRAGMENT),
        *loaded(constant(2, behind + 8), _WHOSE + 4, 32),
        *loaded(constant(2, behind + 40), _NEXT, 8),
        (_WORD, 2, 10, _NEXT + 4, 0),
        (0x63, 10, 2, _WHOSE, 0),
        (_HALF, 1, 10, _NEXT + 2, 0),
        (0xDC, 1, 0, 0, 16),
        (0x57, 1, 0, 0, 0xFFF8),
        (0x55, 1, 0, "later", 0),
        (0x62, 10, 0, _FIRST, 1),
        constant(7, behind + 48),
        (_BYTE, 3, 10, _NEXT, 0),
    ]


def _class_of_fragments(table: int) -> list[Step]:
    """r1, r2: where the class of the packet is that a fragment is of."""
    return [*large(1, table, 1), copy(2, 10), (0x07, 2, 0, 0, _WHOSE)]


def _looked_up(table: int) -> list[Step]:
    """r0: where the value of r1 (number) and r2 (kind) is; 0: there is none."""
    return [
        (0x63, 10, 1, _KEY, 0),
        (0x63, 10, 2, _KEY + 4, 0),
        *large(1, table, 1),
        copy(2, 10),
        (0x07, 2, 0, 0, _KEY),
        call(_LOOKUP),
    ]


def _is_exempt(networks: int, behind: int) -> list[Step]:
    """r0: 0 where its destination is in none of the networks."""
    return [
        constant(1, 128),
        (0x63, 10, 1, _TO, 0),
        (0x15, 9, 0, "to v4", 4),
        *loaded(constant(2, behind + 24), _TO + 4, 16),
        (0x05, 0, 0, "to", 0),
        "to v4",
        constant(1, 0),
        (0x63, 10, 1, _TO + 4, 0),
        (0x63, 10, 1, _TO + 8, 0),
        constant(1, _MAPPED),
        (0xDC, 1, 0, 0, 32),
        (0x63, 10, 1, _TO + 12, 0),
        (_WORD, 1, 10, _IP + 16, 0),
        (0x63, 10, 1, _TO + 16, 0),
        "to",
        *large(1, networks, 1),
        copy(2, 10),
        (0x07, 2, 0, 0, _TO),
        call(_LOOKUP),
    ]
