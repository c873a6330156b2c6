"""pcap to pcapng, checked against a reader of our own that follows the drafts."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.pcapng import convert

PACKETS = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 999_999), st.binary(max_size=70)), max_size=8)


def pcap(packets, magic=0xA1B2C3D4):
    out = struct.pack("=IHHiIII", magic, 2, 4, 0, 0, 262144, 1)
    for seconds, fraction, packet in packets:
        out += struct.pack("=IIII", seconds, fraction, len(packet), len(packet) + 5) + packet
    return out


def blocks(pcapng):
    at = 0
    while at < len(pcapng):
        kind, size = struct.unpack_from("=II", pcapng, at)
        assert size % 4 == 0
        assert struct.unpack_from("=I", pcapng, at + size - 4)[0] == size
        yield kind, pcapng[at + 8 : at + size - 4]
        at += size


def packets_of(pcapng):
    for kind, body in blocks(pcapng):
        if kind == 6:
            _, high, low, captured, length = struct.unpack_from("=IIIII", body)
            assert length == captured + 5
            yield divmod((high << 32) + low, 10**6), body[20 : 20 + captured]


@given(PACKETS)
def test_every_packet_keeps_its_time_lengths_and_bytes(packets):
    out = b"".join(convert(io.BytesIO(pcap(packets)), "to-denver"))
    assert list(packets_of(out)) == [((s, f), p) for s, f, p in packets]


def test_it_begins_with_a_section_header_and_names_the_interface():
    (first, head), (second, interface) = list(blocks(b"".join(convert(io.BytesIO(pcap([])), "to-denver"))))
    assert (first, second) == (0x0A0D0D0A, 1)
    assert struct.unpack_from("=I", head)[0] == 0x1A2B3C4D
    assert b"to-denver" in interface


@given(PACKETS, st.integers(0, 600))
def test_a_stream_that_is_cut_gives_whole_packets_only(packets, cut):
    out = b"".join(convert(io.BytesIO(pcap(packets)[:cut]), "x"))
    whole = [((s, f), p) for s, f, p in packets]
    assert list(packets_of(out)) == whole[: len(list(packets_of(out)))]


def test_what_is_no_pcap_is_refused():
    with pytest.raises(ValueError, match="no pcap"):
        list(convert(io.BytesIO(b"x" * 100), "x"))
