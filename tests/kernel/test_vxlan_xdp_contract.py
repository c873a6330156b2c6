"""The contract of drivers for tunnels at XDP: of the machine in a dict, and of a real one that a namespace plays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace
from own_place import OwnPlace, run
from world import World, holding, tunnels_keep_the_contract

from vini.bench.generator import Ends, Flow
from vini.model import Address, AnyObject, Interface, Netns, Sysctl, VxlanXdp
from vini.node import carrier, rtnl
from vini.node.carrier import Carrier
from vini.node.drivers.network import NetworkDriver
from vini.node.drivers.vxlan_xdp import VxlanXdpDriver
from vini.node.netlink import Socket
from vini.plan import in_order

A = "t.a"
FORWARDING = (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))
GROUND: frozenset[AnyObject] = frozenset(
    {Netns(A), Sysctl(A, FORWARDING), Interface(A, "lo", ("netns", A), mtu=65536)}
)  # fmt: skip
FOUR = VxlanXdp(A, "to-b", 70011, "02:00:00:00:01:0a", 7, "192.0.2.1", "192.0.2.2")
SIX = VxlanXdp(A, "to-c", 70012, "02:00:00:00:01:0b", 8, "2001:db8::1", "2001:db8::2")
TUNNELS = in_order([FOUR, SIX])
WHOLE = GROUND | {
    FOUR,
    SIX,
    Interface(A, "to-b", FOUR.key, mtu=1450, finished=True, gro=True),
    Interface(A, "to-c", SIX.key, mtu=1430, finished=True),
    Address(A, "to-b", "10.1.0.0/31"),
}
CHANGES = [
    replace(FOUR, remote="192.0.2.3"),
    replace(FOUR, local="192.0.2.4", port=4790),
    replace(FOUR, local="2001:db8::1", remote="2001:db8::3"),
    replace(SIX, remote="2001:db8::3"),
]
IN_SLIVER = (
    "ip link delete to-b",
    "ip link set to-b down; ip link set to-b name elsewhere",
    "ip link set to-b mtu 1280",
    "ip link set to-c address 02:00:00:00:00:98",
)
ON_NODE = (
    "ip link set dev eth0 xdpdrv off",
    "ip link set dev {outer} xdpdrv off",
    "tc qdisc delete dev {outer} clsact",
    "tc filter delete dev {outer} ingress",
    "ip link set {outer} down",
    "ip link set {outer} arp on",
    "ip link set {outer} mtu 1400",
    "echo 0 >/proc/sys/net/ipv4/conf/{outer}/forwarding",
    "echo 0 >/proc/sys/net/ipv6/conf/{outer}/forwarding",
    "ip link delete {outer}",
    "rm {pins}/*/leave",
    "rm {pins}/*/arriving",
    "rm {pins}/*/owners",
    "umount {pins}",
)
REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan-xdp")])


class Crash(BaseException):
    """The agent is gone at this step."""


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With everything of WHOLE in it; the real one is in a namespace that plays the machine."""
    with ExitStack() as stack:
        own = request.getfixturevalue("own") if request.param == "real" else None
        if own:
            stack.enter_context(own.played_machine())
            for address in ("192.0.2.1/24", "192.0.2.4/24", "2001:db8::1/64"):
                run("ip", "address", "add", address, "dev", "eth0", *(("nodad",) if ":" in address else ()))
        with holding(own, {A}, WHOLE) as world:
            yield world
        if own:
            assert_nothing_is_left(own.place)


def assert_nothing_is_left(place: object) -> None:
    links = run("ip", "-d", "link")
    assert "xdp" not in links and "vini" not in links, links
    assert not Carrier(place).exists()


def outer(world: World, o: VxlanXdp) -> str:
    return VxlanXdpDriver(world.own.place)._outer(carrier.Owner(o.ns, o.dev))


