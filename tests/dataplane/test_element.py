"""The link element, packets in and packets out: socket pairs stand in for the TAP and the packet socket, so no root."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from vini.dataplane import element
from vini.dataplane.element import Element
from vini.model import DriverError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

HEADER = bytes(10)  # struct virtio_net_hdr
PLAIN = {"netns": 1, "ifindex": 1, "delay_us": 0, "jitter_us": 0, "loss_ppm": 0, "rate_kbit": 0, "queue_packets": 1000}


class Wire:
    """One port of an element: what is sent into it comes out of it."""

    def __init__(self, running: Element, dev: str = "to-b", **settings: int):
        self.element, self.name = running, ("mark.s.a", dev)
        self.put, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.take, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for s in (self.put, tap, self.take, out):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        tap.setblocking(False)
        running.set(self.name, PLAIN | settings, (tap.fileno(), out.fileno()))
        tap.close()
        out.close()

    def send(self, count: int, size: int = 100, first: int = 0) -> float:
        start = time.monotonic()
        for i in range(first, first + count):
            self.put.send(HEADER + i.to_bytes(4, "big") + bytes(size - 4))
        return start

    def receive(self, quiet_s: float = 0.5) -> list[tuple[int, float]]:
        """(number, arrival) of all that comes out until it is quiet."""
        out = []
        while select.select([self.take], [], [], quiet_s)[0]:
            packet = self.take.recv(1 << 17)
            out.append((int.from_bytes(packet[10:14], "big"), time.monotonic()))
        return out

    def arrival(self) -> float:
        """When the next packet comes."""
        self.take.recv(1 << 17)
        return time.monotonic()

    def count(self) -> dict[str, int]:
        return self.element.stats()[self.name]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VINI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sh-") as name:  # pytest's own paths are too long for a socket
        yield Path(name)


@pytest.fixture
def running(run: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Element]:
    monkeypatch.setattr(element, "NETNS", run / "netns")
    monkeypatch.setattr(element, "MEMORY_MB", 8)
    element.start(run)
    with Element(run) as e:
        pid = e.state()["pid"]
        yield e
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", tmp_path / "element", element.SOURCE, "-lm"], check=True)


def test_the_program_is_built_once_per_source() -> None:
    first = element.build()
    built = first.stat().st_mtime_ns
    assert element.build() == first
    assert first.stat().st_mtime_ns == built


def test_a_second_start_keeps_the_first(running: Element, run: Path) -> None:
    element.start(run)
    with Element(run) as again:
        assert again.state()["pid"] == running.state()["pid"]


def test_it_ends_when_nothing_is_left_to_do_and_leaves_no_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(element, "NETNS", run / "netns")
    monkeypatch.setattr(element, "MEMORY_MB", 8)
    element.start(run)
    with Element(run) as e:
        Wire(e)
        pid = e.state()["pid"]
    end = time.monotonic() + 30  # the wire's ends are gone, so its port goes
    while Path(f"/proc/{pid}/fd").exists() and (run / "element.sock").exists():
        assert time.monotonic() < end, "it runs on"
        time.sleep(0.1)
    assert list(run.iterdir()) == [run / "netns"]


@pytest.mark.usefixtures("running")
def test_nobody_else_may_talk_to_it(run: Path) -> None:
    assert (run / "element.sock").stat().st_mode & 0o077 == 0


def test_packets_come_out_whole_and_in_order(running: Element) -> None:
    wire = Wire(running)
    sizes = [14, 1514, 2038, 2039, 65549, 60]  # around the cells' borders, and a large segment
    packets = [HEADER + os.urandom(size) for size in sizes]
    for packet in packets:
        wire.put.send(packet)
    assert [wire.take.recv(1 << 17) for _ in packets] == packets
    assert wire.count()["sent"] == len(sizes)


def test_nothing_departs_early_and_the_delay_is_right(running: Element) -> None:
    wire = Wire(running, delay_us=20_000)
    delays = []
    for i in range(40):
        start = wire.send(1, first=i)
        delays.append(wire.arrival() - start)
    assert min(delays) >= 0.020
    assert statistics.median(delays) < 0.024


def test_order_is_kept_under_jitter(running: Element) -> None:
    wire = Wire(running, delay_us=5000, jitter_us=3000)
    arrivals = []
    for i in range(0, 500, 5):
        wire.send(5, first=i)
        arrivals += wire.receive(0.0005)
    arrivals += wire.receive()
    assert [n for n, _ in arrivals] == list(range(500))


def test_jitter_has_the_asked_deviation(running: Element) -> None:
    """Packets so far apart that keeping order doesn't bind, so each delay is one draw."""
    wire = Wire(running, delay_us=20_000, jitter_us=2000)
    delays = []
    for i in range(150):
        start = wire.send(1, first=i)
        delays.append(wire.arrival() - start)
    deciles = statistics.quantiles(delays, n=20)
    spread = deciles[15] - deciles[3]  # 20 % to 80 %: 1.683 sigma
    assert 0.0022 < spread < 0.0048
    assert 0.019 < statistics.median(delays) < 0.023


