"""Users' programs on the real kernel: loaded, hooked in, replaced while packets pass, budgeted, crashed, taken away."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from own_place import OwnPlace, eventually, run, unspoilt

from vini.model import AnyObject, Bpf, BpfRow, BpfVif, DriverError, Hook, NotFound
from vini.node import budget, libbpf, netns, rtnl, tc
from vini.node.drivers.contents import forget_sliver, furnished
from vini.node.drivers.program import ProgramDriver
from vini.node.hooks import Hooks
from vini.node.netlink import Socket
from vini.node.pins import Pins
from vini.node.place import Place
from vini.node.programs import Programs, dispatcher
from vini.node.shelf import Shelf

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]

WIRE = r"""
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u32); }
	ways SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
	seen SEC(".maps");
__u64 version = VERSION;

static __always_inline __u32 way(__u32 in)
{
	__u32 zero = 0, *out = bpf_map_lookup_elem(&ways, &in);
	__u64 *n = bpf_map_lookup_elem(&seen, &zero);
	if (n)
		(*n)++;
	return out ? *out : 0;
}

#ifdef VINI_XDP
SEC("xdp") int wire(struct xdp_md *c)
{
	__u32 out = way(c->ingress_ifindex);
	return out ? bpf_redirect(out, 0) : XDP_DROP;
}
#else
SEC("tc") int wire(struct __sk_buff *c)
{
	__u32 out = way(c->ifindex);
	return out ? bpf_redirect(out, 0) : TC_ACT_SHOT;
}
#endif
SEC("tc/egress") int leaving(struct __sk_buff *c)
{
	return version ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}
