"""The link element, packets in and packets out: socket pairs stand in for the TAP and the packet socket, so no root."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import eventually, unspoilt

from vini.dataplane import element
from vini.dataplane.build import FLAGS, sources
from vini.dataplane.element import Element
from vini.model import DriverError

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

PATIENCE_S = 20.0  # for what must come: a busy machine may pause
HEADER = bytes(10)  # struct virtio_net_hdr
PLAIN = {"netns": 1, "ifindex": 1, "delay_us": 0, "jitter_us": 0, "loss_ppm": 0, "rate_kbit": 0, "queue_packets": 1000}
SINGLE = (
    "distribution",
    "enter_ppm",
    "leave_ppm",
    "bad_ppm",
    "good_ppm",
    "duplicate_ppm",
    "corrupt_ppm",
    "reorder_ppm",
)
PORT = PLAIN | dict.fromkeys(("cookie", *SINGLE, "queue_bytes", "queue_us", "aqm"), 0) | {"keeps_order": 1}
PORT |= dict.fromkeys(element.FILES, element.NO_FILE)


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

    def receive(self, count: int = 0, quiet_s: float = 0.5) -> list[tuple[int, float]]:
        """(number, arrival) of the next `count`; 0: of all that comes out until it is quiet."""
        out: list[tuple[int, float]] = []
        patience_s = PATIENCE_S if count else quiet_s
        while (not count or len(out) < count) and select.select([self.take], [], [], patience_s)[0]:
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
        yield e
    with suppress(OSError), Element(run) as e:
        os.kill(e.state()["pid"], signal.SIGTERM)


def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    units = [path for path in sources(element.SOURCE) if path.suffix == ".c"]
    subprocess.run(["gcc", *FLAGS, "-Werror", "-o", tmp_path / "element", *units, "-lm"], check=True)


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
    # the wire's ends are gone, so its port goes; who asks meanwhile, as an agent does, does not keep it
    eventually(lambda: not element.is_running(run))
    eventually(lambda: not Path(f"/proc/{pid}/fd").exists() or not (run / "element.sock").exists())
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
    assert min(delays) < 0.022  # the quickest: other load on the machine delays some


def test_order_is_kept_under_jitter(running: Element) -> None:
    wire = Wire(running, delay_us=5000, jitter_us=3000)
    arrivals = []
    for i in range(0, 500, 5):
        wire.send(5, first=i)
        arrivals += wire.receive(quiet_s=0.0005)
    arrivals += wire.receive(500 - len(arrivals)) if len(arrivals) < 500 else []
    assert [n for n, _ in arrivals] == list(range(500))


def test_jitter_has_the_asked_deviation(running: Element) -> None:
    """Packets so far apart that keeping order doesn't bind, so each delay is one draw."""
    wire = Wire(running, delay_us=20_000, jitter_us=2000)

    def spread_and_median() -> tuple[float, float]:
        delays = []
        for i in range(150):
            start = wire.send(1, first=i)
            delays.append(wire.arrival() - start)
        parts = statistics.quantiles(delays, n=20)
        return parts[15] - parts[3], statistics.median(delays)  # 20 % to 80 %: 1.683 sigma

    unspoilt(spread_and_median, lambda found: 0.0022 < found[0] < 0.0048 and 0.019 < found[1] < 0.023)


def test_loss_is_within_its_confidence_interval(running: Element) -> None:
    wire = Wire(running, loss_ppm=100_000)
    arrived = 0
    for i in range(100):
        wire.send(100, first=100 * i)
        arrived += len(wire.receive(quiet_s=0.002))
    eventually(lambda: wire.count()["received"] == 10_000)
    arrived += len(wire.receive())
    lost = 10_000 - arrived
    assert abs(lost - 1000) < 5 * (10_000 * 0.1 * 0.9) ** 0.5
    assert wire.count()["lost"] == lost


