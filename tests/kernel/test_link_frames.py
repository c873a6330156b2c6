"""Frames that are not plain ones of 1500 bytes, and changes in the middle of traffic: what comes out went in."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
import test_shape
from msgspec.structs import replace
from own_place import eventually
from test_shape import Bench, Flow, only_element

from vini.dataplane.element import Element
from vini.model import Impairment
from vini.node import netns

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
MIB = 1 << 20
ENDS = (("a", "to-b"), ("b", "to-a"))
bench, flow = test_shape.bench, test_shape.flow  # fixtures


def widen(bench: Bench, mtu: int) -> None:
    for sliver, vif in ENDS:
        bench.run(sliver, f"ip link set {vif} mtu {mtu}")


def stream_is_whole(
    bench: Bench, to: str = "10.0.1.2", size: int = 8 * MIB, meanwhile: Callable[[], None] | None = None
) -> bool:
    """A TCP connection from a to b: whether every byte came as it was sent."""
    sent, got = os.urandom(MIB), hashlib.sha256()
    with netns.inside(bench.path("b")):
        server = socket.create_server((to, 5000))
    with netns.inside(bench.path("a")):
        client = socket.socket()
    client.settimeout(60)
    server.settimeout(60)
    client.connect((to, 5000))
    there, _ = server.accept()
    there.settimeout(60)

    def receive() -> None:
        while piece := there.recv(MIB):
            got.update(piece)

    receiver = threading.Thread(target=receive)
    receiver.start()
    for _ in range(size // MIB):
        client.sendall(sent)
        if meanwhile:
            meanwhile()
    client.close()
    receiver.join(timeout=120)
    there.close()
    server.close()
    return got.digest() == hashlib.sha256(sent * (size // MIB)).digest()


SHAPES = [
    Impairment(delay_ms=2),  # large segments stay whole
    Impairment(delay_ms=2, rate_mbit=200, loss=0.001),  # they are split
    Impairment(delay_ms=2, duplicate=0.05, corrupt=0.001),
]


@pytest.mark.parametrize("wish", SHAPES, ids=["whole", "split", "damaged"])
@pytest.mark.parametrize("mtu", [1280, 9000])
def test_a_stream_is_whole_whatever_the_mtu(bench: Bench, mtu: int, wish: Impairment) -> None:
    widen(bench, mtu)
    bench.ensure(bench.asked("a", "b", wish))
    assert stream_is_whole(bench)


def test_a_mtu_that_is_raised_on_a_shaped_vif_counts_from_then_on(bench: Bench) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1)))
    widen(bench, 9000)
    assert "1 received" in bench.run("a", "ping -c1 -W5 -M do -s 8972 10.0.1.2")
    assert stream_is_whole(bench)


def test_datagrams_of_every_size_around_the_cells_borders_come_as_they_were(bench: Bench) -> None:
    """A cell has 2048 bytes, of which 10 are the vnet header, 42 are headers of Ethernet, IP and UDP."""
    widen(bench, 9000)
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1, corrupt=0.0, loss=0.000001)))
    sizes = [1, 17, 18, 1472, 1473, *(n * 2048 - 52 + d for n in (1, 2, 3, 4) for d in (-1, 0, 1)), 8972]
    with netns.inside(bench.path("b")):
        into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        into.bind(("10.0.1.2", 7))
        into.settimeout(20)
    with netns.inside(bench.path("a")):
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in sizes:
        sent = os.urandom(size)
        out.sendto(sent, ("10.0.1.2", 7))
        assert into.recv(10_000) == sent
    into.close()
    out.close()


TAGS = {"802.1Q": "81000005", "802.1ad and 802.1Q": "88a8000581000006"}
PAYLOAD = 20_000


def vnet_socket(bench: Bench, sliver: str, vif: str) -> socket.socket:
    """A packet socket whose frames have a struct virtio_net_hdr before them, as a TAP's (packet(7))."""
    with netns.inside(bench.path(sliver)):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        s.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
        s.setsockopt(263, 8, 1)  # PACKET_AUXDATA
        s.bind((vif, 3))
    s.settimeout(20)
    return s


