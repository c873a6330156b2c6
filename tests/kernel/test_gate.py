"""Gates: no way round a Shape leads to the other end of the link.

Each way is first shown to be one, where there is no Gate.  On a kernel without netem that half is skipped here, and
run in user-mode Linux (kernel_machine.py).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_place import run

from vini.bench.pair import Pairs, pairs
from vini.model import Gate
from vini.node import bpf, netns, tc, xdp
from vini.node.netlink import Socket
from vini.node.place import Place
from vini.node.probe import capabilities

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PATIENCE_S = 20.0
OUT, IN = 70_000, 80_000  # interface indexes of the pair's ends
PORT = 9
Send = Callable[[bytes], None]


class Link:
    """From a0 to b0, and how it is shaped."""

    def __init__(self, made: Pairs, backend: str):
        self.made = made
        self.shape = made.shape(0, "a", backend, delay_us=1000)  # type: ignore[arg-type]
        self.gate = made.gate(self.shape)

    def inside(self, end: str) -> Path:
        return self.made.where(f"{end}0")

    def observed(self) -> frozenset[object]:
        return self.made.driver.observe(["s.a0", "s.b0"])

    def shell(self, end: str, command: str) -> str:
        with netns.inside(self.inside(end)):
            return run("sh", "-c", command)


@pytest.fixture(params=["element", pytest.param("netem", marks=pytest.mark.needs_kernel("netem"))])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    if request.param not in capabilities():
        pytest.skip(f"needs {request.param}, which this kernel or machine lacks")
    with ExitStack() as held:
        directory = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gt-", dir="/run")))
        made = held.enter_context(pairs(Place(f"gt-{os.getpid()}", directory, directory), 1))
        yield Link(made, request.param)


def frame(number: int) -> bytes:
    """A datagram to PORT of b0, as it is on the link."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 64, 17, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
    total = sum(struct.unpack("!10H", ip))
    ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    udp = struct.pack("!HHHH", 1000, PORT, 12, 0)
    return bytes.fromhex("0200000000020200000000010800") + ip + udp + number.to_bytes(4, "big")


# --- ways round a Shape ---------------------------------------------------------------------------------


