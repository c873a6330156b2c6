"""Packets of `vini.packets`: what is read in them and what changes with them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.packets import Packet
from vini.packets.packet import OFFLOAD

MACS = bytes.fromhex("020000000001 020000000002")


def checksum(header: bytes) -> int:
    """RFC 1071, of a header whose own checksum is in it: 0xffff where that is right."""
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4(ttl: int, identification: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, identification, 0, ttl, 17, 0, b"\x0a\0\0\1", b"\x0a\1\2\3")
    return head[:10] + struct.pack(">H", 0xFFFF - checksum(head)) + head[12:] + bytes(8)


IPV6 = struct.pack(">IHBB16s16s", 6 << 28, 8, 17, 64, b"\xfd" + bytes(15), b"\xfd" + bytes(14) + b"\1") + bytes(8)


def test_the_fields_of_a_frame() -> None:
    four, six = Packet.of(MACS + b"\x08\0" + ipv4(64), "to-a"), Packet.of(MACS + b"\x86\xdd" + IPV6)
    assert (four.vif, four.destination_mac, four.source_mac) == ("to-a", MACS[:6], MACS[6:])
    assert (four.ethertype, four.destination) == (0x0800, b"\x0a\1\2\3")
    assert (six.ethertype, six.destination) == (0x86DD, b"\xfd" + bytes(14) + b"\1")


@pytest.mark.parametrize("frame", [MACS + b"\x08\x06" + bytes(28), MACS + b"\x08\0" + bytes(19), MACS + b"\x86\xdd"])
def test_what_is_not_ip_or_cut_short_has_no_destination(frame: bytes) -> None:
    assert Packet.of(frame).destination == b""


@given(st.integers(2, 255), st.integers(0, 0xFFFF))
def test_one_hop_less_keeps_the_ipv4_header_right(ttl: int, identification: int) -> None:
    packet = Packet.of(MACS + b"\x08\0" + ipv4(ttl, identification))
    assert checksum(packet.data[14:34]) == 0xFFFF
    assert packet.decrement_ttl()
    assert packet.data[22] == ttl - 1
    assert checksum(packet.data[14:34]) == 0xFFFF


def test_the_last_hop_is_the_last() -> None:
    six = bytearray(MACS + b"\x86\xdd" + IPV6)
    six[21] = 1
    for frame in (MACS + b"\x08\0" + ipv4(1), bytes(six)):
        packet = Packet.of(frame)
        assert not packet.decrement_ttl()
        assert packet.data == frame


def test_an_unfinished_checksum_and_the_headers_length_move_with_a_new_header() -> None:
    frame, offload = MACS + b"\x08\0" + bytes(80), OFFLOAD.pack(1, 1, 54, 1448, 34, 16)
    packet = Packet.of(bytes(8) + frame, offload=offload)
    packet.remove(0, 8)
    assert packet.data == frame
    assert OFFLOAD.unpack(packet.copy()._memory[:10]) == (1, 1, 46, 1448, 26, 16)
    packet.insert(14, b"new head")
    assert packet.data == frame[:14] + b"new head" + frame[14:]
    assert OFFLOAD.unpack(packet.copy()._memory[:10]) == (1, 1, 54, 1448, 34, 16)
    assert packet.checksum_unfinished and packet.large
    with pytest.raises(ValueError, match="can't be changed by 1 bytes"):
        packet.insert(14, b"!")
    with pytest.raises(ValueError, match="can't be changed by -100 bytes"):
        packet.remove(14, 100)


def test_a_copy_stays_as_it_is() -> None:
    packet = Packet.of(MACS + b"\x08\0" + ipv4(64))
    copy = packet.copy()
    packet.decrement_ttl()
    assert (copy.data[22], packet.data[22]) == (64, 63)
