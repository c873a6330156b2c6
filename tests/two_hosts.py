"""Two test hosts, each a network namespace with the real drivers at home in it, and a slice over both."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_place import OwnPlace, difference, eventually, place_below, run

from vini import placement
from vini.embed import embed
from vini.layout import address, layout
from vini.model import AnyObject, End, Interface, Link, Node, Routing, SliceSpec, Sliver, Topology, Tunnel
from vini.node import ethtool, netns, wireguard_key
from vini.node.drivers import Failures
from vini.node.netlink import Socket
from vini.plan import plan

CAPABLE = frozenset({"root", "cgroup2", "vxlan", "vxlan-xdp", "gretap", "wireguard", "element", "bird", "programs"})
STATIC = Routing(("static",))
PORT = 20_001
HOSTS = ("one", "two")
UNDERLAYS = {"IPv4": ("192.0.2.1", "192.0.2.2"), "IPv6": ("2001:db8::1", "2001:db8::2")}
PLACED = {"a": "one", "b": "one", "c": "two", "d": "two"}


def line(
    routing: Routing = STATIC, tunnel: str = "", *, contained: Collection[str] = (), **of_middle: object
) -> Topology:
    """a -- b -- c -- d; the link in the middle leads from host to host."""
    links = [Link((End("a"), End("b"))), Link((End("b"), End("c")), **of_middle), Link((End("c"), End("d")))]
    slivers = {n: Sliver(n, routing=routing, runtime="container" if n in contained else "light") for n in PLACED}
    return Topology("v", slivers, tuple(links), tunnel=tunnel)


class Host:
    """A network namespace that plays the machine, and a place on it."""

    def __init__(self, name: str, own: OwnPlace, underlay: str):
        self.name, self.own = name, own
        self.path = Path("/run/netns") / f"host-{own.place.mark}"
        key = wireguard_key.public(wireguard_key.private(own.place.state))
        self.node = Node(name, CAPABLE, address=underlay, wireguard=key)
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

    def tunnels(self) -> list[Tunnel]:
        return [o for o in self.want if isinstance(o, Tunnel)]


class Pair:
    """Both hosts, and the slice over them."""

    def __init__(self, hosts: Mapping[str, Host], version: str):
        self.hosts, self.version = hosts, version
        self.first = 100  # number of a tunnel
        self.topology = line()
        self.placed: Mapping[str, str] = PLACED

    def up(self, topology: Topology, placed: Mapping[str, str] = PLACED, generation: int = 1) -> None:
        """Everything of a topology is there on both."""
        self.topology, self.placed = topology, placed
        vnis = {name: self.first + i for i, name in enumerate(placement.crossing(topology, placed))}
        specs = embed(topology, [h.node for h in self.hosts.values()], generation, placed=placed, vnis=vnis, port=PORT)
        for host in self.hosts.values():
            assert (failures := host.one_pass(specs.get(host.name))) == {}, failures
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
        for host in (one, two):  # each end so that the other one takes frames from XDP, as good network interfaces do
            with netns.inside(host.path), Socket() as any_socket:
                ethtool.set_gro(any_socket.fileno(), "eth0", True)
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
    links = host.inside("ip", "-d", "link")
    assert "vxlan" not in links and "to-" not in links, links
    return True


def carries_up_to(pair: Pair, tunnel: str, room: int) -> None:
    """Packets cross a tunnel of that kind as long as its MTU, and senders learn that; another pass touches nothing."""
    pair.up(line(tunnel=tunnel))
    vifs = {o.mtu for h in pair.hosts.values() for o in h.want if isinstance(o, Interface)}
    assert vifs == {room, 1500, 65536}
    for family, headers in ((4, 28), (6, 48)):
        eventually(lambda f=family: pair.pings("a", "d", family=f))
        assert pair.pings("b", "c", "-M", "do", "-s", str(room - headers), family=family)
        assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
    assert pair.version == "IPv6" or tcp(pair, "a", "d", 1 << 20) == 1 << 20
    eventually(lambda: f"mtu {room}" in learns_mtu(pair))
    before = [pair.enter(s, "ip", "-d", "link") for s in ("b", "c")]
    pair.up(line(tunnel=tunnel), generation=2)
    assert [pair.enter(s, "ip", "-d", "link") for s in ("b", "c")] == before


def learns_mtu(pair: Pair, family: int = 4) -> str:
    """What a knows of the way to d after it sent packets of 1500 bytes there, too long for the link in the middle."""
    headers = 48 if family == 6 else 28
    assert not pair.pings("a", "d", "-M", "do", "-s", str(1500 - headers), family=family)
    own = ("from", pair.address("a", family))
    return pair.enter("a", "ip", f"-{family}", "route", "get", pair.address("d", family), *own)


@contextmanager
def connected(
    pair: Pair, source: str, destination: str, family: int = 4
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection between the slivers' own addresses: who asked for it, and who took it."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with ExitStack() as stack:
        with netns.inside(pair.of(destination)[1]):
            listener = stack.enter_context(socket.socket(kind))
        with netns.inside(pair.of(source)[1]):
            sender = stack.enter_context(socket.socket(kind))
        for s in (listener, sender):
            s.settimeout(60)
        listener.bind((pair.address(destination, family), 0))
        listener.listen(1)
        sender.bind((pair.address(source, family), 0))
        sender.connect(listener.getsockname()[:2])
        receiver = stack.enter_context(listener.accept()[0])
        receiver.settimeout(60)
        yield sender, receiver


def tcp(pair: Pair, source: str, destination: str, size: int, family: int = 4) -> int:
    """Bytes that arrived of `size` over one connection."""
    with connected(pair, source, destination, family) as (sender, receiver):

        def send() -> None:
            sender.sendall(os.urandom(1 << 16) * (size >> 16))
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        arrived = 0
        while got := receiver.recv(1 << 20):
            arrived += len(got)
        thread.join()
    return arrived