@contextmanager
def as_everybody(link: Link) -> Iterator[Send]:
    """No way round: a packet socket."""
    with netns.inside(link.inside("a")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind(("to-b", 0))
        yield lambda data: _all_sent(out.send(data), data)


@contextmanager
def bypass(link: Link) -> Iterator[Send]:
    """A packet socket that passes all queues and filters by (packet(7))."""
    with netns.inside(link.inside("a")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
        out.bind(("to-b", 0))
        yield lambda data: _all_sent(out.send(data), data)


def _all_sent(count: int, data: bytes) -> None:
    assert count == len(data)


SOL_XDP, MMAP_OFFSETS, TX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 283, 1, 3, 4, 5, 6
XDP_COPY, PGOFF_TX_RING, ROOM = 1 << 1, 0x80000000, 16 * 4096


@contextmanager
def af_xdp(link: Link) -> Iterator[Send]:
    """An AF_XDP socket in copy mode (Documentation/networking/af_xdp.rst)."""
    with ExitStack() as held, netns.inside(link.inside("a")):
        try:
            out = held.enter_context(socket.socket(44, socket.SOCK_RAW))
        except OSError as e:
            assert e.errno == errno.EAFNOSUPPORT
            pytest.skip("this kernel has no AF_XDP")
        packets = mmap.mmap(-1, ROOM)
        address = ctypes.addressof(ctypes.c_char.from_buffer(packets))
        out.setsockopt(SOL_XDP, UMEM_REG, struct.pack("=QQIII4x", address, ROOM, 4096, 0, 0))
        for ring in (FILL_RING, COMPLETION_RING, TX_RING):
            out.setsockopt(SOL_XDP, ring, 8)
        producer, _, descriptors = struct.unpack_from("=32x3Q", out.getsockopt(SOL_XDP, MMAP_OFFSETS, 128))
        ring = held.enter_context(mmap.mmap(out.fileno(), descriptors + 8 * 16, offset=PGOFF_TX_RING))
        _bind(out, struct.pack("=HHIII", 44, XDP_COPY, OUT, 0, 0))
        sent = 0

        def send(data: bytes) -> None:
            nonlocal sent
            packets[: len(data)] = data
            struct.pack_into("=QII", ring, descriptors + sent * 16, 0, len(data), 0)
            sent += 1
            struct.pack_into("=I", ring, producer, sent)
            out.send(b"", socket.MSG_DONTWAIT)

        yield send


def _bind(out: socket.socket, address: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.bind(out.fileno(), address, len(address)) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def redirect(link: Link) -> Iterator[Send]:
    """An XDP program that redirects what comes in by another vif: out it goes as a frame, not as a socket buffer."""
    link.shell("b", "ethtool -K to-a gro on")  # else it can't take such frames in
    link.shell("a", "ip link add out type veth peer name in; ip link set out up; ip link set in up")
    with netns.inside(link.inside("a")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out, Socket() as netlink:
        program = _xdp_program()
        assert netlink.transact([xdp.set_program(socket.if_nametoindex("in"), program)]) == [0]
        os.close(program)
        out.bind(("out", 0))
        yield lambda data: _all_sent(out.send(data), data)


def _xdp_program() -> int:
    """Redirects all to to-b."""
    steps = [(0xB7, 1, OUT), (0xB7, 2, 0), (0x85, 0, 23), (0x95, 0, 0)]  # return bpf_redirect(OUT, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpf, "_SCHED_CLS", 6)  # BPF_PROG_TYPE_XDP
        return bpf.load_instructions("past", b"".join(struct.pack("=BBhi", c, r, 0, n) for c, r, n in steps))


class Arrivals:
    """Numbers of datagrams at b0."""

    def __init__(self, link: Link):
        with netns.inside(link.inside("b")):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind(("", PORT))

    def until(self, last: int) -> list[int]:
        """All up to that one."""
        out = []
        while last not in out:
            out.append(int.from_bytes(self._socket.recv(2048), "big"))
        return out

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("way", [bypass, af_xdp, redirect])
def test_no_way_leads_round_a_shape(link: Link, way: Callable[[Link], object]) -> None:
    arrivals = Arrivals(link)
    try:
        with as_everybody(link) as send, way(link) as past:  # type: ignore[attr-defined]
            assert link.made.driver.ensure([link.shape]) == {}
            past(frame(1))
            assert arrivals.until(1) == [1], "this is no way round a Shape, and shows nothing"
            assert link.made.driver.ensure([link.gate]) == {}
            past(frame(2))
            send(frame(3))
            assert arrivals.until(3) == [3]
            assert link.made.driver.remove([link.gate]) == {}
            past(frame(4))
            assert arrivals.until(4) == [4]
    finally:
        arrivals.close()


def test_a_program_that_ends_all_filters_does_not_lead_round_a_shape(link: Link) -> None:
    """TC_ACT_OK from a program at the way out: neither the element nor netem's mark comes after it."""
    arrivals = Arrivals(link)
    says_ok = bpf.load_instructions("ok", struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0))

    def at_the_way_out(request: bytes) -> None:
        with netns.inside(link.inside("a")), Socket() as netlink:
            assert netlink.transact([request]) == [0]

    try:
        with as_everybody(link) as send:
            assert link.made.driver.ensure([link.shape]) == {}
            at_the_way_out(tc.set_filter(OUT, says_ok, "ok", priority=tc.PROGRAM_PRIORITY))
            if link.shape.backend == "element":  # netem itself is no filter: it holds, and only its mark is missing
                send(frame(1))
                assert arrivals.until(1) == [1], "this is no way round a Shape, and shows nothing"
            assert link.made.driver.ensure([link.gate]) == {}
            send(frame(2))
            at_the_way_out(tc.delete_filter(OUT, priority=tc.PROGRAM_PRIORITY))
            send(frame(3))
            assert arrivals.until(3) == [3]
    finally:
        arrivals.close()
        os.close(says_ok)


# --- as an object ----------------------------------------------------------------------------------------


def test_a_gate_is_made_seen_changed_and_removed(link: Link) -> None:
    before = link.shell("b", "tc qdisc show dev to-a")
    link.made.ensure(link.shape)
    assert link.observed() == {link.shape, link.gate}
    link.made.ensure(link.shape)
    assert link.observed() == {link.shape, link.gate}
    other = Gate(link.gate.ns, link.gate.dev, "s.elsewhere", "to-b")
    assert link.made.driver.ensure([other]) == {}
    assert link.observed() == {link.shape, other}
    link.made.bare(link.shape)
    assert link.observed() == frozenset()
    assert link.shell("b", "tc qdisc show dev to-a") == before
    assert link.made.driver.remove([link.gate, Gate("s.gone", "to-a", "s.a0", "to-b")]) == {}


def test_failures_are_sentences(link: Link) -> None:
    vif, ns = Gate("s.b0", "to-x", "s.x", "to-b"), Gate("s.gone", "to-a", "s.a0", "to-b")
    assert link.made.driver.ensure([vif, ns]) == {
        vif.key: "Sliver s.b0 has no vif to-x.",
        ns.key: "Sliver s.gone has no network namespace.",
    }


@pytest.mark.parametrize("damage", ["tc qdisc del dev to-a clsact", "tc filter del dev to-a ingress prio 5"])
def test_a_gate_that_somebody_opened_is_seen_and_closed(link: Link, damage: str) -> None:
    link.made.ensure(link.shape)
    link.shell("b", damage)
    assert link.observed() == {link.shape}
    link.made.ensure(link.shape)
    assert link.observed() == {link.shape, link.gate}


def test_a_shape_that_releases_nothing_is_seen_and_healed(link: Link) -> None:
    link.made.ensure(link.shape)
    priority = {"element": 6, "netem": 16}[link.shape.backend]
    link.shell("a", f"tc filter del dev to-b egress prio {priority}")
    assert link.shape not in link.observed()
    link.made.ensure(link.shape)
    assert link.observed() == {link.shape, link.gate}


# --- what must pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", ["whole", "cut after the Shape"])
def test_large_segments_pass_as_they_are_and_cut(link: Link, large: str) -> None:
    """The kernel cuts them behind the Shape where the vif can't send them; each frame of them is released, too."""
    link.made.ensure(link.shape, link.made.shape(0, "b", link.shape.backend, delay_us=1000))
    if large != "whole":
        link.shell("a", "ethtool -K to-b tso off gso off tx off")
    with netns.inside(link.inside("b")):
        server = socket.create_server(("10.0.0.2", 5000))
    with netns.inside(link.inside("a")):
        client = socket.socket()
    client.settimeout(PATIENCE_S)
    server.settimeout(PATIENCE_S)
    with server, client:
        client.connect(("10.0.0.2", 5000))
        taken, _ = server.accept()
        with taken:
            data = bytes(1 << 20)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            left = len(data)
            while left:
                got = len(taken.recv(1 << 20))
                assert got
                left -= got
            sender.join()
    assert "dropped 0," in link.shell("b", "tc -s qdisc show dev to-a clsact")