char _license[] SEC("license") = "GPL";
"""
R, TO_A, TO_B = "s.r", 91_002, 91_003
WAYS = tuple(BpfRow("ways", struct.pack("=I", i).hex(), struct.pack("=I", o).hex()) for i, o in
             ((TO_A, TO_B), (TO_B, TO_A)))  # fmt: skip


class Row:
    """Three slivers a--r--b; a and b are in one subnet, and r knows nothing of it: only a program joins them."""

    def __init__(self, place: Place):
        self.place = place
        self.pins = Pins(place)
        self.programs, self.hooks, self.driver = Programs(place), Hooks(place), ProgramDriver(place)
        self.pins.prepare(["s.a", R, "s.b"])
        for ns in ("s.a", R, "s.b"):
            with netns.back_home():
                self.pins.make(ns)
        self._link("s.a", R, (91_001, TO_A), ("to-r", "to-a"), 1)
        self._link(R, "s.b", (TO_B, 91_004), ("to-b", "to-r"), 3)
        for ns, address in (("s.a", "10.9.0.1/24"), ("s.b", "10.9.0.2/24")):
            # XDP redirects into a veth whose other end has NAPI, and does not finish checksums
            self.run(ns, f"ip addr add {address} dev to-r; ethtool -K to-r gro on tx off")
        eventually(lambda: "NO-CARRIER" not in self.run("s.a", "ip link show to-r"))

    def _link(self, a: str, b: str, indexes: tuple[int, int], devs: tuple[str, str], n: int) -> None:
        fds = (os.open(self.place.pin(a), os.O_RDONLY), os.open(self.place.pin(b), os.O_RDONLY))
        macs = (f"02:00:00:00:00:{n:02x}", f"02:00:00:00:00:{n + 1:02x}")
        with Socket() as s:
            assert s.transact([rtnl.add_veth(fds, devs, indexes, macs)]) == [0]
        for ns, fd, dev in zip((a, b), fds, devs, strict=True):
            os.close(fd)
            self.run(ns, f"ip link set {dev} up")

    def run(self, ns: str, command: str) -> str:
        with netns.inside(self.place.pin(ns)):
            return subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout

    def bpf(self, hook: str = "tc", version: int = 1, **fields: object) -> Bpf:
        """A wire; the text of each version is its own file."""
        vifs = (BpfVif("to-a", TO_A, "02:00:00:00:00:02", "02:00:00:00:00:01"),)
        o = Bpf(R, f"program/{version}.c", hook, vifs, **({"rows": WAYS} | fields))  # type: ignore[arg-type]
        self.write(o.source, WIRE.replace("VERSION", str(version)))
        return o

    def write(self, source: str, text: str) -> None:
        path = self.place.sliver(R) / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def wire(self, hook: str = "tc") -> list[Hook]:
        return [Hook(R, dev, "input", hook, "wire") for dev in ("to-a", "to-b")]  # type: ignore[arg-type]

    def ensure(self, *objects: AnyObject) -> None:
        for o in objects:
            assert self.driver.ensure([o]) == {}

    def observed(self) -> frozenset[AnyObject]:
        return self.driver.observe([R])

    def remove(self, *objects: AnyObject) -> None:
        for o in objects:
            assert self.driver.remove([o]) == {}

    def pings(self, count: int = 3) -> bool:
        return f" {count} received" in self.run("s.a", f"ping -n -i 0.05 -W 5 -c {count} 10.9.0.2")

    def seen(self) -> int:
        return sum(int.from_bytes(v, "little") for v in self.programs.read(R, "seen")[0][1])

    def flow(self) -> Flow:
        return Flow(self)

    def close(self) -> None:
        for h in list(self.hooks.attached(R)):
            self.hooks.detach(h.ns, h.dev, h.direction)
        self.programs.unload(R)
        self.pins.remove(["s.a", R, "s.b"])


class Flow:
    """Numbered datagrams from a to b, while the block lasts."""

    def __init__(self, row: Row):
        with netns.inside(row.place.pin("s.b")):
            self.into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.into.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
            self.into.bind(("", 9))
        with netns.inside(row.place.pin("s.a")):
            self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.connect(("10.9.0.2", 9))
        self.sent, self._on = 0, True
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while self._on:
            for _ in range(20):
                self.out.send(self.sent.to_bytes(4, "big"))
                self.sent += 1
            time.sleep(0.001)

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()
        self.out.close()
        self.received = []
        while select.select([self.into], [], [], 1.0)[0]:
            self.received.append(int.from_bytes(self.into.recv(64), "big"))
        self.into.close()


@pytest.fixture
def row(own: OwnPlace) -> Iterator[Row]:
    with _row(own.place) as made:
        yield made


@contextmanager
def _row(place: Place) -> Iterator[Row]:
    made = Row(place)
    try:
        yield made
    finally:
        made.close()


both_hooks = pytest.mark.parametrize("hook", ["tc", "xdp"])


@both_hooks
def test_packets_pass_by_a_program_alone(row: Row, hook: str) -> None:
    assert not row.pings(1)
    want = {row.bpf(hook), *row.wire(hook)}
    row.ensure(row.bpf(hook), *row.wire(hook))
    assert row.observed() == want
    assert row.pings()
    with row.flow() as flow:
        eventually(lambda: flow.sent > 500)
    assert flow.received == list(range(flow.sent))
    assert row.programs.spent(R).passed >= flow.sent
    assert row.seen() >= flow.sent
    row.remove(*row.wire(hook))
    assert not row.pings(1)
    assert row.observed() == {row.bpf(hook)}
    row.remove(row.bpf(hook))
    assert row.observed() == frozenset()
    assert not (row.place.run / "bpf").exists()
    assert "clsact" not in row.run(R, "tc qdisc show")


@both_hooks
def test_a_program_is_replaced_and_no_packet_is_lost(row: Row, hook: str) -> None:
    row.ensure(row.bpf(hook), *row.wire(hook))
    assert row.pings()
    before = row.seen()
    with row.flow() as flow:
        for version in range(2, 12):
            at = flow.sent
            row.ensure(row.bpf(hook, version))
            assert row.observed() == {row.bpf(hook, version), *row.wire(hook)}
            eventually(lambda at=at: flow.sent > at + 100)
    assert flow.received == list(range(flow.sent))
    assert row.seen() >= before + flow.sent, "the counters are those of all versions"


def test_what_was_written_stays_and_what_the_topology_changes_changes(row: Row) -> None:
    row.ensure(row.bpf())
    there = row.programs.read(R, "ways")
    assert len(there) == 2
    row.programs.write(R, "ways", struct.pack("=I", 7), struct.pack("=I", 8))
    assert row.programs.delete(R, "ways", struct.pack("=I", TO_A))
    row.ensure(row.bpf(version=2))
    keys = {k for k, _ in row.programs.read(R, "ways")}
    assert keys == {struct.pack("=I", TO_B), struct.pack("=I", 7)}
    changed = row.bpf(version=2, rows=(BpfRow("ways", "09000000", "0a000000"),))
    row.ensure(changed)
    assert dict(row.programs.read(R, "ways")) == {bytes.fromhex("07000000"): [bytes.fromhex("08000000")],
                                                  bytes.fromhex("09000000"): [bytes.fromhex("0a000000")]}  # fmt: skip
    assert row.observed() == {changed}


def test_a_map_of_another_shape_starts_empty(row: Row) -> None:
    row.ensure(row.bpf())
    row.write("program/wide.c", WIRE.replace("VERSION", "1").replace("max_entries, 8", "max_entries, 16"))
    row.ensure(Bpf(R, "program/wide.c", "tc", ()))
    assert row.programs.read(R, "ways") == []
    assert {m.name: m.max_entries for m in row.programs.tables(R)} == {"ways": 16, "seen": 1}


def test_tables_say_what_is_wrong(row: Row) -> None:
    with pytest.raises(NotFound, match="No program is loaded in s.r"):
        row.programs.read(R, "ways")
    row.ensure(row.bpf())
    with pytest.raises(NotFound, match="has no table way; it has seen, ways"):
        row.programs.read(R, "way")
    with pytest.raises(DriverError, match="A key of ways has 4 bytes, not 1"):
        row.programs.write(R, "ways", b"1", b"2")
    for n in range(2, 8):
        row.programs.write(R, "ways", struct.pack("=I", n), b"1234")
    with pytest.raises(DriverError, match="refused the entry of ways: Argument list too long"):
        row.programs.write(R, "ways", struct.pack("=I", 8), b"1234")


def test_programs_at_both_directions_and_hooks(row: Row) -> None:
    hooks = [*row.wire("xdp"), Hook(R, "to-b", "output", "tc", "leaving")]
    row.ensure(row.bpf("xdp"), *hooks)
    assert row.observed() == {row.bpf("xdp"), *hooks}
    other = Hook(R, "to-a", "input", "tc", "wire")
    row.ensure(row.bpf("tc"))
    assert {h.function for h in row.observed() if isinstance(h, Hook) and h.hook == "xdp"} == {""}
    row.ensure(other)
    assert other in row.observed()
    assert "xdp" not in row.run(R, "ip -o link show to-a")
    assert row.driver.ensure([Hook(R, "to-a", "input", "xdp", "wire")]) == {
        ("hook", R, "to-a", "input"): "wire of s.r is no program for xdp."
    }
    assert other in row.observed(), "what ran goes on"
    assert row.driver.ensure([Hook(R, "to-c", "input", "tc", "wire")]) == {
        ("hook", R, "to-c", "input"): "Sliver s.r has no vif to-c."
    }


SECTIONS = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc/ingress/to-a") int a(struct __sk_buff *c) { return -1; }
SEC("tc/egress") int b(struct __sk_buff *c) { return -1; }
SEC("tc/egress/to-b") int d(struct __sk_buff *c) { return -1; }
SEC("xdp/to-b") int e(struct xdp_md *c) { return XDP_PASS; }
"""


