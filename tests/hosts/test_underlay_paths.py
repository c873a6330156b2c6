"""Links mirror the paths between nodes that they ride on: a central and three test hosts, each with its agent."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from own_place import eventually, run, unspoilt
from testbed import Flow, Host, Testbed, testbed

from vini.layout import address, layout
from vini.rules.nouns import SubstrateLink
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]

MIRROR, HEAL = "home_mirror", "home_heal"
TRIANGLE = """
name: home_mirror
routing: {protocols: ospf, daemon: bird}
slivers:
  a: {node: n1}
  b: {node: n2}
  c: {node: n3}
links:
  - a -- b
  - b -- c
  - a -- c
"""
WHY = "the path between nodes n1 and n2 is down"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2", "n3"), tmp_path_factory.mktemp) as made:
        for slice_, more in ((MIRROR, ""), (HEAL, "substrate: heal\n")):
            made.vini("slice", "create", slice_, "--description", "a triangle", "--url", "https://example.org")
            path = made.directory / f"{slice_}.yaml"
            path.write_text(TRIANGLE.replace(MIRROR, slice_) + more + "expect: all\n")
            made.vini("up", str(path), "--slice", slice_, "--timeout", "120")
        eventually(both_ends(made, up=True))
        yield made
        for slice_ in (MIRROR, HEAL):
            made.vini("down", "-s", slice_)
        for host in made.hosts.values():
            assert host.observe() == frozenset()


ENDS = (("n1", "a", "to-b"), ("n2", "b", "to-a"))
OTHERS = (("n1", "a", "to-c"), ("n2", "b", "to-c"), ("n3", "c", "to-a"), ("n3", "c", "to-b"))


def link_is_up(bed: Testbed, node: str, sliver: str, dev: str, slice_: str = MIRROR) -> bool:
    host = bed.hosts[node]
    seen = json.loads(run(*host.enter(f"{slice_}.{sliver}", "ip", "-j", "link", "show", dev)))
    return "UP" in seen[0]["flags"]


def both_ends(bed: Testbed, up: bool, slice_: str = MIRROR) -> Callable[[], bool]:
    return lambda: [link_is_up(bed, *end, slice_=slice_) for end in ENDS] == [up, up]


def stays(bed: Testbed, up: bool, seconds: float) -> None:
    """For so long; a look takes two processes, which is not to be all that the machine does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert both_ends(bed, up)()
        time.sleep(0.1)


def deaf(host: Host, to: Host) -> None:
    """It receives nothing any more from that one."""
    host_nft(host, f"add table inet cut_{to.name}")
    host_nft(host, f"add chain inet cut_{to.name} in {{ type filter hook input priority -300; }}")
    host_nft(host, f"add rule inet cut_{to.name} in ip saddr {to.ip} drop")


def host_nft(host: Host, command: str) -> None:
    run("nsenter", f"--net={host.path}", "--", "nft", command)


@contextmanager
def cut(*directions: tuple[Host, Host]) -> Iterator[None]:
    """Nothing arrives at the first from the second; each of both reaches all others, and the central."""
    for host, to in directions:
        deaf(host, to)
    try:
        yield
    finally:
        for host, to in directions:
            host_nft(host, f"delete table inet cut_{to.name}")


@contextmanager
def probes_lost(one: Host, other: Host) -> Iterator[None]:
    """As in a flood: neither asks the other, and neither is answered; what tunnels carry arrives."""
    for host, to in ((one, other), (other, one)):
        host_nft(host, f"add table inet flood_{to.name}")
        host_nft(host, f"add chain inet flood_{to.name} in {{ type filter hook input priority -300; }}")
        host_nft(
            host, f"add rule inet flood_{to.name} in ip saddr {to.ip} icmp type {{ echo-request, echo-reply }} drop"
        )
    try:
        yield
    finally:
        for host, to in ((one, other), (other, one)):
            host_nft(host, f"delete table inet flood_{to.name}")


def mended(bed: Testbed) -> None:
    eventually(both_ends(bed, up=True))
    eventually(lambda: status(bed)["substrate"] == {})
    eventually(lambda: status(bed)["converged"])


def status(bed: Testbed, slice_: str = MIRROR) -> dict:
    return json.loads(bed.vini("status", "-s", slice_, "--json"))[0]


def notice(host: Host, sliver: str) -> str:
    path = host.own.place.sliver(f"{MIRROR}.{sliver}") / "failed-links"
    return path.read_text() if path.exists() else ""


