"""Memory that the kernel charges to nobody: when a sliver is looked into, and how long one that was ended waits."""

from __future__ import annotations

import os
import random
import socket as sockets
import struct
from pathlib import Path

import pytest

from vini.model import Container, Shape, SliceSpec
from vini.node import netem, tc
from vini.node import netlink as nl
from vini.node.bpf import TAP_BIT
from vini.node.container import held, ours, queues, uncounted, wires
from vini.node.container.uncounted import Uncounted, own_memory
from vini.node.place import Place

_TOTAL_KB = 512 * 1000  # so 1 MB is what it may grow by


def meminfo(own_kb: int) -> str:
    free = _TOTAL_KB - own_kb - 4000
    parts = {"MemTotal": _TOTAL_KB, "MemFree": free, "Active": 1000, "Inactive": 1000, "Unevictable": 1000}
    return "".join(
        f"{name}: {kb:>8} kB\n" for name, kb in {**parts, "SReclaimable": 1000, "HugePages_Total": 0}.items()
    )


class Node:
    """Its kernel's own memory, and the time."""

    own_kb = 50_000
    now = 0.0

    def look(self, uncounted: Uncounted, slivers: list[str]) -> list[str]:
        """Which of them are looked into."""
        uncounted.begin(len(slivers))
        return [ns for ns in slivers if uncounted.is_due(ns)]


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def watched(node: Node, tmp_path: Path) -> Uncounted:
    return Uncounted(Place("v", tmp_path, tmp_path), lambda: meminfo(node.own_kb), lambda: node.now)


def test_what_the_kernel_has_for_itself_is_neither_free_nor_of_files_or_processes() -> None:
    assert own_memory(meminfo(50_000)) == (50_000 << 10, _TOTAL_KB << 10)
    own, total = own_memory(Path("/proc/meminfo").read_text())
    assert 0 < own < total


def test_all_slivers_are_looked_into_when_the_kernels_own_memory_has_grown_and_else_few(
    node: Node, watched: Uncounted
) -> None:
    slivers = [f"s.{n}" for n in range(160)]
    assert node.look(watched, slivers) == slivers, "the first time"
    looked = [node.look(watched, slivers) for _ in range(17)]
    assert not any(looked[:16])
    assert looked[16] == slivers, "each once in a while"
    node.own_kb += 900
    assert not node.look(watched, slivers)
    node.own_kb += 900
    assert node.look(watched, slivers) == slivers
    assert not node.look(watched, slivers), "it is known by now"


def test_what_grows_after_it_has_shrunk_counts_from_there(node: Node, watched: Uncounted) -> None:
    """Else what one frees hides what another takes."""
    slivers = [f"s.{n}" for n in range(160)]
    node.look(watched, slivers)
    node.own_kb -= 20_000
    assert not node.look(watched, slivers)
    node.own_kb += 1100
    assert node.look(watched, slivers) == slivers


def test_where_memory_moves_much_anyway_only_more_than_that_is_worth_a_look_at_all(
    node: Node, watched: Uncounted
) -> None:
    slivers, chance = [f"s.{n}" for n in range(160)], random.Random(7)
    alarms = []
    for _ in range(300):
        node.own_kb = 50_000 + chance.randrange(1500)
        alarms.append(len(node.look(watched, slivers)) == 160 and watched._looked["s.0"].ago == 0)
    by_growth = sum(alarms[100:])
    assert by_growth <= 200 // 16 + 1, "not more often than where nothing grows"
    node.own_kb = 51_500 + 9_000
    assert node.look(watched, slivers) == slivers, "a 64th of the memory is, however it moves"


def test_few_slivers_are_looked_into_at_each_look(node: Node, watched: Uncounted) -> None:
    assert [node.look(watched, ["s.a", "s.b"]) for _ in range(3)] == [["s.a", "s.b"]] * 3


def test_who_is_ended_starts_at_once_and_later_each_time_that_it_happens_again(
    node: Node, watched: Uncounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncounted.cgroup, "kill", lambda _: None)
    monkeypatch.setattr(uncounted.cgroup, "populated", lambda _: False)
    monkeypatch.setattr(Uncounted, "clear", lambda *_: None)
    monkeypatch.setattr(Uncounted, "_found", lambda *_: [("rings held {} MB", 65 * 10**6)])
    monkeypatch.setattr(uncounted.cgroup, "of", lambda *_: Path("/nowhere"))
    box, waited = Container("s.a", memory_mb=64), []
    for _ in range(6):
        watched.bound(box)
        waited.append(watched.waits("s.a"))
        node.now += waited[-1]
        assert watched.waits("s.a") == 0
    assert waited == [0, 1, 2, 4, 8, 8]
    node.now += 100
    watched.bound(box)
    assert watched.waits("s.a") == 0, "it was good for long enough"


