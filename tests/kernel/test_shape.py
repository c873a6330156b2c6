"""Shapes on the real kernel: one meaning, two backends, the same tests.

On a kernel without netem that half is skipped here, and run in user-mode Linux (kernel_machine.py).
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kernel_machine import ROUGH
from msgspec.structs import replace
from own_place import eventually, unspoilt

from vini.dataplane.element import Element
from vini.model import BurstLoss, Gate, Impairment, Shape, Unsupported
from vini.node import netns, rtnl
from vini.node.drivers.contents import FileDriver
from vini.node.drivers.shape import ShapeDriver
from vini.node.netlink import Socket
from vini.node.pins import Pins
from vini.node.place import Place
from vini.node.probe import capabilities
from vini.plugins.shape_files import files
from vini.plugins.shaping import shape
from vini.truth.meaning import delay_cdf, loss_deviation, mean_loss

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
FRAME = 14 + 20 + 8  # bytes before the payload of a UDP datagram
PORT = 9
PATIENCE_S = 20.0  # for what must come: a busy machine may pause


class Bench:
    """Slivers of a slice `s` in a place of their own, with links between them."""

    def __init__(self, run: Path, backend: str):
        self.place = Place(f"sh-{os.getpid()}", run, run)
        self.pins = Pins(self.place)
        self.backend = backend
        self.driver = ShapeDriver(self.place)
        self.slivers: list[str] = []
        self.links = 0

    def path(self, sliver: str) -> Path:
        return self.place.netns(f"s.{sliver}")

    def sliver(self, name: str) -> None:
        self.pins.prepare([f"s.{name}"])
        with netns.back_home():
            self.pins.make(f"s.{name}")
            self.run(name, "ip link set lo up")
        self.slivers.append(name)

    def link(self, a: str, b: str) -> None:
        """Veth pair `to-<b>`, `to-<a>` with addresses 10.0.<n>.1 and .2."""
        self.links += 1
        for name in (a, b):
            if name not in self.slivers:
                self.sliver(name)
        indexes = (70_000 + self.links, 80_000 + self.links)
        macs = (f"02:00:00:00:{self.links:02x}:01", f"02:00:00:00:{self.links:02x}:02")
        fds = [os.open(self.path(x), os.O_RDONLY) for x in (a, b)]
        with Socket() as s:
            assert s.transact([rtnl.add_veth((fds[0], fds[1]), (f"to-{b}", f"to-{a}"), indexes, macs)]) == [0]
        for fd in fds:
            os.close(fd)
        for i, (x, y) in enumerate(((a, b), (b, a)), 1):
            self.run(x, f"ip link set to-{y} up; ip addr add 10.0.{self.links}.{i}/24 dev to-{y}")
            neighbour = f"10.0.{self.links}.{3 - i} lladdr {macs[2 - i]}"  # none of the tests is about ARP
            self.run(x, f"ip neigh add {neighbour} dev to-{y} nud permanent")

    def run(self, sliver: str, command: str) -> str:
        with netns.inside(self.path(sliver)):
            return subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout

    def shape(self, sliver: str, peer: str, **fields: Any) -> Shape:
        return Shape(f"s.{sliver}", f"to-{peer}", self.backend, **fields)  # type: ignore[arg-type]

    def asked(self, sliver: str, peer: str, impairment: Impairment) -> Shape:
        """The Shape that this backend gives for it, with its files in place; skips what it refuses."""
        ns = f"s.{sliver}"
        try:
            wish = shape(ns, f"to-{peer}", impairment, "none", frozenset({self.backend}))
        except Unsupported as e:
            pytest.skip(str(e))
        assert wish is not None
        assert FileDriver(self.place).ensure(list(files(ns, impairment).values())) == {}
        return wish

    def ensure(self, *shapes: Shape) -> None:
        """With their Gates, as in a slice."""
        assert self.driver.ensure(shapes) == {}
        assert self.driver.ensure([_gate(o) for o in shapes]) == {}

    def remove(self, *shapes: Shape) -> None:
        assert self.driver.remove([_gate(o) for o in shapes]) == {}
        assert self.driver.remove(shapes) == {}

    def observed(self) -> frozenset[Shape]:
        """The Gates are another test's (test_gate.py)."""
        seen = self.driver.observe([f"s.{x}" for x in self.slivers])
        return frozenset(o for o in seen if isinstance(o, Shape))

    def round_trips_ms(self, sliver: str, to: str, count: int = 30) -> list[float]:
        out = self.run(sliver, f"ping -n -i 0.02 -W 10 -c {count} {to}")
        return [float(x) for x in re.findall(r"time=([\d.]+)", out)]

    def close(self) -> None:
        with suppress(OSError), Element(self.place.run) as e:
            os.kill(e.state()["pid"], signal.SIGTERM)
        self.pins.remove([f"s.{name}" for name in self.slivers])