def test_loss_is_within_its_confidence_interval(running: Element) -> None:
    wire = Wire(running, loss_ppm=100_000)
    arrived = 0
    for i in range(100):
        wire.send(100, first=100 * i)
        arrived += len(wire.receive(0.002))
    arrived += len(wire.receive())
    lost = 10_000 - arrived
    assert abs(lost - 1000) < 5 * (10_000 * 0.1 * 0.9) ** 0.5
    assert wire.count()["lost"] == lost


@pytest.mark.parametrize(("kbit", "packets"), [(1000, 60), (10_000, 400), (100_000, 950)])
def test_rate_holds(running: Element, kbit: int, packets: int) -> None:
    wire = Wire(running, rate_kbit=kbit)
    sender = threading.Thread(target=wire.send, args=(packets, 1000))
    sender.start()
    arrivals = wire.receive()
    sender.join()
    assert len(arrivals) == packets
    took = arrivals[-1][1] - arrivals[0][1]
    assert (packets - 1) * 8000 / took / 1000 == pytest.approx(kbit, rel=0.05)


def test_a_lone_packet_takes_its_time_on_the_wire(running: Element) -> None:
    wire = Wire(running, rate_kbit=1000)
    start = wire.send(1, size=1250)
    assert wire.receive()[0][1] - start >= 0.010


def test_the_queue_is_bounded_and_the_wire_is_not_counted(running: Element) -> None:
    wire = Wire(running, rate_kbit=1000, queue_packets=50, delay_us=500_000)
    start = wire.send(200, size=1000)  # 8 ms each
    took = time.monotonic() - start
    arrived = len(wire.receive(1.0))
    assert 51 <= arrived <= 52 + took / 0.008
    assert arrived + wire.count()["dropped"] == 200


def test_the_delay_line_holds_more_than_the_queue(running: Element) -> None:
    wire = Wire(running, delay_us=300_000, queue_packets=10)
    wire.send(1000)
    assert [n for n, _ in wire.receive(1.0)] == list(range(1000))


def test_a_change_keeps_what_is_in_flight(running: Element) -> None:
    wire = Wire(running, delay_us=300_000)
    wire.send(100)
    running.set(wire.name, {"delay_us": 1000})
    wire.send(100, first=100)
    assert [n for n, _ in wire.receive(1.0)] == list(range(200))


def test_a_higher_rate_speeds_up_what_waits(running: Element) -> None:
    wire = Wire(running, rate_kbit=10)  # 0.8 s a packet
    start = wire.send(100, size=1000)
    running.set(wire.name, {"rate_kbit": 100_000})
    arrivals = wire.receive(2.0)
    assert [n for n, _ in arrivals] == list(range(100))
    assert arrivals[-1][1] - start < 20  # 80 at the old rate


def test_one_flooded_port_leaves_memory_to_the_others(running: Element) -> None:
    flooded, other = Wire(running, delay_us=2_000_000), Wire(running, "to-c")
    cells = running.state()["cells"]
    flooded.send(cells)
    end = time.monotonic() + 10
    while flooded.count()["received"] < cells:
        assert time.monotonic() < end
    assert flooded.count()["dropped"] >= cells // 2 - 64
    other.send(200)
    assert len(other.receive()) == 200
    flooded.receive(2.5)
    assert running.state()["free_cells"] >= cells - 33  # all given back but the window


def test_many_ports_keep_their_own_time(running: Element) -> None:
    wires = [Wire(running, f"v{i}", delay_us=100_000 + 1000 * i) for i in range(100)]
    starts = [w.send(1) for w in wires]
    for i, (wire, start) in enumerate(zip(wires, starts, strict=True)):
        assert wire.arrival() - start >= 0.1 + 0.001 * i
    assert len(running.ports()) == 100


def test_remove_forgets_the_port_and_its_packets(running: Element) -> None:
    wire = Wire(running, delay_us=10_000_000)
    wire.send(100)
    running.remove(wire.name)
    assert running.ports() == {}
    running.remove(wire.name)
    assert wire.take.recv(100) == b""  # closed
    state = running.state()
    assert state["free_cells"] == state["cells"] - 33


def test_a_port_whose_ends_hang_up_goes_away(running: Element) -> None:
    wire = Wire(running)
    wire.put.close()
    other = Wire(running, "to-c")
    other.send(1)
    assert len(other.receive()) == 1
    assert set(running.ports()) == {other.name}


def test_settings_come_back_as_given(running: Element) -> None:
    given = {"delay_us": 1, "jitter_us": 2, "loss_ppm": 3, "rate_kbit": 4, "queue_packets": 5, "netns": 6, "ifindex": 7}
    wire = Wire(running, **given)
    assert running.ports() == {wire.name: given}


@pytest.mark.parametrize("words", ["delay_us=-1", "delay_us=1e3", "delay=1", "delay_us=", f"delay_us={10**20}"])
def test_nonsense_is_refused_and_changes_nothing(running: Element, words: str) -> None:
    wire = Wire(running, delay_us=7)
    name, _, value = words.partition("=")
    with pytest.raises(DriverError, match="don't understand"):
        running.set(wire.name, {"rate_kbit": 5, name: value})  # type: ignore[dict-item]
    assert running.ports()[wire.name]["rate_kbit"] == 0
    with pytest.raises(DriverError, match="the words are"):
        running._ask("dance a b")
    with pytest.raises(DriverError, match="no such port"):
        running.set(("x", "y"), PLAIN)
