"""Equal-cost paths: what kernels tell of them, that all protocols install them, and what is seen when one fails."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run
from pings import ping, unanswered, up

from vini import edit
from vini.client import Client
from vini.layout import address, layout
from vini.model import End, Expect, Link, Routing, Sliver, Topology
from vini.node import netns
from vini.node.netlink import Socket
from vini.node.trace import fib
from vini.reach import FibEntry, NextHop, Walker

pytestmark = pytest.mark.root

FAST = {"hello_s": 1.0, "dead_s": 2.0}
BOTH = ["a -> b -> d", "a -> c -> d"]
PREFIXES = ("203.0.113.0/24", "2001:db8:1::/48")  # what d announces by BGP within its system


# --- what a kernel tells --------------------------------------------------------------------------


@contextmanager
def two_links() -> Iterator[Path]:
    """A namespace with the interfaces x and y, and a neighbour on each."""
    name = f"vtm{os.getpid()}"
    inside = ("ip", "-n", name)
    run("ip", "netns", "add", name)
    try:
        for i, dev in enumerate("xy"):
            run(*inside, "link", "add", dev, "type", "veth", "peer", "name", f"{dev}-end")
            run(*inside, "link", "set", f"{dev}-end", "up")
            run(*inside, "addr", "add", f"10.{i}.0.1/24", "dev", dev)
            run(*inside, "addr", "add", f"fd0{i}::1/64", "dev", dev, "nodad")
            run(*inside, "link", "set", dev, "up")
        yield Path("/run/netns") / name
    finally:
        run("ip", "netns", "del", name)


def table(at: Path) -> dict[str, FibEntry]:
    with netns.inside(at), Socket() as socket:
        return {e.to: e for e in fib(socket)}


def test_kernel_tells_all_next_hops_with_their_weights_in_one_order_however_they_were_given():
    with two_links() as at:
        ip = ("ip", "-n", at.name)
        hops = (("nexthop", "via", "10.1.0.2", "weight", "3"), ("nexthop", "via", "10.0.0.2"))
        six = (("nexthop", "via", "fd01::2", "weight", "3"), ("nexthop", "via", "fd00::2"))
        run(*ip, "route", "add", "192.0.2.0/24", *hops[0], *hops[1])
        run(*ip, "route", "add", "198.51.100.0/24", *hops[1], *hops[0])
        run(*ip, "-6", "route", "add", "2001:db8::/48", *six[0], *six[1])
        run(*ip, "route", "add", "203.0.113.0/24", "via", "10.0.0.2")
        run(*ip, "-6", "route", "add", "2001:db8:2::/48", "via", "fd01::2")  # IPv6 adds next hops one by one, too
        run(*ip, "-6", "route", "append", "2001:db8:2::/48", "via", "fd00::2")
        seen = table(at)
        want = (NextHop("10.0.0.2", "x"), NextHop("10.1.0.2", "y", 3))
        assert seen["192.0.2.0/24"].hops == seen["198.51.100.0/24"].hops == want
        assert seen["2001:db8::/48"].hops == (NextHop("fd00::2", "x"), NextHop("fd01::2", "y", 3))
        assert seen["2001:db8:2::/48"].hops == (NextHop("fd00::2", "x"), NextHop("fd01::2", "y"))
        assert seen["203.0.113.0/24"] == FibEntry("203.0.113.0/24", "10.0.0.2", "x")


def test_kernel_tells_the_next_hops_of_a_nexthop_group_as_zebra_makes_them():
    with two_links() as at:
        ip = ("ip", "-n", at.name)
        for i, dev in enumerate("xy"):
            run(*ip, "nexthop", "add", "id", f"{i + 1}", "via", f"10.{i}.0.2", "dev", dev)
            run(*ip, "nexthop", "add", "id", f"{i + 11}", "via", f"fd0{i}::2", "dev", dev)
        run(*ip, "nexthop", "add", "id", "3", "group", "1/2,4")
        run(*ip, "nexthop", "add", "id", "13", "group", "11/12")
        run(*ip, "route", "add", "192.0.2.0/24", "nhid", "3")
        run(*ip, "-6", "route", "add", "2001:db8::/48", "nhid", "13")
        seen = table(at)
        assert seen["192.0.2.0/24"].hops == (NextHop("10.0.0.2", "x"), NextHop("10.1.0.2", "y", 4))
        assert seen["2001:db8::/48"].hops == (NextHop("fd00::2", "x"), NextHop("fd01::2", "y"))


def test_a_next_hop_whose_interface_is_down_is_none():
    with two_links() as at:
        ip = ("ip", "-n", at.name)
        run(*ip, "route", "add", "192.0.2.0/24", "nexthop", "via", "10.0.0.2", "nexthop", "via", "10.1.0.2")
        run(*ip, "link", "set", "x", "down")
        assert table(at)["192.0.2.0/24"].hops == (NextHop("10.1.0.2", "y"),)


# --- what daemons make of equal costs -------------------------------------------------------------


def square(name: str, daemon: str, *protocols: str, asn: int = 0, external: bool = False) -> Topology:
    def sliver(i: int, n: str) -> Sliver:
        routing = Routing(protocols, daemon, **FAST, asn=asn + (i if external else 0))
        if n == "d" and protocols[-1] == "bgp" and not external:
            routing = Routing(protocols, daemon, **FAST, asn=asn, announce=PREFIXES)
        return Sliver(n, routing)

    links = tuple(Link((End(a), End(b))) for a, b in ("ab", "bd", "ac", "cd"))
    return Topology(name, {n: sliver(i, n) for i, n in enumerate("abcd")}, links)


def matrix() -> dict[str, Topology]:
    out = [square("isis-frr", "frr", "isis")]
    for daemon in ("frr", "bird"):
        out.append(square(f"ospf-{daemon}", daemon, "ospf", "ospf6"))
        out.append(square(f"rip-{daemon}", daemon, "rip", "ripng"))
        out.append(square(f"ebgp-{daemon}", daemon, "bgp", asn=65001, external=True))
        out.append(square(f"ibgp-{daemon}", daemon, "ospf", "ospf6", "bgp", asn=65000))
    return {t.name: t for t in out}


MATRIX = matrix()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    """One place, and one agent, with every slice of the matrix up."""
    own = OwnPlace(tmp_path_factory.mktemp("multipath"))
    try:
        asyncio.run(all_up(own.client()))
        yield own
        own.end_all()
        assert own.leftovers() == []
    finally:
        own.destroy()


async def all_up(client: Client) -> None:
    await asyncio.gather(*(client.up(t, timeout_s=60) for t in MATRIX.values()))


def walker(own: OwnPlace, topology: Topology) -> Walker:
    return Walker(layout(topology), asyncio.run(own.client().fib_entries(topology.name)))


def paths(own: OwnPlace, topology: Topology, a: str, b: str, family: int = 4) -> list[str]:
    return [str(p) for p in walker(own, topology).ways(a, address(layout(topology), b, family)).paths()]


@pytest.mark.needs("frr")
@pytest.mark.needs("bird")
@pytest.mark.parametrize("name", MATRIX)
def test_every_protocol_installs_both_of_two_equal_paths(ours, name):
    topology = MATRIX[name]
    for family in (4, 6):
        assert eventually(lambda f=family: paths(ours, topology, "a", "d", f) == BOTH)
    if name.startswith("ibgp"):
        eventually(lambda: [{h.dev for h in e.hops} for e in announced(ours, name)] == [{"to-b", "to-c"}] * 2)


def announced(own: OwnPlace, name: str) -> list[FibEntry]:
    tables = asyncio.run(own.client().fib_entries(name))
    return [e for e in tables["a"] if e.to in PREFIXES]


def vini(own: OwnPlace, *words: str) -> str:
    environment = {**os.environ, **own.environment}
    done = subprocess.run([sys.executable, "-m", "vini.cli", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("frr")
@pytest.mark.needs("bird")
@pytest.mark.parametrize("name", ["ospf-frr", "ospf-bird"])
def test_one_of_two_equal_paths_fails_in_silence_and_the_other_stays(ours, name):
    topology = MATRIX[name]
    eventually(lambda: paths(ours, topology, "a", "d") == BOTH)
    told = vini(ours, "routes", "-s", name, "a", "--to", "d").splitlines()
    assert told == ["a to d: one of 2 equal paths, by each flow's hash", *(f"  {p}" for p in BOTH)]
    found = json.loads(vini(ours, "routes", "-s", name, "a", "--to", "d", "--json"))["a"]
    assert (found["path"], found["arrives"]) == (None, True)
    assert found["paths"] == [["a", "b", "d"], ["a", "c", "d"]]
    assert flows_leave_by(ours, topology) == {"to-b", "to-c"}

    async def there_and_back() -> None:
        client = ours.client()
        assert await unanswered(client, topology) == []
        await client.edit(name, lambda t: edit.set_fault(t, "a", "b", "silent"), "fail")
        cut = await client.topology(name)
        await client.wait_converged(name)
        for family in (4, 6):
            await asyncio.to_thread(eventually, lambda f=family: paths(ours, cut, "a", "d", f) == BOTH[1:])
            assert await ping(client, cut, "a", "d", family)
        await client.put(topology)
        await client.wait_converged(name)

    asyncio.run(there_and_back())
    assert vini(ours, "routes", "-s", name, "a", "--to", "c").strip() == "a -> c"
    eventually(lambda: paths(ours, topology, "a", "d") == BOTH)


def flows_leave_by(own: OwnPlace, topology: Topology) -> set[str]:
    """The vifs of a by which flows to d leave that differ in their port alone."""
    client, made = own.client(), layout(topology)
    get = f"ip route get {address(made, 'd')} from {address(made, 'a')} ipproto udp dport 9 sport $p"
    argv = client.enter(topology.name, "a", ["sh", "-c", f"for p in $(seq 40000 40063); do {get}; done"])
    words = run(*argv).split()
    return {after for word, after in zip(words, words[1:], strict=False) if word == "dev"}


# --- a branch that leads nowhere ------------------------------------------------------------------


def test_a_dead_branch_is_not_converged_and_told_with_its_path(own):
    """Without a daemon that would find out: a host has both next hops by hand, and b, on one of them, no way to d."""
    static = Routing(("static",))
    slivers = {"a": Sliver("a"), **{n: Sliver(n, static) for n in "bcd"}}
    links = tuple(Link((End(a), End(b))) for a, b in ("ab", "bd", "ac", "cd"))
    topology = Topology("hand", slivers, links, (Expect("a", "d"),))

    async def look() -> None:
        async with up(own.client(), topology) as (client, _):
            made = layout(topology)
            first = {v.dev: made.neighbors(v)[0].addresses[0] for v in made.vifs["a"]}
            vias = [f"nexthop via {first[v.dev].partition('/')[0]} dev {v.dev}" for v in made.vifs["a"]]
            add = f"ip route add {address(made, 'd')}/32 {' '.join(vias)}"
            run(*client.enter("hand", "a", ["sh", "-c", add]))
            assert [str(p) for p in await ways(client)] == BOTH
            assert await client.converged("hand") == (True, "")
            await client.edit("hand", lambda t: edit.set_fault(t, "b", "d", "silent"), "fail")
            assert [str(p) for p in await ways(client)] == ["a -> b (ends here)", "a -> c -> d"]
            good, why = await client.converged("hand")
            assert not good and "e.g. a -> d, by a -> b (ends here)" in why

    async def ways(client: Client) -> list:
        now = await client.topology("hand")
        return list(Walker(layout(now), await client.fib_entries("hand")).ways("a", address(layout(now), "d")).paths())

    asyncio.run(look())
