"""ecmp: spread flows over several ways."""

from collections import Counter

from frames import ARP, IP6, UDP, ethernet, ip, ip6, transport, udp
from running import vif

TEXT = """
input -> spread :: ecmp(to-b, to-b, to-c) -> out
spread[none] -> kernel
"""


def test_flows_are_spread_by_their_shares(start):
    program = start(TEXT)
    went = Counter(program.send(udp(from_port=port)).went for port in range(1000, 2200))
    assert went["to-b"] + went["to-c"] == 1200
    assert 700 < went["to-b"] < 900  # 800; five standard deviations are 82


def test_a_flow_keeps_its_way(start):
    program = start(TEXT)
    for port in range(20):
        assert len({program.send(udp(from_port=port)).went for _ in range(5)}) == 1


def test_fragments_behind_the_first_of_two_addresses_go_one_way(start):
    program = start(TEXT)
    assert len({program.send(ethernet(ip(bytes([n]) * 64, UDP, fragment=n))).went for n in range(1, 20)}) == 1


def test_ipv6_flows_are_spread_too(start):
    program = start(TEXT)
    frames = [ethernet(ip6(transport(UDP, from_port=port), UDP), IP6) for port in range(60)]
    assert {program.send(frame).went for frame in frames} == {"to-b", "to-c"}


def test_what_is_not_ip_goes_by_the_first(start):
    assert start(TEXT).send(ethernet(bytes(28), ARP)).went == "to-b"
    assert start(TEXT, vifs=(vif("to-b", 0, ifindex=0), vif("to-c", 1))).send(ethernet(bytes(28), ARP)).went == "kernel"
