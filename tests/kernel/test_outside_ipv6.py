"""A sliver's way to the world by IPv6: the same as by IPv4, and what IPv6 has more of does not lead past it."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from outside_world import (
    BOTH,
    EVERYWHERE,
    NODE6,
    PEER6,
    ROUTER6,
    SERVER,
    SERVER6,
    World,
    ethernet,
    icmp6,
    ip6,
    neighbor,
    udp6,
    world,
)
from own_place import eventually, run

from vini.model import DriverError, OutsideGrant, Sliver, Topology
from vini.node import netns
from vini.node.outside import forwarding, record, rules

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside", "outside-ipv6")]
BROADCAST, ELSEWHERE, ALL_NODES = "ff:ff:ff:ff:ff:ff", "02:de:ad:be:ef:01", "33:33:00:00:00:01"
NEIGHBOUR = Topology("w", {"d": Sliver("d", outside=True)})
__all__ = ["world"]


@pytest.fixture
def granted(world: World) -> Iterator[World]:
    world.up(BOTH)
    yield world
    world.up(BOTH)


def way(world: World) -> tuple[str, str, int]:
    """From a's MAC address to its gateway's, with IPv6 inside."""
    return world.vif("a").object.mac, world.gateway_mac("a"), 0x86DD


def ipv6_setting(world: World, name: str, dev: str = "eth0") -> str:
    return world.on_host("cat", f"/proc/sys/net/ipv6/conf/{dev}/{name}").strip()


def test_ipv6_is_there_where_it_is_granted_and_goes_with_the_grant(world):
    world.up(EVERYWHERE)
    assert world.silent("a", SERVER6) and "inet6" not in world.inside("a", "ip", "-6", "addr", "show", "dev", "outside")
    world.up(BOTH)
    own = world.addresses6("a")[0]
    assert world.pings("a", SERVER6) and world.pings("a", SERVER) and own in world.inside("a", "ip", "-6", "addr")
    assert ipv6_setting(world, "force_forwarding") == "1"
    ends = world.on_host("ip", "-6", "-br", "addr")
    assert ends.count(rules.PREFIX) == 2 and all("fe80" not in e for e in ends.splitlines() if rules.PREFIX in e)
    world.up(EVERYWHERE)
    assert world.silent("a", SERVER6) and world.pings("a", SERVER)
    assert own not in world.inside("a", "ip", "-6", "addr") and rules.PREFIX not in world.on_host("ip", "-6", "addr")
    assert ipv6_setting(world, "force_forwarding") == "0"
    assert "table ip6" not in world.on_host("nft", "list", "tables")
    world.inside("a", *f"ip -6 route add ::/0 via {world.addresses6('a')[1]} dev outside proto 87 onlink".split())
    world.up(EVERYWHERE)
    assert world.inside("a", "ip", "-6", "route", "show", "default") == "", "what was left of it goes, too"
    world.up(OutsideGrant(("::/0",)))
    assert world.pings("a", SERVER6) and own == world.addresses6("a")[0]
    assert "unreachable" in world.inside("a", "sh", "-c", f"ping -c1 -W1 {SERVER} 2>&1")


def test_what_is_granted_passes_from_the_nodes_address_and_answers_come_back(granted):
    with granted.listening(7, socket.SOCK_STREAM, at=SERVER6) as listener:
        client = f'import socket; s = socket.create_connection(("{SERVER6}", 7), 60); s.send(b"x"); print(s.recv(9))'
        with granted.started("a", sys.executable, "-c", client) as started:
            accepted, (address, *_) = listener.accept()
            with accepted:
                assert address == NODE6
                accepted.send(accepted.recv(9) + b"y")
            assert started.communicate(timeout=60)[0] == b"b'xy'\n"


def test_only_granted_places_ports_and_protocols(world):
    world.up(OutsideGrant(("2a00:5::/32",), ("udp/53",)))
    assert world.silent("a", SERVER6)
    with world.listening(53, at="::") as dns, world.listening(54, at="::") as other:
        send = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"
        send += f"\nfor to in {[(SERVER6, 54), (PEER6, 53), (SERVER6, 53)]}: s.sendto(to[0].encode(), to)"
        world.inside("a", "python3", "-c", send)
        assert dns.recv(100) == SERVER6.encode()
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def test_the_node_its_network_other_nodes_neighbours_and_what_carries_ipv4_are_out_of_reach(granted):
    me, gateway = granted.addresses6("a")
    services = [
        NODE6, gateway, *granted.addresses6("b"), PEER6, ROUTER6, "::1", "fe80::1", "fec0::1", "fd00::1",
        f"::ffff:{SERVER}", f"::{SERVER}", f"64:ff9b::{SERVER}", "64:ff9b:1::1", "2002:505:505::1", "2001::1",
        "2001:db8::1", "3fff::1", "4000::1", "100::1",
    ]  # fmt: skip
    before = granted.dropped("refused")
    to_all = ["ff02::1", "ff0e::1"]
    granted.frames("a", *(ethernet(*way(granted), udp6(me, to, 4789, b"x")) for to in (*services, *to_all)))
    assert granted.dropped("refused") - before == len(services) + len(to_all)
    assert granted.silent("a", NODE6) and granted.pings("b", SERVER6)


def test_a_network_that_the_node_comes_to_be_in_is_the_sites_unless_it_is_named(granted):
    granted.in_world("ip", "address", "add", "2a00:7::2/64", "dev", "eth0", "nodad")
    granted.in_world("ip", "route", "add", "2a00:7::1/128", "dev", "eth0")
    granted.on_host("ip", "route", "add", "2a00:7::2/128", "via", ROUTER6)
    assert granted.pings("a", "2a00:7::2")
    granted.on_host("ip", "route", "delete", "2a00:7::2/128")
    granted.on_host("ip", "address", "add", "2a00:7::1/64", "dev", "eth0", "nodad")
    granted.up(BOTH)
    assert granted.silent("a", "2a00:7::2")
    granted.up(OutsideGrant(("::/0", "2a00:7::2/128")))
    assert granted.pings("a", "2a00:7::2")
    granted.on_host("ip", "address", "delete", "2a00:7::1/64", "dev", "eth0")
    granted.in_world("ip", "address", "delete", "2a00:7::2/64", "dev", "eth0")


@pytest.mark.parametrize(
    "what",
    ["address add 2a00:7::1/64 dev eth0 nodad noprefixroute", "route add 2a00:7::/64 dev eth0 proto kernel table 7"],
)
def test_a_network_that_the_main_table_does_not_tell_of_is_the_sites_too(granted, what):
    granted.in_world("ip", "address", "add", "2a00:7::2/128", "dev", "lo", "nodad")
    granted.in_world("ip", "route", "add", "2a00:7::1/128", "via", NODE6)
    granted.on_host("ip", "route", "add", "2a00:7::2/128", "via", ROUTER6)
    assert granted.pings("a", "2a00:7::2")
    granted.on_host("ip", "-6", *what.split())
    granted.up(BOTH)
    assert granted.silent("a", "2a00:7::2")
    back = what.replace(" add ", " delete ").replace(" nodad noprefixroute", "")
    assert granted.on_host("ip", "-6", *back.split()) == ""
    granted.up(BOTH)
    assert granted.pings("a", "2a00:7::2")
    granted.on_host("ip", "route", "delete", "2a00:7::2/128")
    granted.in_world("ip", "route", "delete", "2a00:7::1/128")
    granted.in_world("ip", "address", "delete", "2a00:7::2/128", "dev", "lo")


def test_nothing_that_is_not_the_slivers_own_leaves(granted):
    me, gateway = granted.addresses6("a")
    other, other_gateway = granted.addresses6("b")
    own, to, kind = way(granted)
    spoofed = [
        ethernet(ELSEWHERE, to, kind, udp6(me, SERVER6, 9, b"mac")),
        ethernet(own, to, kind, udp6(other, SERVER6, 9, b"neighbour")),
        ethernet(own, to, kind, udp6(NODE6, SERVER6, 9, b"node")),
        ethernet(own, to, kind, udp6("2a00:9::9", SERVER6, 9, b"anybody")),
        ethernet(own, to, kind, udp6("fe80::9", SERVER6, 9, b"link-local")),
        ethernet(own, ALL_NODES, kind, udp6(me, SERVER6, 9, b"to all")),
        ethernet(own, BROADCAST, kind, udp6(me, SERVER6, 9, b"to all")),
        ethernet(own, to, 0x0800, udp6(me, SERVER6, 9, b"other type")),
        ethernet(own, ALL_NODES, kind, neighbor(136, me, "ff02::1", gateway, own)),
        ethernet(own, ALL_NODES, kind, neighbor(136, me, "ff02::1", ROUTER6, own)),
        ethernet(own, ALL_NODES, kind, neighbor(136, "fe80::1", "ff02::1", "fe80::1", own)),
        ethernet(own, ALL_NODES, kind, icmp6("fe80::1", "ff02::1", 134, 0, struct.pack("!IIII", 64 << 24, 0, 0, 0))),
        ethernet(own, "33:33:ff:00:00:01", kind, neighbor(135, me, "ff02::1:ff00:1", NODE6, own)),
        ethernet(own, "33:33:ff:00:00:01", kind, neighbor(135, "::", "ff02::1:ff00:1", other_gateway, own)),
        ethernet(own, to, 0x8100, b"\x00\x05\x86\xdd" + udp6(me, SERVER6, 9, b"vlan")),
    ]
    before = granted.dropped("spoofed")
    with granted.listening(9, at="::") as heard:
        granted.frames("a", *spoofed, ethernet(own, to, kind, udp6(me, SERVER6, 9, b"own")))
        assert heard.recv(100) == b"own"
    assert granted.dropped("spoofed") - before >= len(spoofed)
    neighbours = granted.on_host("ip", "-6", "neigh")
    assert ELSEWHERE not in neighbours and other_gateway not in neighbours
    assert not any(rules.PREFIX in line and "fe80" in line for line in neighbours.splitlines())
    assert f"{ROUTER6} dev eth0" in neighbours


def test_it_may_ask_for_its_gateway_and_what_it_says_of_itself_is_not_believed(granted):
    me, gateway = granted.addresses6("a")
    own, to, kind = way(granted)
    granted.inside("a", "ip", "neigh", "flush", "dev", "outside", "nud", "all")
    granted.inside("a", "ip", "neigh", "delete", gateway, "dev", "outside")
    assert granted.pings("a", SERVER6), "found by neighbour discovery"
    granted.frames("a", ethernet(own, to, kind, neighbor(135, me, gateway, gateway, ELSEWHERE)))
    before = granted.dropped("refused")
    granted.frames("a", ethernet(own, to, kind, neighbor(136, me, gateway, me, ELSEWHERE)))
    assert granted.dropped("refused") - before == 1
    assert f"{me} dev {rules.dev_name(granted.own.place.mark, 'v.a')} lladdr {own} PERMANENT" in granted.on_host(
        "ip", "-6", "neigh"
    )


def test_extension_headers_fragments_and_errors_about_somebody_elses_connection_stay_here(granted):
    me, _ = granted.addresses6("a")
    inner = udp6(me, SERVER6, 9, b"hidden")[40:]
    routing = struct.pack("!BBBBI", 17, 2, 0, 1, 0) + socket.inet_pton(socket.AF_INET6, NODE6)
    padded = struct.pack("!BBBBI", 17, 0, 1, 4, 0)
    with granted.listening(9, at=SERVER6) as heard:
        with netns.inside(granted.host):
            nodes_own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with nodes_own:
            nodes_own.bind((NODE6, 4000))
            nodes_own.sendto(b"node", (SERVER6, 9))
            assert heard.recv(100) == b"node"
            quoted = ip6(SERVER6, NODE6, 17, struct.pack("!HHHH", 9, 4000, 8, 0))
            hidden = [
                ip6(me, SERVER6, 44, struct.pack("!BBHI", 17, 0, 1, 7) + inner),
                ip6(me, SERVER6, 44, struct.pack("!BBHI", 17, 0, 0, 7) + inner),  # an atomic one (RFC 6946)
                ip6(me, SERVER6, 43, routing + inner),
                ip6(me, SERVER6, 0, padded + inner),
                ip6(me, SERVER6, 60, padded + inner),
                ip6(me, SERVER6, 4, bytes(20)),
                ip6(me, SERVER6, 41, quoted),
                *(icmp6(me, SERVER6, error, 0, struct.pack("!I", 1280) + quoted) for error in (1, 2, 3)),
                icmp6(me, SERVER6, 129, 0, bytes(4)),
            ]
            before = granted.dropped("refused")
            granted.frames("a", *(ethernet(*way(granted), packet) for packet in hidden))
            granted.frames("a", ethernet(*way(granted), udp6(me, SERVER6, 9, b"whole")))
            assert heard.recv(100) == b"whole"
    assert granted.dropped("refused") - before == len(hidden)


def test_a_sliver_hears_that_a_packet_is_too_big_from_its_node_and_from_the_world(granted):
    granted.on_host("ip", "link", "set", "eth0", "mtu", "1400")
    send = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(bytes({}), ('{}', 9))"
    granted.inside("a", sys.executable, "-c", send.format(1420, SERVER6))
    eventually(lambda: "mtu 1400" in granted.inside("a", "ip", "route", "get", SERVER6))
    granted.on_host("ip", "link", "set", "eth0", "mtu", "1500")
    with netns.inside(granted.own.place.pin("v.b")):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender, granted.listening(9, at=SERVER6) as heard:
        sender.sendto(bytes(20), (SERVER6, 9))
        _, (_, port, *_) = heard.recvfrom(100)
        error = struct.pack("!I", 1300) + ip6(NODE6, SERVER6, 17, struct.pack("!HHHH", port, 9, 28, 0) + bytes(20))
        with netns.inside(granted.world), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
            raw.sendto(struct.pack("!BBH", 2, 0, 0) + error, (NODE6, 0))
        eventually(lambda: "mtu 1300" in granted.inside("b", "ip", "route", "get", SERVER6), within=20)


def test_what_comes_from_the_world_unasked_does_not_get_to_a_sliver(granted):
    me, _ = granted.addresses6("a")
    granted.in_world("ip", "route", "add", f"{me}/128", "via", NODE6)
    before = granted.dropped("unasked")
    granted.in_world("ping", "-c1", "-W0.3", me)
    eventually(lambda: granted.dropped("unasked") - before == 1)
    granted.in_world("ip", "route", "delete", f"{me}/128")


def test_flows_and_packets_of_both_versions_are_bounded_together(world):
    grant = OutsideGrant(("0.0.0.0/0", "::/0"), packets_per_s=100_000, flows=20, new_flows_per_s=1000)
    world.up(grant)
    me, _ = world.addresses6("a")
    before = world.dropped("beyond")
    world.frames("a", *(ethernet(*way(world), udp6(me, SERVER6, 1000 + i, b"x")) for i in range(100)))
    assert 70 <= world.dropped("beyond") - before <= 85
    assert world.silent("a", SERVER), "no flow is left for IPv4"


@pytest.mark.parametrize("vandalism", ["-6 address flush dev outside", "link set outside down", "link delete outside"])
def test_what_a_sliver_does_to_its_end_gives_no_flows_back(world, vandalism):
    grant = OutsideGrant(("0.0.0.0/0", "::/0"), packets_per_s=100_000, flows=20, new_flows_per_s=1000)
    world.up(EVERYWHERE)
    world.up(grant)
    me, _ = world.addresses6("a")
    world.frames("a", *(ethernet(*way(world), udp6(me, SERVER6, 1000 + i, b"x")) for i in range(100)))
    assert world.silent("a", SERVER)
    world.inside("a", "ip", *vandalism.split())
    world.up(grant)
    assert world.silent("a", SERVER) and world.dropped("beyond") > 70
    world.forget_flows()
    assert world.pings("a", SERVER) and world.pings("a", SERVER6)


@pytest.mark.parametrize("metric", [5000, 100])
def test_default_routes_that_the_sliver_has_besides_are_its_own(granted, metric):
    via = granted.addresses6("a")[1], granted.vif("a").gateway
    ways = [f"default via {to} dev outside" for to in via]
    ways += ["default via 10.9.9.9 dev to-c onlink", "unreachable default", "unreachable ::/0"]
    routes = [f"route add {way} metric {metric + i} proto 87".split() for i, way in enumerate(ways)]
    for route in routes:
        assert granted.inside("a", "ip", *route) == ""
    granted.up(BOTH)
    assert granted.inside("a", "ip", "-6", "route").count("proto 87") == 3, "and they stay"
    for route in routes:
        granted.inside("a", "ip", *(word.replace("add", "delete") for word in route))


@pytest.mark.parametrize(
    "vandalism",
    [
        ["link", "set", "outside", "address", ELSEWHERE],
        ["-6", "address", "flush", "dev", "outside"],
        ["-6", "route", "delete", "default", "dev", "outside"],
        ["link", "set", "outside", "down"],
    ],
)  # fmt: skip
def test_the_sliver_may_change_its_own_end_as_it_likes_and_gets_it_back(granted, vandalism):
    granted.inside("a", "ip", *vandalism)
    assert granted.silent("a", SERVER6)
    granted.up(BOTH)
    assert granted.pings("a", SERVER6)


@pytest.mark.parametrize(
    ("grant", "plant"),
    [
        (EVERYWHERE, "route add unreachable ::/0 proto 87"),
        (EVERYWHERE, "-6 route add default dev to-c proto 87"),
        (BOTH, "link set outside mtu 1000"),
    ],
)
def test_a_vif_that_can_not_be_put_right_is_never_one_without_rules(world, grant, plant):
    world.up(grant)
    world.inside("a", "ip", *plant.split())
    try:
        world.passed(grant)
        assert not world.heard_by_node("a") and world.pings("b", SERVER)
        world.passed(grant)
        assert not world.heard_by_node("a") and world.pings("a", SERVER)
    finally:
        for way in ("unreachable default", "default dev to-c"):
            world.inside("a", "ip", "-6", "route", "delete", *way.split(), "proto", "87")
        world.up(BOTH)


def test_what_somebody_changed_on_the_node_comes_back(granted):
    name, dev = rules.table_name(granted.own.place.mark, "v"), rules.dev_name(granted.own.place.mark, "v.a")
    for vandalism in (
        ["nft", f"flush chain netdev {name} own6"], ["sysctl", "-qw", "net.ipv6.conf.eth0.force_forwarding=0"],
        ["sysctl", "-qw", f"net.ipv6.conf.{dev}.disable_ipv6=1"],
        ["sysctl", "-qw", f"net.ipv6.conf.{dev}.force_forwarding=0"],
    ):  # fmt: skip
        assert granted.on_host(*vandalism) == ""
        assert granted.silent("a", SERVER6), vandalism
        granted.up(BOTH)
        assert granted.silent("a", PEER6) and granted.pings("a", SERVER6), vandalism


def test_the_node_is_a_router_for_nobody_else_and_one_that_is_a_router_stays_one(world):
    world.up(BOTH)
    world.on_host("ip", "link", "add", "in0", "up", "type", "veth", "peer", "name", "in1")
    world.on_host("ip", "link", "set", "in1", "up")
    world.on_host("ip", "route", "add", "2a00:9::9/128", "dev", "in0")
    world.on_host("ip", "neigh", "add", "2a00:9::9", "lladdr", ELSEWHERE, "dev", "in0")
    world.in_world("ip", "route", "add", "2a00:9::9/128", "via", NODE6)

    def let_through(*words: str) -> bool:
        """Whether a large packet goes by, as the kernel itself sends only small ones there."""

        def sent() -> int:
            return json.loads(world.on_host("ip", "-j", "-s", "link", "show", "in0"))[0]["stats64"]["tx"]["bytes"]

        before = sent()
        world.in_world("ping", "-c1", "-W0.3", "-s1000", *words, "2a00:9::9")
        return sent() - before > 1000

    try:
        world.up(BOTH)
        assert ipv6_setting(world, "force_forwarding") == "1" and not let_through()
        world.on_host("nft", "delete", "table", "ip6", f"vini.outside.{world.own.place.mark}")
        assert let_through(), "it was the rule that kept it"
        world.up(BOTH)
        assert not let_through(), "it comes back"
        world.down()
        assert ipv6_setting(world, "force_forwarding") == "0" and not let_through()
        for dev in ("eth0", "all"):  # which is a router, too
            world.on_host("sysctl", "-qw", f"net.ipv6.conf.{dev}.force_forwarding=1")
            world.up(BOTH)
            assert let_through() and world.pings("a", SERVER6)
            world.down()
            assert let_through() and ipv6_setting(world, "force_forwarding", dev) == "1"
            world.on_host("sysctl", "-qw", f"net.ipv6.conf.{dev}.force_forwarding=0")
        world.on_host("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        for grant in (BOTH, EVERYWHERE):  # of IPv4 it is no router
            world.up(grant)
            assert let_through() and ipv6_setting(world, "force_forwarding") == "0"
        world.up(BOTH)
        assert world.pings("a", SERVER6)
        forged = world.addresses6("a")[0]
        world.in_world("ip", "address", "add", f"{forged}/128", "dev", "lo", "nodad")
        before = world.dropped("unasked")
        assert not let_through("-I", forged), "nobody sends on what seems to be a sliver's"
        world.in_world("ping", "-c1", "-W0.3", "-I", forged, NODE6)
        assert world.dropped("unasked") - before == 2
        world.in_world("ip", "address", "delete", f"{forged}/128", "dev", "lo")
        world.down()
        assert let_through() and ipv6_setting(world, "forwarding", "all") == "1"
    finally:
        world.on_host("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
        world.on_host("ip", "link", "delete", "in0")
        world.in_world("ip", "route", "delete", "2a00:9::9/128")
    assert world.on_host("nft", "list", "ruleset") == ""


def test_without_a_route_a_sliver_hears_so_at_once(granted):
    granted.on_host("ip", "-6", "route", "delete", "default")
    try:
        assert "No route" in granted.inside("a", "ping", "-c1", "-W5", SERVER6)
        assert granted.pings("a", SERVER)
        me, before = granted.addresses6("a")[0], granted.dropped("refused")
        granted.frames("a", *(ethernet(*way(granted), udp6(me, SERVER6, 9, b"x")) for _ in range(100)))
        assert granted.dropped("refused") - before > 50, "but not for each of many"
    finally:
        granted.on_host("ip", "route", "add", "default", "via", ROUTER6)


def test_a_kernel_that_forwards_no_single_interface_is_told_of_and_nothing_is_open(world, monkeypatch):
    """As before Linux 6.17, on a node that is no router."""
    world.down()  # by the setting that there is
    old = forwarding.FAMILIES[6]._replace(setting="not_there")
    monkeypatch.setitem(forwarding.FAMILIES, 6, old)
    with netns.inside(world.host):
        assert not forwarding.can(old)
        with pytest.raises(DriverError, match="this node forwards no IPv6, and .* make it an IPv6 router"):
            forwarding.switch_on(world.own.place, old)
    failures = world.passed(BOTH)
    assert len(failures) == 2 and all("this node forwards no IPv6" in why for why in failures.values())
    assert world.silent("a", SERVER6) and world.pings("a", SERVER), "by IPv4 it has its way"
    assert all("this node forwards no IPv6" in why for why in world.passed(EVERYWHERE, NEIGHBOUR).values())
    assert "1 received" in world.inside("d", "ping", "-c1", "-W1", SERVER, slice_="w")
    leaving = world.passed(None, Topology("w"))
    assert not any("taken away" in why for why in leaving.values()) and record.slices(world.own.place) == ["v"]
    monkeypatch.undo()
    world.up(BOTH)
    assert world.pings("a", SERVER6)
    world.down()
    run("ip", "netns", "exec", world.host.name, "nft", "list", "ruleset")
    assert world.on_host("nft", "list", "ruleset") == ""
