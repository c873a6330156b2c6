"""A tenant who floods his way to the world with what is forbidden: what stops it, and that nobody else notices."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace
from outside_world import (
    EVERYWHERE,
    NODE,
    NODE6,
    ROUTER,
    ROUTER6,
    SERVER,
    SERVER6,
    World,
    arp,
    ethernet,
    icmp6,
    neighbor,
    udp4,
    udp6,
    world,
)

from vini.model import OutsideGrant, Sliver, Topology
from vini.node import netns
from vini.node.outside import nft, rules

__all__ = ["world"]
pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside")]
HOSTILE = OutsideGrant(("0.0.0.0/0",), rate_kbit=1_000_000, packets_per_s=20_000, flows=500, new_flows_per_s=200)
HOSTILE6 = replace(HOSTILE, to=("0.0.0.0/0", "::/0"))
NEIGHBOUR = Topology("w", {"b": Sliver("b", outside=True)})
BROADCAST, ALL_NODES, ELSEWHERE = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "02:de:ad:be:ef:01"
LOT, SIZE = 500, 1 << 20
UPLOAD = f"import socket; s = socket.create_connection(({SERVER!r}, 80), 30); s.sendall(bytes({SIZE})); s.close()"


@pytest.fixture(scope="module")
def there(world: World) -> World:
    """A hostile sliver v.a, and w.b, of another slice, which has done nothing."""
    world.up(HOSTILE)
    world.up(EVERYWHERE, NEIGHBOUR)
    return world


def spoofed(world: World) -> Iterator[bytes]:
    """MAC, IP, ARP and ND that are another's, over and over."""
    me, gateway, neighbour = world.vif("a"), world.gateway_mac("a"), world.vif("b", "w")
    own = me.object.mac
    advertisement = b"\x60" + bytes(3) + b"\x00\x18\x3a\xff" + bytes(32) + b"\x88" + bytes(23)  # RFC 4861
    return itertools.cycle([
        ethernet(ELSEWHERE, gateway, 0x0800, udp4(me.address, SERVER, 9, b"x")),
        ethernet(own, gateway, 0x0800, udp4(neighbour.address, SERVER, 9, b"x")),
        ethernet(own, gateway, 0x0800, udp4(NODE, SERVER, 9, b"x")),
        ethernet(own, BROADCAST, 0x0806, arp(2, own, neighbour.address, neighbour.gateway)),
        ethernet(own, BROADCAST, 0x0806, arp(2, own, ROUTER, NODE)),
        ethernet(own, "33:33:00:00:00:01", 0x86DD, advertisement),
    ])  # fmt: skip


def storm(world: World) -> Iterator[bytes]:
    """Broadcasts and multicasts."""
    me = world.vif("a")
    own = me.object.mac
    return itertools.cycle([
        ethernet(own, BROADCAST, 0x0800, udp4(me.address, "255.255.255.255", 67, bytes(1000))),
        ethernet(own, BROADCAST, 0x0806, arp(1, own, me.address, me.gateway)),
        ethernet(own, "01:00:5e:00:00:05", 0x0800, udp4(me.address, "224.0.0.5", 89, bytes(1000))),
        ethernet(own, BROADCAST, 0x88B5, bytes(1000)),
    ])  # fmt: skip


def flows(world: World) -> Iterator[bytes]:
    """Each packet begins another flow."""
    me, gateway = world.vif("a"), world.gateway_mac("a")
    return (
        ethernet(
            me.object.mac, gateway, 0x0800, udp4(me.address, f"5.6.{n >> 8 & 255}.{n & 255}", 1 + n % 60_000, b"x")
        )
        for n in itertools.count()
    )


def spoofed6(world: World) -> Iterator[bytes]:
    """IPv6 that is another's: sources, neighbours, routers."""
    (me, gateway), own, to = world.addresses6("a"), world.vif("a").object.mac, world.gateway_mac("a")
    return itertools.cycle([
        ethernet(own, to, 0x86DD, udp6(NODE6, SERVER6, 9, b"x")),
        ethernet(own, ALL_NODES, 0x86DD, neighbor(136, me, "ff02::1", ROUTER6, ELSEWHERE)),
        ethernet(own, ALL_NODES, 0x86DD, neighbor(135, me, "ff02::1", gateway, ELSEWHERE)),
        ethernet(own, ALL_NODES, 0x86DD, icmp6("fe80::1", "ff02::1", 134, 0, bytes(12))),
    ])  # fmt: skip


def flows6(world: World) -> Iterator[bytes]:
    """Each packet begins another flow, to an address of its own."""
    me, own, gateway = world.addresses6("a")[0], world.vif("a").object.mac, world.gateway_mac("a")
    return (ethernet(own, gateway, 0x86DD, udp6(me, f"2a00:5:{n & 0xFFFF:x}::1", 9, b"x")) for n in itertools.count())


@contextmanager
def attacked(world: World, frames: Iterator[bytes]) -> Iterator[None]:
    """Until the block ends, as fast as it goes."""
    over = threading.Event()

    def attack() -> None:
        while not over.is_set():
            world.frames("a", *itertools.islice(frames, LOT))

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def upload(world: World) -> int:
    """Bytes that get from the neighbour to the world."""
    argv = ["nsenter", f"--net={world.own.place.pin('w.b')}", "--", sys.executable, "-c", UPLOAD]
    with world.listening(80, kind=1, at=SERVER) as listener:
        listener.settimeout(30)
        with subprocess.Popen(argv) as client:
            accepted, _ = listener.accept()
            accepted.settimeout(30)
            with accepted:
                got = sum(map(len, iter(lambda: accepted.recv(1 << 16), b"")))
            assert client.wait(30) == 0
    return got


def counted(world: World) -> tuple[dict[str, int], int]:
    """What the rules dropped so far, and how many flows the node tracks."""
    with netns.inside(world.host):
        dropped = nft.counters(rules.table_name(world.own.place.mark, "v"))
    return dropped, int(world.on_host("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))


@pytest.mark.parametrize(
    ("attack", "stops", "grant"),
    [
        (spoofed, "spoofed", HOSTILE),
        (storm, "spoofed", HOSTILE),
        (flows, "beyond", HOSTILE),
        pytest.param(spoofed6, "spoofed", HOSTILE6, marks=pytest.mark.needs("outside-ipv6")),
        pytest.param(flows6, "beyond", HOSTILE6, marks=pytest.mark.needs("outside-ipv6")),
    ],
)
def test_neighbour_node_and_world_go_on_while_one_floods(there, attack, stops, grant):
    there.up(grant)
    there.forget_flows()  # those of another flood, which new rules don't count
    before, _ = counted(there)
    with attacked(there, attack(there)):
        pings = there.inside("b", "ping", "-c", "15", "-i", "0.05", "-W", "5", SERVER, slice_="w")
        assert "15 received" in pings, pings
        assert "5 received" in there.on_host("ping", "-c", "5", "-i", "0.05", "-W", "5", ROUTER)
        assert upload(there) == SIZE
    after, tracked = counted(there)
    assert after[stops] - before[stops] > 2 * LOT
    assert tracked < HOSTILE.flows + 50
    neighbours = there.on_host("ip", "neigh")
    assert ELSEWHERE not in neighbours and there.vif("b", "w").object.mac in neighbours
