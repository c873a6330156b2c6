"""push-label: put an MPLS label on IPv4 packets."""

from frames import ARP, MPLS, ethernet, mpls, protocol_of, tcp

TEXT = """
input -> l :: push-label(labels={10.9.0.0/16 = 100 to-b, 10.8.0.0/16 = 1048575 to-c}) -> out
l[none] -> kernel
"""


def test_the_label_is_between_ethernet_and_ip(start):
    program = start(TEXT)
    sent = program.send(tcp(ttl=9))
    assert (sent.went, protocol_of(sent.packet)) == ("to-b", MPLS)
    assert sent.packet[14:] == mpls(100, tcp(ttl=9)[14:], ttl=9)
    assert program.packets("l.pushed") == 1


def test_the_largest_label(start):
    sent = start(TEXT).send(tcp(destination="10.8.0.1"))
    assert (sent.went, sent.packet[14:18]) == ("to-c", mpls(1048575, b""))


def test_others_are_unchanged(start):
    program = start(TEXT)
    for frame in (tcp(destination="11.0.0.1"), ethernet(bytes(28), ARP)):
        sent = program.send(frame)
        assert (sent.went, sent.packet) == ("kernel", frame)


def test_large_segments_are_lost_and_counted(start, hook):
    program = start(TEXT)
    sent = program.send(tcp() + bytes(2000), gso_size=1000)
    assert sent.went == ("drop" if hook == "tc" else "to-b")  # at XDP there are none
    assert program.read("l.lost")[0][0] == ("3" if hook == "tc" else "0")
