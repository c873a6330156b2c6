"""set-dscp: write the DSCP of IP packets."""

import pytest
from frames import ARP, IP6, TCP, assert_right_checksums, ethernet, ip, ip6, tcp, transport


@pytest.mark.parametrize(("name", "value"), [("ef", 46), ("0", 0), ("63", 63)])
def test_ipv4(start, name, value):
    frame = bytearray(ethernet(ip(transport(TCP), TCP, dscp=10)))
    frame[15] |= 3  # congestion was experienced
    frame[24:26] = (int.from_bytes(frame[24:26], "big") - 3).to_bytes(2, "big")
    assert_right_checksums(bytes(frame))
    sent = start(f"input -> set-dscp({name}) -> kernel").send(bytes(frame))
    assert sent.packet[15] == value << 2 | 3
    assert_right_checksums(sent.packet)


def test_ipv6(start):
    frame = bytearray(ethernet(ip6(bytes(20), 59), IP6))
    frame[14:18] = b"\x6f\xff\xff\xff"
    assert start("input -> set-dscp(0) -> kernel").send(bytes(frame)).packet[14:18] == b"\x60\x3f\xff\xff"
    assert start("input -> set-dscp(ef) -> kernel").send(bytes(frame)).packet[14:18] == b"\x6b\xbf\xff\xff"


def test_what_is_not_ip_passes(start, hook):
    program = start("input -> set-dscp(ef) -> kernel")
    frames = [ethernet(bytes(28), ARP), *([tcp()[:20]] if hook == "xdp" else [])]  # tc has no test runs of the second
    for frame in frames:
        assert program.send(frame).packet == frame
