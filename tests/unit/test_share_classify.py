"""The program that tells slivers' packets apart: no verifier may find it reading what was never written.

That of this machine's kernel may know more than older ones do, so what all of them ask is checked here: before 6.3
they forget which constant was written to the stack, and follow both ways of a question about it.
"""

from __future__ import annotations

import pytest

from vini.node.assembly import Step
from vini.node.shares import classify

KEYS = {101: 8, 102: 20, 103: 40}  # bytes of a key, by a map's descriptor
LOOKUP, UPDATE, DELETE, LOAD = 1, 2, 3, 68
STORED = {0x62: 4, 0x63: 4, 0x7A: 8}  # bytes that a store to the stack writes
READ = {0x71: 1, 0x69: 2, 0x61: 4}
Known = frozenset[tuple[int, tuple[str, int]]]  # register -> a constant, a place on the stack, or a map


def unwritten(steps: list[Step]) -> list[str]:
    """Reads of bytes of the stack that some way through the program has not written."""
    at = {s: i for i, s in enumerate(steps) if isinstance(s, str)}
    found: set[str] = set()
    seen: set[tuple[int, Known, frozenset[int]]] = set()
    ways: list[tuple[int, Known, frozenset[int]]] = [(0, frozenset({(10, ("stack", 0))}), frozenset())]
    while ways:
        way = ways.pop()
        if way in seen:
            continue
        seen.add(way)
        i, known, written = way
        step = steps[i]
        if isinstance(step, str):
            ways.append((i + 1, known, written))
            continue
        code, dst, src, offset, immediate = step
        r = dict(known)

        def reads(place: int, size: int, why: str, i: int = i, written: frozenset[int] = written) -> None:
            if lacking := set(range(place, place + size)) - written:
                found.add(f"step {i} {why}: {sorted(lacking)}")

        if code == 0x95:
            continue
        if code in STORED:
            if dst == 10:
                assert isinstance(offset, int)
                written |= set(range(offset, offset + STORED[code]))
        elif code in READ:
            if src == 10:
                assert isinstance(offset, int)
                reads(offset, READ[code], "reads")
            r.pop(dst, None)
        elif code == 0xBF:
            r.pop(dst, None)
            r |= {dst: dict(known)[src]} if src in dict(known) else {}
        elif code == 0xB7:
            r[dst] = ("constant", immediate)
        elif code == 0x18:
            r[dst] = ("map", immediate)
        elif code == 0x07 and dst in r:
            kind, value = r[dst]
            r[dst] = (kind, value + immediate)
        elif code == 0x85:
            if immediate in (LOOKUP, UPDATE, DELETE):
                reads(r[2][1], KEYS[r[1][1]], "looks for a key")
            if immediate == UPDATE:
                reads(r[3][1], 4, "stores a value")
            if immediate == LOAD:
                written |= set(range(r[3][1], r[3][1] + r[4][1]))
            for gone in range(6):
                r.pop(gone, None)
        elif code in (0x15, 0x55, 0x05):
            assert isinstance(offset, str)
            ways.append((at[offset], known, written))
            if code == 0x05:
                continue
        else:  # arithmetic
            r.pop(dst, None)
        ways.append((i + 1, frozenset(r.items()), written))
    return sorted(found)


@pytest.mark.parametrize("behind", [0, 60])
def test_every_way_through_it_has_written_what_it_reads(behind: int) -> None:
    steps = classify._program(*KEYS, behind)
    assert sum(s[0] == 0x85 for s in steps if not isinstance(s, str)) > 8, "it looks into its tables"
    assert unwritten(steps) == []
    lacking = [s for s in steps if isinstance(s, str) or s[0] != 0x7A]
    assert unwritten(lacking), "without what is written first some way has not"
