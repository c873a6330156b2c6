"""eBPF programs as instructions with labels, made into bytes; RFC 9669 has what each does.

For programs of the node's own that are too long to count their jumps by hand, and need no compiler.
"""

from __future__ import annotations

import struct
import sys

_LOAD, _FROM_IP = 68, 1  # bpf_skb_load_bytes_relative, BPF_HDR_START_NET
Step = tuple[int, int, int, int | str, int] | str  # code, dst, src, offset or label, immediate; or a label


def copy(dst: int, src: int) -> Step:
    """A register becomes what another one is."""
    return (0xBF, dst, src, 0, 0)


def constant(dst: int, value: int) -> Step:
    """A register becomes a number of 32 bits."""
    return (0xB7, dst, 0, 0, value)


def call(helper: int) -> Step:
    """A function of the kernel's, by its number in linux/bpf.h; r1 to r5 are its arguments, r0 what it gives."""
    return (0x85, 0, 0, 0, helper)


def loaded(at: Step, to: int, size: int) -> list[Step]:
    """So many bytes of the packet that r6 has, on the stack at `to`; `at` sets r2 to where they are, from the IP header
    on: also where there is no Ethernet header.  A packet without them goes on at "pass"."""
    stack: list[Step] = [copy(3, 10), (0x07, 3, 0, 0, to)]
    return [copy(1, 6), at, *stack, constant(4, size), constant(5, _FROM_IP), call(_LOAD), (0x55, 0, 0, "pass", 0)]


def large(dst: int, value: int, kind: int = 0) -> list[Step]:
    """A register becomes a number of 64 bits, which takes two instructions; of kind 1 it is a map's descriptor."""
    return [(0x18, dst, kind, 0, value & 0xFFFFFFFF), (0, 0, 0, 0, value >> 32)]


def assembled(steps: list[Step]) -> bytes:
    """The bytes; jumps lead to their labels."""
    at: dict[str, int] = {}
    instructions: list[tuple[int, int, int, int | str, int]] = []
    for step in steps:
        if isinstance(step, str):
            at[step] = len(instructions)
        else:
            instructions.append(step)
    out = b""
    low = sys.byteorder == "little"
    for i, (code, dst, src, offset, immediate) in enumerate(instructions):
        registers = dst | src << 4 if low else dst << 4 | src
        jump = at[offset] - i - 1 if isinstance(offset, str) else offset
        out += struct.pack("=BBhI", code, registers, jump, immediate & 0xFFFFFFFF)
    return out
