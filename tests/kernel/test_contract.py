"""What every driver guarantees, told once, and asked of the machine in a dict and of the real one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from own_place import OwnPlace, eventually, run
from world import World, holding

from vini.model import (
    Address,
    AnyObject,
    Bridge,
    Container,
    Disk,
    File,
    Interface,
    Netns,
    Process,
    Ready,
    Root,
    Route,
    Shape,
    Sysctl,
    Veth,
    VethEnd,
    Vxlan,
)
from vini.node import cgroup
from vini.node.drivers import Failures
from vini.node.drivers.process import ProcessDriver
from vini.plan import in_order, plan

A, B, C, D = ALL = ("c.a", "c.b", "c.c", "c.d")
WIRE = Veth((VethEnd(A, "to-b", 70001, "02:00:00:00:00:0a"), VethEnd(B, "to-a", 70002, "02:00:00:00:00:0b")))
TO_SWITCH = Veth((VethEnd(A, "to-c", 70003, "02:00:00:00:00:0c"), VethEnd(C, "to-a", 70004, "02:00:00:00:00:0d")))
# Numbers of tunnels are the whole machine's: these are the test process's own.
VNI = 0x560000 + os.getpid() % 0x10000 * 2
TUNNEL = Vxlan(B, "to-d", 70005, "02:00:00:00:00:0e", VNI, "192.0.2.1", "192.0.2.2")
TUNNEL_V6 = Vxlan(B, "to-e", 70006, "02:00:00:00:00:0f", VNI + 1, "2001:db8::1", "2001:db8::2", port=4790)
SWITCH = Bridge(C)
PORT = Interface(C, "to-a", TO_SWITCH.key, master="switch")
MOTD = File(A, "root/etc/motd", "hello\n")
DAEMON = Process(A, "daemon", ("sleep", "1000"), config="1", reload=("true",))
DISK = Disk(D, 16, inodes=500)
BOX = Container(D, pids=100, disk=True)
SECOND = Process(A, "second", ("sleep", "1000"), after=("daemon",), rooted=True)
WHOLE: frozenset[AnyObject] = frozenset(
    {
        *(Netns(ns) for ns in (A, B, C)),
        *(Sysctl(ns, (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))) for ns in (A, B, C)),
        Sysctl(D, (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"))),
        *(Interface(ns, "lo", ("netns", ns), mtu=65536) for ns in (A, B, C)),
        WIRE,
        TO_SWITCH,
        SWITCH,
        PORT,
        TUNNEL,
        TUNNEL_V6,
        Interface(B, "to-d", TUNNEL.key, mtu=1450),
        Interface(B, "to-e", TUNNEL_V6.key, mtu=1430, split=True, finished=True),
        Address(B, "to-d", "10.1.0.0/31"),
        Address(B, "to-d", "fd01::/127"),
        Interface(A, "to-c", TO_SWITCH.key, gro=True, split=True, finished=True),
        Interface(A, "to-b", WIRE.key),
        Interface(B, "to-a", WIRE.key, mtu=1400),
        Address(A, "lo", "192.0.2.1/32"),
        Address(A, "lo", "2001:db8::1/128"),
        Address(A, "to-b", "10.0.0.0/31"),
        Address(A, "to-b", "fd00::/127"),
        Address(B, "to-a", "10.0.0.1/31"),
        Address(B, "to-a", "fd00::1/127"),
        Route(A, "198.51.100.0/24", "10.0.0.1", "to-b", mtu=1400),
        Route(A, "2001:db8:1::/48", "fd00::1", "to-b", mtu=1400),
        Route(A, "0.0.0.0/0", "10.0.0.1", "to-b"),
        Route(A, "::/0", "fd00::1", "to-b"),
        MOTD,
        File(A, "bird/bird.conf", "text ü\n", mode=0o640),
        Root(A, ("/etc",)),
        Root(B, ("/opt", "/srv")),
        DAEMON,
        SECOND,
        Netns(D, tenant=True),
        Interface(D, "lo", ("netns", D), mtu=65536),
        DISK,
        BOX,
        Process(D, "boxed", ("sleep", "1000"), contained=True),
    }
)
KINDS = (Netns, Disk, Sysctl, Veth, Vxlan, Bridge, Interface, Address, Route, File, Root, Container, Process)
SETTINGS_OF_SOMETHING = (Sysctl, Interface)  # these come and go with what they are settings of


REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2", "containers", "disks")])


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With everything of WHOLE in it."""
    with holding(request.getfixturevalue("own") if request.param == "real" else None, ALL, WHOLE) as world:
        yield world


