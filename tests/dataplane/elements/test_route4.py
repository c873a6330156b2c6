"""route4: choose the way out by an IPv4 longest-prefix-match table of its own."""

from frames import ARP, IP6, TCP, ethernet, ip, ip6, tcp, transport
from running import vif

TEXT = """
input -> r :: route4(routes={10.0.0.0/8 = to-b, 10.9.0.0/16 = to-c}) -> out
r[none] -> kernel
"""


def test_the_longest_prefix_wins(start):
    program = start(TEXT)
    assert program.send(tcp(destination="10.1.2.3")).went == "to-b"
    assert program.send(tcp(destination="10.9.2.3")).went == "to-c"
    assert program.send(tcp(destination="11.0.0.1")).went == "kernel"
    assert (program.packets("r.hits"), program.packets("r.misses")) == (2, 1)


def test_only_the_ethernet_addresses_change(start):
    frame = tcp()
    sent = start(TEXT).send(frame)
    assert sent.packet[:12] == bytes((2, 0, 0, 0, 1, 1)) + bytes((2, 0, 0, 0, 0, 1))
    assert sent.packet[12:] == frame[12:]


def test_routes_are_read_and_written_while_it_runs(start):
    program = start(TEXT)
    program.write("r.routes", "default", "to-b")
    assert program.send(tcp(destination="192.0.2.1")).went == "to-b"
    assert ("0.0.0.0/0", "to-b") in program.read("r.routes")
    assert ("10.9.0.0/16", "to-c") in program.read("r.routes")


def test_a_prefix_without_a_vif_is_for_the_kernel(start):
    program = start(TEXT)
    program.write("r.routes", "10.9.0.2/32", "-")
    assert program.send(tcp(destination="10.9.0.2")).went == "kernel"
    assert program.send(tcp(destination="10.9.0.3")).went == "to-c"
    assert ("10.9.0.2/32", "-") in program.read("r.routes")


def test_what_is_not_ipv4_leaves_by_none(start, hook):
    program = start(TEXT)
    assert program.send(ethernet(bytes(28), ARP)).went == "kernel"
    assert program.send(ethernet(ip6(bytes(20), 59), IP6)).went == "kernel"
    assert program.send(ethernet(b"\x60" + bytes(30))).went == "kernel"  # says IPv4, is version 6
    if hook == "xdp":  # the kernel has no test runs of such packets at tc
        assert program.send(tcp()[:30]).went == "kernel"  # ends in the header


def test_a_vif_that_is_gone_is_no_way(start):
    assert (
        start(TEXT, vifs=(vif("to-b", 0), vif("to-c", 1, ifindex=0))).send(tcp(destination="10.9.0.1")).went == "kernel"
    )


def test_fragments_and_options_are_routed(start):
    program = start(TEXT)
    assert program.send(ethernet(ip(b"x" * 64, TCP, fragment=0x2003))).went == "to-c"
    assert program.send(ethernet(ip(transport(TCP), TCP, options=b"\x01" * 40))).went == "to-c"