@pytest.mark.parametrize(("kbit", "packets"), [(1000, 60), (10_000, 400), (100_000, 300)])
def test_rate_holds(running: Element, kbit: int, packets: int) -> None:
    size = 10_000 if kbit > 10_000 else 1000  # so that none takes less than 0.8 ms
    wire = Wire(running, rate_kbit=kbit)

    def rate() -> float:
        sender = threading.Thread(target=wire.send, args=(packets, size))
        sender.start()
        arrivals = wire.receive(packets)
        sender.join()
        assert [n for n, _ in arrivals] == list(range(packets))
        return (packets - 1) * 8 * size / (arrivals[-1][1] - arrivals[0][1]) / 1000

    unspoilt(rate, lambda found: 0.95 * kbit < found < 1.05 * kbit)


def test_a_lone_packet_takes_its_time_on_the_wire(running: Element) -> None:
    wire = Wire(running, rate_kbit=1000)
    start = wire.send(1, size=1250)
    assert wire.arrival() - start >= 0.010


def test_the_queue_is_bounded_and_the_wire_is_not_counted(running: Element) -> None:
    wire = Wire(running, rate_kbit=1000, queue_packets=50, delay_us=500_000)
    start = wire.send(200, size=1000)  # 8 ms each
    eventually(lambda: wire.count()["received"] == 200)
    took = time.monotonic() - start
    arrived = len(wire.receive(200 - wire.count()["dropped"]))
    assert 51 <= arrived <= 52 + took / 0.008
    assert arrived + wire.count()["dropped"] == 200


def test_the_delay_line_holds_more_than_the_queue(running: Element) -> None:
    wire = Wire(running, delay_us=300_000, queue_packets=10)
    wire.send(1000)
    assert [n for n, _ in wire.receive(1000)] == list(range(1000))


def test_a_change_keeps_what_is_in_flight(running: Element) -> None:
    wire = Wire(running, delay_us=300_000)
    wire.send(100)
    running.set(wire.name, {"delay_us": 1000})
    wire.send(100, first=100)
    assert [n for n, _ in wire.receive(200)] == list(range(200))


def test_a_higher_rate_speeds_up_what_waits(running: Element) -> None:
    wire = Wire(running, rate_kbit=10)  # 0.8 s a packet
    start = wire.send(100, size=1000)
    running.set(wire.name, {"rate_kbit": 100_000})
    arrivals = wire.receive(100)
    assert [n for n, _ in arrivals] == list(range(100))
    assert arrivals[-1][1] - start < 40  # 80 at the old rate


def test_one_flooded_port_leaves_memory_to_the_others(running: Element) -> None:
    flooded, other = Wire(running, delay_us=4_000_000), Wire(running, "to-c")
    cells = running.state()["cells"]
    flooded.send(cells)
    eventually(lambda: flooded.count()["received"] == cells)
    assert flooded.count()["dropped"] >= cells // 2 - 64
    other.send(200)
    assert len(other.receive(200)) == 200
    flooded.receive(cells - flooded.count()["dropped"])
    eventually(lambda: running.state()["free_cells"] >= cells - 33)  # all given back but the window


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
    assert len(other.receive(1)) == 1
    eventually(lambda: set(running.ports()) == {other.name})


def test_settings_come_back_as_given(running: Element) -> None:
    wire = Wire(running)
    assert running.ports() == {wire.name: PORT}
    numbers = sorted(PORT.keys() - set(element.FILES))
    given = {name: 0 if name in ("keeps_order", "aqm", "distribution") else i for i, name in enumerate(numbers)}
    running.set(wire.name, given)
    assert running.ports() == {wire.name: PORT | given}


def test_a_port_that_is_made_anew_begins_with_nothing(running: Element) -> None:
    Wire(running, delay_us=7000, corrupt_ppm=9, keeps_order=0)
    again = Wire(running)
    assert running.ports() == {again.name: PORT}


