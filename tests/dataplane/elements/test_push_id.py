"""push-id: send IPv4 packets by the identifier of who they are for."""

from frames import ARP, ID, ethernet, protocol_of, tcp

TEXT = """
input -> i :: push-id(from=7, hops=9, ids={10.9.0.0/16 = 0x01020304}) -> out(to-b)
i[none] -> kernel
"""


def test_the_identifiers_are_between_ethernet_and_ip(start):
    program = start(TEXT)
    sent = program.send(tcp())
    assert (sent.went, protocol_of(sent.packet)) == ("to-b", ID)
    assert sent.packet[14:26] == bytes.fromhex("0800 09 00 01020304 00000007")
    assert sent.packet[26:] == tcp()[14:]
    assert program.packets("i.pushed") == 1


def test_others_are_unchanged(start):
    program = start(TEXT)
    for frame in (tcp(destination="11.0.0.1"), ethernet(bytes(28), ARP)):
        sent = program.send(frame)
        assert (sent.went, sent.packet) == ("kernel", frame)
