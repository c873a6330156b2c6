"""source-route: forward by the route that the packet carries."""

import pytest
from frames import ROUTE, ethernet, tcp

TEXT = """
input -> r :: source-route(ways={1 = to-b, 2 = to-c}) -> out
r[end] -> kernel
r[none] -> drop
"""


def routed(done: int, hops: list[int], count: int | None = None) -> bytes:
    head = bytes((8, 0, done, len(hops) if count is None else count)) + bytes(hops).ljust(8, b"\0")
    return ethernet(head + tcp()[14:], ROUTE)


def test_hop_after_hop(start):
    program = start(TEXT)
    first = program.send(routed(0, [1, 2]))
    assert (first.went, first.packet[12:]) == ("to-b", routed(1, [1, 2])[12:])
    second = program.send(first.packet)
    assert (second.went, second.packet[12:]) == ("to-c", routed(2, [1, 2])[12:])
    last = program.send(second.packet)
    assert (last.went, last.packet[12:]) == ("kernel", tcp()[12:])
    assert (program.packets("r.hits"), program.packets("r.ends")) == (2, 1)


def test_the_eighth_hop(start):
    sent = start(TEXT).send(routed(7, [1, 1, 1, 1, 1, 1, 1, 2]))
    assert (sent.went, sent.packet[16]) == ("to-c", 8)


@pytest.mark.parametrize("frame", [tcp(), routed(0, [3]), routed(8, [1] * 8, count=9), routed(0, [1])[:20]])
def test_others(start, frame):
    assert start(TEXT).send(frame).went == "drop"