def test_sections_with_the_names_of_vifs(row: Row) -> None:
    row.write("program/s.c", SECTIONS)
    at_tc = Bpf(R, "program/s.c", "tc", ())
    hooks = [Hook(R, "to-a", "input", "tc", "a"), Hook(R, "to-b", "output", "tc", "d")]
    row.ensure(at_tc, *hooks)
    assert row.observed() == {at_tc, *hooks}
    at_xdp = Bpf(R, "program/s.c", "xdp", ())
    hooks = [Hook(R, "to-b", "input", "xdp", "e"), Hook(R, "to-b", "output", "tc", "b")]
    row.remove(Hook(R, "to-a", "input", "tc", "a"))
    row.ensure(at_xdp, *hooks)
    assert row.observed() == {at_xdp, *hooks}
    refused = row.driver.ensure([Hook(R, "to-b", "output", "xdp", "e")])
    assert refused == {("hook", R, "to-b", "output"): "XDP sees only what comes in; e at what leaves by to-b needs tc."}
    assert row.observed() == {at_xdp, *hooks}


def test_a_program_whose_pin_could_have_no_such_name_changes_nothing(row: Row) -> None:
    row.ensure(row.bpf(), *row.wire())
    row.write("program/long.c", SECTIONS.replace(" b(", f" {'b' * 300}("))
    failures = row.driver.ensure([Bpf(R, "program/long.c", "tc", ())])
    assert "a name in it has more than 255 characters" in failures["bpf", R]
    assert row.observed() == {row.bpf(), *row.wire()}
    assert row.pings()


