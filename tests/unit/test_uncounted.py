"""Memory that the kernel charges to nobody: when a sliver is looked into, and how long one that was ended waits."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from vini.model import Container
from vini.node import netlink as nl
from vini.node import tc
from vini.node.bpf import TAP_BIT
from vini.node.container import queues, uncounted
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

    assert tc.seen_waiting(message(tc.ROOT)) == tc.Waiting(7, "tbf", 12, 15000)
    assert tc.seen_waiting(message(0x10001)) == tc.Waiting(7, "tbf", 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_here_nothing_waits() -> None:
    with nl.Socket() as socket:
        assert sum(queues.held(socket, queues.links(socket)).values()) < 50_000_000
        assert queues.for_programs() == 0
