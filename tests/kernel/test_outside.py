"""A sliver's way to the world: what is granted passes, translated; nothing else leaves, whatever the sliver sends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside_world import (
    EVERYWHERE,
    NODE,
    PEER,
    ROUTER,
    SERVER,
    World,
    arp,
    ethernet,
    icmp4,
    ip4,
    udp4,
    world,
)
from own_place import run

from vini.model import OutsideGrant, SliceSpec
from vini.node import netns
from vini.node.outside import record, rules
from vini.node.serve import build

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside")]
BROADCAST, ELSEWHERE = "ff:ff:ff:ff:ff:ff", "02:de:ad:be:ef:01"
__all__ = ["world"]


@pytest.fixture
def granted(world: World) -> Iterator[World]:
    world.up(EVERYWHERE)
    yield world
    world.up(EVERYWHERE)


def test_nothing_leaves_that_nobody_granted(world):
    world.up(None)
    assert "outside" not in world.inside("a", "ip", "link")
    assert world.silent("a", SERVER)
    world.up(EVERYWHERE)
    assert world.pings("a", SERVER)
    world.up(None)
    assert world.silent("a", SERVER)


def test_what_is_granted_passes_from_the_nodes_address_and_answers_come_back(granted):
    with granted.listening(7, socket.SOCK_STREAM) as listener:
        client = 'import socket; s = socket.create_connection(("5.5.5.5", 7), 60); s.send(b"x"); print(s.recv(9))'
        argv = ["nsenter", f"--net={granted.own.place.pin('v.a')}", "--", sys.executable, "-c", client]
        started = subprocess.Popen(argv, stdout=subprocess.PIPE)
        accepted, (address, _) = listener.accept()
        with accepted:
            assert address == NODE
            accepted.send(accepted.recv(9) + b"y")
        assert started.communicate(timeout=60)[0] == b"b'xy'\n"


def test_only_granted_places_ports_and_protocols(world):
    world.up(OutsideGrant(("5.5.5.0/24",), ("udp/53",)))
    assert world.silent("a", SERVER)
    with world.listening(53) as dns, world.listening(54) as other:
        send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        send += f"\nfor to in {[(SERVER, 54), (ROUTER, 53), (SERVER, 53)]}: s.sendto(to[0].encode(), to)"
        world.inside("a", "python3", "-c", send)
        assert dns.recv(100) == SERVER.encode()
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def test_nothing_goes_to_where_nodes_await_each_others_tunnels(world):
    """A node may have addresses that its testbed does not know."""
    for allow in (("udp",), ("udp/4789", "udp/53")):
        world.up(OutsideGrant(("5.5.5.0/24",), allow))
        before = world.dropped("refused")
        with world.listening(53) as dns, world.listening(4789) as tunnels:
            send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
            send += f"\nfor port in (4789, 53): s.sendto(b'x', ({SERVER!r}, port))"
            world.inside("a", "python3", "-c", send)
            assert dns.recv(100) == b"x"
            tunnels.settimeout(0)
            with pytest.raises(BlockingIOError):
                tunnels.recv(100)
        assert world.dropped("refused") == before + 1


def test_the_node_other_nodes_private_networks_and_neighbours_are_out_of_reach(granted):
    b = granted.vif("b").address
    services = [NODE, granted.vif("a").gateway, granted.vif("b").gateway, PEER, ROUTER, b, "127.0.0.1", "169.254.1.1"]
    before = granted.dropped("refused")
    assert granted.silent("a", NODE)
    me = granted.vif("a")
    way = (me.object.mac, granted.gateway_mac("a"), 0x0800)
    granted.frames("a", *(ethernet(*way, udp4(me.address, to, 4789, b"x")) for to in (*services, "224.0.0.5")))
    assert granted.dropped("refused") - before == len(services) + 2
    assert granted.pings("b", SERVER)


def test_fragments_and_errors_about_somebody_elses_connection_stay_here(granted):
    me, way = granted.vif("a"), (granted.vif("a").object.mac, granted.gateway_mac("a"), 0x0800)
    with granted.listening(9, at=SERVER) as heard:
        with netns.inside(granted.host):
            nodes_own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with nodes_own:
            nodes_own.bind((NODE, 4000))
            nodes_own.sendto(b"node", (SERVER, 9))
            assert heard.recv(100) == b"node"
            quoted = udp4(SERVER, NODE, 4000, b"")[:20] + b"\x00\x09\x0f\xa0" + bytes(4)  # 9 to 4000, as answers go
            before = granted.dropped("refused")
            granted.frames(
                "a", ethernet(*way, ip4(me.address, SERVER, 1, icmp4(3, 3, quoted))),
                ethernet(*way, udp4(me.address, SERVER, 9, b"first", fragment=0x2000)),
                ethernet(*way, udp4(me.address, SERVER, 9, b"second", fragment=100)),
                ethernet(*way, udp4(me.address, SERVER, 9, b"whole", fragment=0x4000)),
            )  # fmt: skip
            assert heard.recv(100) == b"whole"
    assert granted.dropped("refused") - before == 3


def test_nothing_that_is_not_the_slivers_own_leaves(granted):
    me, gateway = granted.vif("a"), granted.gateway_mac("a")
    own, other = me.object.mac, granted.vif("b")
    six = b"\x60" + bytes(3) + b"\x00\x08\x3a\xff" + bytes(32)
    spoofed = [
        ethernet(ELSEWHERE, gateway, 0x0800, udp4(me.address, SERVER, 9, b"mac")),
        ethernet(own, gateway, 0x0800, udp4(other.address, SERVER, 9, b"neighbour")),
        ethernet(own, gateway, 0x0800, udp4(NODE, SERVER, 9, b"node")),
        ethernet(own, gateway, 0x0800, udp4("10.0.0.1", SERVER, 9, b"inner")),
        ethernet(own, BROADCAST, 0x0800, udp4(me.address, SERVER, 9, b"to all")),
        ethernet(own, BROADCAST, 0x0806, arp(2, own, other.address, other.address)),
        ethernet(own, BROADCAST, 0x0806, arp(2, own, ROUTER, ROUTER)),
        ethernet(own, BROADCAST, 0x0806, arp(1, ELSEWHERE, me.address, me.gateway)),
        ethernet(own, BROADCAST, 0x0806, arp(1, own, me.address, NODE)),
        ethernet(own, gateway, 0x86DD, six + b"\x88" + bytes(23)),
        ethernet(own, gateway, 0x8100, b"\x00\x05\x08\x00" + udp4(me.address, SERVER, 9, b"vlan")),
        ethernet(own, gateway, 0x88CC, b"lldp"),
    ]
    before = granted.dropped("spoofed")
    with granted.listening(9) as heard:
        granted.frames("a", *spoofed, ethernet(own, gateway, 0x0800, udp4(me.address, SERVER, 9, b"own")))
        assert heard.recv(100) == b"own"
    assert granted.dropped("spoofed") - before >= len(spoofed)
    neighbours = granted.on_host("ip", "neigh")
    assert ELSEWHERE not in neighbours
    assert f"{ROUTER} dev eth0" in neighbours
    assert rules.PREFIX not in granted.on_host("ip", "-6", "neigh")


def test_the_sliver_may_change_its_own_end_as_it_likes_and_gets_it_back(granted):
    for vandalism in (
        ["link", "set", "outside", "address", ELSEWHERE], ["link", "delete", "outside"],
        ["route", "delete", "default", "dev", "outside"], ["address", "flush", "dev", "outside"],
    ):  # fmt: skip
        granted.inside("a", "ip", *vandalism)
        assert granted.silent("a", SERVER), vandalism
        granted.up(EVERYWHERE)
        assert granted.pings("a", SERVER), vandalism


def test_a_way_by_ipv4_needs_no_ipv6_on_the_vif(granted):
    """With an MTU below 1280 it has none, as with `ipv6.disable=1`."""
    for what in ("link set outside mtu 1000", "address flush dev outside"):
        granted.inside("a", "ip", *what.split())
    granted.up(EVERYWHERE)
    assert granted.pings("a", SERVER) and "mtu 1000" in granted.inside("a", "ip", "link", "show", "outside")
    granted.inside("a", "ip", "link", "delete", "outside")
    granted.up(EVERYWHERE)


def test_rules_that_somebody_took_away_or_changed_come_back(granted):
    name = rules.table_name(granted.own.place.mark, "v")
    for vandalism in (f"delete table inet {name}", f"flush chain netdev {name} own", f"delete table netdev {name}"):
        assert granted.on_host("nft", vandalism) == ""
        granted.up(EVERYWHERE)
        assert granted.silent("a", PEER)
        assert granted.pings("a", SERVER)


def test_what_nothing_is_written_down_of_any_more_is_found_all_the_same(world):
    world.up(EVERYWHERE)
    run("rm", "-r", record.directory(world.own.place))
    world.up(None)
    assert rules.PREFIX not in world.on_host("ip", "link")
    assert "table inet vini.outside" not in world.on_host("nft", "list", "tables")


def test_an_agent_takes_the_rules_away_with_the_slice(world):
    """The real agent: it does not look at what is in a sliver that nobody wants any more."""
    world.up(EVERYWHERE)
    place = world.own.place

    async def live() -> None:
        await agent.accept(SliceSpec("v", "local", 1, world.want["v"]), lambda *_: None)
        assert record.slices(place) == ["v"]
        await agent.accept(SliceSpec("v", "local", 2), lambda *_: None)

    with netns.inside(world.host):
        agent = build(place)
        asyncio.run(live())
        agent.close()
    assert record.slices(place) == [] and world.own.namespaces() == set()
    assert world.on_host("nft", "list", "ruleset") == ""
    assert world.on_host("cat", "/proc/sys/net/ipv4/conf/eth0/forwarding").strip() == "0"


def test_packets_bits_flows_and_the_bytes_of_a_day_are_bounded(world):
    world.up(OutsideGrant(("0.0.0.0/0",), packets_per_s=50, flows=20, new_flows_per_s=1000))
    me, way = world.vif("a"), (world.vif("a").object.mac, world.gateway_mac("a"), 0x0800)
    before = world.dropped("beyond")
    world.frames("a", *[ethernet(*way, udp4(me.address, SERVER, 1000, b"x"))] * 500)
    assert world.dropped("beyond") - before >= 400
    world.up(OutsideGrant(("0.0.0.0/0",), packets_per_s=100_000, flows=20, new_flows_per_s=1000))
    before = world.dropped("beyond")
    world.frames("a", *(ethernet(*way, udp4(me.address, SERVER, 1000 + i, b"x")) for i in range(100)))
    assert 70 <= world.dropped("beyond") - before <= 85
    world.up(OutsideGrant(("0.0.0.0/0",), packets_per_s=100_000, daily_mb=1))
    before = world.dropped("beyond")
    big = ethernet(*way, udp4(me.address, SERVER, 1000, bytes(1400)))
    world.frames("a", *[big] * 1000)
    assert world.dropped("beyond") - before > 200
    world.up(OutsideGrant(("0.0.0.0/0",), daily_mb=1))  # another grant does not give the day's bytes back
    assert world.silent("a", SERVER)


def test_the_node_is_a_router_for_nobody_else_and_is_again_as_it_was(world):
    world.up(EVERYWHERE)
    world.on_host("ip", "link", "add", "in0", "up", "type", "veth", "peer", "name", "in1")
    world.on_host("ip", "link", "set", "in1", "up")
    world.on_host("ip", "route", "add", "7.7.7.7/32", "dev", "in0")
    world.on_host("ip", "neigh", "add", "7.7.7.7", "lladdr", ELSEWHERE, "dev", "in0")
    world.in_world("ip", "route", "add", "7.7.7.7/32", "via", NODE)

    def let_through() -> bool:
        def sent() -> int:
            return json.loads(world.on_host("ip", "-j", "-s", "link", "show", "in0"))[0]["stats64"]["tx"]["packets"]

        before = sent()
        world.in_world("ping", "-c1", "-W1", "7.7.7.7")
        return sent() > before

    world.on_host("sysctl", "-qw", "net.ipv6.conf.in0.disable_ipv6=1")
    world.up(EVERYWHERE)
    assert not let_through()
    world.on_host("nft", "delete", "table", "inet", f"vini.outside.{world.own.place.mark}")
    assert let_through()
    world.up(EVERYWHERE)
    assert not let_through(), "it comes back"
    world.down()
    assert world.on_host("cat", "/proc/sys/net/ipv4/conf/eth0/forwarding").strip() == "0"
    assert world.on_host("nft", "list", "ruleset") == ""
    assert rules.PREFIX not in world.on_host("ip", "link")


def test_what_the_node_bridges_for_others_goes_on(world):
    """With br_netfilter, frames between ports of a bridge meet the rules for what is forwarded."""
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        pytest.skip("no br_netfilter in this kernel: `modprobe br_netfilter`")
    world.on_host("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
    world.on_host("ip", "link", "add", "br0", "up", "type", "bridge")
    ends = [f"vt{os.getpid()}end{n}" for n in "12"]
    try:
        for n, end in enumerate(ends, 1):
            run("ip", "netns", "add", end)
            world.on_host(*f"ip link add port{n} up master br0 type veth peer eth0 netns {end}".split())
            run("ip", "-n", end, "address", "add", f"192.0.2.{n}/24", "dev", "eth0")
            run("ip", "-n", end, "link", "set", "eth0", "up")
        world.up(EVERYWHERE)
        assert "vinio" in world.on_host("nft", "list", "table", "inet", f"vini.outside.{world.own.place.mark}")
        assert "1 received" in run("ip", "netns", "exec", ends[0], "ping", "-c1", "-w10", "192.0.2.2")
    finally:
        for end in ends:
            run("ip", "netns", "delete", end, check=False)
        world.on_host("ip", "link", "delete", "br0")
