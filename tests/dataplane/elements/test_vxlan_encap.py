"""vxlan-encap: wrap whole Ethernet frames in VXLAN."""

import pytest
from frames import ARP, UDP, assert_right_checksums, destination_of, ethernet, ports_of, tcp

TEXT = "input -> vxlan-encap(local=192.0.2.1, remote=192.0.2.2, vni=0x123456) -> out(to-b)"


@pytest.mark.parametrize("frame", [tcp(), ethernet(bytes(28), ARP)])
def test_the_whole_frame_is_behind_new_headers(start, frame):
    sent = start(TEXT).send(frame)
    assert (sent.went, sent.packet[50:]) == ("to-b", frame)
    assert (sent.packet[12:14], sent.packet[23], destination_of(sent.packet)) == (b"\x08\0", UDP, "192.0.2.2")
    assert sent.packet[42:50] == bytes.fromhex("08000000 12345600")[:8]
    assert int.from_bytes(sent.packet[38:40], "big") == 8 + 8 + len(frame)
    assert_right_checksums(sent.packet)


def test_the_senders_port_tells_flows_apart(start):
    program = start(TEXT)
    ports = {ports_of(program.send(tcp(from_port=n)).packet) for n in range(1000, 1050)}
    assert len({port for port, _ in ports}) > 40
    assert all(port >= 0xC000 and to == 4789 for port, to in ports)


def test_a_way_chosen_before_is_the_inner_frames(start):
    text = """
    input -> r :: route4(routes={default = to-c}) -> vxlan-encap(192.0.2.1, 192.0.2.2, 5) -> out(to-b)
    r[none] -> drop
    """
    sent = start(text).send(tcp())
    assert (sent.went, sent.packet[50:62]) == ("to-b", bytes((2, 0, 0, 0, 1, 1)) + bytes((2, 0, 0, 0, 0, 1)))
    assert sent.packet[62:] == tcp()[12:]
