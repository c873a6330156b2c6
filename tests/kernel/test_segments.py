"""What becomes of TCP's announcements of its largest segment (MSS) at a tunnel's way out: frames in, frames out."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from own_place import run

from vini.node import netns
from vini.node.drivers import clamp
from vini.node.netlink import Socket

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SYN, ACK = 2, 16
MTU = 1450
MACS = bytes.fromhex("020000000001020000000002")
NOP, SACK, END = b"\1", b"\4\2", b"\0"


def mss(size: int) -> bytes:
    """The option that announces it."""
    return b"\2\4" + size.to_bytes(2, "big")


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data + bytes(len(data) & 1)) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(options: bytes, version: int = 4, flags: int = SYN, payload: bytes = b"", offset: int = 0) -> bytes:
    """An Ethernet frame with a TCP segment."""
    options += END * (-len(options) % 4)
    a, b = (ip_address(f"10.0.0.{i}" if version == 4 else f"fd00::{i}").packed for i in (1, 2))
    head = struct.pack("!HHIIBBHHH", 1000, 80, 7, 0, (20 + len(options)) << 2, flags, 1024, 0, 0)
    tcp = head + options + payload
    pseudo = (
        a + b + struct.pack("!IHH" if version == 6 else "!HH", *((len(tcp), 0, 6) if version == 6 else (6, len(tcp))))
    )
    tcp = tcp[:16] + checksum(pseudo + tcp).to_bytes(2, "big") + tcp[18:]
    if version == 6:
        return MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + a + b + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, offset, 64, 6, 0) + a + b
    return MACS + b"\x08\0" + ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + tcp


class Line(NamedTuple):
    """Two vifs of one namespace."""

    sender: socket.socket
    receiver: socket.socket

    def passes(self, sent: bytes) -> bytes:
        """What comes out at the other end."""
        self.sender.send(sent)
        while (got := self.receiver.recv(2000))[12:14] != sent[12:14] or got[:12] != MACS:
            pass  # what the kernel sends by itself
        return got


@pytest.fixture
def line() -> Iterator[Line]:
    name = f"segments{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "add", "x", "type", "veth", "peer", "name", "y")
        for dev in "xy":
            run("ip", "-n", name, "link", "set", dev, "up")
        with netns.inside(Path("/run/netns") / name), Socket() as s:
            index = socket.if_nametoindex("x")
            clamps = clamp.Clamp()
            clamps.ensure(s, {index: MTU})
            assert clamp.is_right(s, index, MTU) and not clamp.is_right(s, index, 1400)
            ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in "xy"]
            for end, dev in zip(ends, "xy", strict=True):
                end.bind((dev, 3))
                end.settimeout(10)
            yield Line(*ends)
            for end in ends:
                end.close()
            clamps.ensure(s, {index: 9000})
            assert clamp.is_right(s, index, 9000)
    finally:
        run("ip", "netns", "delete", name)


LOWERED = [
    (mss(1460), mss(1410)),
    (mss(65535), mss(1410)),
    (
        NOP + mss(1460) + NOP,
        NOP + mss(1410) + NOP,
    ),  # at an odd place, where a checksum counts it with its bytes swapped
    (SACK + mss(1460), SACK + mss(1410)),
    (NOP * 7 + mss(9000), NOP * 7 + mss(1410)),
]
AS_THEY_ARE = [
    mss(1410),
    mss(536),
    b"",
    SACK,
    NOP * 12,
    END + mss(9000),
    b"\3\0" + mss(9000),
    b"\3\1" + mss(9000),
    b"\2\3\5",
]


@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
@pytest.mark.parametrize("version", [4, 6])
def test_what_is_too_much_is_lowered_and_the_checksum_is_right(line: Line, version: int, flags: int) -> None:
    less = 0 if version == 4 else 20
    for before, after in LOWERED:
        after = after.replace(mss(1410), mss(1410 - less))
        assert line.passes(frame(before, version, flags, b"data")) == frame(after, version, flags, b"data")


@pytest.mark.parametrize("version", [4, 6])
def test_all_else_passes_as_it_is(line: Line, version: int) -> None:
    for options in AS_THEY_ARE if version == 4 else AS_THEY_ARE[1:]:
        assert line.passes(frame(options, version)) == frame(options, version)
    data = frame(mss(9000), version, ACK)
    assert line.passes(data) == data
    if version == 4:  # not the first fragment: no header is there, only what looks like one
        assert line.passes(frame(mss(9000), offset=100)) == frame(mss(9000), offset=100)
