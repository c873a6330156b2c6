"""A slice whose programs loop, flood or drop harms itself only: its neighbour's packets go on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually
from test_commands import Shell

from vini.model import BUDGET_KPPS
from vini.node import netns

pytestmark = [
    pytest.mark.alone,
    pytest.mark.waits,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]

GOOD = """\
name: good
slivers:
  p: {routes: [{to: 10.9.1.2/32, via: q}]}
  q: {addresses: 10.9.1.2}
links: [p -- q]
"""
BAD = """\
name: bad
slivers:
  x:
    routes: [{to: 10.9.2.2/32, via: y}]
    program: {elements: "input -> s :: classify(arp); s[arp] -> kernel; s[other] -> {X}"}
  y:
    addresses: 10.9.2.2
    program: {elements: "input -> s :: classify(arp); s[arp] -> kernel; s[other] -> {Y}"}
links: [x -- y]
"""


class Two(Shell):
    """A slice `bad`, of what its slivers do with packets, and its neighbour `good`."""

    def inside(self, ns: str, command: str) -> subprocess.Popen[str]:
        with netns.inside(self.own.place.pin(ns)):
            return subprocess.Popen(command.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def up(self, bad: str) -> None:
        for name, text in (("good", GOOD), ("bad", bad)):
            (self.directory / f"{name}.yaml").write_text(text)
            self.vini("up", f"{name}.yaml")

    def said(self, ns: str, command: str) -> str:
        return self.inside(ns, command).communicate(timeout=120)[0]

    def fare(self, sliver: str) -> dict:
        return next(row for row in self.json("program", "list", "-s", "bad") if row["sliver"] == sliver)

    def neighbour_is_well(self) -> bool:
        """A whole ping, and a stream of TCP."""
        assert " 20 received" in self.said("good.p", "ping -n -q -i 0.02 -W 5 -c 20 10.9.1.2")
        server = self.inside("good.q", "iperf3 -s -1 --forceflush")
        try:
            assert server.stdout is not None
            eventually(lambda: "listening" in server.stdout.readline())  # type: ignore[union-attr]
            assert "receiver" in self.said("good.p", "iperf3 -c 10.9.1.2 -n 20M")
        finally:
            server.terminate()
            server.communicate()
        return True

    @contextmanager
    def running(self, ns: str, command: str) -> Iterator[None]:
        process = self.inside(ns, command)
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture
def two(own: OwnPlace, tmp_path: Path) -> Two:
    return Two(own, tmp_path)


@contextmanager
def no_processor_idle() -> Iterator[None]:
    """Everybody on the node wants to compute, patiently."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            hog = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "import os\nos.nice(19)\nwhile True: pass"])
            )
            stack.callback(hog.kill)
        yield


LOOPS = """\
name: bad
slivers:
  x: {routes: [{to: 10.9.2.2/32, via: y}], program: {elements: "ROUND(to-y)"}}
  y: {addresses: 10.9.2.2, program: {elements: "ROUND(to-x)"}}
  u: {routes: [{to: 10.9.2.3/32, via: v}], program: {elements: "ROUND(to-v)"}}
  v: {addresses: 10.9.2.3, program: {elements: "ROUND(to-u)"}}
links: [x -- y, u -- v]
""".replace("ROUND", "input -> s :: classify(arp); s[arp] -> kernel; s[other] -> out")


@pytest.mark.needs("iperf3")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor that others want too is never a slice's alone")
def test_packets_that_go_round_for_ever_are_slowed_down(two):
    """One loop stays on its processor, where the scheduler alone gives it less than its share while others wait; two
    loops on two processors take more than one slice's share, and only the guard ends that."""
    two.up(LOOPS)
    assert two.fare("x")["hook"] == two.fare("u")["hook"] == "xdp"
    first, second = sorted(os.sched_getaffinity(0))[:2]
    with (
        two.running("bad.x", f"taskset -c {first} ping -n -q -i 0.01 -W 1 10.9.2.2"),
        two.running("bad.u", f"taskset -c {second} ping -n -q -i 0.01 -W 1 10.9.2.3"),
        no_processor_idle(),
    ):
        eventually(lambda: two.fare("x")["packets"] > 1_000_000 and two.fare("u")["packets"] > 1_000_000)
        eventually(lambda: two.fare("x")["slice_kpps"] < BUDGET_KPPS)
        assert two.neighbour_is_well()
        eventually(lambda: sum(two.fare(s)["over_budget"] for s in "xyuv") > 0)
    assert "4 of 4" in two.vini("status", "-s", "bad"), "a lowered budget is no fault to heal"


MULTIPLIES = """\
#include "runtime.h"
SEC("tc") int multiply(struct __sk_buff *s)
{
    __u32 first = 0;
    struct vif *v = bpf_map_lookup_elem(&vifs, &first);
    if (!v || s->protocol != bpf_htons(ETH_P_IP))
        return TC_ACT_UNSPEC;
    for (int i = 0; i < 20; i++)
        bpf_clone_redirect(s, v->ifindex, 0);
    return TC_ACT_SHOT;
}
char _license[] SEC("license") = "GPL";
"""
FLOODS = """\
name: bad
slivers:
  x: {routes: [{to: 10.9.2.2/32, via: y}], program: multiply.c}
  y: {addresses: 10.9.2.2, program: multiply.c}
links: [x -- y]
"""


@pytest.mark.needs("iperf3")
def test_a_program_that_multiplies_packets_is_slowed_down(two):
    """Each packet becomes twenty at either end of a link, and each of those twenty again."""
    (two.directory / "multiply.c").write_text(MULTIPLIES)
    two.up(FLOODS)
    with two.running("bad.x", "ping -n -q -i 0.2 -W 1 10.9.2.2"), no_processor_idle():
        eventually(lambda: two.fare("x")["slice_kpps"] < BUDGET_KPPS)
        assert two.neighbour_is_well()
        eventually(lambda: sum(two.fare(s)["over_budget"] for s in "xy") > 0)
    assert "2 of 2" in two.vini("status", "-s", "bad"), "a lowered budget is no fault to heal"


@pytest.mark.needs("iperf3")
def test_what_is_beyond_a_budget_is_dropped_and_counted(two):
    two.up(BAD.replace("{X}", "kernel").replace("{Y}", "kernel"))
    two.vini("program", "load", "-s", "bad", "y", "--budget", "1", _kernel_only(two))
    with two.running("bad.x", "ping -n -q -f 10.9.2.2"):
        eventually(lambda: two.fare("y")["over_budget"] > 100)
        assert two.neighbour_is_well()
    assert two.fare("x")["over_budget"] == 0


def _kernel_only(two: Two) -> str:
    path = two.directory / "kernel.elements"
    path.write_text("input -> kernel\n")
    return path.name


@pytest.mark.needs("iperf3")
def test_a_program_that_drops_all_cuts_off_its_own_slice_only(two):
    two.up(BAD.replace("{X}", "kernel").replace("{Y}", "drop"))
    assert " 0 received" in two.said("bad.x", "ping -n -q -i 0.05 -W 1 -c 5 10.9.2.2")
    assert two.neighbour_is_well()
    two.vini("program", "load", "-s", "bad", "y", _kernel_only(two))
    eventually(lambda: " 3 received" in two.said("bad.x", "ping -n -q -i 0.05 -W 1 -c 3 10.9.2.2"))
