"""Links from node to node: two test hosts, each a network namespace with the real drivers at home in it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_place import OwnPlace, difference, eventually, place_below, run

from vini import placement
from vini.embed import embed
from vini.layout import address, layout
from vini.model import (
    AnyObject,
    End,
    Interface,
    Link,
    Node,
    Program,
    Routing,
    SliceSpec,
    Sliver,
    Topology,
    Vxlan,
)
from vini.node import netns
from vini.node.drivers import Failures
from vini.plan import plan

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]

CAPABLE = frozenset({"root", "cgroup2", "vxlan", "element", "bird", "programs"})
STATIC = Routing(("static",))
HOSTS = ("one", "two")
UNDERLAYS = {"IPv4": ("192.0.2.1", "192.0.2.2"), "IPv6": ("2001:db8::1", "2001:db8::2")}
ROOM = {"IPv4": 1450, "IPv6": 1430}
PLACED = {"a": "one", "b": "one", "c": "two", "d": "two"}


def line(routing: Routing = STATIC, **of_middle: object) -> Topology:
    """a -- b -- c -- d; the link in the middle leads from host to host."""
    links = [Link((End("a"), End("b"))), Link((End("b"), End("c")), **of_middle), Link((End("c"), End("d")))]
    return Topology("v", {n: Sliver(n, routing=routing) for n in PLACED}, tuple(links))


class Host:
    """A network namespace that plays the machine, and a place on it."""

    def __init__(self, name: str, own: OwnPlace, underlay: str):
        self.name, self.own = name, own
        self.path = Path("/run/netns") / f"host-{own.place.mark}"
        self.node = Node(name, CAPABLE, address=underlay)
        self.want: frozenset[AnyObject] = frozenset()

    def inside(self, *argv: str, ns: str = "") -> str:
        path = self.own.place.netns(ns) if ns else self.path
        return run("nsenter", f"--net={path}", "--", *argv, check=False)

    def one_pass(self, spec: SliceSpec | None) -> Failures:
        """As an agent makes it that was just started; None asks for nothing."""
        want = self.want = spec.objects if spec else frozenset()
        with netns.inside(self.path):
            machine = self.own.machine()
            have = machine.observe({ns for o in want for ns in o.slivers} | self.own.namespaces())
            return machine.apply(plan(want, have.objects))

    def is_as_asked(self) -> bool:
        with netns.inside(self.path):
            have = self.own.observe()
        assert have == self.want, difference(self.want, have)
        return True

    def tunnels(self) -> list[Vxlan]:
        return [o for o in self.want if isinstance(o, Vxlan)]


class Pair:
    """Both hosts, and the slice over them."""

    def __init__(self, hosts: Mapping[str, Host], version: str):
        self.hosts, self.version = hosts, version
        self.topology = line()
        self.placed: Mapping[str, str] = PLACED

    def up(self, topology: Topology, placed: Mapping[str, str] = PLACED, generation: int = 1) -> None:
        """Everything of a topology is there on both."""
        self.topology, self.placed = topology, placed
        vnis = {name: 100 + i for i, name in enumerate(placement.crossing(topology, placed))}
        specs = embed(topology, [h.node for h in self.hosts.values()], generation, placed=placed, vnis=vnis)
        for host in self.hosts.values():
            assert host.one_pass(specs.get(host.name)) == {}
        for host in self.hosts.values():
            eventually(host.is_as_asked)

    def of(self, sliver: str) -> tuple[Host, Path]:
        host = self.hosts[self.placed[sliver]]
        return host, host.own.place.netns(f"v.{sliver}")

    def enter(self, sliver: str, *argv: str) -> str:
        return self.of(sliver)[0].inside(*argv, ns=f"v.{sliver}")

    def address(self, sliver: str, family: int = 4) -> str:
        return address(layout(self.topology), sliver, family)

    def pings(self, source: str, to: str, *how: str, family: int = 4) -> bool:
        """Between the slivers' own addresses, which is where static routes lead."""
        own = ("-I", self.address(source, family))
        out = self.enter(source, "ping", "-c1", "-W2", *own, *how, self.address(to, family))
        return ", 1 received" in out


