"""vxlan-decap: take whole Ethernet frames out of VXLAN."""

import pytest
from frames import ARP, IP6, UDP, ethernet, ip, ip6, tcp, transport

TEXT = """
input -> t :: vxlan-decap(local=192.0.2.2, vni=0x123456) -> kernel
t[other] -> out(to-b)
"""
HEAD = bytes.fromhex("08000000 12345600")


def wrapped(payload: bytes, to_port: int = 4789, destination: str = "192.0.2.2", **fields) -> bytes:
    ends = {"source": "192.0.2.1", "destination": destination}
    return ethernet(ip(transport(UDP, 50000, to_port, payload, **ends, checked=False), UDP, **ends, **fields))


@pytest.mark.parametrize("frame", [tcp(), ethernet(bytes(28), ARP), ethernet(ip6(bytes(20), 59), IP6)])
def test_the_frame_comes_out_as_it_was(start, frame):
    sent = start(TEXT).send(wrapped(HEAD + frame))
    assert (sent.went, sent.packet) == ("kernel", frame)


@pytest.mark.parametrize(
    "frame",
    [
        tcp(),
        wrapped(HEAD[:-2] + b"\x57\0" + tcp()),
        wrapped(HEAD + tcp(), to_port=4790),
        wrapped(HEAD + tcp(), destination="192.0.2.9"),
        wrapped(HEAD + tcp(), fragment=0x2000),
        wrapped(HEAD + tcp()[:10]),
    ],
)
def test_others_are_unchanged(start, frame):
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet[12:]) == ("to-b", frame[12:])