def test_native_xdp_or_none(row: Row) -> None:
    row.run(R, "ip link set to-a mtu 9000")
    row.run("s.a", "ip link set to-r mtu 9000")
    row.ensure(row.bpf("xdp"))
    failures = row.driver.ensure(row.wire("xdp")[:1])
    assert failures == {
        ("hook", R, "to-a", "input"): "to-a can't run XDP natively: its MTU is too large; use `hook: tc`."
    }
    assert "xdp" not in row.run(R, "ip -o link show to-a")


# --- refusals -------------------------------------------------------------------------------------

CARELESS = """\
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int wire(struct __sk_buff *c)
{
	struct ethhdr *e = (void *)(long)c->data;
	return e->h_proto == 8 ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}
"""


def test_the_verifiers_line_beside_the_users(row: Row) -> None:
    row.ensure(row.bpf(), *row.wire())
    row.write("program/careless.c", CARELESS)
    failures = row.driver.ensure([Bpf(R, "program/careless.c", "tc", ())])
    said = failures["bpf", R]
    assert said.startswith("The kernel refused careless.c:\ncareless.c:8: invalid access to packet")
    assert "return e->h_proto == 8" in said
    assert row.observed() == {row.bpf(), *row.wire()}, "what was loaded goes on"
    assert row.pings()


def test_the_policy_stands_before_loading(row: Row) -> None:
    text = CARELESS.replace("return e", 'bpf_printk("%d", 1); return e')
    row.write("program/talks.c", text)
    said = row.driver.ensure([Bpf(R, "program/talks.c", "tc", ())])["bpf", R]
    assert "bpf_trace_printk is not allowed: it writes into the machine's one log" in said
    assert row.observed() == frozenset()
    assert not (row.place.run / "bpf").exists()


# --- budgets --------------------------------------------------------------------------------------


@pytest.mark.alone
@both_hooks
def test_a_budget_lets_its_rate_pass_and_counts_the_rest(row: Row, hook: str) -> None:
    row.ensure(row.bpf(hook, budget_kpps=20), *row.wire(hook))
    pins = Shelf(row.place, R)
    dispatcher_fd = libbpf.pinned(pins.hook(pins.hooks()[0]))
    others = libbpf.processors() * 64  # a processor may keep a batch for later

    def offer() -> tuple[float, int]:
        """Packets that passed in a second of more than may, beside those that may."""
        before, began = row.programs.spent(R), time.monotonic()
        packet = bytes(64)
        while time.monotonic() < began + 0.2:
            libbpf.test_run(dispatcher_fd, packet, repeat=2000)
        after, took_s = row.programs.spent(R), time.monotonic() - began
        assert after.dropped > before.dropped
        passed = after.passed - before.passed
        most = took_s * 20_000 + 200 + others  # what it saves up in 10 ms
        assert passed <= most
        return passed / (took_s * 20_000), passed

    try:
        unspoilt(offer, lambda seen: seen[0] > 0.98)
    finally:
        os.close(dispatcher_fd)


def test_a_slices_budget_bounds_all_its_slivers(row: Row) -> None:
    row.ensure(row.bpf(), *row.wire())
    assert row.programs.slice_kpps("s") == budget.SLICE_KPPS
    row.programs.set_slice_kpps("s", 1)
    assert row.programs.slice_kpps("s") == 1
    fd = libbpf.pinned(Shelf(row.place, R).hook(Shelf(row.place, R).hooks()[0]))
    began, before = time.monotonic(), row.programs.spent(R)
    libbpf.test_run(fd, bytes(64), repeat=200_000)
    took_s = time.monotonic() - began
    os.close(fd)
    after = row.programs.spent(R)
    assert after.dropped > before.dropped
    assert after.passed - before.passed <= took_s * 1000 + 10 + libbpf.processors() * 64
    row.programs.set_slice_kpps("s", budget.SLICE_KPPS)
    assert eventually(row.pings)
    assert row.observed() == {row.bpf(), *row.wire()}, "a lowered budget is no drift"