@pytest.mark.root
@pytest.mark.needs("cgroup2", "vxlan-xdp")
def test_many_are_made_and_seen_by_as_many_looks_as_one(own: OwnPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a thousand would cost a million looks at an interface."""
    looks: list[int] = []
    dump = rtnl.dump_links
    monkeypatch.setattr(rtnl, "dump_links", lambda: looks.append(1) or dump())
    with own.played_machine():
        run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
        driver, network = VxlanXdpDriver(own.place), NetworkDriver(own.place)
        assert network.ensure([Netns(A)]) == {}
        counted = []
        for first, many in ((10, 1), (20, 8)):
            some = [
                VxlanXdp(A, f"v{i}", 70000 + i, f"02:00:00:00:02:{i:02x}", i, "192.0.2.1", "192.0.2.2")
                for i in range(first, first + many)
            ]
            looks.clear()
            assert driver.ensure(some) == {}
            made = len(looks)
            assert {o for o in driver.observe({A}) if isinstance(o, VxlanXdp) and o.whole} >= set(some)
            counted.append((made, len(looks) - made))
        assert counted[0] == counted[1]
        assert driver.remove([o for o in driver.observe({A}) if isinstance(o, VxlanXdp)]) == {}
        assert network.remove([Netns(A)]) == {}
        assert_nothing_is_left(own.place)


def test_tunnels_at_xdp_keep_the_contract_of_drivers(world: World) -> None:
    tunnels_keep_the_contract(world, A, TUNNELS, CHANGES, GROUND, WHOLE, assert_nothing_is_left)
    if world.own:
        world.own.sweep("t")
        assert_nothing_is_left(world.own.place)
        _heals(world)
        _refuses(world)
        _survives_a_crash_at_any_step(world)


def _heals(world: World) -> None:
    """What only a real machine shows."""
    assert world.one_pass(WHOLE) == {}
    pins = world.own.place.run / "tunnels"
    for deed in (*IN_SLIVER, *ON_NODE):
        inside = ("nsenter", f"--net={world.own.place.netns(A)}", "--") if deed in IN_SLIVER else ()
        run(*inside, "sh", "-ec", deed.format(outer=outer(world, FOUR), pins=pins))
        assert world.see() != WHOLE, deed
        assert world.one_pass(WHOLE) == {}, deed
        assert world.see_anew() == WHOLE, deed


def _refuses(world: World) -> None:
    """Another's number, an address that the node has not, and an interface with somebody else's program."""
    other = replace(FOUR, dev="to-d", index=70013)
    assert "another tunnel with the number 7" in world.ensure(other)[other.key]
    assert world.see() == WHOLE
    elsewhere = replace(FOUR, local="192.0.2.77")
    assert "has the address 192.0.2.77" in world.ensure(elsewhere)[elsewhere.key]
    world.one_pass(GROUND)
    run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    flow = Flow("02:00:00:00:00:01", "02:00:00:00:00:02", "192.0.2.1", "192.0.2.2")
    stranger = Ends(1, flow)
    stranger.take_in(Path("/proc/thread-self/ns/net"), "eth0")
    refused = world.one_pass(WHOLE)
    assert "'take_in'" in refused[FOUR.key] and "ip link set dev eth0 xdp off" in refused[FOUR.key]
    assert "xdp" in run("ip", "link", "show", "dev", "eth0")
    run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    stranger.close()
    assert world.one_pass(WHOLE) == {}
    assert world.see_anew() == WHOLE


def _survives_a_crash_at_any_step(world: World) -> None:
    """While they are made, and while they are taken away: the next pass finds whatever was left."""
    for before, after in ((GROUND, WHOLE), (WHOLE, GROUND)):
        for step in count():
            assert world.one_pass(before) == {}
            with pytest.MonkeyPatch.context() as patch:
                crashed = _crash_at(step, patch)
                try:
                    world.see_anew()
                    world.one_pass(after)
                except Crash:
                    pass
            if not crashed():
                break
            assert world.one_pass(after) == {}, step
            assert world.see_anew() == after, step
            if after == GROUND:
                assert_nothing_is_left(world.own.place)
        assert step > 5
    assert_nothing_is_left(world.own.place)
    assert world.one_pass(WHOLE) == {}


def _crash_at(step: int, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Before that many changes of the tables, or of what the kernel has of tunnels; whether it came to that."""
    done = count()
    crashed = []

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object, **named: object) -> object:
            if next(done) == step:
                crashed.append(step)
                raise Crash
            return original(*arguments, **named)

        return changed

    patch.setattr(Carrier, "_set", counted(Carrier._set))
    patch.setattr(carrier.libbpf, "pin", counted(carrier.libbpf.pin))
    patch.setattr(Socket, "transact", counted(Socket.transact))
    return lambda: bool(crashed)


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_a_run_directory_that_vanishes_leaves_nothing_behind(world: World) -> None:
    pins = world.own.place.run / "tunnels"
    run("umount", pins)
    shutil.rmtree(pins)
    assert world.one_pass(GROUND) == {}
    assert world.see_anew() == GROUND
