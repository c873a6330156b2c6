"""route-id: forward by flat identifier."""

from frames import ID, ethernet, tcp

TEXT = """
input -> i :: route-id(self=7, ids={9 = to-b, 0xffffffff = to-c}) -> out
i[self] -> kernel
i[expired] -> drop
i[none] -> drop
"""


def identified(to: int, hops: int = 64) -> bytes:
    return ethernet(bytes((8, 0, hops, 0)) + to.to_bytes(4, "big") + bytes(4) + tcp()[14:], ID)


def test_by_identifier(start):
    program = start(TEXT)
    sent = program.send(identified(9))
    assert (sent.went, sent.packet[12:]) == ("to-b", identified(9, 63)[12:])
    assert program.send(identified(0xFFFFFFFF)).went == "to-c"
    assert program.packets("i.hits") == 2


def test_its_own_are_unchanged(start):
    sent = start(TEXT).send(identified(7, 1))
    assert (sent.went, sent.packet) == ("kernel", identified(7, 1))


def test_somebody_moves(start):
    program = start(TEXT)
    program.write("i.ids", "9", "to-c")
    assert program.send(identified(9)).went == "to-c"


def test_others(start):
    program = start(TEXT)
    for frame in (identified(8), identified(9, 1), identified(9, 0), tcp(), identified(9)[:20]):
        assert program.send(frame).went == "drop"
    assert program.packets("i.misses") == 3