def _gate(o: Shape) -> Gate:
    """Where packets arrive that left by its vif."""
    return Gate(f"s.{o.dev.removeprefix('to-')}", f"to-{o.ns.removeprefix('s.')}", o.ns, o.dev)


class Flow:
    """Numbered UDP datagrams from one sliver to another."""

    def __init__(self, bench: Bench, a: str, b: str, to: str):
        with netns.inside(bench.path(a)):
            self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.out.setsockopt(socket.SOL_SOCKET, 32, 1 << 24)  # SO_SNDBUFFORCE
        with netns.inside(bench.path(b)):
            self.into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.into.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
            self.into.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
            self.into.bind(("", PORT))
        self.out.connect((to, PORT))

    def send(self, numbers: range, size: int = 100, every: int = 50, pause_s: float = 0.002) -> None:
        """In bursts that the receive path of any kernel can hold."""
        for i in numbers:
            self.out.send(i.to_bytes(4, "big") + bytes(size - 4))
            if i % every == every - 1:
                time.sleep(pause_s)

    def delays_ms(self, count: int, apart_s: float, size: int = 100) -> list[float]:
        """One way, by the clock of the only kernel, of so many packets sent one after the other."""
        out: list[float] = []
        for i in range(count):
            self.out.send(time.time_ns().to_bytes(8, "big") + bytes(size - 8))
            if i % 10 == 9 or apart_s > 0.005:
                out += self._one_way_ms()
            time.sleep(apart_s)
        while len(out) < count:
            assert select.select([self.into], [], [], PATIENCE_S)[0]
            out += self._one_way_ms()
        return out

    def _one_way_ms(self) -> list[float]:
        out = []
        while select.select([self.into], [], [], 0)[0]:
            payload, notes, _, _ = self.into.recvmsg(2048, 64)
            s, ns = (int.from_bytes(notes[0][2][i : i + 8], "little") for i in (0, 8))
            out.append((s * 10**9 + ns - int.from_bytes(payload[:8], "big")) / 1e6)
        return out

    def receive(self, count: int = 0, quiet_s: float = 1.0) -> list[tuple[int, float]]:
        """(number, arrival by the kernel's clock) of so many; 0: of what comes until it is quiet."""
        out: list[tuple[int, float]] = []
        patience_s = PATIENCE_S if count else quiet_s
        while (not count or len(out) < count) and select.select([self.into], [], [], patience_s)[0]:
            payload, notes, _, _ = self.into.recvmsg(2048, 64)
            s, ns = (int.from_bytes(notes[0][2][i : i + 8], "little") for i in (0, 8))
            out.append((int.from_bytes(payload[:4], "big"), s + ns / 1e9))
        return out

    def numbers(self, count: int = 0, quiet_s: float = 1.0) -> list[int]:
        return [n for n, _ in self.receive(count, quiet_s)]

    def close(self) -> None:
        self.out.close()
        self.into.close()


@pytest.fixture(params=["element", pytest.param("netem", marks=pytest.mark.needs_kernel("netem"))])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param not in capabilities():
        pytest.skip(f"needs {request.param}, which this kernel or machine lacks")
    with tempfile.TemporaryDirectory(prefix="sh-", dir="/run") as run:
        b = Bench(Path(run), request.param)
        try:
            b.link("a", "b")
            yield b
        finally:
            b.close()


@pytest.fixture
def flow(bench: Bench) -> Iterator[Flow]:
    f = Flow(bench, "a", "b", "10.0.1.2")
    yield f
    f.close()


def only_element(bench: Bench) -> None:
    if bench.backend != "element":
        pytest.skip("about the element's process")


# --- objects: what is asked comes back -------------------------------------------------------------

