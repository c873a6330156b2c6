"""TCP's largest segments, lowered to what fits a tunnel ("MSS clamping"): an eBPF program at its way out.

TCP learns the least MTU of its path by what routers on it say (RFC 1191, RFC 8201).  Where that is lost, as when a
program forwards or a filter drops ICMP, it would hang with the first full segment.  So what either side announces to
the other in its SYN (RFC 9293, 3.7.1) is made no more than the tunnel's MTU less 40 or, of IPv6, 60 bytes.

Made from instructions as those of `bpf` are; RFC 9669 has their meaning.
"""

from __future__ import annotations

import sys
from socket import htons

from vini.node import bpf
from vini.node.assembly import Step, assembled, call, constant, copy

NAME = "vini_mss"
_PROTOCOL = 16  # offset in struct __sk_buff
_LOAD, _STORE, _CHECKSUM = 26, 9, 11  # helpers: bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_l4_csum_replace
_UNSPEC = -1  # TC_ACT_: go on as if there were no filter
_BYTE, _HALF, _WORD, _LONG = 0x71, 0x69, 0x61, 0x79  # loads of 1, 2, 4 and 8 bytes
_STORE_HALF, _STORE_LONG = 0x6B, 0x7B
_TO_NETWORK = 0xDC  # BPF_END of 16 bits to big-endian
_SWAP = 0xDC if sys.byteorder == "little" else 0xD4  # and one that always swaps
_ETHERNET, _TCP, _SYN = 14, 6, 2
_OPTIONS = 10  # that are looked at: all that anybody sends
# Places on the stack: the largest segment, an IP header, a TCP header, an option.
_LIMIT, _IP, _HEADER, _OPTION = -8, -24, -48, -56


def name(mtu: int) -> str:
    """Of the filter that does it for that MTU."""
    return f"{NAME} {mtu}"


def load(mtu: int) -> int:
    """A descriptor of the program, the caller's to close.  OSError if refused."""
    return bpf.load_instructions(NAME, assembled(_program(mtu)))


def _program(mtu: int) -> list[Step]:
    """r6: context, r7: where the TCP header is, r8: where an option is, r9: where the options end."""
    return [
        copy(6, 1),
        (_WORD, 1, 6, _PROTOCOL, 0),
        (0x15, 1, 0, "v4", htons(0x0800)),
        (0x15, 1, 0, "v6", htons(0x86DD)),
        (0x05, 0, 0, "pass", 0),
        "v4",
        *_loaded(constant(2, _ETHERNET), _IP, 10),
        (_BYTE, 1, 10, _IP + 9, 0),
        (0x55, 1, 0, "pass", _TCP),
        (_HALF, 1, 10, _IP + 6, 0),
        (0x57, 1, 0, 0, htons(0x1FFF)),
        (0x55, 1, 0, "pass", 0),  # not the first fragment
        (_BYTE, 7, 10, _IP, 0),
        (0x57, 7, 0, 0, 0x0F),
        (0x67, 7, 0, 0, 2),
        (0x07, 7, 0, 0, _ETHERNET),
        constant(1, mtu - 40),
        (_STORE_LONG, 10, 1, _LIMIT, 0),
        (0x05, 0, 0, "tcp", 0),
        "v6",
        *_loaded(constant(2, _ETHERNET), _IP, 7),
        (_BYTE, 1, 10, _IP + 6, 0),
        (0x55, 1, 0, "pass", _TCP),
        constant(7, _ETHERNET + 40),
        constant(1, mtu - 60),
        (_STORE_LONG, 10, 1, _LIMIT, 0),
        "tcp",
        *_loaded(copy(2, 7), _HEADER, 20),
        (_BYTE, 1, 10, _HEADER + 13, 0),
        (0x57, 1, 0, 0, _SYN),
        (0x15, 1, 0, "pass", 0),
        (_BYTE, 9, 10, _HEADER + 12, 0),
        (0x77, 9, 0, 0, 4),
        (0x67, 9, 0, 0, 2),
        (0x0F, 9, 7, 0, 0),
        copy(8, 7),
        (0x07, 8, 0, 0, 20),
        *(step for i in range(_OPTIONS) for step in _option(i)),
        f"option {_OPTIONS}",
        (0x05, 0, 0, "pass", 0),
        "found",
        *_lower(),
        "pass",
        constant(0, _UNSPEC),
        (0x95, 0, 0, 0, 0),
    ]


def _loaded(at: Step, to: int, size: int) -> list[Step]:
    """So many bytes of the packet on the stack; `at` sets r2 to where they are.  A packet without them passes."""
    stack: list[Step] = [copy(3, 10), (0x07, 3, 0, 0, to)]
    return [copy(1, 6), at, *stack, constant(4, size), call(_LOAD), (0x55, 0, 0, "pass", 0)]


def _option(i: int) -> list[Step]:
    """The one at r8 (RFC 9293, 3.1): 0 ends them, 1 is one byte, all others have a length; 2 is the one that we look
    for."""
    return [
        f"option {i}",
        (0x3D, 8, 9, "pass", 0),  # if r8 >= r9
        *_loaded(copy(2, 8), _OPTION, 4),
        (_BYTE, 1, 10, _OPTION, 0),
        (0x15, 1, 0, "pass", 0),
        (0x15, 1, 0, "found", 2),
        (0x15, 1, 0, f"one byte {i}", 1),
        (_BYTE, 2, 10, _OPTION + 1, 0),
        (0xA5, 2, 0, "pass", 2),  # if r2 < 2: nonsense
        (0x0F, 8, 2, 0, 0),
        (0x05, 0, 0, f"option {i + 1}", 0),
        f"one byte {i}",
        (0x07, 8, 0, 0, 1),
    ]


def _lower() -> list[Step]:
    """The number of the option at r8, where it is more than fits; and the checksum with it.

    A checksum is of pairs of bytes: a number that begins at an odd place counts with its bytes swapped.
    """
    return [
        (_HALF, 3, 10, _OPTION + 2, 0),
        copy(1, 3),
        (_TO_NETWORK, 1, 0, 0, 16),
        (_LONG, 2, 10, _LIMIT, 0),
        (0xBD, 1, 2, "pass", 0),  # if r1 <= r2
        copy(4, 2),
        (_TO_NETWORK, 4, 0, 0, 16),
        (_STORE_HALF, 10, 4, _OPTION + 2, 0),
        copy(1, 8),
        (0x1F, 1, 7, 0, 0),
        (0x57, 1, 0, 0, 1),
        (0x15, 1, 0, "even", 0),
        (_SWAP, 3, 0, 0, 16),
        (_SWAP, 4, 0, 0, 16),
        "even",
        copy(1, 6),
        copy(2, 7),
        (0x07, 2, 0, 0, 16),
        constant(5, 2),  # bytes
        call(_CHECKSUM),
        copy(1, 6),
        copy(2, 8),
        (0x07, 2, 0, 0, 2),
        copy(3, 10),
        (0x07, 3, 0, 0, _OPTION + 2),
        constant(4, 2),
        constant(5, 0),
        call(_STORE),
    ]