def test_no_mark_dodges_the_budget() -> None:
    with libbpf.BpfObject(dispatcher("tc")) as o:
        o.choose({"dispatch": libbpf.SCHED_CLS})
        o.load()
        for mark in (0, 0x56494E49):
            context = struct.pack("=IIII", 0, 0, mark, 0).ljust(192, b"\0")  # struct __sk_buff: mark is the third
            assert libbpf.test_run(o.program_fd("dispatch"), bytes(64), context=context).returned == 2  # SHOT


def test_the_running_time_of_a_slivers_programs_is_measured(row: Row) -> None:
    row.ensure(row.bpf(), *row.wire())
    with row.flow():
        busy = eventually(lambda: row.programs.running_ns_per_s()[R])
    assert 0 < busy < 1e9 * libbpf.processors()
    quiet = eventually(lambda: row.programs.running_ns_per_s()[R] < busy)
    assert quiet


LOOP = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int loop(struct xdp_md *c) { return XDP_TX; }
"""


def test_a_loop_of_programs_is_seen_and_ends_by_a_lower_budget(row: Row) -> None:
    """Two programs send one packet to and fro for ever: all of a processor, though they hardly run."""
    row.run(R, "ip addr add 10.9.0.3/24 dev to-b; ping -c 1 -W 5 10.9.0.2")
    for ns, dev in ((R, "to-b"), ("s.b", "to-r")):
        path = row.place.sliver(ns) / "program" / "loop.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LOOP)
        row.ensure(Bpf(ns, "program/loop.c", "xdp", ()), Hook(ns, dev, "input", "xdp", "loop"))

    def taken() -> float:
        return sum(row.programs.running_ns_per_s().values())

    def runs() -> bool:
        row.run(R, "ping -c 1 -W 1 10.9.0.2")  # the first may be lost while the vifs learn of their programs
        return taken() > 0

    try:
        eventually(runs)
        unspoilt(taken, lambda ns: ns > 5e8)
        row.programs.set_slice_kpps("s", 100)
        eventually(lambda: taken() < 1e8)
    finally:
        for h in row.hooks.attached("s.b"):
            row.hooks.detach(h.ns, h.dev, h.direction)
        row.programs.unload("s.b")


# --- shaping comes behind programs ----------------------------------------------------------------


def test_filters_of_programs_come_before_shapes(row: Row) -> None:
    row.ensure(row.bpf(), Hook(R, "to-b", "output", "tc", "leaving"))
    with netns.inside(row.place.pin(R)), Socket() as s:
        filters = {f.priority for f in tc.filters(s, TO_B) if f.name}
    assert filters == {tc.PROGRAM_PRIORITY}
    assert tc.PROGRAM_PRIORITY < tc.SHAPE_PRIORITY


# --- crashes and hands ----------------------------------------------------------------------------

CRASH = """
import os, signal, sys
from pathlib import Path
import msgspec
from vini.model import Bpf, Hook
from vini.node import libbpf
from vini.node.drivers.program import ProgramDriver
from vini.node.netlink import Socket
from vini.node.place import Place
place, steps = Place(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])), int(sys.argv[4])
verb, objects = sys.argv[5], [msgspec.json.decode(o, type=Bpf | Hook) for o in sys.argv[6:]]
left = [steps]
def counted(do):
    def step(*a, **k):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return do(*a, **k)
    return step
for owner, names in ((libbpf, ("pin", "update", "delete")), (Path, ("mkdir", "unlink", "rmdir", "rename")),
                     (Socket, ("transact",))):
    for name in names:
        setattr(owner, name, counted(getattr(owner, name)))
driver = ProgramDriver(place)
for o in objects:
    failures = getattr(driver, verb)([o])
    assert not failures, failures
