"""dec-ttl: count down the IP time to live."""

import pytest
from frames import ARP, IP6, TCP, assert_right_checksums, ethernet, ip, ip6, tcp, transport

TEXT = """
input -> ttl :: dec-ttl -> out(to-b)
ttl[expired] -> kernel
"""


@pytest.mark.parametrize("ttl", [2, 64, 255])
def test_ipv4_has_one_less_and_a_right_checksum(start, ttl):
    sent = start(TEXT).send(tcp(ttl=ttl))
    assert sent.went == "to-b"
    assert sent.packet[22] == ttl - 1
    assert_right_checksums(sent.packet)


def test_the_checksum_is_right_at_every_carry(start):
    program = start(TEXT)
    for last in range(256):
        assert_right_checksums(program.send(tcp(source=f"10.0.0.{last}")).packet)


@pytest.mark.parametrize("ttl", [0, 1])
def test_expired_packets_are_unchanged(start, ttl):
    program = start(TEXT)
    sent = program.send(tcp(ttl=ttl))
    assert (sent.went, sent.packet) == ("kernel", tcp(ttl=ttl))
    assert program.packets("ttl.expired") == 1


def test_ipv6_has_one_less(start):
    program = start(TEXT)
    assert program.send(ethernet(ip6(b"x" * 20, 59, hops=9), IP6)).packet[21] == 8
    assert program.send(ethernet(ip6(b"x" * 20, 59, hops=1), IP6)).went == "kernel"


def test_options_are_no_obstacle(start):
    sent = start(TEXT).send(ethernet(ip(transport(TCP), TCP, options=b"\x01" * 8)))
    assert sent.packet[22] == 63
    assert_right_checksums(sent.packet)


def test_what_is_not_ip_passes(start):
    frame = ethernet(bytes(28), ARP)
    assert start(TEXT).send(frame).packet[14:] == frame[14:]