def pids_of(world: World) -> dict[str, list[int]]:
    """Of every process of c.a."""
    return {n: cgroup.pids(cgroup.of(world.own.place, A, n)) for n in ("daemon", "second")} if world.own else {}


def of(kind: type) -> list[AnyObject]:
    return [o for o in in_order(WHOLE) if type(o) is kind]


# --- for every kind, on every machine -----------------------------------------------------------------


def test_what_is_seen_is_what_was_asked_for(world):
    assert world.see() == WHOLE
    assert world.see_anew() == WHOLE


@pytest.mark.parametrize("kind", KINDS)
def test_to_ensure_what_is_right_changes_nothing(world, kind):
    before = pids_of(world)
    assert world.ensure(*of(kind)) == {}
    assert world.see() == WHOLE
    assert pids_of(world) == before


CHANGES = [
    Sysctl(A, (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"))),
    Interface(A, "to-b", WIRE.key, mtu=1400),
    Interface(A, "to-b", ("other", "wire")),
    Interface(A, "to-b", WIRE.key, gro=True),
    Interface(A, "to-b", WIRE.key, split=True),
    Interface(A, "to-b", WIRE.key, finished=True),
    Interface(A, "to-c", TO_SWITCH.key),
    Interface(B, "to-e", TUNNEL_V6.key, mtu=1280),
    replace(TUNNEL, remote="192.0.2.3"),
    replace(TUNNEL, local="192.0.2.4", remote="192.0.2.3"),
    replace(TUNNEL_V6, remote="2001:db8::3"),
    replace(PORT, master=""),
    replace(SWITCH, stp=False),
    replace(SWITCH, storm_kpps=20),
    Route(A, "198.51.100.0/24", "10.0.0.1", "to-b"),
    replace(MOTD, text="other\n"),
    replace(MOTD, mode=0o755),
    replace(MOTD, owner="nobody"),
    replace(BOX, cpu_weight=50, cpu_percent=25),
    replace(BOX, memory_mb=64, pids=50),
    replace(BOX, cpu_percent=50, cpu_reserved=True),
    replace(DISK, read_mb=50, write_mb=20),
    replace(DAEMON, config="2"),
    replace(DAEMON, ready=Ready(("true",))),
]


@pytest.mark.parametrize("new", CHANGES, ids=lambda o: f"{o.key[0]}")
def test_a_change_in_place_touches_nothing_else(world, new):
    before = pids_of(world)
    old = next(o for o in WHOLE if o.key == new.key)
    assert {f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)} <= new.changeable
    assert world.ensure(new) == {}
    assert world.see() == WHOLE - {old} | {new}
    assert pids_of(world) == before


def test_when_a_bridge_goes_its_ports_stay_and_become_ports_again(world):
    world.remove(SWITCH)
    assert world.see() == WHOLE - {SWITCH, PORT} | {replace(PORT, master="")}
    assert world.ensure(SWITCH) == world.ensure(PORT) == {}
    assert world.see() == WHOLE


def test_a_route_moves_to_another_next_hop_in_place(world):
    wider = Address(A, "to-b", "10.9.0.1/24")
    assert world.ensure(wider) == {}
    for to, via in (("198.51.100.0/24", "10.9.0.2"), ("0.0.0.0/0", "10.9.0.3")):
        assert world.ensure(Route(A, to, via, "to-b")) == {}
    moved = {o.to: o.via for o in world.see() if isinstance(o, Route)}
    assert (moved["198.51.100.0/24"], moved["0.0.0.0/0"], moved["::/0"]) == ("10.9.0.2", "10.9.0.3", "fd00::1")


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in SETTINGS_OF_SOMETHING])
def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(world, kind):
    assert world.remove(*of(kind)) == {}
    assert not {type(o) for o in world.see()} & {kind}
    assert world.remove(*of(kind)) == {}
    assert world.remove(*of(kind)) == {}


