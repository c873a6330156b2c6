"""swap-label: forward by MPLS label."""

from frames import MPLS, ethernet, mpls, tcp

TEXT = """
input -> l :: swap-label(labels={100 = 200 to-b, 101 = 1048575 to-c}) -> out
l[expired] -> drop
l[none] -> kernel
"""


def test_the_label_is_another_and_lives_shorter(start):
    program = start(TEXT)
    inner = mpls(7, tcp()[14:])
    sent = program.send(ethernet(mpls(100, inner, ttl=9, bottom=False), MPLS))
    assert (sent.went, sent.packet[14:]) == ("to-b", mpls(200, inner, ttl=8, bottom=False))
    sent = program.send(ethernet(mpls(101, tcp()[14:], ttl=2), MPLS))
    assert (sent.went, sent.packet[14:]) == ("to-c", mpls(1048575, tcp()[14:], ttl=1))
    assert program.packets("l.swapped") == 2


def test_time_to_live(start):
    program = start(TEXT)
    for ttl in (0, 1):
        assert program.send(ethernet(mpls(100, tcp()[14:], ttl=ttl), MPLS)).went == "drop"


def test_others_are_unchanged(start):
    program = start(TEXT)
    for frame in (ethernet(mpls(102, tcp()[14:]), MPLS), tcp(), ethernet(b"\0\1", MPLS)):
        sent = program.send(frame)
        assert (sent.went, sent.packet) == ("kernel", frame)