WISHES: list[dict[str, Any]] = [
    {"delay_us": 9100},
    {"delay_us": 9100, "jitter_us": 250, "loss_ppm": 10_000, "rate_kbit": 9_920_000, "queue_packets": 77},
    {"loss_ppm": 1},
    {"loss_ppm": 999_999, "drop": True},
    {"rate_kbit": 1, "queue_packets": 1},
    {"drop": True},
    {"delay_us": 300_000, "drop": True},
    {"delay_us": 1},
    {"delay_us": 9100, "jitter_us": 250, "distribution": "pareto", "keeps_order": False, "reorder_ppm": 3},
    {"delay_us": 9100, "jitter_us": 250, "distribution": "uniform", "corrupt_ppm": 1},
    {"duplicate_ppm": 999_999, "queue_packets": 77},
    {"duplicate_ppm": 1, "drop": True, "delay_us": 1, "reorder_ppm": 1_000_000},
    {"enter_ppm": 10_000, "leave_ppm": 250_000, "bad_ppm": 800_000, "good_ppm": 1, "loss_ppm": 900_000},
    {"enter_ppm": 1, "leave_ppm": 1_000_000, "bad_ppm": 1_000_000, "rate_kbit": 10_000, "drop": True},
]
RICH = [
    Impairment(delay_ms=5, jitter_table_ms=(0.0, 0.2, 5.0), loss=0.25),
    Impairment(rate_mbit=10, queue_packets=0, queue_bytes=64_000, aqm="codel"),
    Impairment(rate_mbit=10, queue_packets=0, queue_ms=50, lose=((3, 3), (7, 9)), duplicate=0.01),
    Impairment(trace="0\n7\n", loss=0.25),
    Impairment(trace="time_ms,rate_mbit,delay_ms,loss\n0,1.5,20,\n100.5,outage,,100%\n300,repeat\n"),
]


def test_what_was_asked_is_observed_whatever_was_before(bench: Bench) -> None:
    for wish in WISHES:
        want = bench.shape("a", "b", **wish)
        bench.ensure(want)
        assert bench.observed() == {want}
        bench.ensure(want)
        assert bench.observed() == {want}


@pytest.mark.parametrize("impairment", RICH, ids=range(len(RICH)))
def test_files_are_observed_too(bench: Bench, impairment: Impairment) -> None:
    plain, want = bench.shape("a", "b", delay_us=5), bench.asked("a", "b", impairment)
    for wish in (want, plain, want, replace(want, drop=True), want):
        bench.ensure(wish)
        assert bench.observed() == {wish}


def test_a_file_that_cannot_be_read_is_told(bench: Bench) -> None:
    wish = bench.asked("a", "b", Impairment(delay_ms=5, jitter_table_ms=(0.0, 1.0)))
    (bench.place.sliver("s.a") / wish.table).unlink()
    failures = bench.driver.ensure([wish])
    assert "s.a to-b" in failures[wish.key] and wish.table in failures[wish.key]


def test_both_directions_are_different_things(bench: Bench) -> None:
    there, back = bench.shape("a", "b", delay_us=1000), bench.shape("b", "a", delay_us=2000)
    bench.ensure(there, back)
    assert bench.observed() == {there, back}
    assert bench.driver.observe(["s.b"]) == {back, _gate(there)}


def test_remove_leaves_nothing_and_may_be_repeated(bench: Bench) -> None:
    before = bench.run("a", "ip -d link show to-b | head -2; tc qdisc; ip -o link | wc -l")
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    assert bench.driver.remove([bench.shape("a", "b")]) == {}
    assert bench.observed() == frozenset()
    eventually(lambda: bench.run("a", "ip -d link show to-b | head -2; tc qdisc; ip -o link | wc -l") == before)
    assert bench.driver.remove([bench.shape("a", "b"), bench.shape("gone", "b")]) == {}


def test_removed_and_at_once_made_again(bench: Bench) -> None:
    want = bench.shape("a", "b", delay_us=1000)
    for _ in range(5):
        bench.ensure(want)
        assert bench.observed() == {want}
        assert bench.driver.remove([want]) == {}
        assert bench.observed() == frozenset()


def test_failures_are_sentences_and_spare_the_neighbours(bench: Bench) -> None:
    good, vif, ns = bench.shape("a", "b", delay_us=1), bench.shape("a", "x"), bench.shape("gone", "b")
    assert bench.driver.ensure([vif, good, ns]) == {
        vif.key: "Sliver s.a has no vif to-x.",
        ns.key: "Sliver s.gone has no network namespace.",
    }
    assert bench.observed() == {good}


