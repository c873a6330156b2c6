"""nat: hide IPv4 senders behind one address."""

import pytest
from frames import (
    ARP,
    ICMP,
    TCP,
    UDP,
    assert_right_checksums,
    destination_of,
    echo,
    ethernet,
    ip,
    ports_of,
    source_of,
    tcp,
    transport,
    udp,
)  # fmt: skip

TEXT = """
input -> n :: nat(192.0.2.1, ports={ports})
n[out] -> out(to-b)
n[in] -> out(to-c)
n[other] -> kernel
"""
MADE = {TCP: tcp, UDP: udp}


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_there_and_back(start, protocol):
    program = start(TEXT.format(ports="5000-5999"))
    out = program.send(MADE[protocol]())
    assert (out.went, source_of(out.packet), destination_of(out.packet)) == ("to-b", "192.0.2.1", "10.9.0.2")
    port, to_port = ports_of(out.packet)
    assert (5000 <= port <= 5999, to_port) == (True, 80)
    assert_right_checksums(out.packet)
    back = program.send(MADE[protocol](source="10.9.0.2", destination="192.0.2.1", from_port=80, to_port=port))
    assert (back.went, destination_of(back.packet), ports_of(back.packet)) == ("to-c", "10.0.0.1", (80, 1234))
    assert_right_checksums(back.packet)
    assert (program.packets("n.outward"), program.packets("n.inward")) == (1, 1)


def test_a_flow_keeps_its_port_and_two_have_two(start):
    program = start(TEXT.format(ports="1024-65535"))
    ports = {
        source: {ports_of(program.send(tcp(source=source)).packet)[0] for _ in range(3)}
        for source in ("10.0.0.1", "10.0.0.7")
    }
    assert [len(found) for found in ports.values()] == [1, 1]
    assert ports["10.0.0.1"] != ports["10.0.0.7"]


def test_echo_by_its_identifier(start):
    program = start(TEXT.format(ports="5000-5999"))
    out = program.send(ethernet(ip(echo(77), ICMP)))
    identifier = int.from_bytes(out.packet[38:40], "big")
    assert (out.went, source_of(out.packet), 5000 <= identifier <= 5999) == ("to-b", "192.0.2.1", True)
    assert_right_checksums(out.packet)
    back = program.send(ethernet(ip(echo(identifier, reply=True), ICMP, source="10.9.0.2", destination="192.0.2.1")))
    assert (back.went, destination_of(back.packet), back.packet[38:40]) == ("to-c", "10.0.0.1", b"\0\x4d")
    assert_right_checksums(back.packet)


def test_udp_without_a_checksum_keeps_none(start):
    sent = start(TEXT.format(ports="5000-5999")).send(udp(checked=False))
    assert (sent.went, sent.packet[40:42]) == ("to-b", b"\0\0")


def test_the_checksum_is_right_for_every_port_and_address(start):
    program = start(TEXT.format(ports="1024-65535"))
    for number in range(300):
        frame = udp(source=f"10.0.{number % 7}.{number % 256}", from_port=number * 200)
        assert_right_checksums(program.send(frame).packet)


def test_ip_options_move_the_ports(start):
    frame = ethernet(ip(transport(TCP), TCP, options=b"\x01" * 40))
    sent = start(TEXT.format(ports="5000-5999")).send(frame)
    assert (sent.went, 5000 <= ports_of(sent.packet)[0] <= 5999) == ("to-b", True)
    assert_right_checksums(sent.packet)


def test_no_port_is_given_twice(start):
    program = start(TEXT.format(ports="5000-5003"))
    sent = [program.send(tcp(from_port=port)) for port in range(1000, 1006)]
    translated = [ports_of(s.packet)[0] for s in sent if s.went == "to-b"]
    assert sorted(translated) == [5000, 5001, 5002, 5003]
    assert [s.went for s in sent[4:]] == ["kernel", "kernel"]
    assert program.packets("n.full") == 2
    elsewhere = program.send(tcp(from_port=1000, destination="10.9.0.3"))  # another receiver: all ports again
    assert elsewhere.went == "to-b"


def test_a_flow_that_was_half_forgotten_keeps_its_port(start):
    program = start(TEXT.format(ports="1024-65535"))
    port = ports_of(program.send(tcp()).packet)[0]
    program.write(
        "n.flows", "tcp/10.0.0.1:1234/10.9.0.2:80", "192.0.2.1", str(port ^ 1)
    )  # to a port that is not its own
    assert ports_of(program.send(tcp()).packet)[0] == port


def test_flows_are_shown_by_name(start):
    program = start(TEXT.format(ports="5000"))
    program.send(tcp())
    assert sorted(program.read("n.flows")) == [
        ("tcp/10.0.0.1:1234/10.9.0.2:80", "192.0.2.1", "5000"),
        ("tcp/10.9.0.2:80/192.0.2.1:5000", "10.0.0.1", "1234"),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        tcp(source="10.9.0.2", destination="192.0.2.1"),  # of no flow
        ethernet(ip(transport(UDP), UDP, fragment=0x2000)),
        ethernet(ip(transport(UDP), UDP, fragment=3)),
        ethernet(ip(bytes(40), 89)),
        ethernet(ip(b"\x03\x03" + bytes(30), ICMP)),  # destination unreachable
        ethernet(ip(echo(5, reply=True), ICMP)),
        ethernet(bytes(28), ARP),
        tcp()[:36],
    ],
)
def test_what_it_can_not_translate_is_unchanged(start, frame):
    sent = start(TEXT.format(ports="5000-5999")).send(frame)
    assert (sent.went, sent.packet) == ("kernel", frame)
