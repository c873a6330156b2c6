"""gre-decap: take IP packets out of GRE with a key."""

import pytest
from frames import GRE, IP6, ethernet, ip, ip6, tcp

TEXT = """
input -> t :: gre-decap(local=192.0.2.2, remote=192.0.2.1, key=7) -> out(to-b)
t[other] -> kernel
"""
HEAD = bytes.fromhex("2000 0800 00000007")
HEAD6 = bytes.fromhex("2000 86dd 00000007")


def wrapped(head: bytes, payload: bytes, **fields) -> bytes:
    return ethernet(ip(head + payload, GRE, "192.0.2.1", "192.0.2.2", **fields))


def test_ipv4(start):
    sent = start(TEXT).send(wrapped(HEAD, tcp()[14:]))
    assert (sent.went, sent.packet[12:]) == ("to-b", tcp()[12:])


def test_ipv6(start):
    frame = ethernet(ip6(bytes(20), 59), IP6)
    sent = start(TEXT).send(wrapped(HEAD6, frame[14:]))
    assert (sent.went, sent.packet[12:]) == ("to-b", frame[12:])


@pytest.mark.parametrize(
    "frame",
    [
        tcp(),
        wrapped(HEAD6, tcp()[14:]),
        wrapped(HEAD[:-1] + b"\x08", tcp()[14:]),
        wrapped(b"\x30" + HEAD[1:], tcp()[14:]),
        wrapped(HEAD, tcp()[14:], fragment=0x2000),
        wrapped(HEAD, b""),
    ],
)
def test_others_are_unchanged(start, frame):
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet) == ("kernel", frame)
