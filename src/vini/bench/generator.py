"""A packet generator and a sink at the ends of a path, both in the kernel, so that the path is what is measured.

The idea is that of xdp-trafficgen (xdp-tools): frames that BPF_PROG_TEST_RUN makes are redirected to a vif.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from vini.model import Value, ViniError
from vini.node import ethtool, libbpf, netns, xdp
from vini.node.compile import compile_program
from vini.node.libbpf import XDP, BpfObject
from vini.node.netlink import Socket

FRAME = 60  # bytes; 64 with the frame check sequence
_FIRST = 1 << 16  # frames for the first call into the kernel
_BATCH = 256  # at once, and used again: the most that the kernel takes, since what another processor frees comes late
_HERE = Path(__file__).parent


class Flow(Value, frozen=True):
    """UDP packets over IPv4 from a vif to the next hop behind it."""

    source_mac: str
    next_mac: str
    source: str
    destination: str


class Rate(Value, frozen=True):
    """10**3 packets per second that left, and that arrived."""

    sent_kpps: float
    arrived_kpps: float


class Ends:
    """The loaded generator and the sink; `outer` are headers of a tunnel around each frame."""

    def __init__(self, ifindex: int, flow: Flow, outer: bytes = b""):
        self._frame = outer + frame(flow)
        source = (_HERE / "generator.c").read_text()
        self._object = BpfObject(compile_program(source, "generator.c", "xdp", _HERE))
        constants = next(m for m in self._object.maps() if m.name.endswith(".rodata"))
        words = len(self._frame) // 8
        initial = struct.pack("=II", ifindex, words) + self._frame[: 8 * words]
        self._object.set_initial(constants.name, initial.ljust(constants.value_size, b"\0"))
        self._object.choose({"generate": XDP, "count_and_drop": XDP, "take_in": XDP})
        self._object.load()
        self._arrived = self._object.map_fd("arrived")
        self._head = libbpf.map_record(self._arrived)

    def put_sink(self, namespace: Path, dev: str) -> None:
        """What arrives at that vif is counted, and ends there."""
        put_program(namespace, dev, self._object.program_fd("count_and_drop"))

    def take_in(self, namespace: Path, dev: str) -> None:
        """That vif hands what is sent to it to the kernel."""
        put_program(namespace, dev, self._object.program_fd("take_in"))

    def run(self, namespace: Path, seconds: float) -> Rate:
        """Send as fast as it goes from the first vif, which is in that namespace, for at least that long."""
        with netns.inside(namespace):
            return rate(self._send, self._count, time.perf_counter, seconds)

    def _send(self, frames: int) -> None:
        libbpf.send_live(self._object.program_fd("generate"), self._frame, frames, _BATCH)

    def _count(self) -> int:
        values = libbpf.lookup(self._arrived, self._head, bytes(4)) or []
        total = 0
        for value in values:
            total += int.from_bytes(value, "little")
        return total

    def close(self) -> None:
        """Unload both."""
        self._object.__exit__(None, None, None)


def rate(send: Callable[[int], None], count: Callable[[], int], clock: Callable[[], float], seconds: float) -> Rate:
    """Of one call of `send`, which takes at least that long, after shorter ones that tell how many frames it needs.

    Each call spends some 20 ms on its memory, when nothing is sent.  In many calls of the same number of frames that
    would be the larger a part, the faster a path drops what it can't take.
    """
    frames = _FIRST
    while True:
        before, started = count(), clock()
        send(frames)
        if (took := clock() - started) >= seconds:
            return Rate(frames / took / 1000, (count() - before) / took / 1000)
        frames = int(frames * max(2.0, 1.1 * seconds / took))


def frame(flow: Flow) -> bytes:
    """An Ethernet frame of the least size."""
    udp = struct.pack(">HHHH", 1024, 9, FRAME - 34, 0)
    return (ethernet(flow) + ipv4(flow.source, flow.destination, FRAME - 34) + udp).ljust(FRAME, b"\0")


def ethernet(flow: Flow) -> bytes:
    """The header of an Ethernet frame that holds IPv4."""
    return bytes.fromhex((flow.next_mac + flow.source_mac).replace(":", "")) + b"\x08\x00"


def ipv4(source: str, destination: str, size: int) -> bytes:
    """The header of an IPv4 packet of UDP that is not to be fragmented, with so many bytes behind it (RFC 791)."""
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, 17, 0) + addresses
    return ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def take_off(namespace: Path, dev: str) -> None:
    """No program of ours at that vif any more."""
    put_program(namespace, dev, -1)
    with netns.inside(namespace), socket.socket() as any_socket:
        # Without its program a veth says that nobody may redirect to it, also where GRO would take the frames in.
        if ethtool.has_gro(any_socket.fileno(), dev):
            ethtool.set_gro(any_socket.fileno(), dev, False)
            ethtool.set_gro(any_socket.fileno(), dev, True)


def put_program(namespace: Path, dev: str, program: int) -> None:
    """That one runs at XDP on what arrives there, in place of what was there; -1: none."""
    with netns.inside(namespace), Socket() as rtnetlink:
        request = xdp.set_program(socket.if_nametoindex(dev), program)
        (errno,) = rtnetlink.transact([request])
        if errno:
            raise ViniError(f"The kernel refused the measuring program at {dev}: {os.strerror(errno)}.")
