"""What must have been released by a Shape before it leaves the node in a tunnel: an eBPF program for one tunnel.

The number by which a Shape releases a packet (`bpf.RELEASED`) stays with it while the kernel wraps it up for its tunnel
(skb_scrub_packet in net/core/skbuff.c leaves tc_index alone), up to the way out of the node.  On the wire it is gone.

Made from instructions as those of `bpf` are; RFC 9669 has their meaning.
"""

from __future__ import annotations

import sys
from socket import htons

from vini.model import Gretap, Tunnel
from vini.node import bpf
from vini.node.assembly import Step, assembled, constant, copy, loaded

NAME = "vini_exit"
_UNSPEC, _SHOT = -1, 2  # TC_ACT_: go on as if there were no filter; drop
_BYTE, _HALF, _WORD = 0x71, 0x69, 0x61  # loads of 1, 2 and 4 bytes
_UDP, _GRE = 17, 47
_KEYED, _ETHERNET = 0x2000, 0x6558  # GRE's flags (RFC 2890) and protocol
# Places on the stack: an IP header, and what follows it.
_IP, _NEXT = -24, -40


def load(o: Tunnel) -> int:
    """A descriptor of the program, the caller's to close.  OSError if refused."""
    return bpf.load_instructions(NAME, assembled(_program(o)))


def number(o: Tunnel) -> int:
    """Of the tunnel; on no other of the node."""
    return o.gre_key if isinstance(o, Gretap) else o.vni


def _program(o: Tunnel) -> list[Step]:
    """r6: context, r7: how long the IP header is.  Fragments but the first pass: without that they are of no use."""
    return [
        copy(6, 1),
        (_WORD, 1, 6, bpf.TC_INDEX, 0),
        (0x15, 1, 0, "pass", bpf.IS_RELEASED),
        *loaded(constant(2, 0), _IP, 20),
        (_BYTE, 7, 10, _IP, 0),
        copy(1, 7),
        (0x77, 1, 0, 0, 4),  # r1 >>= 4: the version
        (0x15, 1, 0, "v4", 4),
        (0x55, 1, 0, "pass", 6),
        constant(7, 40),
        (_BYTE, 1, 10, _IP + 6, 0),
        (0x05, 0, 0, "next", 0),
        "v4",
        (0x57, 7, 0, 0, 0x0F),
        (0x67, 7, 0, 0, 2),
        (_BYTE, 1, 10, _IP + 9, 0),
        "next",
        *(_of_gre(o.gre_key) if isinstance(o, Gretap) else _of_vxlan(o.vni, o.port)),
        constant(0, _SHOT),
        (0x95, 0, 0, 0, 0),
        "pass",
        constant(0, _UNSPEC),
        (0x95, 0, 0, 0, 0),
    ]


def _of_vxlan(vni: int, port: int) -> list[Step]:
    """Go on where the packet is of that tunnel; the VNI is followed by a byte that says nothing (RFC 7348, 5)."""
    return [
        (0x55, 1, 0, "pass", _UDP),
        *loaded(copy(2, 7), _NEXT, 16),
        (_HALF, 1, 10, _NEXT + 2, 0),
        (0x55, 1, 0, "pass", htons(port)),
        (_WORD, 1, 10, _NEXT + 12, 0),
        (0x54, 1, 0, 0, _as_it_lies(0xFFFFFF00)),  # w1 &= ...
        (0x56, 1, 0, "pass", _as_it_lies(vni << 8)),  # if w1 != ...
    ]


def _of_gre(key: int) -> list[Step]:
    return [
        (0x55, 1, 0, "pass", _GRE),
        *loaded(copy(2, 7), _NEXT, 8),
        (_WORD, 1, 10, _NEXT, 0),
        (0x56, 1, 0, "pass", _as_it_lies(_KEYED << 16 | _ETHERNET)),
        (_WORD, 1, 10, _NEXT + 4, 0),
        (0x56, 1, 0, "pass", _as_it_lies(key)),
    ]


def _as_it_lies(value: int) -> int:
    """A word in network order, as this machine reads it."""
    return int.from_bytes(value.to_bytes(4, "big"), sys.byteorder)
