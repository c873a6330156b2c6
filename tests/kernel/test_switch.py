"""Switches: what is on one LAN talks, routers meet there, and a loop of bridges harms nobody."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace
from own_place import OwnPlace, eventually, run
from pings import unanswered, up
from strategies import spec_of

from vini import edit
from vini.client import Client
from vini.layout import layout
from vini.model import AnyObject, Bridge, End, Expect, Fault, Interface, Link, Routing, Sliver, Topology
from vini.node import netns, storm, tc
from vini.node.machine import Machine
from vini.node.netlink import Socket
from vini.plan import plan

pytestmark = pytest.mark.root

RING = ("x", "y", "z")
BURST = 1000  # frames that a port's bucket holds at 10 kpps


def ring(name: str, fault: Fault = "none") -> Topology:
    """Three switches in a circle, a host on each; the link that closes the circle may have a fault."""
    slivers = {s: Sliver(s, mode="switch") for s in RING} | {f"h{s}": Sliver(f"h{s}") for s in RING}
    links = [Link((End(a), End(b)), fault=fault if (a, b) == ("z", "x") else "none") for a, b in pairwise((*RING, "x"))]
    return Topology(name, slivers, (*links, *(Link((End(f"h{s}"), End(s))) for s in RING)), (Expect(),))


def objects(topology: Topology, *, stp: bool) -> frozenset[AnyObject]:
    """What it asks for, with the Spanning Tree Protocol as the test wishes, and not as the loop demands."""
    return frozenset(replace(o, stp=stp) if isinstance(o, Bridge) else o for o in spec_of(topology).objects)


@contextmanager
def made(own: OwnPlace, want: frozenset[AnyObject]) -> Iterator[Machine]:
    machine = own.machine()
    try:
        assert machine.apply(plan(want, frozenset())) == {}
        eventually(lambda: own.observe() == want)  # a link-local address comes in the kernel's own time
        yield machine
    finally:
        assert machine.apply(plan(frozenset(), own.observe())) == {}


def change(own: OwnPlace, machine: Machine, want: frozenset[AnyObject]) -> None:
    assert machine.apply(plan(want, own.observe())) == {}


def broadcast(own: OwnPlace, ns: str, dev: str, times: int = 1) -> None:
    """Frames from this host's own address to all, and to a station that nobody has heard."""
    with netns.inside(own.place.pin(ns)), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((dev, 0))
        mac = out.getsockname()[4]
        for to in (b"\xff" * 6, bytes.fromhex("020000c0ffee")):
            for _ in range(times):
                out.send(to + mac + struct.pack("!H", 0x88B5) + bytes(50))


def received(own: OwnPlace, slice_: str) -> dict[tuple[str, str], int]:
    """Frames that came in at each port of the circle so far; those that storm control dropped too."""
    out = {}
    for a in RING:
        for b in RING:
            if a != b:
                with netns.inside(own.place.pin(f"{slice_}.{a}")):
                    text = Path("/proc/thread-self/net/dev").read_text()
                row = next(line for line in text.splitlines() if line.strip().startswith(f"to-{b}:"))
                out[a, b] = int(row.split(":")[1].split()[1])
    return out


# --- a loop -----------------------------------------------------------------------------------------


def test_a_loop_without_stp_is_contained_and_ends_by_itself(own):
    """One broadcast would go round for ever, as fast as the processors can; a neighbour's pings get through."""
    closed, opened = objects(ring("loop"), stp=False), objects(ring("loop", "carrier"), stp=False)
    near = Topology("near", {n: Sliver(n) for n in "ab"}, (Link((End("a"), End("b"))),))
    with made(own, opened | spec_of(near).objects) as machine:
        for one in RING:
            policed = {storm_control(own, f"loop.{one}", f"to-{other}") for other in RING if other != one}
            assert policed == {storm.name(10)}
        change(own, machine, closed | spec_of(near).objects)
        try:
            start, before = time.monotonic(), received(own, "loop")
            broadcast(own, "loop.hx", "to-x", times=200)
            peer = layout(near).vifs["b"][0].addresses[0].partition("/")[0]
            pings = run("nsenter", f"--net={own.place.netns('near.a')}", "--", "ping", "-qn", "-i0.01", "-c100", peer)
            after = received(own, "loop")
            took_s = time.monotonic() - start
            quiet = eventually(lambda: received(own, "loop") == received(own, "loop"))
        finally:
            change(own, machine, opened | spec_of(near).objects)
    most = max(after[port] - n for port, n in before.items())
    assert most > 2000, "it did not even loop"
    # A port takes in its bucket and what flows into that, and drops what its neighbour sends beyond that.
    assert most < 2 * (BURST + BURST * 10 * took_s)
    assert " 0% packet loss" in pings
    assert quiet


def test_a_circle_of_switches_carries_frames_and_heals_when_a_link_is_cut(own):
    topology = ring("circle")

    async def live() -> None:
        async with up(own.client(), topology) as (client, _):
            await all_answer(client, topology)
            for a, b in list(pairwise((*RING, "x")))[:2]:  # one of two carries frames: STP blocks one of three
                await client.edit("circle", lambda t, a=a, b=b: edit.set_fault(t, a, b, "carrier"), "cut")
                await client.wait_converged("circle")
                await all_answer(client, topology)
                await client.put(topology)

    asyncio.run(live())


async def all_answer(client: Client, topology: Topology) -> None:
    """Within the time that the Spanning Tree Protocol takes: what a bridge believes, and its forward delay twice."""
    for _ in range(20):
        if not (silent := await unanswered(client, topology)):
            return
    raise AssertionError(silent)


# --- what a hand spoils -----------------------------------------------------------------------------