@pytest.fixture(params=UNDERLAYS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hosts joined by a veth pair; at the end nothing is left on either."""
    with pair_over(request.param, tmp_path_factory) as made:
        yield made


@contextmanager
def pair_over(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        hosts = {}
        for name, underlay in zip(HOSTS, UNDERLAYS[version], strict=True):
            own = stack.enter_context(place_below(tmp_path_factory.mktemp(name)))
            hosts[name] = Host(name, own, underlay)
            run("ip", "netns", "add", hosts[name].path.name)
            stack.callback(run, "ip", "netns", "delete", hosts[name].path.name)
        one, two = hosts.values()
        peer = ("peer", "name", "eth0", "netns", two.path.name)
        one.inside("ip", "link", "add", "eth0", "type", "veth", *peer)
        for host in (one, two):
            host.inside("ip", "link", "set", "lo", "up")
            nodad, length = (("nodad",), 64) if ":" in host.node.address else ((), 24)
            host.inside("ip", "address", "add", f"{host.node.address}/{length}", "dev", "eth0", *nodad)
            host.inside("ip", "link", "set", "eth0", "up")
        yield Pair(hosts, version)
        for host in (one, two):
            assert host.one_pass(None) == {}
        for host in (one, two):
            eventually(lambda h=host: _has_no_tunnels(h))
            assert host.own.leftovers() == []


def _has_no_tunnels(host: Host) -> bool:
    """The kernel takes namespaces down in its own time; with the last tunnel its socket goes."""
    left = host.inside("ss", "-Huln", "sport = :4789")
    assert left == "", left
    assert "vxlan" not in host.inside("ip", "-d", "link")
    return True


def tcp(pair: Pair, source: str, destination: str, size: int, family: int = 4) -> int:
    """Bytes that arrived of `size` over one connection."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    ip = pair.address(destination, family)
    with netns.inside(pair.of(destination)[1]):
        listener = socket.socket(kind)
    with netns.inside(pair.of(source)[1]):
        sender = socket.socket(kind)
    listener.bind((ip, 0))
    sender.bind((pair.address(source, family), 0))
    listener.listen(1)
    for s in (listener, sender):
        s.settimeout(60)

    def send() -> None:
        sender.connect((ip, listener.getsockname()[1]))
        sender.sendall(os.urandom(1 << 16) * (size >> 16))
        sender.close()

    thread = threading.Thread(target=send)
    thread.start()
    receiver, _ = listener.accept()
    receiver.settimeout(60)
    arrived = 0
    while got := receiver.recv(1 << 20):
        arrived += len(got)
    thread.join()
    receiver.close()
    listener.close()
    return arrived


# --- what it carries --------------------------------------------------------------------------------------


def test_packets_cross_and_each_fits_that_its_mtu_allows(pair):
    pair.up(line())
    room = ROOM[pair.version]
    for family, headers in ((4, 28), (6, 48)):
        eventually(lambda f=family: pair.pings("a", "d", family=f))
        assert pair.pings("b", "c", "-M", "do", "-s", str(room - headers), family=family)
        assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
    assert {o.mtu for h in pair.hosts.values() for o in h.want if isinstance(o, Interface)} == {room, 1500, 65536}


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_learns_the_least_mtu_of_its_path_and_sends_megabytes(pair, family):
    """a sends segments for 1500 bytes, in packets of 64 KiB; b, which must cut them, tells it what fits."""
    pair.up(line())
    eventually(lambda: pair.pings("a", "d", family=family))
    assert tcp(pair, "a", "d", 8 << 20, family) == 8 << 20
    assert tcp(pair, "d", "a", 1 << 20, family) == 1 << 20
    own = ("from", pair.address("a", family))
    learned = pair.enter("a", "ip", f"-{family}", "route", "get", pair.address("d", family), *own)
    assert f"mtu {ROOM[pair.version]}" in learned, learned


def test_an_mtu_that_is_asked_for_and_fits_is_given(pair):
    pair.up(line(mtu=1400))
    eventually(lambda: pair.pings("b", "c", "-M", "do", "-s", str(1400 - 28)))
    assert not pair.pings("b", "c", "-M", "do", "-s", str(1401 - 28))


@pytest.mark.parametrize("fault", ["carrier", pytest.param("silent", marks=pytest.mark.needs("element"))])
def test_a_fault_takes_the_link_away_and_back_from_both_sides(pair, fault):
    pair.up(line())
    eventually(lambda: pair.pings("b", "c"))
    before = {o for h in pair.hosts.values() for o in h.tunnels()}
    pair.up(line(fault=fault), generation=2)
    assert not pair.pings("b", "c")
    assert not pair.pings("c", "b")
    pair.up(line(), generation=3)
    eventually(lambda: pair.pings("b", "c"))
    assert {o for h in pair.hosts.values() for o in h.tunnels()} == before


@pytest.mark.needs("bird")
def test_routers_find_each_other_over_it(pair):
    """OSPF compares MTUs before it makes a neighbour (RFC 2328, 10.6)."""
    pair.up(line(Routing(("ospf",), daemon="bird")))
    eventually(lambda: pair.pings("a", "d"))
    eventually(lambda: pair.pings("d", "a"))


def test_a_lan_spans_hosts_and_all_on_it_have_one_mtu(pair):
    everyone = {"sw": Sliver("sw", mode="switch"), **{h: Sliver(h) for h in ("h", "i", "j")}}
    links = tuple(Link((End(h), End("sw"))) for h in ("h", "i", "j"))
    pair.up(Topology("v", everyone, links), {"sw": "one", "h": "one", "i": "two", "j": "two"})
    for source, to in (("h", "i"), ("i", "j"), ("j", "h")):
        eventually(lambda s=source, t=to: pair.pings(s, t))
    vifs = [o for h in pair.hosts.values() for o in h.want if isinstance(o, Interface) and o.dev != "lo"]
    assert {o.mtu for o in vifs} == {ROOM[pair.version]}


@pytest.mark.needs("programs")
def test_a_program_forwards_over_it_by_tc(pair):
    topology = line()
    sorts = "input -> sort :: classify(ip)\nsort[ip] -> fib :: lookup -> out\n"
    text = sorts + "fib[kernel] -> kernel\nsort[other] -> kernel\n"
    router = Sliver("b", routing=STATIC, program=Program("elements", text))
    pair.up(Topology("v", {**topology.slivers, "b": router}, topology.links))
    eventually(lambda: pair.pings("a", "d"))
    assert tcp(pair, "a", "d", 1 << 20) == 1 << 20


# --- what becomes of it -------------------------------------------------------------------------------------

DEEDS = (
    "ip link delete to-c",
    "ip link set to-c type vxlan id 100 remote 192.0.2.77",
    "bridge fdb delete 00:00:00:00:00:00 dev to-c",
    "ip link set to-c name lost",
    "ip link set to-c down",
    "ip address flush dev to-c",
)


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_hand_spoils_one_pass_heals(pair, deed):
    if pair.version == "IPv6":
        deed = deed.replace("192.0.2.77", "2001:db8::77")
    pair.up(line())
    eventually(lambda: pair.pings("a", "d"))
    one = pair.hosts["one"]
    before = {o for o in one.want if isinstance(o, Vxlan)}
    pair.enter("b", "sh", "-c", deed)
    with pytest.raises(AssertionError):
        one.is_as_asked()
    pair.up(line(), generation=2)
    eventually(lambda: pair.pings("a", "d"))
    assert set(one.tunnels()) == before


def test_a_sliver_that_moves_to_the_other_host_takes_its_links_along(pair):
    """What led to another host leads to a neighbour now, and the other way round."""
    pair.up(line())
    eventually(lambda: pair.pings("a", "d"))
    pair.up(line(), {**PLACED, "c": "one"}, generation=2)
    eventually(lambda: pair.pings("a", "d"))
    assert [o.key[1:] for h in pair.hosts.values() for o in h.tunnels()] == [("v.c", "to-d"), ("v.d", "to-c")]


def test_another_pass_touches_nothing(pair):
    pair.up(line())
    look = [pair.enter(s, "ip", "-d", "address") for s in PLACED]
    pair.up(line(), generation=2)
    assert [pair.enter(s, "ip", "-d", "address") for s in PLACED] == look
