"""acl: permit and deny packets by rules, in order."""

from frames import ARP, ICMP, IP6, TCP, UDP, echo, ethernet, ip, ip6, tcp, transport, udp

TEXT = """
input -> a :: acl(rules=[
    deny any 10.0.0.66/32,
    permit tcp any 10.9.0.0/16 80-443,
    permit any fd00::/8 fd09::2/128,
    permit icmp,
])
a[permit] -> out(to-b)
a[deny] -> drop
a[other] -> kernel
"""


def test_the_first_rule_that_fits_decides(start):
    program = start(TEXT)
    assert program.send(tcp()).went == "to-b"
    assert program.send(tcp(source="10.0.0.66")).went == "drop"
    assert program.send(ethernet(ip(echo(1), ICMP, source="10.0.0.66"))).went == "drop"
    assert (program.packets("a.permitted"), program.packets("a.denied")) == (1, 2)


def test_each_part_of_a_rule_counts(start):
    program = start(TEXT)
    assert program.send(tcp(to_port=443)).went == "to-b"
    assert program.send(tcp(to_port=444)).went == "drop"
    assert program.send(tcp(to_port=79)).went == "drop"
    assert program.send(tcp(destination="10.8.0.1")).went == "drop"
    assert program.send(udp()).went == "drop"
    assert program.send(ethernet(ip(echo(1), ICMP))).went == "to-b"


def test_ipv6(start):
    program = start(TEXT)
    assert program.send(ethernet(ip6(transport(TCP), TCP), IP6)).went == "to-b"
    assert program.send(ethernet(ip6(transport(TCP), TCP, source="2001:db8::1"), IP6)).went == "drop"


def test_options_do_not_hide_ports_and_fragments_have_none(start):
    program = start(TEXT)
    assert program.send(ethernet(ip(transport(TCP), TCP, options=b"\x01" * 40))).went == "to-b"
    assert program.send(ethernet(ip(transport(TCP), TCP, fragment=0x2000))).went == "to-b"
    assert program.send(ethernet(ip(transport(TCP), TCP, fragment=0x2001))).went == "drop"


def test_no_rules_deny_and_the_64th_rule_counts(start):
    program = start(TEXT.replace("deny any 10.0.0.66/32", "deny tcp any any 1"))
    assert program.send(udp()).went == "drop"
    for number in range(4, 64):
        program.write("a.rules", str(number), "permit" if number == 63 else "deny", "udp" if number == 63 else "ospf")
    assert program.send(udp()).went == "to-b"
    assert program.read("a.rules")[63] == ("63", "permit", "udp", "any", "any", "any")


def test_what_is_not_ip(start, hook):
    program = start(TEXT)
    assert program.send(ethernet(bytes(28), ARP)).went == "kernel"
    if hook == "xdp":  # the kernel has no test runs of such packets at tc
        assert program.send(ethernet(ip(transport(UDP), UDP))[:30]).went == "kernel"