VANDALISM = [
    "ip link set switch down",
    "ip link set switch type bridge stp_state 0",
    # At the root of the tree: elsewhere the kernel tells, and goes by, what the root says.
    "ip link set switch type bridge priority 0; ip link set switch type bridge forward_delay 3000",
    "ip link set switch type bridge mcast_snooping 1",
    "ip link set switch alias mine",
    "ip link set to-hx nomaster",
    "tc filter del dev to-hx ingress",
    "tc qdisc del dev to-y clsact",
    "ip link del switch",
    "ip link set to-hx group 0; ip link set to-hx name other; ip link set other group 1447644745",
    "ip link del switch; ip link del to-hx",
]


@pytest.mark.parametrize("harm", VANDALISM)
def test_one_pass_mends_a_switch(own, harm):
    want = objects(ring("mended"), stp=True)
    with made(own, want) as machine:
        run("nsenter", f"--net={own.place.netns('mended.x')}", "--", "sh", "-c", harm)
        assert own.observe() != want
        change(own, machine, want)
        # the kernel gives a vif that came up its link-local address in its own time
        eventually(lambda: want == own.observe())


def test_a_switch_becomes_a_host_and_a_switch_again(own):
    switches = ring("changed")
    slivers = {**switches.slivers, "x": Sliver("x")}
    links = tuple(x for x in switches.links if "y" not in x.ends[0].sliver + x.ends[1].sliver)
    hosts = replace(switches, slivers=slivers, links=links)
    with made(own, spec_of(switches).objects) as machine:
        for topology in (hosts, switches):
            want = spec_of(topology).objects
            change(own, machine, want)
            eventually(lambda want=want: own.observe() == want)
            assert bool(storm_control(own, "changed.x", "to-hx")) == (topology is switches)


def test_large_segments_are_cut_before_they_leave_where_that_is_asked(own):
    """Seen by what arrives: without it a segment is larger than the link's MTU."""
    pair = Topology("cut", {n: Sliver(n) for n in "ab"}, (Link((End("a"), End("b"))),))
    whole = spec_of(pair).objects
    split = frozenset(replace(o, split=True) if isinstance(o, Interface) and o.dev == "to-b" else o for o in whole)
    with made(own, whole) as machine:
        large = largest(own, pair)
        change(own, machine, split)
        eventually(lambda: own.observe() == split)
        assert largest(own, pair) <= 1514 < large
        change(own, machine, whole)
        eventually(lambda: own.observe() == whole)
        assert largest(own, pair) > 1514


def largest(own: OwnPlace, pair: Topology) -> int:
    """Bytes of the largest frame of a TCP stream from a as b sees it come in."""
    to = layout(pair).vifs["b"][0].addresses[0].partition("/")[0]
    with netns.inside(own.place.pin("cut.b")):
        server = socket.create_server((to, 0))
        seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        seen.bind(("to-a", 0x0003))
    with netns.inside(own.place.pin("cut.a")):
        client = socket.create_connection(server.getsockname())
    with server, seen, client, server.accept()[0] as accepted:
        client.sendall(bytes(200_000))
        accepted.settimeout(60)
        got = 0
        while got < 200_000:
            part = accepted.recv(1 << 16)
            assert part, f"it ended after {got} bytes"
            got += len(part)
        seen.setblocking(False)
        frames = []
        with suppress(BlockingIOError):
            while True:
                frames.append(len(seen.recv(1 << 17)))
    return max(frames)


# --- routers on a LAN -------------------------------------------------------------------------------

FAST = {"hello_s": 1.0, "dead_s": 2.0}


def lan(name: str, daemon: str, *protocols: str, asn: int = 0) -> Topology:
    """Four routers on two switches, and behind the last one a host."""
    asns = {f"r{i}": asn and asn + i for i in (1, 2, 3, 4)}
    slivers = {n: Sliver(n, Routing(protocols, daemon, **FAST, asn=at)) for n, at in asns.items()}
    slivers |= {s: Sliver(s, mode="switch") for s in ("s1", "s2")}
    pairs = [("s1", "s2"), ("r1", "s1"), ("r2", "s1"), ("r3", "s2"), ("r4", "s2"), ("h", "r4")]
    return Topology(name, slivers | {"h": Sliver("h")}, tuple(Link((End(a), End(b))) for a, b in pairs), (Expect(),))


LANS = [
    lan("isis-frr", "frr", "isis"),
    lan("babel-bird", "bird", "babel"),
    *(
        topology
        for d in ("frr", "bird")
        for topology in (
            lan(f"ospf-{d}", d, "ospf", "ospf6"),
            lan(f"rip-{d}", d, "rip", "ripng"),
            lan(f"bgp-{d}", d, "bgp", asn=65000),
        )
    ),
]


@pytest.mark.needs("frr")
@pytest.mark.needs("bird")
def test_routers_on_a_lan_learn_from_each_other_in_every_protocol(own):
    """All at once, which takes as long as one."""

    async def live() -> None:
        client = own.client()
        await asyncio.gather(*(client.up(t, timeout_s=90) for t in LANS))
        for topology in LANS:
            await client.wait_converged(topology.name)
            assert await unanswered(client, topology) == [], topology.name
        for topology in LANS:
            await client.down(topology.name)

    asyncio.run(live())


# --- what is looked at ------------------------------------------------------------------------------


def storm_control(own: OwnPlace, ns: str, dev: str) -> str:
    """The name of the filter that polices a port; "" where there is none."""
    with netns.inside(own.place.pin(ns)), Socket() as rtnetlink:
        found = tc.filters(rtnetlink, socket.if_nametoindex(dev), tc.INGRESS)
    return next((f.name for f in found if f.name.startswith(storm.NAME)), "")