def segment(tags: bytes, payload: bytes) -> bytes:
    """One large TCP segment over IPv4 behind these tags, its checksum and its splitting left to the kernel."""
    addresses = bytes((10, 0, 1, 1, 10, 0, 1, 2))
    total = 20 + 20 + len(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack("!H", 0xFFFF - ones_sum(ip)) + ip[12:]
    pseudo = ones_sum(addresses + struct.pack("!HH", 6, 20 + len(payload)))
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 0, 0, 0x50, 0x10, 1000, pseudo, 0)
    start = 14 + len(tags) + 20
    vnet = struct.pack("<BBHHHH", 1, 1, start + 20, 1448, start, 16)  # NEEDS_CSUM, GSO_TCPV4
    return vnet + bytes.fromhex("020000000102020000000101") + tags + b"\x08\x00" + ip + tcp + payload


def ones_sum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("wish", SHAPES[:2], ids=["whole", "split"])
@pytest.mark.parametrize("tags", TAGS)
def test_large_tagged_segments_come_with_their_tags_and_every_byte(bench: Bench, tags: str, wish: Impairment) -> None:
    """Whole where the link has no rate; else as frames, each with its own headers and checksum."""
    bench.ensure(bench.asked("a", "b", wish if not wish.loss else replace(wish, loss=0.000001)))
    inline, payload = bytes.fromhex(TAGS[tags]), os.urandom(PAYLOAD)
    out, into = vnet_socket(bench, "a", "to-b"), vnet_socket(bench, "b", "to-a")
    out.send(segment(inline, payload))
    got = b""
    while len(got) < PAYLOAD:
        told, notes, _, _ = into.recvmsg(70_000, 64)
        tci = struct.unpack_from("=IIIHHHH", notes[0][2])[5]  # of struct tpacket_auxdata: the outer tag
        vnet, frame = told[:10], told[10:]
        if tci != 5:
            continue  # the kernel's own
        rest = frame[12 : 12 + len(inline) - 4]  # the inner tag stays where it is
        assert rest == inline[4:]
        ip = frame[14 + len(rest) :]
        assert ones_sum(ip[:20]) == 0xFFFF
        got += ip[40 : struct.unpack_from("!H", ip, 2)[0]]
        assert vnet[0] & 3 or ones_sum(ip[12:20] + struct.pack("!HH", 6, len(ip) - 20) + ip[20:]) == 0xFFFF
    assert got == payload
    out.close()
    into.close()


CHANGES = [
    Impairment(delay_ms=30),
    Impairment(delay_ms=1),
    Impairment(delay_ms=5, rate_mbit=40),
    Impairment(delay_ms=5, rate_mbit=4),
    Impairment(delay_ms=5, jitter_ms=2),
    Impairment(delay_ms=5, rate_mbit=20, queue_packets=0, queue_bytes=8 * MIB),
]
TRACES = [
    Impairment(trace="0\n1\n3\n9\n"),
    Impairment(delay_ms=3, trace="time_ms,rate_mbit,delay_ms\n0,30,10\n40,outage,\n60,8,1\n100,repeat\n"),
    Impairment(rate_mbit=30, trace="time_ms,delay_ms\n0,20\n30,0\n60,repeat\n"),
]


def test_nothing_is_lost_or_put_out_of_order_by_sixty_changes(bench: Bench, flow: Flow) -> None:
    """Of rate, delay and trace, in the middle of a flow with packets in flight and waiting."""
    wishes = CHANGES + (TRACES if bench.backend == "element" else [])
    wishes = [w if w.queue_bytes else replace(w, queue_packets=5000) for w in wishes]
    bench.ensure(bench.asked("a", "b", wishes[0]))
    chance, sent = random.Random(1), 0
    for _ in range(60):
        flow.send(range(sent, sent + 40))
        sent += 40
        bench.ensure(bench.asked("a", "b", chance.choice(wishes)))
        time.sleep(0.005)
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1)))
    assert flow.numbers(sent) == list(range(sent))


def test_a_stream_is_whole_through_changes_of_everything(bench: Bench) -> None:
    only_element(bench)
    widen(bench, 9000)
    wishes = [
        *CHANGES[:3],
        *TRACES[1:],
        Impairment(delay_ms=2, loss=0.01),
        Impairment(delay_ms=1, aqm="codel", rate_mbit=50),
    ]
    chance = random.Random(2)

    def change() -> None:
        bench.ensure(bench.asked("a", "b", chance.choice(wishes)))

    change()
    assert stream_is_whole(bench, size=12 * MIB, meanwhile=change)
    with Element(bench.place.run) as e:
        eventually(lambda: e.state()["cells"] - e.state()["free_cells"] == 33)  # the window: nothing is left behind