def told(bed: Testbed, slice_: str) -> list[tuple[str, str, str]]:
    """Who said what of its paths, the oldest first."""
    found = bed.client().call("GET", "/events", dict, kind="slice", target=slice_, limit=200)["items"]
    return [(e["who"], e["what"], e["detail"]) for e in reversed(found) if e["what"].startswith("path")]


def test_what_rides_on_a_path_fails_with_it_and_comes_back_with_it(bed: Testbed) -> None:
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    before = time.monotonic()
    with cut((n1, n2), (n2, n1)):
        eventually(both_ends(bed, up=False))
        took = time.monotonic() - before
        assert all(link_is_up(bed, *end) for end in OTHERS)
        assert all(link_is_up(bed, *end, slice_=HEAL) for end in ENDS)
        print(f"both ends were down after {took:.2f} s")

        around = parse(TRIANGLE)
        flow = Flow(n1, around, "a", "b")
        try:
            eventually(
                lambda: "to-c" in run(*n1.enter(f"{MIRROR}.a", "ip", "route", "get", address(layout(around), "b", 4)))
            )
            time.sleep(0.5)
            answered, _ = flow.end()
        finally:
            flow.kill()
        assert answered > 0

        seen = eventually(lambda: (s := status(bed))["substrate"] and s)
        assert seen["substrate"] == {"a--b": WHY} and seen["faults"] == {}
        assert {s["state"] for s in seen["slivers"]} == {"ready"}
        assert f"link a--b has failed: {WHY}" in bed.vini("status", "-s", MIRROR)
        assert status(bed, HEAL)["substrate"] == {}
        assert (notice(n1, "a"), notice(n2, "b")) == (f"a--b\tto-b\t{WHY}\n", f"a--b\tto-a\t{WHY}\n")
        failed = [(f"node {n}", "path failed", f"link a--b failed: {WHY}") for n in ("n1", "n2")]
        eventually(lambda: sorted(told(bed, MIRROR)) == failed)
        assert bed.vini("log", "-s", MIRROR).count(f"path failed: link a--b failed: {WHY}") == 2
    mended(bed)
    assert (notice(n1, "a"), notice(n2, "b")) == ("", "")
    back = [(f"node {n}", "path back", "link a--b back") for n in ("n1", "n2")]
    eventually(lambda: sorted(told(bed, MIRROR)) == sorted(failed + back))
    assert told(bed, HEAL) == []


def test_owners_hear_of_a_failure_that_was_over_before_the_central_was_back(bed: Testbed) -> None:
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    since = len(told(bed, MIRROR))
    bed.central.kill()
    with cut((n1, n2), (n2, n1)):
        eventually(both_ends(bed, up=False))
        assert notice(n1, "a") == f"a--b\tto-b\t{WHY}\n"
    eventually(both_ends(bed, up=True))
    bed.central.up()
    unheard = "link a--b failed and came back once before it was heard of"
    expected = [(f"node {n}", "path failed", unheard) for n in ("n1", "n2")]
    eventually(lambda: sorted(told(bed, MIRROR)[since:]) == expected)
    mended(bed)


def test_what_an_operator_takes_down_fails_and_comes_back_with_it(bed: Testbed) -> None:
    bed.vini("substrate", "add", "east", "n1", "n2", "--rate", "0", "--delay", "3")
    since = len(told(bed, MIRROR))
    why = "substrate link east is down: new fibre"
    assert "the owners of slices want to know" in bed.vini("substrate", "down", "east", "--because", " ", check=False)
    bed.vini("substrate", "down", "east", "--because", "new fibre")
    eventually(both_ends(bed, up=False))
    assert all(link_is_up(bed, *end) for end in OTHERS)
    assert all(link_is_up(bed, *end, slice_=HEAL) for end in ENDS)
    eventually(lambda: status(bed)["substrate"] == {"a--b": why})
    assert notice(bed.hosts["n1"], "a") == f"a--b\tto-b\t{why}\n"
    failed = [(f"node {n}", "path failed", f"link a--b failed: {why}") for n in ("n1", "n2")]
    eventually(lambda: sorted(told(bed, MIRROR)[since:]) == failed)
    assert "down: new fibre" in bed.vini("substrate")
    bed.hosts["n1"].kill()  # what was asked for is on its disk
    bed.hosts["n1"].start()
    eventually(bed.hosts["n1"].is_connected)
    assert both_ends(bed, up=False)()
    bed.vini("substrate", "up", "east")
    mended(bed)
    bed.vini("substrate", "delete", "east")


