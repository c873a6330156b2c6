"""The contract of drivers for the kinds of tunnels that many kernels lack: of the machine in a dict, and of a real one.

On the real one all of it is one test, since another kernel may have to be booted for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from own_place import eventually, run
from world import World, holding, tunnels_keep_the_contract

from vini.model import Address, AnyObject, Gretap, Interface, Netns, Sysctl, Vxlan, Wireguard, WireguardPeer
from vini.node import wireguard_key
from vini.plan import in_order

A = "t.a"
FORWARDING = (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))
GROUND: frozenset[AnyObject] = frozenset(
    {Netns(A), Sysctl(A, FORWARDING), Interface(A, "lo", ("netns", A), mtu=65536)}
)  # fmt: skip
# Numbers of tunnels are the whole machine's: these are the test process's own.
NUMBER = 0x660000 + os.getpid() % 0x10000 * 2
GRE = Gretap(A, "to-b", 70011, "02:00:00:00:01:0a", NUMBER, "192.0.2.1", "192.0.2.2")
GRE_V6 = Gretap(A, "to-c", 70012, "02:00:00:00:01:0b", NUMBER + 1, "2001:db8::1", "2001:db8::2")
WHOLE = GROUND | {
    GRE,
    GRE_V6,
    Interface(A, "to-b", GRE.key, mtu=1458),
    Interface(A, "to-c", GRE_V6.key, mtu=1438, split=True, finished=True),
    Address(A, "to-b", "10.1.0.0/31"),
    Address(A, "to-b", "fd01::/127"),
}
CHANGES = [
    replace(GRE, remote="192.0.2.3"),
    replace(GRE, local="192.0.2.4", remote="192.0.2.3"),
    replace(GRE_V6, remote="2001:db8::3"),
    Interface(A, "to-c", GRE_V6.key, mtu=1280),
]
DEEDS = (
    "ip link set to-b type gretap local 192.0.2.1 remote 192.0.2.9 key {n}",
    "ip link set to-b type gretap local 192.0.2.1 remote 192.0.2.2 key {n} ttl 1",
    "ip link set to-b type gretap local 192.0.2.1 remote 192.0.2.2 key {n} icsum ocsum ttl 64",
    "ip link set to-c type ip6gretap local 2001:db8::1 remote 2001:db8::2 key 9 hoplimit 64",
    "ip link delete to-b",
    "ip link set to-b down; ip link set to-b name elsewhere",
    "ip link set to-b down",
    "ip link set to-b mtu 1280",
    "ip link set to-b address 02:00:00:00:00:98",
    "ip link delete to-b; ip link add to-b index 70011 address 02:00:00:00:01:0a group 1447644745 type gretap"
    " local 192.0.2.1 remote 192.0.2.2 key {n} ttl 64",  # carried by the sliver itself
)

# An encrypted way between nodes, and a tunnel that goes by it.
U = "t._wireguard"
OTHER_KEY, THIRD_KEY = "B" * 42 + "A=", "C" * 42 + "A="
STILL = tuple((name, "0") for name, _ in FORWARDING)


def encrypted(own_key: str) -> tuple[frozenset[AnyObject], Wireguard, Vxlan]:
    """All of it; the way; the tunnel."""
    peers = (WireguardPeer(OTHER_KEY, "10.0.0.2", "192.0.2.2"), WireguardPeer(THIRD_KEY, "10.0.0.3", "2001:db8::3"))
    way = Wireguard(U, "wg", own_key, 20_000 + os.getpid() % 10_000, "10.0.0.1/8", 1440, peers)
    tunnel = Vxlan(A, "to-b", 70011, "02:00:00:00:01:0a", NUMBER, "10.0.0.1", "10.0.0.2", through=U)
    ground = {Netns(U), Sysctl(U, STILL), Interface(U, "lo", ("netns", U), mtu=65536), *GROUND}
    return frozenset({*ground, way, tunnel, Interface(A, "to-b", tunnel.key, mtu=1390)}), way, tunnel


REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2"), pytest.mark.needs_kernel("gretap")])


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With everything of WHOLE in it."""
    with holding(request.getfixturevalue("own") if request.param == "real" else None, {A}, WHOLE) as world:
        yield world