def test_when_a_trace_began_is_told(running: Element, run: Path) -> None:
    for name in ("one", "other"):
        (run / name).write_text("opportunities\n1\n")
    wire = Wire(running)
    assert wire.count()["began"] == 0
    before = time.monotonic_ns()
    running.set(wire.name, {"trace": str(run / "one")})
    began = wire.count()["began"]
    assert before <= began <= time.monotonic_ns()
    running.set(wire.name, {"trace": str(run / "one"), "delay_us": 5})
    worker = running.state()["worker"]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: running.state()["worker"] not in (0, worker))
    assert wire.count()["began"] == began
    running.set(wire.name, {"trace": str(run / "other")})
    assert wire.count()["began"] > began
    running.set(wire.name, {"trace": element.NO_FILE})
    assert wire.count()["began"] == 0


def test_files_come_back_as_given_and_are_let_go(running: Element, run: Path) -> None:
    files = {"table": "-5\n5\n", "lose": "2\n4-5\n", "trace": "steps 0\n0 -1 -1 -1\n"}
    given = {name: str(run / name) for name in files}
    for name, text in files.items():
        (run / name).write_text(text)
    wire, other = Wire(running, **given), Wire(running, "to-c", **given)  # type: ignore[arg-type]
    assert running.ports() == {w.name: PORT | given for w in (wire, other)}
    wire.send(6)
    assert [n for n, _ in wire.receive(3)] == [0, 2, 5]
    running.set(wire.name, dict.fromkeys(element.FILES, element.NO_FILE))
    assert running.ports() == {wire.name: PORT, other.name: PORT | given}
    other.send(6)
    assert [n for n, _ in other.receive(3)] == [0, 2, 5]


def test_the_count_of_the_loss_list_is_told_and_can_be_moved(running: Element, run: Path) -> None:
    (run / "lose").write_text("2\n1000\n")
    wire = Wire(running, lose=str(run / "lose"))
    wire.send(3)
    assert [n for n, _ in wire.receive(2)] == [0, 2]
    assert wire.count()["counted"] == 3
    running.count_from(wire.name, 998)
    wire.send(4)
    assert [n for n, _ in wire.receive(3)] == [0, 2, 3]
    assert wire.count()["counted"] == 1002
    with pytest.raises(DriverError, match="count needs a number"):
        running._ask(f"count {' '.join(wire.name)} x")
    with pytest.raises(DriverError, match="no such port"):
        running.count_from(("x", "y"), 1)


def test_a_file_with_nonsense_is_refused_and_changes_nothing(running: Element, run: Path) -> None:
    (run / "good").write_text("7\n")
    (run / "bad").write_text("opportunities\n1\nx\n")
    os.mkfifo(run / "pipe")
    wire = Wire(running, delay_us=7)
    reasons = {"bad": "bad, line 3: 'x' is not", "none": "No such file", "pipe": "not a file", ".": "not a file"}
    for path, reason in ((run / name, reason) for name, reason in reasons.items()):
        with pytest.raises(DriverError, match=reason):
            running.set(wire.name, {"lose": str(run / "good"), "delay_us": 9, "trace": str(path)})
    with pytest.raises(DriverError, match="not an absolute path"):
        running.set(wire.name, {"trace": "good"})
    assert running.ports() == {wire.name: PORT | {"delay_us": 7}}


def test_a_large_file_holds_up_no_packet(running: Element, run: Path) -> None:
    """A million lines are read while packets go by; none of them is stalled for as long as reading takes."""
    (run / "trace").write_text("opportunities\n" + "".join(f"{i}\n" for i in range(1_000_000)))
    wire, other = Wire(running), Wire(running, "to-c")
    setter = threading.Thread(target=running.set, args=(wire.name, {"trace": str(run / "trace")}))
    setter.start()
    passed = 0
    while setter.is_alive():
        other.send(1)
        other.arrival()
        passed += 1
    setter.join()
    assert passed > 10
    assert running.ports()[wire.name]["trace"] == str(run / "trace")


