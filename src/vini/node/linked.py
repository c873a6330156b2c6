"""Where an instruction that the kernel speaks of stands in an object file.

The kernel numbers those of a whole program: the function itself, and behind it, in the order in which they are first
called, those that it calls, which libbpf has put there.
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from vini.elf import Elf, Symbol
from vini.model import Value

_CALL, _OWN_FUNCTION = 0x85, 1  # opcode, and source register, of a call of the program's own function
_BYTES = 8  # of an instruction


class Spot(Value, frozen=True):
    """A section, the number of the instruction in it, and how far behind the nearest symbol that is."""

    section: str
    instruction: int
    symbol: str
    behind: int


def spot(elf: Elf, program: str, instruction: int) -> Spot | None:
    """Of the instruction that is the n-th (from 0) of a loaded program; None where it isn't in the file."""
    start = 0
    for function in _in_order(elf, program):
        count = function.size // _BYTES
        if start <= instruction < start + count:
            return _nearest(elf, function, function.offset // _BYTES + instruction - start)
        start += count
    return None


def _nearest(elf: Elf, function: Symbol, number: int) -> Spot:
    """Symbols are functions, and labels where the compiler kept them."""
    there = sorted(
        (s for s in elf.symbols if s.section == function.section and s.name), key=lambda s: (s.offset, s.function)
    )
    before = there[bisect_right([s.offset for s in there], number * _BYTES) - 1]
    return Spot(elf.sections[function.section].name, number, before.name, number - before.offset // _BYTES)


def _in_order(elf: Elf, program: str) -> list[Symbol]:
    functions = {(s.section, s.offset): s for s in elf.symbols if s.function}
    targets = {(r.section, r.offset): r.symbol for r in elf.relocations}
    out: list[Symbol] = []
    waiting = [s for s in functions.values() if s.name == program][:1]
    while waiting:  # the next is the first that the last one calls
        function = waiting.pop()
        if function in out:
            continue
        out.append(function)
        called = []
        content = elf.sections[function.section].content[function.offset : function.offset + function.size]
        for at in range(0, len(content) - _BYTES + 1, _BYTES):
            code, registers, _, distance = struct.unpack_from("<BBhi", content, at)
            if code != _CALL or registers >> 4 != _OWN_FUNCTION:
                continue
            symbol = targets.get((function.section, function.offset + at))
            if symbol is not None:  # counted from the symbol, which may be the section's
                where = (symbol.section, symbol.offset + (distance + 1) * _BYTES)
            else:
                where = (function.section, function.offset + at + (distance + 1) * _BYTES)
            called += [functions[where]] if where in functions else []
        waiting += reversed(called)
    return out