def test_vandalised_shapes_are_seen_and_healed(bench: Bench) -> None:
    want = bench.shape("a", "b", delay_us=5000, rate_kbit=10_000)
    damage = {
        "element": [
            "tc qdisc del dev to-b clsact",
            "ip link del $(ip -o link | grep -o 'shape[0-9a-f]*')",
            "ip link set $(ip -o link | grep -o 'shape[0-9a-f]*') down",
            "tc qdisc del dev to-b clsact; ip link del $(ip -o link | grep -o 'shape[0-9a-f]*')",
            "tc filter del dev to-b egress prio 6",
            "tc filter del dev to-b egress prio 16",
        ],
        "netem": ["tc qdisc del dev to-b root", "tc qdisc del dev to-b parent 5649:1"],
    }
    for command in damage[bench.backend]:
        bench.ensure(want)
        bench.run("a", command)
        eventually(lambda: bench.observed() != {want})
        bench.ensure(want)
        assert bench.observed() == {want}
        # A device made anew takes its first packets once the kernel has seen its carrier: late, on a busy machine.
        eventually(lambda: len(bench.round_trips_ms("a", "10.0.1.2", 3)) == 3)


def test_a_silent_fault_that_was_half_taken_away_is_seen_and_healed(bench: Bench) -> None:
    want = bench.shape("a", "b", drop=True)
    bench.ensure(want)
    bench.run("a", "tc filter del dev to-b ingress prio 6")
    assert bench.observed() != {want}
    bench.ensure(want)
    assert bench.observed() == {want}


def test_filters_of_others_stay(bench: Bench) -> None:
    only_element(bench)
    theirs = "tc filter add dev to-b egress prio 7 u32 match u32 0 0 classid 1:1"
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    bench.run("a", theirs)
    assert bench.driver.remove([bench.shape("a", "b")]) == {}
    left = bench.run("a", "tc filter show dev to-b egress")
    assert "u32" in left and "vini" not in left
    assert bench.observed() == frozenset()


# --- packets: the meaning --------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [1, 10, 100])
def test_round_trip_is_the_sum_of_the_delays(bench: Bench, delay_ms: int) -> None:
    bare = min(bench.round_trips_ms("a", "10.0.1.2"))
    bench.ensure(*(bench.shape(x, y, delay_us=delay_ms * 1000) for x, y in ("ab", "ba")))
    trips = bench.round_trips_ms("a", "10.0.1.2")
    assert len(trips) == 30
    assert min(trips) >= 2 * delay_ms
    assert min(trips) - bare - 2 * delay_ms < 1.0  # of the quickest: other load on the machine delays some


def test_nothing_is_lost_or_reordered_unless_asked(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=20_000, queue_packets=10))
    sender = threading.Thread(target=flow.send, args=(range(5000),))
    sender.start()
    assert flow.numbers(5000) == list(range(5000))
    sender.join()


def test_order_is_kept_under_jitter(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=10_000, jitter_us=4000))
    flow.send(range(2000))
    assert flow.numbers(2000) == list(range(2000))


def test_loss_is_within_its_confidence_interval(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", loss_ppm=100_000))
    n = 5000
    flow.send(range(n))
    got = flow.numbers()
    assert got == sorted(got)
    assert abs(n - len(got) - 0.1 * n) < 5 * math.sqrt(n * 0.1 * 0.9)


@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(delay_ms=20, jitter_ms=5),
        Impairment(delay_ms=20, jitter_ms=5, distribution="uniform"),
        Impairment(delay_ms=20, jitter_ms=5, distribution="pareto"),
        Impairment(delay_ms=5, jitter_table_ms=(0.0, 1.0, 20.0)),
    ],
    ids=["normal", "uniform", "pareto", "table"],
)
def test_delays_have_the_distribution_that_was_asked(bench: Bench, flow: Flow, impairment: Impairment) -> None:
    """Kolmogorov and Smirnov's test, at 0.1 %, with room for what a machine adds to each delay."""
    bench.ensure(bench.asked("a", "b", replace(impairment, keeps_order=False)))
    cdf, n = delay_cdf(impairment), 500

    def distance() -> float:
        got = sorted(flow.delays_ms(n, apart_s=0.002))
        return max(max(cdf(x - 1.0) - (i + 1) / n, i / n - cdf(x)) for i, x in enumerate(got))

    unspoilt(distance, lambda found: found < 1.95 / math.sqrt(n))


def test_jitter_reorders_only_where_it_may(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=20, jitter_ms=5, keeps_order=False)))
    flow.send(range(500))
    got = flow.numbers(500)
    assert sorted(got) == list(range(500)) and got != sorted(got)
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=20, jitter_ms=5)))
    flow.send(range(500))
    assert flow.numbers(500) == list(range(500))


