"""ip-encap: wrap IPv4 packets in IPv4."""

from frames import IP6, IPIP, assert_right_checksums, destination_of, ethernet, ip6, source_of, tcp

TEXT = """
input -> t :: ip-encap(local=192.0.2.1, remote=192.0.2.2) -> out(to-b)
t[other] -> drop
"""


def test_the_packet_is_behind_a_new_header(start):
    frame = tcp()
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet[34:], sent.packet[23]) == ("to-b", frame[14:], IPIP)
    assert (source_of(sent.packet), destination_of(sent.packet)) == ("192.0.2.1", "192.0.2.2")
    assert_right_checksums(sent.packet)


def test_what_is_not_ipv4_leaves_by_other(start):
    assert start(TEXT).send(ethernet(ip6(bytes(20), 59), IP6)).went == "drop"