@pytest.mark.parametrize("kind", [k for k in KINDS if k.falls])
def test_what_falls_is_gone_when_all_that_it_stands_on_is(world, kind):
    for o in of(kind):
        below = [x for x in in_order(WHOLE) if x.key in o.on]
        for x in reversed(below):
            if type(x) not in SETTINGS_OF_SOMETHING:
                world.remove(x)
    veths = of(Veth)
    if kind in (Address, Route):  # they stand on settings, which go with the pair
        world.remove(*veths)
    gone = [o for o in of(kind) if all(_is_gone(world, k) for k in o.on)]
    assert gone
    assert not set(gone) & world.see()


def _is_gone(world: World, key: tuple[str, ...]) -> bool:
    return key not in {o.key for o in world.see()}


@pytest.mark.parametrize("kind", KINDS)
def test_on_missing_ground_each_object_fails_with_a_sentence(world, kind):
    if kind is Netns:
        return
    world.one_pass(frozenset())
    failures = world.ensure(*of(kind))
    if world.own:
        world.own.sweep("c")
        assert world.own.leftovers() == []
    if kind is File and world.own:  # a directory needs no namespace
        return
    assert set(failures) == {o.key for o in of(kind)}
    assert all(why.endswith(".") and why[0].isupper() for why in failures.values()), failures


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_there_can_be_removed(world, kind):
    world.one_pass(frozenset())
    assert world.remove(*of(kind)) == {}
    if world.own:
        assert world.own.leftovers() == []


def test_a_namespace_that_is_not_asked_about_is_not_told_of(world):
    driver_view = {ns for o in world._machine.observe({A}).objects for ns in o.slivers}
    assert driver_view == {A}
    assert world._machine.observe({"c.never"}).objects == frozenset()
    assert world._machine.observe(set()).objects == frozenset()


def test_one_of_a_batch_that_fails_does_not_stop_the_others(world):
    wrong = Address("c.nowhere", "to-b", "10.8.0.1/32")
    right = Address(A, "to-b", "10.8.0.2/32")
    assert set(world.ensure(wrong, right)) == {wrong.key}
    assert right in world.see()


def test_a_process_that_runs_once_stays_seen_when_it_has_ended(world):
    once = Process(A, "once", ("true",), once=True)
    world.ensure(once)
    eventually(lambda: once in world.see() and once in world.see_anew())
    world.remove(once)
    assert once not in world.see()


@pytest.mark.parametrize("order", [1, -1])
def test_two_files_of_one_directory_and_one_that_goes(world, order):
    files = [File(A, f"frr/{n}.conf", n) for n in "xy"][::order]
    world.ensure(*files)
    world.remove(files[0])
    assert {o for o in world.see() if isinstance(o, File)} == {*of(File), files[1]}


# --- the real machine only ------------------------------------------------------------------------------

root = [pytest.mark.root, pytest.mark.needs("cgroup2")]


@pytest.fixture
def real(own: OwnPlace) -> Iterator[World]:
    world = World(own, ALL)
    assert world.one_pass(WHOLE) == {}
    yield world
    assert world.one_pass(frozenset()) == {}


def inside(world: World, *argv: str, ns: str = A) -> str:
    return run("nsenter", f"--net={world.own.place.netns(ns)}", "--", *argv)


def addresses_and_routes(real: World) -> list[str]:
    """As ip(8) shows them; that somebody else's namespace went while it listed, it tells too, and is passed over."""
    shown = inside(real, "ip", "address") + inside(real, "ip", "route")
    return [line for line in shown.splitlines() if not line.startswith("Error: Peer netns reference")]