def test_some_overtake(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=3000, reorder=0.1)))
    n = 1000
    for _ in range(20):
        began = time.monotonic()
        flow.send(range(n))
        took = time.monotonic() - began
        got = flow.numbers(n)
        assert sorted(got) == list(range(n))
        if took < 2:  # all had left before the first delayed one came; else there is more than one such place
            break
    assert took < 2, "this machine is too busy to send a thousand packets at once"
    late = [x for i, x in enumerate(got) if i and x < got[i - 1]]  # where the others begin
    assert len(late) == 1
    early = got[: got.index(late[0])]
    assert early == sorted(early) and abs(len(early) - 0.1 * n) < 5 * math.sqrt(n * 0.1 * 0.9)


def test_bursts_of_loss(bench: Bench, flow: Flow) -> None:
    impairment = Impairment(burst_loss=BurstLoss(0.02, 0.2, 1.0, 0.01))
    bench.ensure(bench.asked("a", "b", impairment))
    n = 10_000
    flow.send(range(n))
    got = flow.numbers()
    lost = sorted(set(range(n)) - set(got))
    assert abs(len(lost) / n - mean_loss(impairment)) < 5 * loss_deviation(impairment, n)
    bursts = sum(1 for i, x in enumerate(lost) if not i or lost[i - 1] != x - 1)
    assert len(lost) / bursts > 2.5  # independent losses of that share: 1.1


def test_bursts_and_single_losses_add_up(bench: Bench, flow: Flow) -> None:
    impairment = Impairment(loss=0.1, burst_loss=BurstLoss(0.5, 0.5, 0.5))
    bench.ensure(bench.asked("a", "b", impairment))
    n = 5000
    flow.send(range(n))
    assert abs(1 - len(flow.numbers()) / n - mean_loss(impairment)) < 5 * loss_deviation(impairment, n)


def test_packets_are_lost_by_their_numbers(bench: Bench, flow: Flow) -> None:
    bench.run("a", "sysctl -w net.ipv6.conf.to-b.disable_ipv6=1")  # else the kernel sends some of its own
    bench.ensure(bench.asked("a", "b", Impairment(lose=((3, 3), (7, 9), (100, 100)))))
    flow.send(range(1, 201))
    assert flow.numbers() == [n for n in range(1, 201) if n not in (3, 7, 8, 9, 100)]


def test_duplicates_follow_at_once(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(duplicate=0.2, delay_ms=20)))
    n = 2000
    flow.send(range(n))
    got = flow.numbers()
    assert set(got) == set(range(n)) and got == sorted(got)
    assert abs(len(got) - n - 0.2 * n) < 5 * math.sqrt(n * 0.2 * 0.8)


def test_damaged_packets_are_dropped_by_their_receiver(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(corrupt=0.2)))
    n = 2000
    flow.send(range(n))
    got = flow.numbers()
    assert abs(n - len(got) - 0.2 * n) < 5 * math.sqrt(n * 0.2 * 0.8)


@pytest.mark.parametrize("queue", [{"queue_bytes": 12_500}, {"queue_ms": 100}], ids=["bytes", "time"])
def test_a_queue_is_bounded_in_bytes_or_time(bench: Bench, flow: Flow, queue: dict[str, Any]) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(rate_mbit=1, queue_packets=0, delay_ms=50, **queue)))

    def sent_and_got() -> tuple[float, int]:
        start = time.monotonic()
        flow.send(range(100), size=1208, every=1000)  # 10 ms each
        took = time.monotonic() - start
        got = flow.numbers(quiet_s=2.0)
        assert got[:10] == list(range(10))
        return took, len(got)

    unspoilt(sent_and_got, lambda found: 10 <= found[1] <= 12 + found[0] / 0.010)


@pytest.mark.alone
def test_codel_keeps_the_queue_short(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(rate_mbit=10, aqm="codel")))
    for i in range(0, 2000, 2):  # 2 s at 1.2 times the rate
        flow.send(range(i, i + 2), size=1458, every=1000)
        time.sleep(0.002)
    assert len(flow.numbers()) < 2000  # a queue of 1000 packets alone would have taken them all


def test_a_trace_of_opportunities_is_followed(bench: Bench, flow: Flow) -> None:
    """One of 1500 bytes every 20 ms: what is smaller takes it all the same."""
    bench.ensure(bench.asked("a", "b", Impairment(trace="20\n")))

    def apart_ms() -> list[float]:
        flow.send(range(20), size=1458, every=1000)
        at = [t for _, t in flow.receive(20)]
        return [1000 * (b - a) for a, b in zip(at, at[1:], strict=False)]

    unspoilt(apart_ms, lambda found: all(abs(ms - 20) < 5 for ms in found))


