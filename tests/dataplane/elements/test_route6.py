"""route6: choose the way out by an IPv6 longest-prefix-match table of its own."""

from frames import IP6, ethernet, ip6, tcp

TEXT = """
input -> r :: route6(routes={fd00::/8 = to-b, fd09::/16 = to-c, ::1/128=to-c}) -> out
r[none] -> kernel
"""


def test_the_longest_prefix_wins(start):
    program = start(TEXT)
    assert program.send(ethernet(ip6(bytes(20), 59, destination="fd01::2"), IP6)).went == "to-b"
    assert program.send(ethernet(ip6(bytes(20), 59), IP6)).went == "to-c"
    assert program.send(ethernet(ip6(bytes(20), 59, destination="2001:db8::1"), IP6)).went == "kernel"
    assert program.send(tcp()).went == "kernel"
    assert (program.packets("r.hits"), program.packets("r.misses")) == (2, 2)


def test_routes_are_read_and_written_while_it_runs(start):
    program = start(TEXT)
    program.write("r.routes", "default", "to-b")
    assert program.send(ethernet(ip6(bytes(20), 59, destination="2001:db8::1"), IP6)).went == "to-b"
    assert ("fd09::/16", "to-c") in program.read("r.routes")