def udp_frame(payload: bytes, partial: bool) -> bytes:
    """Vnet header, Ethernet, IPv4, UDP; its checksum complete, or left to the card as the kernel does."""
    addresses = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    udp = struct.pack(">HHHH", 1, 2, 8 + len(payload), 0) + payload
    pseudo = addresses + struct.pack(">HH", 17, len(udp))
    checksum = ones_sum(pseudo) if partial else 0xFFFF - ones_sum(pseudo + udp) or 0xFFFF
    udp = udp[:6] + struct.pack(">H", checksum) + udp[8:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    ip = ip[:10] + struct.pack(">H", 0xFFFF - ones_sum(ip)) + ip[12:]
    header = struct.pack("<BBHHHH", 1, 0, 42, 0, 34, 6) if partial else HEADER
    return header + bytes(12) + b"\x08\x00" + ip + udp


def ones_sum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_caught(frame: bytes) -> bool:
    """By one of the two checksums, or because it isn't for the same socket any more."""
    ip = frame[24:44]
    return (
        ones_sum(ip) != 0xFFFF or ones_sum(ip[12:20] + struct.pack(">HH", 17, len(frame) - 44) + frame[44:]) != 0xFFFF
    )


@pytest.mark.parametrize("partial", [False, True])
def test_one_bit_is_wrong_and_every_receiver_notices(running: Element, partial: bool) -> None:
    wire = Wire(running, corrupt_ppm=1_000_000)
    whole, bits = udp_frame(bytes(range(201)), False), set()
    assert not is_caught(whole)
    for _ in range(200):
        wire.put.send(udp_frame(bytes(range(201)), partial))
        got = wire.take.recv(1 << 17)
        assert got[:24] == whole[:24]  # the vnet header asks for nothing any more; Ethernet is as it was
        wrong = int.from_bytes(got, "big") ^ int.from_bytes(whole, "big")
        assert wrong.bit_count() == 1
        assert is_caught(got)
        bits.add(wrong)
    assert len(bits) > 100  # here and there
    assert wire.count()["corrupted"] == 200


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        (PORT, False),
        (PORT | {"delay_us": 1000, "jitter_us": 10, "duplicate_ppm": 5}, False),
        *((PORT | {name: 1}, True) for name in ("loss_ppm", "enter_ppm", "corrupt_ppm", "reorder_ppm", "aqm")),
        *((PORT | {name: "/a"}, True) for name in ("lose", "trace")),
        (PORT | {"keeps_order": 0}, True),
        (PORT | {"rate_kbit": 1_000_000, "queue_packets": 9}, True),
        (PORT | {"rate_kbit": 5_000_000, "queue_packets": 9}, False),
    ],
)
def test_segments_are_split_where_single_frames_matter(settings: dict[str, int | str], needs: bool) -> None:
    assert element.needs_frames(settings) == needs


# --- its processes ---------------------------------------------------------------------------------


class Flood(threading.Thread):
    """Sends numbered packets through a wire until it is told to stop, and takes them at the other end."""

    def __init__(self, wire: Wire):
        super().__init__(daemon=True)
        self.wire, self.stop, self.sent = wire, threading.Event(), 0
        self.got: list[int] = []

    def run(self) -> None:
        self.wire.take.setblocking(False)
        while not self.stop.is_set():
            self.wire.send(1, first=self.sent)
            self.sent += 1
            self._take()
            time.sleep(0.0005)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self.got.append(int.from_bytes(self.wire.take.recv(1 << 17)[10:14], "big"))

    def end(self) -> list[int]:
        """What came out, after all that will."""
        self.stop.set()
        self.join()
        eventually(lambda: select.select([self.wire.take], [], [], 1.0)[0] == [] or self._take())
        return self.got

    def goes_on(self) -> None:
        """Fails where packets sent from now on don't come out."""
        now = self.sent
        eventually(lambda: bool(self.got) and self.got[-1] > now)


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_hung_worker_is_replaced_under_a_flood(running: Element, by: signal.Signals) -> None:
    wire = Wire(running, delay_us=5000)
    flood = Flood(wire)
    flood.start()
    flood.goes_on()
    before = running.state()
    os.kill(before["worker"], by)
    flood.goes_on()
    got = flood.end()
    after = running.state()
    assert after["worker"] != before["worker"] and after["pid"] == before["pid"]
    assert after["restarts"] == 1
    assert got == sorted(set(got))
    assert running.ports() == {wire.name: PORT | {"delay_us": 5000}}
    assert wire.count()["received"] >= len(got)  # counted on, not anew
    eventually(lambda: not is_alive(before["worker"]))


