"""pop-label: take the top MPLS label off."""

import pytest
from frames import IP, IP6, MPLS, ethernet, ip6, mpls, tcp

TEXT = """
input -> l :: pop-label -> kernel
l[other] -> drop
"""


@pytest.mark.parametrize(("packet", "protocol"), [(tcp()[14:], IP), (ip6(bytes(20), 59), IP6)])
def test_under_the_last_label_is_ip(start, packet, protocol):
    program = start(TEXT)
    sent = program.send(ethernet(mpls(100, packet), MPLS))
    assert (sent.went, sent.packet) == ("kernel", ethernet(packet, protocol))
    assert program.packets("l.popped") == 1


def test_under_another_label_it_stays_mpls(start):
    inner = mpls(7, tcp()[14:])
    assert start(TEXT).send(ethernet(mpls(100, inner, bottom=False), MPLS)).packet == ethernet(inner, MPLS)


def test_two_labels_one_after_the_other(start):
    text = "input -> a :: pop-label -> b :: pop-label -> kernel\na[other] -> drop\nb[other] -> drop"
    frame = ethernet(mpls(100, mpls(7, tcp()[14:]), bottom=False), MPLS)
    assert start(text).send(frame).packet == tcp()


@pytest.mark.parametrize("frame", [tcp(), ethernet(b"\0\1", MPLS), ethernet(mpls(1, b"\x20" + bytes(40)), MPLS)])
def test_others(start, frame):
    assert start(TEXT).send(frame).went == "drop"