def test_a_trace_of_steps_is_followed_and_an_outage_keeps_packets(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.asked("a", "b", Impairment(trace="time_ms,rate_mbit,delay_ms\n0,outage,\n1500,100,30\n")))
    flow.send(range(10))
    assert flow.numbers(quiet_s=0.3) == []
    assert flow.numbers(10) == list(range(10))
    assert min(flow.delays_ms(5, apart_s=0.05)) >= 30


@pytest.mark.parametrize(("kbit", "packets"), [(1000, 80), (10_000, 400), (100_000, 950)])
def test_rate_holds(bench: Bench, flow: Flow, kbit: int, packets: int) -> None:
    if ROUGH and kbit > 10_000:
        pytest.skip("a Python program in user-mode Linux can't receive 10,000 packets a second beside other work")
    bench.ensure(bench.shape("a", "b", rate_kbit=kbit))

    def rate() -> float:
        flow.send(range(packets), size=1200, every=packets)
        arrivals = flow.receive(packets)
        assert [n for n, _ in arrivals] == list(range(packets))
        took = arrivals[-1][1] - arrivals[0][1]
        return (packets - 1) * (1200 + FRAME) * 8 / took / 1000

    within = 0.05 if ROUGH else 0.02
    unspoilt(rate, lambda found: abs(found / kbit - 1) < within)


def test_the_queue_is_bounded_and_the_wire_is_not_counted(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", rate_kbit=1000, queue_packets=50, delay_us=400_000))

    def sent_and_got() -> tuple[float, int]:
        start = time.monotonic()
        flow.send(range(200), size=1208, every=1000)  # 10 ms each
        took = time.monotonic() - start
        got = flow.numbers(quiet_s=2.0)
        assert got == sorted(got) and got[:50] == list(range(50))
        return took, len(got)

    # netem's limit counts the packet that is being sent too
    unspoilt(sent_and_got, lambda found: found[1] <= 52 + found[0] / 0.010)


def test_a_loaded_link_does_not_delay_another(bench: Bench) -> None:
    bench.link("c", "d")
    bench.ensure(*(bench.shape(x, y, delay_us=10_000) for x, y in ("ab", "ba")))
    bench.ensure(bench.shape("c", "d", delay_us=10_000, rate_kbit=50_000))
    other = Flow(bench, "c", "d", "10.0.2.2")
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            other.send(range(500), size=1200)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        trips = unspoilt(lambda: bench.round_trips_ms("a", "10.0.1.2", 50), lambda found: statistics.median(found) < 22)
    finally:
        stop.set()
        loader.join()
        other.close()
    assert len(trips) == 50
    assert min(trips) >= 20


def test_a_change_keeps_what_is_in_flight(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=300_000))
    flow.send(range(100))
    bench.ensure(bench.shape("a", "b", delay_us=1000, rate_kbit=50_000))
    flow.send(range(100, 200))
    bench.ensure(bench.shape("a", "b", delay_us=1000, jitter_us=100))
    flow.send(range(200, 300))
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1, jitter_table_ms=(0.0, 1.0))))
    flow.send(range(300, 400))
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1, jitter_table_ms=(0.0, 2.0))))
    flow.send(range(400, 500))
    assert flow.numbers(500) == list(range(500))


def test_the_silent_fault_drops_all_and_ends(bench: Bench, flow: Flow) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    flow.send(range(10))
    assert flow.numbers(10) == list(range(10))
    bench.ensure(bench.shape("a", "b", delay_us=1000, drop=True))
    flow.send(range(10, 20))
    assert flow.numbers(quiet_s=0.3) == []
    bench.ensure(bench.asked("a", "b", Impairment(delay_ms=1, duplicate=0.5, reorder=0.5)))
    bench.ensure(bench.shape("a", "b", delay_us=1000, duplicate_ppm=500_000, reorder_ppm=500_000, drop=True))
    flow.send(range(10, 20))
    assert [n for n in flow.numbers(quiet_s=0.3) if n >= 10] == []
    assert "LOWER_UP" in bench.run("a", "ip link show to-b")
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    flow.send(range(20, 30))
    assert flow.numbers(10) == list(range(20, 30))


