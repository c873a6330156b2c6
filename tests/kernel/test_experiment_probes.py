"""The probes' real programs, between two namespaces of our own joined by a veth pair."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from experiment_network import FakeNetwork, link, routers  # noqa: E402
from own_place import unspoilt  # noqa: E402

from vini.experiment.actions import Exec  # noqa: E402
from vini.experiment.conditions import Limits  # noqa: E402
from vini.experiment.probes import Capture, Counters, Iperf3, Ping, Traceroute, Udp  # noqa: E402
from vini.experiment.runner import run  # noqa: E402
from vini.experiment.timeline import Event, Experiment  # noqa: E402
from vini.layout import layout  # noqa: E402
from vini.model import Topology  # noqa: E402

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

PAIR = Topology(name="pair", slivers=routers("a", "b"), links=(link("a", "b"),))
NO_LIMITS = Limits(
    load_per_core=1e9, busy=2, steal=2, memory_free_mb=0, late_share=2, event_late_ms=1e9, probe_late_ms=1e9
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def pair():
    """Namespaces ex-<pid>-a and -b, addressed as the topology says; yields the prefix."""
    prefix, made = f"ex-{os.getpid()}-", layout(PAIR)
    ends = {s: made.vifs[s][0] for s in "ab"}
    try:
        for s in "ab":
            ip("netns", "add", prefix + s)
        near, far = ends["a"], ends["b"]
        ip("link", "add", near.dev, "netns", prefix + "a", "type", "veth", "peer", far.dev, "netns", prefix + "b")
        for s, vif in ends.items():
            for dev, cidrs in ((vif.dev, vif.addresses), ("lo", made.loopbacks[s])):
                ip("-n", prefix + s, "link", "set", dev, "up")
                for cidr in [c for c in cidrs if ":" not in c]:
                    ip("-n", prefix + s, "addr", "add", cidr, "dev", dev)
        for s, vif in ends.items():
            there = next(c for c in made.loopbacks[vif.peer] if ":" not in c)
            via = next(c for n in made.neighbors(vif) for c in n.addresses if ":" not in c).partition("/")[0]
            ip("-n", prefix + s, "route", "add", there, "via", via)
        yield prefix
    finally:
        for s in "ab":
            subprocess.run(["ip", "netns", "del", prefix + s], check=False, capture_output=True)


def measure(prefix: str, tmp_path: Path, duration_s: float, timeline=(), **probes) -> dict:
    network = FakeNetwork(inside=lambda s: ["ip", "netns", "exec", prefix + s])
    wish = Experiment(name="pair", topology=PAIR, duration_s=duration_s, timeline=timeline, probes=probes, calm_s=0.1)
    done = asyncio.run(run(wish, network, tmp_path, lambda _: None, limits=NO_LIMITS))
    return json.loads((done / "summary.json").read_text()) | {"folder": done}


def test_ping_loses_nothing_on_a_good_link(pair, tmp_path):
    found = measure(pair, tmp_path, 2.0, rtt=Ping("a", "b", 0.05))["probes"]["rtt"]
    assert found["notes"] == []
    assert found["statistics"]["sent"] > 3 and found["statistics"]["lost"] == 0
    assert 0 < found["statistics"]["median_ms"] < 1000


def test_cut_is_seen_by_ping_and_udp(pair, tmp_path):
    dev = layout(PAIR).vifs["b"][0].dev
    down, up = f"ip link set {dev} down", f"ip link set {dev} up"
    back = next(c for c in layout(PAIR).loopbacks["a"] if ":" not in c)
    via = next(c for c in layout(PAIR).vifs["a"][0].addresses if ":" not in c).partition("/")[0]
    timeline = (
        Event(Exec("b", down), at_s=1.0),
        Event(Exec("b", f"{up}; ip route add {back} via {via}"), at_s=2.5),
    )
    run = measure(pair, tmp_path, 6.0, timeline, rtt=Ping("a", "b", 0.1), gap=Udp("a", "b", 200.0))
    cut, mend = run["events"]
    first, last = cut["t"] - 0.1, mend["done_s"] + 1.0  # how long the machine takes is not the point
    found = run["probes"]
    outage = max(found["rtt"]["statistics"]["outages"], key=lambda o: o["lost"])
    assert outage["lost"] >= 5 and first <= outage["from_s"] <= outage["to_s"] <= last
    stream = found["gap"]["statistics"]
    assert stream["lost"] >= stream["longest_loss_run"] >= 50  # the neighbour table keeps some until the link is back
    assert (mend["t"] - cut["done_s"]) * 1000 <= stream["longest_gap_ms"] + 1 < (last - first) * 1000
    assert first <= stream["longest_gap_from_s"] <= cut["done_s"]


def test_udp_counts_exactly(pair, tmp_path):
    def good(found: dict) -> bool:
        statistics = found["statistics"]
        assert statistics["duplicates"] == 0 and statistics["sent"] <= 1001
        whole = found["notes"] == [] and statistics["lost"] == statistics["reordered"] == 0
        return whole and statistics["sent"] > 100 and 0 < statistics["median_ms"] < 100

    unspoilt(lambda: measure(pair, tmp_path, 2.0, gap=Udp("a", "b", 500.0, 100))["probes"]["gap"], good)


def test_iperf3_reports_the_receivers_intervals(pair, tmp_path):
    wish = Iperf3("a", "b", window=16384, every_s=0.2, rate_mbit=20)

    def good(found: dict) -> bool:
        assert found["notes"] == []
        return found["statistics"]["intervals"] >= 2 and 5 < found["statistics"]["goodput_mbit_s"] < 30

    unspoilt(lambda: measure(pair, tmp_path, 3.0, tcp=wish)["probes"]["tcp"], good)


def test_traceroute_capture_and_counters(pair, tmp_path):
    dev = layout(PAIR).vifs["b"][0].dev
    found = measure(
        pair, tmp_path, 3.0,
        seen=Traceroute("a", "b", 1.0), pcap=Capture("b", dev, "icmp"), ctr=Counters(every_s=0.5),
        rtt=Ping("a", "b", 0.1),
    )  # fmt: skip
    assert found["probes"]["seen"]["statistics"]["paths"][0]["path"] == ["b"]
    assert found["probes"]["pcap"]["statistics"]["packets"] > 10
    assert (found["folder"] / "captures/pcap.pcap").stat().st_size > 1000
    vifs = found["probes"]["ctr"]["statistics"]["during_the_run"]
    assert vifs[f"b:{dev}"]["rx_packets"] > 10
