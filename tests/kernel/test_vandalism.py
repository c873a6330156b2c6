"""Whatever a hand or a crash does to the machine, the agent puts back exactly what was asked, within seconds, and
nothing else: another slice with the same names does not notice."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path

import pytest
from own_place import NETNS, OwnPlace, eventually, place_below, run

from vini.model import (
    Address,
    Command,
    End,
    File,
    Impairment,
    Interface,
    Link,
    Process,
    Route,
    Routing,
    Sliver,
    Topology,
)
from vini.node import cgroup
from vini.plan import plan

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "bird")]

OSPF = Routing(("ospf",), daemon="bird")
WITHIN_S = 120.0  # what a busy machine may need


def ring(name: str) -> Topology:
    """Three BIRD routers in a ring, and a host with files and a service behind one of them."""
    host = Sliver(
        "host",
        files={"/etc/motd": "hello\n", "/srv/www/index.html": "<p>\n"},
        commands=(Command("touch /tmp/$$; rm /tmp/$$"), Command("sleep 10000", service=True)),
    )
    links = tuple(Link((End(a), End(b))) for a, b in [("a", "b"), ("b", "c"), ("c", "a"), ("host", "a")])
    return Topology(name, {**{n: Sliver(n, routing=OSPF) for n in "abc"}, "host": host}, links)


def quiet(name: str) -> Topology:
    """The same sliver names, without daemons."""
    return Topology(name, {n: Sliver(n) for n in ("a", "b", "c", "host")}, ring(name).links)


class Vandal:
    """Each method is one thing that a careless or malicious root may do to slice `v`."""

    def __init__(self, own: OwnPlace, seed: int | str):
        self.own, self.chance = own, random.Random(seed)
        self._objects = sorted(own.spec("v").objects, key=lambda o: o.key)
        self.done: list[str] = []

    def _one(self, kind: type, fits: Callable[[object], bool] = lambda _: True):
        found = [o for o in self._objects if type(o) is kind and fits(o)]
        return self.chance.choice(found)

    def _inside(self, ns: str, *argv: str) -> None:
        self.done.append(f"{ns}: {' '.join(argv)}")
        run("nsenter", f"--net={self.own.place.netns(ns)}", "--", *argv, check=False)

    def _vif(self) -> Interface:
        return self._one(Interface, lambda o: o.dev != "lo")

    def delete_namespace(self) -> None:
        ns = self._vif().ns
        self.done.append(f"delete namespace {ns}")
        run("ip", "netns", "delete", self.own.place.netns(ns).name, check=False)

    def unmount_namespace(self) -> None:
        """The file stays, empty."""
        ns = self._vif().ns
        self.done.append(f"unmount namespace {ns}")
        run("umount", "-l", self.own.place.netns(ns), check=False)

    def delete_name(self) -> None:
        ns = self._vif().ns
        self.done.append(f"delete name of {ns}")
        self.own.place.netns(ns).unlink(missing_ok=True)

    def mislead_name(self) -> None:
        """It leads nowhere, or is a plain file."""
        ns = self._vif().ns
        self.done.append(f"mislead name of {ns}")
        name = self.own.place.netns(ns)
        name.unlink(missing_ok=True)
        name.symlink_to("/nowhere") if self.chance.random() < 0.5 else name.touch()

    def unmount_slice(self) -> None:
        self.done.append("unmount the pins of v")
        run("umount", "-l", self.own.place.pin("v."), check=False)

    def delete_interface(self) -> None:
        o = self._vif()
        self._inside(o.ns, "ip", "link", "delete", o.dev)

    def rename_interface(self) -> None:
        o = self._vif()
        self._inside(o.ns, "ip", "link", "set", o.dev, "down")
        self._inside(o.ns, "ip", "link", "set", o.dev, "name", "lan0")

    def take_interface_away(self) -> None:
        """One end of a pair moves into a namespace that isn't ours."""
        o = self._vif()
        self._inside(o.ns, "ip", "link", "set", o.dev, "netns", "1", "name", f"v{os.getpid()}")
        run("ip", "link", "delete", f"v{os.getpid()}", check=False)

    def change_interface(self) -> None:
        o = self._vif()
        what = self.chance.choice(
            ["mtu 1300", "mtu 1000", "down", "address 02:00:00:00:00:99", "alias mine", "group 0"]
        )
        self._inside(o.ns, "ip", "link", "set", o.dev, *what.split())

    def mute_interface(self) -> None:
        o = self._vif()
        self._inside(o.ns, "ip", "link", "set", o.dev, self.chance.choice(["arp", "multicast"]), "off")
        self._inside(o.ns, "ip", "neigh", "flush", "all")

    def disable_ipv6(self) -> None:
        o = self._vif()
        which = self.chance.choice(["all", "default", o.dev])
        self._inside(o.ns, "sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1")

    def turn_forwarding_of_a_vif(self) -> None:
        o = self._vif()
        name = f"net.{self.chance.choice(['ipv4', 'ipv6'])}.conf.{o.dev}.forwarding"
        self._inside(o.ns, "sysctl", "-qw", f"{name}={int(o.ns == 'v.host')}")

    def change_what_slivers_are_born_with(self) -> None:
        name = self.chance.choice(["ipv4.conf.{}.rp_filter=1", "ipv4.conf.{}.send_redirects=1",
            "ipv6.conf.{}.accept_dad=1", "ipv4.fib_multipath_hash_policy=0"])  # fmt: skip
        self._inside("v.host", "sysctl", "-qw", "net." + name.format(self.chance.choice(["all", "default", "to-a"])))

    def delete_address(self) -> None:
        o = self._one(Address)
        self._inside(o.ns, "ip", "address", "delete", o.cidr, "dev", o.dev)

    def flush_addresses(self) -> None:
        o = self._one(Interface)
        self._inside(o.ns, "ip", "address", "flush", "dev", o.dev)

    def loopback_down(self) -> None:
        self._inside(self._one(Interface, lambda o: o.dev == "lo").ns, "ip", "link", "set", "lo", "down")

    def delete_route(self) -> None:
        o = self._one(Route)
        self._inside(o.ns, "ip", "route", "delete", o.to, "via", o.via)

    def replace_route(self) -> None:
        o = self._one(Route)
        self._inside(o.ns, "ip", "route", "replace", "blackhole", o.to, "proto", "86")

    def flush_routes(self) -> None:
        """Of a host: those of a router's daemon are the daemon's to bring back, when it next scans the kernel."""
        self._inside("v.host", "ip", "route", "flush", "proto", "86")
        self._inside("v.host", "ip", "-6", "route", "flush", "proto", "86")

    def delete_connected_route(self) -> None:
        o = self._one(Address, lambda o: o.dev != "lo")
        self._inside(o.ns, "ip", "route", "delete", str(ip_interface(o.cidr).network), "dev", o.dev)

    def flush_table(self) -> None:
        table = self.chance.choice(["main", "local"])
        for version in "46":
            self._inside("v.host", "ip", f"-{version}", "route", "flush", "table", table)

    def stop_forwarding(self) -> None:
        self._inside(
            self._one(Interface).ns, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"
        )

    def kill_process(self) -> None:
        o = self._one(Process, lambda o: not o.once)
        self.done.append(f"kill {o.key}")
        for pid in cgroup.pids(cgroup.of(self.own.place, o.ns, o.name)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def delete_file(self) -> None:
        o = self._one(File)
        self.done.append(f"delete {o.key}")
        (self.own.place.sliver(o.ns) / o.path).unlink(missing_ok=True)

    def scribble(self) -> None:
        o = self._one(File)
        self.done.append(f"scribble {o.key}")
        with suppress(FileNotFoundError):
            (self.own.place.sliver(o.ns) / o.path).write_text("something else")

    def delete_records(self) -> None:
        ns = self._one(Process).ns
        self.done.append(f"delete records of {ns}")
        for path in [*self.own.place.sliver(ns).glob("*.process"), self.own.place.sliver(ns) / ".files"]:
            path.unlink(missing_ok=True)

    def delete_run_directory(self) -> None:
        ns = self._one(Process).ns
        self.done.append(f"delete run directory of {ns}")
        shutil.rmtree(self.own.place.sliver(ns), ignore_errors=True)

    def unmount_root(self) -> None:
        self.done.append("unmount root of v.host")
        run("umount", "-l", self.own.place.run / "mounts" / "v.host", check=False)

    def kill_cgroup(self) -> None:
        ns = self._one(Process).ns
        self.done.append(f"kill and delete cgroup of {ns}")
        cgroup.kill(cgroup.of(self.own.place, ns))
        cgroup.delete(cgroup.of(self.own.place, ns))

    def stray_namespace(self) -> None:
        self.done.append("stray namespace")
        run("ip", "netns", "add", f"{self.own.place.mark}.v.stray", check=False)


DEEDS = [name for name, deed in vars(Vandal).items() if not name.startswith("_") and callable(deed)]
# After these nothing, or only little, is left that another deed could spoil.
WHOLESALE = {"delete_namespace", "unmount_namespace", "unmount_slice", "take_interface_away", "kill_cgroup"}
_SINGLE = [name for name in DEEDS if name not in WHOLESALE]
ROUNDS = [*([name] for name in DEEDS if name in WHOLESALE), *(_SINGLE[i::8] for i in range(8))]


@pytest.fixture(scope="module")
def both_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    """Slices `v` (vandalised) and `w` (the same names), with an agent that keeps watch."""
    with place_below(tmp_path_factory.mktemp("both")) as own:

        async def bring_up() -> None:
            client = own.client()
            await client.up(quiet("w"), timeout_s=30)
            await client.up(ring("v"), timeout_s=60)

        asyncio.run(bring_up())
        yield own


@pytest.fixture(name="ours")
def whole_again(both_up: OwnPlace) -> OwnPlace:
    """The same, where whatever an earlier test did is undone."""
    eventually(lambda: healed(both_up))
    eventually(lambda: is_settled(both_up))
    return both_up


def is_settled(own: OwnPlace) -> bool:
    """BIRD has its lasting configuration: what gives it that, beside it, has ended (vini.plugins.bird)."""
    return all(len(cgroup.pids(cgroup.of(own.place, f"v.{n}", "bird"))) == 1 for n in "abc")


def witness(own: OwnPlace) -> tuple[object, ...]:
    """Of slice `w`, what would not come back the same if it had been touched."""
    inodes = sorted((p.name, p.stat().st_ino) for p in NETNS.glob(f"{own.place.mark}.w.*"))
    return inodes, own.observe("w")


async def pings(own: OwnPlace, source: str, destination: str, family: int = 4) -> bool:
    client = own.client()
    topology = await client.topology("v")
    ip = client.address(topology, destination, family)
    argv = client.enter("v", source, ["ping", "-c1", "-W1", ip])
    return " 0% packet loss" in run(*argv, check=False)


def healed(own: OwnPlace) -> bool:
    """Exactly what was asked, and stable: a further pass has nothing to do."""
    assert own.is_as_asked("v")
    assert plan(own.spec("v").objects, own.observe("v")) == []
    return True


def is_ready(own: OwnPlace) -> bool:
    async def look() -> bool:
        rows = await own.client().status("v")
        bad = [f"{r.sliver} {r.state}: {r.why}" for r in rows if r.state != "ready"]
        assert not bad, bad
        return True

    return asyncio.run(look())


def test_every_deed_is_undone_and_the_other_slice_does_not_notice(ours):
    """Some at a time, of different kinds, since each waits for the agent's next look."""
    before = witness(ours)
    assert sorted(itertools.chain(*ROUNDS)) == sorted(DEEDS)
    for deeds in ROUNDS:
        done = []
        for deed in deeds:
            vandal = Vandal(ours, seed=deed)
            getattr(vandal, deed)()
            done += vandal.done
        try:
            eventually(lambda: healed(ours), within=WITHIN_S)
        except AssertionError as e:
            raise AssertionError(f"{done} was not healed: {e}") from None
    eventually(lambda: is_ready(ours), within=WITHIN_S)
    eventually(lambda: asyncio.run(pings(ours, "a", "b")), within=WITHIN_S)  # the routers are really back
    assert witness(ours) == before


@pytest.mark.parametrize("seed", range(3))
def test_many_deeds_at_once_are_undone(ours, seed):
    before = witness(ours)
    vandal = Vandal(ours, seed)
    for deed in vandal.chance.choices(DEEDS, k=8):
        getattr(vandal, deed)()
    try:
        eventually(lambda: healed(ours), within=WITHIN_S)
        eventually(lambda: is_ready(ours), within=WITHIN_S)
    except AssertionError as e:
        raise AssertionError(f"{vandal.done} was not healed: {e}") from None
    assert witness(ours) == before


def test_a_lost_name_is_given_back_and_nobody_else_notices(ours):
    """The namespace, its processes and its links are not touched."""
    before = daemons(ours), ours.place.netns("v.a").stat().st_ino
    for sliver in "abc":
        Vandal(ours, sliver).delete_name()
        Vandal(ours, sliver).mislead_name()
    eventually(lambda: healed(ours), within=WITHIN_S)
    assert (daemons(ours), ours.place.netns("v.a").stat().st_ino) == before


def daemons(own: OwnPlace) -> list[list[int]]:
    return [cgroup.pids(cgroup.of(own.place, f"v.{n}", "bird")) for n in "abc"]


def test_a_router_whose_neighbours_were_replaced_just_after_its_start_learns_routes_again(ours):
    for sliver in "ab":
        run("ip", "netns", "delete", ours.place.netns(f"v.{sliver}").name)
    eventually(lambda: healed(ours), within=WITHIN_S)
    eventually(lambda: asyncio.run(pings(ours, "host", "c")), within=WITHIN_S)


def test_ipv6_works_again_after_the_mtu_was_too_small_for_it(ours):
    run("nsenter", f"--net={ours.place.netns('v.host')}", "ip", "link", "set", "to-a", "mtu", "1000")
    eventually(lambda: healed(ours), within=WITHIN_S)
    vif = "fe80::/10"
    eventually(
        lambda: (
            vif.partition("::")[0]
            in run("nsenter", f"--net={ours.place.netns('v.host')}", "ip", "-6", "address", "show", "dev", "to-a")
        ),
        within=WITHIN_S,
    )


def test_the_slivers_own_127_0_0_1_comes_back_after_a_flush(ours):
    """The kernel gives it when lo comes up, and programs need it."""
    inside = ["nsenter", f"--net={ours.place.netns('v.host')}", "--"]
    run(*inside, "ip", "address", "flush", "dev", "lo")
    run(*inside, "ip", "link", "set", "lo", "down")
    for ip in ("127.0.0.1", "::1"):
        eventually(
            lambda ip=ip: " 0% packet loss" in run(*inside, "ping", "-c1", "-W1", ip, check=False), within=WITHIN_S
        )


@pytest.mark.parametrize("version", "46")
def test_connected_routes_come_back_after_a_flush(ours, version):
    inside = ["nsenter", f"--net={ours.place.netns('v.host')}", "--"]
    before = sorted(run(*inside, "ip", f"-{version}", "route", "show", "table", "all").splitlines())
    assert any("proto kernel" in line for line in before)
    run(*inside, "ip", f"-{version}", "route", "flush", "table", "main")
    eventually(
        lambda: sorted(run(*inside, "ip", f"-{version}", "route", "show", "table", "all").splitlines()) == before,
        within=WITHIN_S,
    )
    eventually(lambda: asyncio.run(pings(ours, "host", "a", int(version))), within=WITHIN_S)


def test_impairments_come_back_with_the_element_that_gives_them(own):
    if "netem" not in (words := _capabilities()) and "element" not in words:
        pytest.skip("this machine can't shape")
    slow = Link((End("a"), End("b")), impairment=Impairment(delay_ms=5.0))
    topology = Topology("v", {n: Sliver(n) for n in "ab"}, (slow,))
    asyncio.run(own.client().up(topology))
    own._end_element()  # by SIGTERM; where netem shapes, there is none
    eventually(lambda: healed(own), within=WITHIN_S)
    run("nsenter", f"--net={own.place.netns('v.a')}", "tc", "qdisc", "delete", "dev", "to-b", "clsact", check=False)
    run("nsenter", f"--net={own.place.netns('v.a')}", "tc", "qdisc", "delete", "dev", "to-b", "root", check=False)
    eventually(lambda: healed(own), within=WITHIN_S)
    assert Path(f"/proc/{own.agents()[0]}").exists()


def _capabilities() -> frozenset[str]:
    from vini.node.probe import capabilities

    return capabilities()


def test_neighbours_find_each_other_again_after_arp_was_turned_off(ours):
    inside = ["nsenter", f"--net={ours.place.netns('v.host')}", "--"]
    run(*inside, "ip", "link", "set", "to-a", "arp", "off")
    run(*inside, "ip", "neigh", "flush", "all")
    for family in (4, 6):
        eventually(lambda family=family: asyncio.run(pings(ours, "host", "a", family)), within=WITHIN_S)


def test_ipv6_is_on_again_after_it_was_turned_off_in_a_whole_sliver(ours):
    inside = ["nsenter", f"--net={ours.place.netns('v.host')}", "--"]
    run(*inside, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    eventually(lambda: healed(ours), within=WITHIN_S)
    eventually(lambda: is_ready(ours), within=WITHIN_S)
    eventually(lambda: asyncio.run(pings(ours, "host", "a", 6)), within=WITHIN_S)
    settings = run(*inside, "sysctl", "net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6")
    assert "= 1" not in settings