@pytest.mark.parametrize("mark", ["1447644745", "1"])
def test_no_mark_passes_the_delay_by(bench: Bench, mark: str) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=20_000))
    said = bench.run("a", f"ping -n -m {mark} -i 0.02 -W 10 -c 5 10.0.1.2")
    trips = [float(x) for x in re.findall(r"time=([\d.]+)", said)]
    assert len(trips) == 5
    assert min(trips) >= 20


def test_a_silent_link_drops_what_passes_the_senders_queue_by(bench: Bench, flow: Flow) -> None:
    """PACKET_QDISC_BYPASS (packet(7)) passes by all filters and queues of the sender's."""
    both = [bench.shape(x, y, drop=True) for x, y in ("ab", "ba")]
    assert bench.driver.ensure(both) == {}  # without a Gate
    with netns.inside(bench.path("a")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as past:
        past.setsockopt(263, 20, 1)
        past.bind(("to-b", 0))
        frame = _frame(7)
        past.send(frame)
        assert flow.numbers(quiet_s=0.3) == []
        assert bench.driver.ensure([replace(o, drop=False, delay_us=1000) for o in both]) == {}
        past.send(frame)
        assert flow.numbers(1) == [7]
    bench.remove(*both)
    assert "clsact" not in bench.run("a", "tc qdisc show dev to-b")


def _frame(number: int) -> bytes:
    """A datagram of `Flow` as it is on the first link."""
    payload = number.to_bytes(4, "big")
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 64, 17, 0, bytes((10, 0, 1, 1)), bytes((10, 0, 1, 2)))
    total = sum(struct.unpack("!10H", ip))
    ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    udp = struct.pack("!HHHH", 1000, PORT, 8 + len(payload), 0)
    return bytes.fromhex("0200000001020200000001010800") + ip + udp + payload


def test_large_segments_arrive_and_bulk_is_shaped(bench: Bench) -> None:
    if shutil.which("iperf3") is None:
        pytest.skip("needs iperf3")
    bench.ensure(bench.shape("a", "b", rate_kbit=50_000, delay_us=1000))
    with netns.inside(bench.path("b")):
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    eventually(lambda: "5201" in bench.run("b", "ss -ltn"))

    def share() -> float:
        """Goodput, as a part of what the rate leaves for it."""
        result = json.loads(bench.run("a", "iperf3 -c 10.0.1.2 -t 2 -J"))
        return float(result["end"]["sum_received"]["bits_per_second"] / (50e6 * 1448 / 1514))

    try:
        assert unspoilt(share, lambda found: found > 0.88) < 1.03
    finally:
        server.kill()
        server.wait()


# --- the element's process -------------------------------------------------------------------------


def test_what_the_sliver_sees_is_harmless(bench: Bench) -> None:
    only_element(bench)
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    tap = bench.run("a", "ip -d addr show dev $(ip -o link | grep -o 'shape[0-9a-f]*')")
    assert "NOARP" in tap and "group 1447644745" in tap
    assert "inet" not in tap
    time.sleep(0.5)  # the kernel would have announced itself by now
    with Element(bench.place.run) as e:
        stats = e.stats()[(bench.path("a").name, "to-b")]
    assert stats["received"] <= 10  # the vif's own announcements


def test_it_outlives_the_driver_and_is_found_again(bench: Bench) -> None:
    only_element(bench)
    want = bench.shape("a", "b", delay_us=1000)
    bench.ensure(want)
    bench.driver = ShapeDriver(bench.place)
    assert bench.observed() == {want}


def test_it_lives_in_the_nodes_namespace_and_keeps_no_slivers_alive(bench: Bench) -> None:
    only_element(bench)
    bench.ensure(bench.shape("a", "b", delay_us=1000))
    with Element(bench.place.run) as e:
        state = e.state()
    home = Path("/proc/self/ns/net").readlink()
    assert [Path(f"/proc/{state[p]}/ns/net").readlink() for p in ("pid", "worker")] == [home, home]


def one_delayed_one_silent(bench: Bench) -> tuple[Shape, Shape, dict[str, int]]:
    """From a to b, from c to d; and the element's processes."""
    only_element(bench)
    want = bench.shape("a", "b", delay_us=1000)
    bench.link("c", "d")
    silent = bench.shape("c", "d", delay_us=1000, drop=True)
    bench.ensure(want, silent)
    with Element(bench.place.run) as e:
        return want, silent, e.state()