"""


def _crash(row: Row, steps: int, verb: str, *objects: AnyObject) -> bool:
    """Whether it was killed after so many steps; False: it was done before."""
    texts = [msgspec.json.encode(o).decode() for o in objects]
    p = row.place
    argv = [sys.executable, "-c", CRASH, p.mark, str(p.run), str(p.state), str(steps), verb, *texts]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def _heals(row: Row, *want: AnyObject) -> None:
    """As the agent does: ensure what is not as it is wanted."""
    for o in want:
        if o not in row.observed():
            row.ensure(o)
    assert row.observed() == set(want)


@both_hooks
def test_killed_at_any_step_it_is_whole_or_seen_not_to_be(row: Row, hook: str) -> None:
    old, new, hooks = row.bpf(hook, 1), row.bpf(hook, 2), row.wire(hook)
    row.ensure(old, *hooks)
    row.programs.write(R, "seen", bytes(4), struct.pack("=Q", 1000))
    steps = 0
    while _crash(row, steps, "ensure", new):
        found = row.observed()
        whole = [o for o in found if isinstance(o, Bpf) and o.source]
        assert whole in ([], [old], [new])
        assert row.pings(1), f"packets pass after a crash at step {steps}"
        _heals(row, new, *hooks)
        _heals(row, old, *hooks)
        steps += 1
    assert steps > 10
    assert row.seen() >= 1000


def test_killed_at_the_first_loading_or_the_last_unloading(row: Row) -> None:
    bpf = row.bpf()
    for verb in ("ensure", "remove"):
        steps = 0
        while True:
            row.remove(bpf)
            if verb == "remove":
                row.ensure(bpf)
            if not _crash(row, steps, verb, bpf):
                break
            if R in row.programs.slivers():
                assert [o for o in row.observed() if isinstance(o, Bpf)], f"what is left is seen ({verb}, step {steps})"
            _heals(row, bpf)
            steps += 1
        assert steps > 10
    row.remove(bpf)
    assert not (row.place.run / "bpf").exists()


def test_killed_while_hooking_in_or_out(row: Row) -> None:
    bpf, hook = row.bpf(), Hook(R, "to-a", "input", "tc", "wire")
    row.ensure(bpf)
    for verb, wanted in (("ensure", {bpf, hook}), ("remove", {bpf})):
        steps = 0
        while True:
            row.remove(hook)
            if verb == "remove":
                row.ensure(hook)
            if not _crash(row, steps, verb, hook):
                break
            left = row.observed() - {bpf}
            attached = "vini_program" in row.run(R, "tc filter show dev to-a ingress")
            assert left or not attached, f"what is attached is seen (step {steps} of {verb})"
            row.ensure(hook) if verb == "ensure" else row.remove(hook)
            assert row.observed() == wanted
            steps += 1
        assert steps > 2


@pytest.mark.parametrize(
    "vandal",
    [
        "tc qdisc del dev to-a clsact",
        "tc filter del dev to-a ingress",
        "rm $BPF/hooks/*to-a",
        "rm $BPF/*/programs/wire",
        "rm $BPF/*/maps/ways",
        "rm $BPF/calls_tc",
        "rm $BPF/whole",
        "rm -r $BPF/../_budget",
        "rm -r $BPF",
        "umount -l $BPF/../..",
        "mkdir $BPF/17",
        "ip link del to-a; ip link add to-a index 91002 type veth peer name other; ip link set to-a up",
    ],
)
def test_what_a_hand_did_is_seen_and_healed(row: Row, vandal: str) -> None:
    want = [row.bpf(), *row.wire()]
    row.ensure(*want)
    with netns.inside(row.place.pin(R)):
        run("env", f"BPF={Shelf(row.place, R).at}", "sh", "-c", vandal)
    assert row.observed() != set(want)
    for o in want:
        row.ensure(o)
    assert row.observed() == set(want)
    if "link del" not in vandal:
        assert row.pings()


def test_programs_go_with_their_sliver(row: Row) -> None:
    """As when nobody wants it any more: only its namespace is named."""
    row.ensure(row.bpf(), *row.wire())
    assert R in furnished(row.place)
    forget_sliver(row.place, R)
    assert row.programs.slivers() == set()
    assert not (row.place.run / "bpf").exists()


def test_two_slices_share_nothing_and_the_last_takes_the_file_system_along(row: Row) -> None:
    row.ensure(row.bpf())
    other = Bpf("t.r", "program/1.c", "tc", ())
    path = row.place.sliver("t.r") / other.source
    path.parent.mkdir(parents=True)
    path.write_text(WIRE.replace("VERSION", "1"))
    row.ensure(other)
    assert row.programs.slivers() == {R, "t.r"}
    assert row.programs.read("t.r", "ways") == []
    assert (row.place.run / "bpf").stat().st_mode & 0o777 == 0o700
    row.remove(row.bpf())
    assert row.programs.slivers() == {"t.r"}
    assert row.driver.observe(["t.r"]) == {other}
    row.remove(other)
    assert not (row.place.run / "bpf").exists()