class TestOthers:
    """What bears no mark of ours is invisible to us, and is there afterwards as it was before."""

    pytestmark = root

    def test_a_namespace_made_by_hand_survives_even_with_a_name_that_begins_like_ours(self, real):
        name = f"{real.own.place.mark}-by-hand"
        run("ip", "netns", "add", name)
        try:
            assert real.own.namespaces() == {A, B, C, D}
            real.one_pass(frozenset())
            assert name in run("ip", "netns", "list")
        finally:
            run("ip", "netns", "delete", name)

    def test_interfaces_addresses_and_routes_made_by_hand_in_our_namespace(self, real):
        inside(real, "ip", "link", "add", "hand", "type", "veth", "peer", "hand2")
        inside(real, "ip", "link", "set", "hand", "up")
        inside(real, "ip", "address", "add", "203.0.113.1/24", "dev", "hand")
        inside(real, "ip", "address", "add", "203.0.113.129/32", "dev", "to-b")
        inside(real, "ip", "-6", "address", "add", "2001:db8:9::1/128", "dev", "lo")
        inside(real, "ip", "route", "add", "198.18.0.0/15", "via", "10.0.0.1")
        eventually(lambda: "linkdown" in (seen := str(addresses_and_routes(real))) and "tentative" not in seen)  # soon
        before = addresses_and_routes(real)
        assert real.see() == WHOLE
        assert real.one_pass(WHOLE) == {}
        more = WHOLE | {Address(A, "to-b", "10.7.0.1/24"), Route(A, "10.8.0.0/16", "10.0.0.1", "to-b")}
        real.one_pass(more)
        real.one_pass(WHOLE)
        assert addresses_and_routes(real) == before

    def test_a_pair_made_by_hand_with_the_name_of_ours_is_reported_and_not_taken(self, real):
        real.remove(WIRE)
        inside(real, "ip", "link", "add", "to-b", "type", "bridge")
        try:
            failures = real.one_pass(WHOLE)
            assert set(failures) == {WIRE.key}
            assert "File exists" in failures[WIRE.key]
            assert "bridge" in inside(real, "ip", "-d", "link", "show", "to-b")
        finally:
            inside(real, "ip", "link", "delete", "to-b")
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE

    def test_a_process_in_our_namespace_that_is_not_ours(self, real):
        hand = subprocess.Popen(["nsenter", f"--net={real.own.place.netns(A)}", "--", "sleep", "1000"])
        try:
            real.one_pass(frozenset())
            real.one_pass(WHOLE)
            assert hand.poll() is None
        finally:
            hand.kill()
            hand.wait()

    def test_files_of_a_daemon_or_a_user_in_the_run_directory(self, real):
        log = real.own.place.sliver(A) / "bird" / "bird.log"
        log.write_text("a daemon's own")
        assert real.see() == WHOLE
        real.remove(*of(File))
        assert log.read_text() == "a daemon's own"
        real.one_pass(WHOLE)

    def test_another_place_on_the_same_machine(self, real, tmp_path):
        other = OwnPlace(tmp_path)
        try:
            second = World(other, ALL)
            theirs = frozenset(o for o in WHOLE if not {TUNNEL.key, TUNNEL_V6.key} & {o.key, *o.on})
            theirs -= {o for o in of(Address) if o.ns == B and o.dev == "to-d"}
            second.one_pass(theirs)
            real.one_pass(frozenset())
            assert second.see() == theirs
            assert real.see() == frozenset()
            real.one_pass(WHOLE)
            second.one_pass(frozenset())
            assert real.see() == WHOLE
            assert other.leftovers() == []
        finally:
            other.destroy()

    def test_the_machines_own_namespace_and_file_system_are_as_before(self, real):
        def look() -> tuple[str, ...]:
            return (
                run("ip", "-o", "link"),
                run("ip", "route"),
                Path("/etc/motd").read_text() if Path("/etc/motd").exists() else "",
                run("sysctl", "net.ipv4.ip_forward"),
                str(Path("/proc/thread-self/ns/net").readlink()),
            )

        before = look()
        real.one_pass(frozenset())
        real.one_pass(WHOLE)
        real.ensure(replace(MOTD, text="seen by the sliver only"))
        assert look() == before


