"""ip-decap: take IPv4 packets out of IPv4."""

import pytest
from frames import IPIP, TCP, ethernet, ip, tcp

TEXT = """
input -> t :: ip-decap(local=192.0.2.2, remote=192.0.2.1) -> out(to-b)
t[other] -> kernel
"""


def wrapped(payload: bytes, source: str = "192.0.2.1", destination: str = "192.0.2.2", **fields) -> bytes:
    return ethernet(ip(payload, IPIP, source, destination, **fields))


def test_the_packet_comes_out_as_it_was(start):
    program = start(TEXT)
    sent = program.send(wrapped(tcp()[14:]))
    assert (sent.went, sent.packet[12:]) == ("to-b", tcp()[12:])
    assert program.packets("t.unwrapped") == 1


@pytest.mark.parametrize(
    "frame",
    [
        tcp(),
        wrapped(tcp()[14:], source="192.0.2.9"),
        wrapped(tcp()[14:], destination="192.0.2.9"),
        wrapped(tcp()[14:], fragment=0x2000),
        wrapped(tcp()[14:], fragment=2),
        wrapped(b"\x60" + bytes(40)),
        wrapped(b""),
        ethernet(ip(tcp()[14:], TCP, "192.0.2.1", "192.0.2.2")),
    ],
)
def test_others_are_unchanged(start, frame):
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet) == ("kernel", frame)
