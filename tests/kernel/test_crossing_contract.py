"""The contract of drivers for interfaces that cross: of the machine in a dict, and of a real one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from own_place import eventually, run
from world import World, holding

from vini.model import TWIN, Address, AnyObject, Interface, Netns, Sysctl, Veth, VethEnd, Vxlan, beyond

A = "t.a"
B = beyond(A)
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
# Numbers of tunnels are the whole machine's: this is the test process's own.
NUMBER = 0x670000 + os.getpid() % 0x10000
AT = 1 << 24 | NUMBER
TUNNEL = Vxlan(B, "tunnel", AT, "02:00:00:00:01:0a", NUMBER, "192.0.2.1", "192.0.2.2")
PAIR = Veth((VethEnd(B, "pair", AT ^ TWIN, "02:00:00:00:01:0b"), VethEnd(A, "to-b", 70011, "02:00:00:00:01:0c")))
CROSSING = [Interface(B, dev, key, 1450, crosses=True) for dev, key in (("pair", PAIR.key), ("tunnel", TUNNEL.key))]
WHOLE: frozenset[AnyObject] = frozenset(
    {
        *(Netns(ns) for ns in (A, B)),
        *(Sysctl(ns, tuple((name, "0") for name in FORWARDING)) for ns in (A, B)),
        *(Interface(ns, "lo", ("netns", ns), mtu=65536) for ns in (A, B)),
        TUNNEL, PAIR, *CROSSING, Interface(A, "to-b", PAIR.key, 1450), Address(A, "to-b", "10.1.0.0/31"),
    }
)  # fmt: skip
REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan")])
DEEDS = (
    "tc filter del dev {dev} ingress",
    "tc qdisc del dev {dev} clsact",
    "echo 0 >/proc/sys/net/ipv6/conf/{dev}/disable_ipv6",
    "ip link set {dev} down",
    "ip link set {dev} mtu 1400",
)


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with holding(request.getfixturevalue("own") if request.param == "real" else None, {A, B}, WHOLE) as world:
        yield world


def test_interfaces_that_cross_keep_the_contract_of_drivers(world: World) -> None:
    assert world.see() == world.see_anew() == WHOLE
    assert world.ensure(*CROSSING) == {}
    assert world.see() == WHOLE
    for o in CROSSING:
        new = replace(o, crosses=False, mtu=1400)
        assert {"crosses", "mtu"} <= new.changeable
        assert world.ensure(new) == {}
        eventually(lambda o=o, new=new: world.see() == WHOLE - {o} | {new})
        assert world.ensure(o) == {}
        assert world.see() == WHOLE
    assert world.remove(PAIR) == {}
    assert not [o for o in world.see() if isinstance(o, Interface) and o.dev in ("pair", "to-b")]
    assert world.one_pass(WHOLE) == {}
    world.remove(Netns(B))
    failures = world.ensure(*CROSSING)
    assert set(failures) == {o.key for o in CROSSING}
    assert all(why.endswith(".") for why in failures.values())
    assert world.one_pass(WHOLE) == {}
    assert world.see_anew() == WHOLE


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_what_a_hand_spoils_one_pass_heals(world: World) -> None:
    assert world.own
    for deed in DEEDS:
        for dev in ("pair", "tunnel"):
            run("nsenter", f"--net={world.own.place.netns(B)}", "--", "sh", "-ec", deed.format(dev=dev))
            assert world.see() != WHOLE, deed
            assert world.one_pass(WHOLE) == {}, deed
            eventually(lambda: world.see_anew() == WHOLE)