class TestTunnels:
    """Each heals in one pass, and what stands on it stays where it can."""

    pytestmark = [*root, pytest.mark.needs("vxlan")]

    DEEDS = (
        "ip link set to-d type vxlan id {vni} remote 192.0.2.9",
        "ip link set to-d type vxlan id {vni} learning",
        "bridge fdb delete 00:00:00:00:00:00 dev to-d",
        "bridge fdb append 00:00:00:00:00:00 dev to-d dst 192.0.2.9",
        "bridge fdb add 02:00:00:00:00:99 dev to-d dst 192.0.2.9 vni 7",
        "ip link delete to-d",
        "ip link set to-d name elsewhere",
        "ip link set to-d down",
        "ip link set to-d mtu 1280",
        "ip link set to-d address 02:00:00:00:00:98",
        "ip link set to-d group default",
        "ip link delete to-d; ip link add to-d index 70005 address 02:00:00:00:00:0e group 1447644745 type vxlan"
        " id {vni} local 192.0.2.1 remote 192.0.2.2 dstport 4789 nolearning",  # its socket is the sliver's own
    )

    @pytest.mark.parametrize("deed", DEEDS)
    def test_is_healed_in_one_pass(self, real, deed):
        inside(real, "sh", "-c", deed.format(vni=VNI), ns=B)
        assert real.see() != WHOLE
        failures = real.one_pass(WHOLE)
        if "group default" in deed:  # it is nobody's now, and has our tunnel's name
            assert set(failures) == {TUNNEL.key}
            inside(real, "ip", "link", "delete", "to-d", ns=B)
            failures = real.one_pass(WHOLE)
        assert failures == {}
        assert real.see_anew() == WHOLE

    def test_is_made_anew_over_the_other_ip_version_within_two_passes(self, real):
        other = replace(TUNNEL, local="2001:db8::1", remote="2001:db8::2")
        want = WHOLE - {TUNNEL} | {other}
        real.one_pass(want)
        assert real.one_pass(want) == {}
        assert real.see_anew() == want

    def test_its_number_is_told_where_another_has_it(self, real):
        other = Vxlan(B, "to-f", 70009, "02:00:00:00:00:10", VNI, "192.0.2.1", "192.0.2.2")
        failures = real.ensure(other)
        assert failures == {
            other.key: f"The kernel refused vxlan {B} to-f: this node has another tunnel with the number {VNI}."
        }
        assert real.see() == WHOLE

    def test_a_tunnel_made_by_hand_is_not_ours(self, real):
        more = "ip link add hand type vxlan id 5 local 192.0.2.1 remote 192.0.2.2 dstport 4791"
        inside(real, "sh", "-c", more, ns=B)
        assert real.see() == WHOLE
        assert real.one_pass(WHOLE) == {}
        assert "hand" in inside(real, "ip", "link", ns=B)

    def test_its_number_is_free_again_when_its_namespace_was_made_anew(self, real):
        for _ in range(3):
            run("ip", "netns", "delete", real.own.place.netns(B).name)
            eventually(lambda: real.one_pass(WHOLE) == {})  # a loaded kernel takes its time to take one down
            assert real.see() == WHOLE