def test_what_no_worker_has_read_waits_for_the_next(running: Element) -> None:
    """In the TAP, which here is a socket's queue."""
    wire = Wire(running)
    state = running.state()
    for process in ("pid", "worker"):
        os.kill(state[process], signal.SIGSTOP)
    wire.send(50)
    os.kill(state["worker"], signal.SIGKILL)
    os.kill(state["pid"], signal.SIGCONT)
    assert [n for n, _ in wire.receive(50)] == list(range(50))
    assert running.state()["restarts"] == 1


def test_a_dead_keeper_is_replaced_and_not_a_packet_lost(running: Element, run: Path) -> None:
    wire = Wire(running, delay_us=5000)
    flood = Flood(wire)
    flood.start()
    flood.goes_on()
    before = running.state()
    os.kill(before["pid"], signal.SIGKILL)
    after = running.state()
    assert after["pid"] != before["pid"] and after["worker"] == before["worker"]
    assert after["keeper_restarts"] == 1 and after["restarts"] == 0
    running.set(wire.name, {"delay_us": 4000})
    flood.goes_on()
    got = flood.end()
    assert got == list(range(flood.sent))
    assert running.ports() == {wire.name: PORT | {"delay_us": 4000}}
    other = Wire(running, "to-c")
    other.send(5)
    assert len(other.receive(5)) == 5
    assert (run / "element.sock").exists()


def test_they_heal_each_other_in_turn(running: Element) -> None:
    wire = Wire(running, delay_us=1000)
    for _ in range(3):
        for process in ("worker", "pid"):
            before = running.state()
            os.kill(before[process], signal.SIGKILL)
            eventually(lambda before=before, process=process: running.state()[process] not in (0, before[process]))
            wire.send(3)
            assert len(wire.receive(3)) == 3
    wire.put.close()
    eventually(lambda: running.ports() == {})


def test_both_dead_leave_the_place_to_a_new_one(running: Element, run: Path) -> None:
    wire = Wire(running)
    state = running.state()
    os.kill(state["pid"], signal.SIGSTOP)  # else each would start the other again
    for process in ("worker", "pid"):
        os.kill(state[process], signal.SIGKILL)
    assert wire.take.recv(100) == b""
    eventually(lambda: not element.is_running(run))
    with pytest.raises(OSError):
        running.state()
    element.start(run)
    with Element(run) as again:
        assert again.state()["pid"] not in (state["pid"], state["worker"])
        assert again.ports() == {}


def test_a_worker_that_dies_at_once_is_started_ever_more_slowly(running: Element) -> None:
    wire = Wire(running)
    for _ in range(7):
        before = running.state()["worker"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda before=before: running.state()["worker"] not in (0, before))
    assert running.state()["restarts"] == 7
    wire.send(3)
    assert len(wire.receive(3)) == 3


def test_sigterm_ends_both_and_leaves_no_file(running: Element, run: Path) -> None:
    Wire(running)
    state = running.state()
    os.kill(state["worker"], signal.SIGTERM)
    eventually(lambda: not is_alive(state["worker"]) and not is_alive(state["pid"]))
    assert list(run.iterdir()) == [run / "netns"]


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