class Said:
    """A socket that notes what is asked of it."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    def transact(self, requests: list[bytes]) -> list[int]:
        self.requests += requests
        return [0] * len(requests)

    def lengths(self) -> dict[int, int]:
        return {
            struct.unpack_from("=i", r, 20)[0]: int.from_bytes(nl.attributes(r, 32)[13], "little")
            for r in self.requests
        }


def tun(index: int, length: int, queue_count: int = 1, ours: bool = False) -> queues.Link:
    return queues.Link(index, length, queue_count, True, ours)


@pytest.mark.parametrize(
    ("there", "lengths"),
    [
        ([tun(5, 500), tun(6, 476)], {}),
        ([tun(5, 500), tun(6, 500)], {5: 488, 6: 488}),
        ([tun(5, 100_000), tun(6, 100)], {5: 488}),
        ([tun(5, 500, 4)], {5: 244}),
        ([tun(5, 500, 2000)], {5: 1}),
        ([tun(5 | TAP_BIT, 2048, ours=True), tun(6, 500)], {}),
        ([tun(5 | TAP_BIT, 50_000, ours=True), tun(6, 500)], {5 | TAP_BIT: 2048}),
        ([queues.Link(5, 10**6, 1, False, False)], {}),
    ],
)
def test_queues_of_tun_devices_hold_no_more_than_the_memory_whatever_is_in_them(there, lengths) -> None:
    said = Said()
    found = queues.shorten(said, there, 64 * 10**6)
    assert said.lengths() == lengths
    assert bool(found) == any(not index & TAP_BIT for index in lengths)


def test_of_queueing_disciplines_what_packets_come_to_first_counts() -> None:
    def message(parent: int) -> bytes:
        body = tc._BODY.pack(0, 7, 1 << 16, parent, 0) + nl.text(1, "tbf")
        return nl.message(nl.NEWQDISC, 0, body + nl.nest(7, nl.attribute(3, struct.pack("=IIIII", 12, 15000, 0, 0, 0))))

    assert tc.seen_waiting(message(tc.ROOT)) == tc.Waiting(7, "tbf", 12, 15000, 1 << 16)
    assert tc.seen_waiting(message(0x10001)) == tc.Waiting(7, "tbf", 0, 0, 1 << 16)


MB = 10**6


@pytest.mark.parametrize(
    ("queued", "grown_mb", "mb"),
    [
        ([], 0, 0),
        ([1024, 1024], 0, 4.7),
        ([1024] * 16, 0, 37.7),
        ([1024] * 17, 0, 41.9),
        ([40_000], 0, 162.0),
        ([1024], 500, 2.4),
        ([1024, 1024], 500, 69.5),
        ([1024, 1024], 30, 30),
    ],
)
def test_packets_for_programs_count_as_usual_ones_unless_the_kernel_has_grown(
    queued: list[int], grown_mb: int, mb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_waiting", lambda file: queued if file.endswith("queue") else [])
    assert queues.for_programs().counted(grown_mb * MB) / MB == pytest.approx(mb, abs=0.1)


def test_growth_counts_from_when_the_queues_for_programs_were_as_usual(
    node: Node, watched: Uncounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = queues.ForPrograms(2 * MB, 2 * MB)
    monkeypatch.setattr(queues, "for_programs", lambda: told)

    def counted(own_kb: int) -> int:
        node.own_kb = own_kb
        watched.begin(1)
        return dict(watched._wider(Container("s.a", memory_mb=64)))["queues for programs held {} MB"]

    assert counted(50_000) == 2 * MB
    told = queues.ForPrograms(5 * MB, 130 * MB)
    assert [counted(kb) for kb in (51_000, 90_000, 120_000)] == [5 * MB, 40_000 << 10, 70_000 << 10]
    told = queues.ForPrograms(2 * MB, 2 * MB)
    counted(120_000)
    told = queues.ForPrograms(5 * MB, 130 * MB)
    assert counted(120_000) == 5 * MB


def test_sockets_of_netlink_are_read_where_memory_has_grown_and_else_seldom(
    node: Node, watched: Uncounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    monkeypatch.setattr(held, "by_netlink", lambda: reads.append(node.own_kb))
    for own_kb in (50_000, 50_500, 50_900, 51_100, 51_100):
        node.own_kb = own_kb
        watched.begin(1)
        found = watched._wider(Container("s.a", memory_mb=64))
    assert reads == [50_000, 51_100], "also where it grows slowly"
    for _ in range(32):
        watched._wider(Container("s.a", memory_mb=64))
    assert len(reads) == 4, "and now and then"
    node.own_kb = 60_000
    watched.begin(1)
    found = watched._wider(Container("s.a", memory_mb=64))
    assert sum(size for _, size in found) > 64 * MB, "too many to look at"


def test_a_list_of_netlink_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "0000000000000000 0   1234       00000000 2048     1        0     2        0        4711\n"
    (tmp_path / "netlink").write_text("its heading\n" + row * 5)
    monkeypatch.setattr(held, "_NET", tmp_path)
    assert held.by_netlink() == 5 * 2049
    monkeypatch.setattr(held, "_MOST_NETLINK_BYTES", 4 * len(row))
    assert held.by_netlink() is None


WIRE = Shape("s.a", "eth0", "netem", delay_us=340_000, rate_kbit=10**6)


class Qdiscs:
    """A socket that tells of one at interface 7."""

    def __init__(self, kind: str, handle: int, packets: int, size: int):
        body = tc._BODY.pack(0, 7, handle, tc.ROOT, 0) + nl.text(1, kind)
        queue = struct.pack("=IIIII", packets, size, 0, 0, 0)
        self.message = nl.message(nl.NEWQDISC, 0, body + nl.nest(7, nl.attribute(3, queue)))

    def dump(self, _: bytes) -> list[bytes]:
        return [self.message]


@pytest.mark.parametrize(
    ("kind", "handle", "dev", "packets", "counts_mb"),
    [
        ("netem", netem.WIRE, "eth0", 28_000, 0),
        ("netem", netem.WIRE, "eth0", 58_000, 65),
        ("netem", netem.WIRE, "eth1", 28_000, 64),
        ("netem", 1 << 16, "eth0", 28_000, 64),
        ("tbf", netem.WIRE, "eth0", 28_000, 64),
    ],
)
def test_what_is_on_a_wanted_wire_is_not_the_slivers_but_no_more_than_it_may_hold(
    kind: str, handle: int, dev: str, packets: int, counts_mb: int
) -> None:
    there = [queues.Link(7, 1000, 1, False, False, dev)]
    specs = {"s": SliceSpec("s", "n", 1, frozenset({WIRE}))}
    said = Qdiscs(kind, handle, packets, 1514 * packets)
    found = queues.held(said, there, wires.wanted(specs, "s.a"))
    assert found[7] / MB == pytest.approx(counts_mb, abs=1.5)
    assert wires.wanted(specs, "s.b") == wires.wanted({}, "s.a") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_sockets_of_the_nodes_own_programs_are_left_out_and_a_slivers_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("f1-uncounted", Path("/nowhere"), Path("/nowhere"))
    with sockets.socket(sockets.AF_PACKET, sockets.SOCK_RAW) as own:
        own.setsockopt(263, 5, struct.pack("=IIII", 4096, 16, 2048, 32))  # SOL_PACKET, PACKET_RX_RING
        before = held.by_rings()[0]
        mine = ours.sockets(place)
        assert os.fstat(own.fileno()).st_ino in mine
        assert held.by_rings(mine)[0] <= before - (16 << 12)
        monkeypatch.setattr(ours, "_in_sliver", lambda _, process: process.name == str(os.getpid()))
        assert os.fstat(own.fileno()).st_ino not in ours.sockets(place)


def test_who_is_in_a_sliver_is_told_by_the_group(tmp_path: Path) -> None:
    place, file = Place("v", tmp_path, tmp_path), tmp_path / "cgroup"
    for row, there in (("0::/v/s.a/c", True), ("0::/v", False), ("0::/user.slice", False), ("1:cpu:/v/s.a", False)):
        file.write_text(f"9:name=systemd:/\n{row}\n")
        assert ours._in_sliver(place, tmp_path) == there


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_here_nothing_waits() -> None:
    with nl.Socket() as socket:
        assert sum(queues.held(socket, queues.links(socket)).values()) < 50_000_000
        assert queues.for_programs() == queues.ForPrograms()