class TestWhatTheKernelAdds:
    """To an interface that comes up and to each address; it does not put back what a hand takes away of that."""

    pytestmark = root

    DEEDS = (
        "ip route flush table main",
        "ip -6 route flush table main",
        "ip route delete 10.0.0.0/31 dev to-b",
        "ip -6 route delete fd00::/127 dev to-b",
        "ip route delete 10.7.0.0/24 dev to-b",
        "ip route flush table local",
        "ip route delete local 10.7.0.2 dev to-b table local",
        "ip route delete local 192.0.2.1 dev lo table local",
        "ip -6 route delete local fd00:: dev to-b table local",
        "ip -6 route flush table local",
        "ip -6 route delete multicast ff00::/8 dev to-b table local",
        "ip address flush dev lo",
        "ip address delete 127.0.0.1/8 dev lo",
        "ip -6 address delete ::1/128 dev lo",
        "ip -6 address flush dev to-b scope link",
        "ip address flush dev to-b",
        "ip link set lo down",
        "ip address flush dev lo; ip link set lo down",
        "ip -6 route flush table all; ip route flush table all",
    )

    @staticmethod
    def look(world: World) -> tuple[list[str], ...]:
        """All routes but those of the addresses' order, and all addresses, as a person sees them."""
        routes = [inside(world, "ip", "-d", f"-{v}", "route", "show", "table", "all") for v in (4, 6)]
        addresses = inside(world, "ip", "-o", "address").replace("noprefixroute ", "")  # ::1 has none in any case
        return *(sorted(r.splitlines()) for r in routes), sorted(addresses.splitlines())

    @staticmethod
    def wait_in_use(world: World) -> None:
        """The kernel has noticed that the pair has a carrier, and put all addresses to use."""
        eventually(lambda: "state UP" in inside(world, "ip", "link", "show", "dev", "to-b"))
        eventually(lambda: "fe80::" in inside(world, "ip", "address", "show", "dev", "to-b"))
        eventually(lambda: "tentative" not in inside(world, "ip", "address"))
        eventually(lambda: "fd00::" in inside(world, "ip", "-6", "route", "show", "table", "local"))

    @pytest.mark.parametrize("deed", DEEDS)
    def test_comes_back_exactly_as_it_was(self, real, deed):
        more = (Address(A, "to-b", "10.7.0.1/24"), Address(A, "to-b", "10.7.0.2/24"))
        want = WHOLE | set(more)
        real.one_pass(want)
        self.wait_in_use(real)
        before = self.look(real)
        inside(real, "sh", "-c", deed)
        assert self.look(real) != before

        def healed() -> bool:
            """Within a second, as of a new IPv6 address the kernel might not have made the route yet."""
            assert real.one_pass(want) == {}
            assert self.look(real) == before
            return plan(want, real.see_anew()) == []

        eventually(healed)

    def test_what_was_mended_goes_with_its_address(self, real):
        self.wait_in_use(real)
        for version in "46":
            inside(real, "ip", f"-{version}", "route", "flush", "table", "all")
        eventually(lambda: any(isinstance(o, Interface) and not o.whole for o in real.see()))
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE
        ours = [o for o in of(Address) if o.ns == A and o.dev == "to-b"]
        assert real.remove(*ours) == {}
        left = "".join(inside(real, "ip", f"-{v}", "route", "show", "table", "all") for v in "46")
        assert not [x for x in left.splitlines() if "proto kernel" in x and ("10.0.0." in x or "fd00::" in x)]

    def test_an_address_is_taken_away_though_its_routes_were_before(self, real):
        stray = Address(A, "to-b", "10.7.0.1/24")
        real.ensure(stray)
        inside(real, "ip", "route", "delete", "10.7.0.0/24", "dev", "to-b")
        assert real.one_pass(WHOLE) == {}
        assert "10.7.0.1" not in inside(real, "ip", "address")

    def test_is_not_missed_where_the_user_turned_ipv6_off(self, real):
        v6 = {o for o in WHOLE if isinstance(o, Address | Route) and ":" in "".join(o.key)}
        real.one_pass(WHOLE - v6)
        inside(real, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        assert "inet6" not in inside(real, "ip", "address")
        assert real.see() == WHOLE - v6
        inside(real, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")


class TestSettings:
    pytestmark = root

    BORN_WITH = (
        *("net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0", "net.ipv4.fib_multipath_hash_policy=0"),
        *(
            f"net.ipv4.conf.{x}.{what}=1"
            for x in ("all", "default", "to-b")
            for what in ("rp_filter", "send_redirects")
        ),
        *(f"net.ipv6.conf.{x}.accept_dad=1" for x in ("all", "default", "to-b")),
        *(f"net.ipv6.conf.{x}.keep_addr_on_down=0" for x in ("all", "default", "to-b")),
        *(f"net.ipv6.conf.{x}.{what}=1" for x in ("default", "to-b") for what in ("accept_ra", "accept_redirects")),
        "net.ipv4.ping_group_range=1 0",
    )

    def test_each_that_a_hand_changes_is_seen_and_put_back_and_no_other(self, real):
        names = [change.partition("=")[0] for change in self.BORN_WITH]
        before = inside(real, "sysctl", *names)
        for change in self.BORN_WITH:
            inside(real, "sysctl", "-qw", change)
            assert inside(real, "sysctl", *names) != before, change
            assert real.see_anew() != WHOLE, change
            assert real.one_pass(WHOLE) == {}
            assert inside(real, "sysctl", *names) == before, change
        assert real.see() == real.see_anew() == WHOLE


class TestProcesses:
    pytestmark = root

    def test_one_that_died_is_not_seen(self, real):
        os.kill(pids_of(real)["daemon"][0], signal.SIGKILL)
        eventually(lambda: real.see() == WHOLE - {DAEMON})
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE

    def test_one_outlives_the_agent_that_started_it_and_is_found_again(self, real):
        before = pids_of(real)
        assert World(real.own, ALL).one_pass(WHOLE) == {}
        assert pids_of(real) == before

    def test_one_whose_log_asks_for_it_is_told_to_reload_each_time_and_no_more(self, real):
        told = real.own.place.sliver(A) / "told"
        wails = Process(
            A, "wails", ("sh", "-c", "while [ ! -e {run}/loud ]; do sleep 0.05; done; while read x; do echo lost;"
            " done < {run}/loud; exec sleep 1000"), reload=("sh", "-c", "echo told >> {run}/told"), reload_on="lost",
        )  # fmt: skip
        want = WHOLE | {wails}
        real.one_pass(want)
        assert real.see() == want
        before = cgroup.pids(cgroup.of(real.own.place, A, "wails"))[:1]
        new = real.own.place.sliver(A) / "new"
        new.write_text("once\n")
        new.rename(new.with_name("loud"))  # whole from its first moment

        def is_told() -> bool:
            real.one_pass(want)
            return real.see_anew() == want and told.exists()

        eventually(is_told)
        for _ in range(3):
            assert real.one_pass(want) == {}
        assert told.read_text() == "told\n"
        assert cgroup.pids(cgroup.of(real.own.place, A, "wails"))[:1] == before
        real.remove(wails)

    def test_what_it_forked_goes_with_it(self, real):
        forker = Process(A, "forker", ("sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000"))
        real.ensure(forker)
        group = cgroup.of(real.own.place, A, "forker")
        eventually(lambda: len(cgroup.pids(group)) == 3)
        assert real.remove(forker) == {}
        assert not group.exists()

    def test_one_that_does_not_listen_to_sigterm_is_ended_all_the_same(self, real):
        deaf = Process(A, "deaf", ("sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
        real.ensure(deaf)
        eventually(lambda: cgroup.pids(cgroup.of(real.own.place, A, "deaf")))
        assert real.remove(deaf) == {}
        assert deaf not in real.see()

    def test_one_without_its_record_is_not_what_was_asked_for_and_is_started_anew(self, real):
        (real.own.place.sliver(A) / "daemon.process").unlink()
        assert DAEMON not in real.see()
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE
        assert len(pids_of(real)["daemon"]) == 1

    def test_one_that_dies_at_once_is_tried_ever_more_rarely_and_its_last_words_are_told(self, real):
        dies = Process(A, "dies", ("sh", "-c", "echo no such colour >&2; exit 7"))
        want = WHOLE | {dies}
        failures: Failures = {}

        def refused() -> bool:
            failures.update(real.one_pass(want))
            return dies.key in failures

        eventually(refused)
        assert "no such colour" in failures[dies.key]
        real.one_pass(WHOLE)

    def test_one_in_a_namespace_that_was_replaced_is_moved_to_the_new_one(self, real):
        run("ip", "netns", "delete", real.own.place.netns(A).name)
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE
        here = real.own.place.netns(A).stat().st_ino
        for pids in pids_of(real).values():
            assert [Path(f"/proc/{p}/ns/net").stat().st_ino for p in pids] == [here]

    def test_one_in_a_namespace_that_somebody_made_anew_under_our_name_is_moved_too(self, real):
        name = real.own.place.netns(A).name
        run("ip", "netns", "delete", name)
        run("ip", "netns", "add", name)
        assert not {DAEMON, SECOND} & real.see()
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE
        here = real.own.place.netns(A).stat().st_ino
        for pids in pids_of(real).values():
            assert [Path(f"/proc/{p}/ns/net").stat().st_ino for p in pids] == [here]

    def test_it_sees_the_slivers_files_and_nobody_else_does(self, real):
        reader = Process(A, "reader", ("sh", "-c", "cat /etc/motd"), once=True, rooted=True)
        real.ensure(reader)
        log = real.own.place.sliver(A) / "reader.log"
        eventually(lambda: log.read_text().endswith("hello\n"))
        assert not Path("/etc/motd").exists() or Path("/etc/motd").read_text() != "hello\n"
        real.remove(reader)

    def test_a_readiness_probe_answers_when_it_does(self, real):
        waits = Process(A, "waits", ("sleep", "1000"), ready=Ready(("cat", "{run}/answer"), "^yes$"))
        real.ensure(waits)
        driver = ProcessDriver(real.own.place)
        assert A in driver.health([waits])[0]
        (real.own.place.sliver(A) / "answer").write_text("no\nyes\n")
        eventually(lambda: driver.health([waits]) == ({}, {}))
        real.remove(waits)

    def test_one_that_ends_again_is_told_of_with_its_last_lines_whenever_one_looks(self, real):
        """Also between two tries, when nothing has failed just now and it is only missing."""
        dies = Process(A, "dies", ("sh", "-c", "echo no such colour; exit 3"), ready=Ready(("true",)))
        driver = ProcessDriver(real.own.place)
        for _ in range(2):
            assert driver.ensure([dies]) == {}
            eventually(lambda: dies not in driver.observe([A]))
        why = "dies ended soon after its start; its last lines: no such colour"
        assert driver.health([]) == ({}, {A: why})
        driver.remove([dies])
        assert driver.health([]) == ({}, {})


class TestRoots:
    pytestmark = root

    def test_a_pin_that_was_unmounted_takes_the_processes_in_it_along(self, real):
        """Else they would see other files than those who enter the new one."""
        pin = real.own.place.run / "mounts" / A
        run("umount", pin)
        assert real.one_pass(WHOLE) == {}
        assert real.see() == WHOLE
        inode = run("nsenter", f"--mount={pin}", "readlink", "/proc/self/ns/mnt").strip()
        assert [str(Path(f"/proc/{p}/ns/mnt").readlink()) for p in pids_of(real)["second"]] == [inode]

    def test_a_namespace_is_really_gone_when_it_is_removed(self, real):
        """No private root keeps it alive in secret: its inode is in no process and no mount any more."""
        place = real.own.place
        count = f"cat /proc/*/mountinfo 2>/dev/null | grep -c -e 'nsfs.*{place.mark}' -e '{place.run}/netns'"
        assert int(run("sh", "-c", count, check=False)) > 2  # the roots see the pins too
        real.one_pass(frozenset())
        assert run("sh", "-c", count, check=False).strip() == "0"


class TestShapes:
    """The link element, where there is no netem; details in tests/kernel/test_shape*.py and tests/dataplane."""

    pytestmark = [*root, pytest.mark.needs("element")]

    def test_seen_changed_in_place_and_removed(self, real):
        shape = Shape(A, "to-b", "element", delay_us=1000)
        assert real.one_pass(WHOLE | {shape}) == {}
        assert real.see_anew() == WHOLE | {shape}
        changed = replace(shape, delay_us=2000, loss_ppm=1000, queue_packets=10, drop=True)
        assert real.ensure(changed) == {}
        assert real.ensure(changed) == {}
        assert real.see_anew() == WHOLE | {changed}
        assert real.remove(changed) == {}
        assert real.remove(changed) == {}
        assert real.see_anew() == WHOLE
