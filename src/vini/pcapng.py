"""pcap in, pcapng out: tcpdump writes only the older format, which has no place for an interface's name.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap (file header, records) and
draft-ietf-opsawg-pcapng (section header, interface description, enhanced packet blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

_MAGIC_US, _MAGIC_NS = 0xA1B2C3D4, 0xA1B23C4D
_HEADER = struct.Struct("=IHHiIII")  # magic, version, version, zone, accuracy, snap length, link type
_RECORD = struct.Struct("=IIII")  # s, fraction, captured length, length


def convert(pcap: IO[bytes], interface: str) -> Iterator[bytes]:
    """The blocks of a pcapng file, as the packets of a pcap stream come in.

    `pcap` is in this machine's byte order, as tcpdump writes it.  A stream that ends in the middle
    of a packet ends there.  ValueError where it is no pcap at all.
    """
    head = pcap.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return
    magic, _, _, _, _, snap, link_type = _HEADER.unpack(head)
    if magic not in (_MAGIC_US, _MAGIC_NS):
        raise ValueError("this is no pcap stream of this machine's byte order")
    resolution = 9 if magic == _MAGIC_NS else 6
    yield _block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = _option(2, interface.encode()) + _option(9, bytes([resolution])) + struct.pack("=HH", 0, 0)
    yield _block(1, struct.pack("=HHI", link_type & 0xFFFF, 0, snap) + options)
    while len(record := pcap.read(_RECORD.size)) == _RECORD.size:
        seconds, fraction, captured, length = _RECORD.unpack(record)
        packet = pcap.read(captured)
        if len(packet) < captured:
            return
        stamp = seconds * 10**resolution + fraction
        yield _block(6, struct.pack("=IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, captured, length) + _padded(packet))


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("=I", 12 + len(body))
    return struct.pack("=I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value + b"\0" * (-len(value) & 3)
