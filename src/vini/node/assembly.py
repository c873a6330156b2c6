"""eBPF programs as instructions with labels, made into bytes; RFC 9669 has what each does.

For programs of the node's own that are too long to count their jumps by hand, and need no compiler.
"""

from __future__ import annotations

import struct
import sys

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