def test_kill_is_seen_and_healed_and_faults_hold_meanwhile(bench: Bench, flow: Flow) -> None:
    want, silent, state = one_delayed_one_silent(bench)
    os.kill(state["pid"], signal.SIGSTOP)  # else each of the two would start the other again
    os.kill(state["worker"], signal.SIGKILL)
    os.kill(state["pid"], signal.SIGKILL)
    eventually(lambda: not bench.driver._element.ports_by_namespace())
    dead = bench.shape("a", "b", drop=True, delay_us=0)
    assert bench.observed() == {dead, bench.shape("c", "d", drop=True)}
    flow.send(range(5))
    assert flow.numbers(quiet_s=0.2) == []  # never without its delay
    bench.ensure(want, silent)
    assert bench.observed() == {want, silent}
    flow.send(range(5, 10))
    assert flow.numbers(5) == list(range(5, 10))


def test_a_hang_of_both_processes_is_seen_and_healed_and_faults_hold_meanwhile(
    bench: Bench, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits nowhere with the patience that there is for an element that is at work."""
    want, silent, state = one_delayed_one_silent(bench)
    monkeypatch.setattr(Element.__init__, "__defaults__", (300.0,))
    for process in ("pid", "worker"):
        os.kill(state[process], signal.SIGSTOP)
    began = time.monotonic()
    assert bench.observed() == {bench.shape("a", "b", drop=True), bench.shape("c", "d", drop=True)}
    bench.ensure(want, silent)
    assert bench.observed() == {want, silent}
    assert time.monotonic() - began < 60
    flow.send(range(5))
    assert flow.numbers(5) == list(range(5))


OUTDATED = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen()
while True:
    c = s.accept()[0]
    while asked := c.recv(9999):
        port = f"{sys.argv[2]} to-b delay_us=5 jitter_us=0 netns=1 ifindex=1\\n" if asked == b"list 0" else ""
        c.send(f"ok next=0 pid={os.getpid()}\\n{port}".encode())
"""


def test_an_element_of_an_earlier_version_is_replaced(bench: Bench) -> None:
    only_element(bench)
    at = bench.place.run / "element.sock"
    old = subprocess.Popen([sys.executable, "-c", OUTDATED, at, bench.path("a").name])
    eventually(at.exists)
    assert bench.observed() == frozenset()
    want = bench.shape("a", "b", delay_us=1000)
    bench.ensure(want)
    assert bench.observed() == {want}
    assert old.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_namespace_deleted_by_hand_is_let_go(bench: Bench) -> None:
    bench.link("c", "d")
    want = bench.shape("a", "b", delay_us=1000)
    bench.ensure(want, *(bench.shape(x, y, delay_us=1000) for x, y in ("cd", "dc")))
    bench.run("a", f"ip netns del {bench.path('c').name}")
    eventually(lambda: "to-c" not in bench.run("d", "ip link"))  # nothing of ours holds the pair
    assert bench.observed() == {want}
    assert len(bench.round_trips_ms("a", "10.0.1.2", 5)) == 5
    assert bench.driver.remove([bench.shape("c", "d"), bench.shape("d", "c")]) == {}


def test_a_vif_deleted_by_hand_is_let_go_and_may_come_again(bench: Bench) -> None:
    want = bench.shape("a", "b", delay_us=1000)
    bench.ensure(want)
    bench.run("a", "ip link del to-b")
    eventually(lambda: "shape" not in bench.run("a", "ip link"))
    assert bench.observed() == frozenset()
    bench.links = 0
    bench.link("a", "b")
    bench.ensure(want)
    assert bench.observed() == {want}
    assert len(bench.round_trips_ms("a", "10.0.1.2", 3)) == 3


def test_a_vif_made_anew_at_once_is_shaped_in_one_pass(bench: Bench) -> None:
    """It has the number of the one before it, of whose end the element may not have heard."""
    want = bench.shape("a", "b", delay_us=1000)
    bench.ensure(want)
    for _ in range(5):
        bench.run("a", "ip link del to-b")
        bench.links = 0
        bench.link("a", "b")
        bench.ensure(want)
        assert len(bench.round_trips_ms("a", "10.0.1.2", 30)) == 30  # for longer than it takes to hear of that
        assert bench.observed() == {want}


def test_a_vif_that_goes_down_comes_back_shaped(bench: Bench) -> None:
    bench.ensure(bench.shape("a", "b", delay_us=20_000))
    bench.run("a", "ip link set to-b down; sleep 0.2; ip link set to-b up")
    trips = bench.round_trips_ms("a", "10.0.1.2", 5)
    assert len(trips) == 5
    assert min(trips) >= 20