def test_it_takes_less_than_a_second(bed: Testbed) -> None:
    bed.vini("substrate", "add", "east", "n1", "n2")
    client, at = bed.client(), "/substrate-links/east"

    def down_and_up_s() -> float:
        """How long the slower of both takes."""
        took = []
        for reason, up in (("new fibre", False), ("", True)):
            before = time.monotonic()
            client.call("PATCH", at, SubstrateLink, {"down": reason})
            eventually(both_ends(bed, up=up))
            took.append(time.monotonic() - before)
        return max(took)

    unspoilt(down_and_up_s, lambda took: took < 1.0)
    client.call("DELETE", at, type(None))
    mended(bed)


@pytest.mark.parametrize("deaf_one", ["n1", "n2"])
def test_a_path_that_fails_in_one_direction_fails_the_link_at_both_ends(bed: Testbed, deaf_one: str) -> None:
    one, other = bed.hosts[deaf_one], bed.hosts["n2" if deaf_one == "n1" else "n1"]
    with cut((one, other)):
        eventually(both_ends(bed, up=False))
        assert all(link_is_up(bed, *end) for end in OTHERS)
    mended(bed)


def test_a_cable_that_is_pulled_out_fails_all_links_to_that_node(bed: Testbed) -> None:
    ends = (*ENDS, OTHERS[1], OTHERS[3])  # all of n2's
    bed.hosts["n2"].cut()
    try:
        eventually(lambda: not any(link_is_up(bed, *end) for end in ends))
        assert all(link_is_up(bed, *end) for end in (OTHERS[0], OTHERS[2]))
    finally:
        bed.hosts["n2"].mend()
    mended(bed)
    assert all(link_is_up(bed, *end) for end in OTHERS)


def test_a_dead_agent_fails_no_link(bed: Testbed) -> None:
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    flow = Flow(n1, parse(TRIANGLE), "a", "b")
    try:
        for _ in range(2):
            n2.kill()
            stays(bed, up=True, seconds=3.0)
            n2.start()
            eventually(n2.is_connected)
            assert both_ends(bed, up=True)()
        answered, lost = flow.end()
    finally:
        flow.kill()
    assert answered > 50 and not lost


def test_an_agent_that_starts_while_a_path_is_down_leaves_its_links_down(bed: Testbed) -> None:
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    with cut((n1, n2), (n2, n1)):
        eventually(both_ends(bed, up=False))
        n1.kill()
        n1.start()
        stays(bed, up=False, seconds=5.0)
        eventually(n1.is_connected)
        eventually(lambda: status(bed)["substrate"] == {"a--b": WHY})
    mended(bed)


def test_while_packets_arrive_no_link_fails_though_all_probes_are_lost(bed: Testbed) -> None:
    """And without the packets it does, by which the rules show that they work."""
    n1, n2, made = bed.hosts["n1"], bed.hosts["n2"], layout(parse(TRIANGLE))
    for host, sliver, peer in ((n1, "a", "b"), (n2, "b", "a")):  # not around, as after a failure for a while
        way = host.enter(f"{MIRROR}.{sliver}", "ip", "route", "get", address(made, peer, 4))
        eventually(lambda w=way, p=peer: f"to-{p}" in run(*w))
    flow = Flow(n1, parse(TRIANGLE), "a", "b")  # 20 packets a second, and their answers
    try:
        eventually(lambda: flow.answers())
        with probes_lost(n1, n2):
            stays(bed, up=True, seconds=5.0)
            flow.end()
            eventually(both_ends(bed, up=False))
    finally:
        flow.kill()
    mended(bed)


def test_an_agent_that_hardly_runs_fails_no_link(bed: Testbed) -> None:
    """It is stopped most of the time, a little and long."""
    eventually(both_ends(bed, up=True))
    agents = bed.hosts["n1"].own.agents()
    try:
        for seconds in (0.3, 0.6, 0.9, 1.5, 0.2, 0.8, 3.0, 0.25, 0.75):
            for pid in agents:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
            assert both_ends(bed, up=True)()
    finally:
        for pid in agents:
            os.kill(pid, signal.SIGCONT)
    assert status(bed)["substrate"] == {}
