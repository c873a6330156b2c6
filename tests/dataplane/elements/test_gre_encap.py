"""gre-encap: wrap IP packets in GRE with a key."""

from frames import ARP, GRE, IP6, assert_right_checksums, ethernet, ip6, tcp

TEXT = """
input -> t :: gre-encap(local=192.0.2.1, remote=192.0.2.2, key=0x1020304) -> out(to-b)
t[other] -> kernel
"""


def test_ipv4(start):
    sent = start(TEXT).send(tcp())
    assert (sent.went, sent.packet[23], sent.packet[42:]) == ("to-b", GRE, tcp()[14:])
    assert sent.packet[34:42] == bytes.fromhex("2000 0800 01020304")
    assert_right_checksums(sent.packet)


def test_ipv6(start):
    frame = ethernet(ip6(bytes(20), 59), IP6)
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet[12:14], sent.packet[42:]) == ("to-b", b"\x08\0", frame[14:])
    assert sent.packet[34:42] == bytes.fromhex("2000 86dd 01020304")
    assert_right_checksums(sent.packet)


def test_what_is_not_ip(start):
    program = start(TEXT)
    for frame in (ethernet(bytes(28), ARP), ethernet(b"\x60" + bytes(40))):
        assert program.send(frame).went == "kernel"