def test_gre_tunnels_keep_the_contract_of_drivers(world: World) -> None:
    tunnels_keep_the_contract(world, A, in_order([GRE, GRE_V6]), CHANGES, GROUND, WHOLE)
    if world.own:
        world.own.sweep("t")
        _heals(world)


def _heals(world: World) -> None:
    """What only a real machine shows."""
    assert world.one_pass(WHOLE) == {}
    for deed in DEEDS:
        run("nsenter", f"--net={world.own.place.netns(A)}", "--", "sh", "-ec", deed.format(n=NUMBER))
        assert world.see() != WHOLE, deed
        assert world.one_pass(WHOLE) == {}, deed
        assert world.see_anew() == WHOLE, deed
    other = replace(GRE, dev="to-d", index=70013)
    assert f"another tunnel with the number {NUMBER}" in world.ensure(other)[other.key]
    over_v6 = WHOLE - {GRE} | {replace(GRE, local="2001:db8::1", remote="2001:db8::2")}
    world.one_pass(over_v6)
    assert world.one_pass(over_v6) == {}
    assert world.see_anew() == over_v6


SECURE = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan"), pytest.mark.needs_kernel("wireguard")]
WAY_DEEDS = (
    "ip link delete wg",
    "ip link set wg down",
    "ip link set wg mtu 1280",
    "ip address add 10.9.9.9/32 dev wg",
    "ip address flush dev wg",
    "ip link set wg down; ip link set wg name elsewhere",
    "wg set wg listen-port 4711",
    f"wg set wg peer {OTHER_KEY} endpoint 192.0.2.9:20001",
    f"wg set wg peer {OTHER_KEY} allowed-ips 10.0.0.2/32,10.0.0.7/32",
    f"wg set wg peer {OTHER_KEY} remove",
    f"wg set wg peer {'D' * 42}A= allowed-ips 10.0.0.9/32 endpoint 192.0.2.9:1",
    "wg genkey | wg set wg private-key /dev/stdin",
)


@pytest.mark.parametrize("where", ["fake", pytest.param("real", marks=SECURE)])
def test_an_encrypted_way_and_its_tunnels_keep_the_contract_of_drivers(
    where: str, request: pytest.FixtureRequest
) -> None:
    own = request.getfixturevalue("own") if where == "real" else None
    key = wireguard_key.public(wireguard_key.private(own.place.state)) if own else "A" * 43 + "="
    whole, way, tunnel = encrypted(key)
    world = World(own, {A, U})
    assert world.one_pass(whole) == {}
    assert world.see() == world.see_anew() == whole
    assert world.ensure(way) == world.ensure(tunnel) == {}
    assert world.see() == whole
    fewer = replace(way, peers=(replace(way.peers[0], endpoint="192.0.2.7"),))
    for new in (fewer, replace(way, mtu=1400), replace(way, cidr="10.0.0.8/8"), replace(way, port=way.port + 1)):
        assert world.ensure(new) == {}
        assert world.see() == whole - {way} | {new}
        assert world.ensure(way) == {}
    assert world.see() == whole
    for _ in range(2):
        assert world.remove(tunnel) == world.remove(way) == {}
        assert not {type(o) for o in world.see()} & {Wireguard, Vxlan}
    assert world.one_pass(whole) == {}
    if own:
        run("ip", "netns", "delete", own.place.netns(U).name)
        eventually(lambda: tunnel not in world.see())  # it goes with the namespace that carries it
        assert world.one_pass(whole) == {}
        for deed in WAY_DEEDS:
            run("nsenter", f"--net={own.place.netns(U)}", "--", "sh", "-ec", deed)
            assert world.see() != whole, deed
            assert world.one_pass(whole) == {}, deed
            assert world.see_anew() == whole, deed
        stranger = world.ensure(replace(way, public_key=OTHER_KEY))
        assert "another key than its central knows" in stranger[way.key]
    world.remove(Netns(U))
    failures = world.ensure(way)
    assert set(failures) == {way.key}
    assert failures[way.key].endswith(".")
    assert world.one_pass(frozenset()) == {}
    assert world.see_anew() == frozenset()
