"""push-route: write a packet's whole way into it."""

from frames import ARP, ROUTE, ethernet, protocol_of, tcp

TEXT = """
input -> r :: push-route(routes={10.9.0.0/16 = to-b 1/2/255, 10.8.0.0/16 = to-c 1/2/3/4/5/6/7/8}) -> out
r[none] -> kernel
"""


def test_the_route_is_between_ethernet_and_ip(start):
    program = start(TEXT)
    sent = program.send(tcp())
    assert (sent.went, protocol_of(sent.packet)) == ("to-b", ROUTE)
    assert sent.packet[14:26] == bytes.fromhex("0800 00 03 0102ff0000000000")
    assert sent.packet[26:] == tcp()[14:]
    assert program.packets("r.sent") == 1


def test_eight_hops(start):
    sent = start(TEXT).send(tcp(destination="10.8.0.1"))
    assert (sent.went, sent.packet[16:26]) == ("to-c", bytes.fromhex("00 08 0102030405060708"))


def test_others_are_unchanged(start):
    program = start(TEXT)
    for frame in (tcp(destination="11.0.0.1"), ethernet(bytes(28), ARP)):
        sent = program.send(frame)
        assert (sent.went, sent.packet) == ("kernel", frame)
