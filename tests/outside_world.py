"""A test host with a world behind it, slivers with a way there, and frames as a hostile one makes them."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from own_place import OwnPlace, difference, eventually, place_below, run

from vini.embed import embed
from vini.model import AnyObject, End, Link, Node, OutsideGrant, Sliver, Topology
from vini.node import netlink, netns
from vini.node.drivers import Failures
from vini.node.flows import conntrack
from vini.node.outside import nft, record, rules
from vini.plan import plan

CAPABLE = frozenset({"root", "cgroup2", "outside", "outside-ipv6"})
NODE, ROUTER, SERVER, PEER = "192.0.2.1", "192.0.2.2", "5.5.5.5", "6.6.6.6"  # PEER: another node of the testbed
NODE6, ROUTER6, SERVER6, PEER6 = "2a00:1::1", "2a00:1::2", "2a00:5::5", "2a00:6::6"
EVERYWHERE = OutsideGrant(("0.0.0.0/0",))
BOTH = OutsideGrant(("0.0.0.0/0", "::/0"))
ATTACHED = Topology(
    "v",
    {"a": Sliver("a", outside=True), "b": Sliver("b", outside=True), "c": Sliver("c")},
    (Link((End("a"), End("c"))),),
)


class World:
    """The test host, its place, and the namespace that is everything else."""

    def __init__(self, own: OwnPlace):
        self.own = own
        self.node = Node("n", CAPABLE, address=NODE)
        self.want: dict[str, frozenset[AnyObject]] = {}
        self.host, self.world = (Path("/run/netns") / f"{what}-{own.place.mark}" for what in ("host", "world"))

    def up(self, grant: OutsideGrant | None, topology: Topology = ATTACHED) -> None:
        """One pass of an agent that was just started; then all is as asked."""
        assert self.passed(grant, topology) == {}
        eventually(self._is_as_asked)

    def passed(self, grant: OutsideGrant | None, topology: Topology = ATTACHED) -> Failures:
        """What one pass of an agent that was just started could not do."""
        nodes = [self.node, Node("m", CAPABLE, address=PEER), Node("m6", CAPABLE, address=PEER6)]
        placed = dict.fromkeys(topology.slivers, "n")
        spec = embed(topology, nodes, placed=placed, grant=grant).get("n")
        self.want[topology.name] = spec.objects if spec else frozenset()
        want = frozenset().union(*self.want.values())
        with netns.inside(self.host):
            machine = self.own.machine()
            seen = {ns for o in want for ns in o.slivers} | self.own.namespaces()
            return machine.apply(plan(want, machine.observe(seen).objects))

    def _is_as_asked(self) -> bool:
        want = frozenset().union(*self.want.values())
        with netns.inside(self.host):
            have = self.own.observe()
        assert have == want, difference(want, have)
        return True

    def heard_by_node(self, sliver: str) -> bool:
        """Whether a packet that a sliver sends to the node gets there."""
        with netns.inside(self.host):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with s:
            s.settimeout(0.3)
            s.bind((NODE, 4789))
            send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{NODE}', 4789))"
            self.inside(sliver, "python3", "-c", send)
            try:
                return s.recv(1) == b"x"
            except TimeoutError:
                return False

    def down(self) -> None:
        for name in self.want:
            self.up(None, Topology(name))

    def on_host(self, *argv: str) -> str:
        return run("nsenter", f"--net={self.host}", "--", *argv, check=False)

    def in_world(self, *argv: str) -> str:
        return run("nsenter", f"--net={self.world}", "--", *argv, check=False)

    def inside(self, sliver: str, *argv: str, slice_: str = "v") -> str:
        return run("nsenter", f"--net={self.own.place.pin(f'{slice_}.{sliver}')}", "--", *argv, check=False)

    @contextmanager
    def started(self, sliver: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program in a sliver of `v`, with its output."""
        enter = ["nsenter", f"--net={self.own.place.pin(f'v.{sliver}')}", "--"]
        with subprocess.Popen([*enter, *argv], stdout=subprocess.PIPE) as child:
            yield child

    def pings(self, sliver: str, to: str) -> bool:
        return "1 received" in self.inside(sliver, "ping", "-c1", "-W5", to)

    def silent(self, sliver: str, to: str) -> bool:
        """Whether no answer comes; one that would come is here in a fraction of this time."""
        return "bytes from" not in self.inside(sliver, "ping", "-c1", "-W0.3", to)

    def forget_flows(self) -> None:
        """The kernel lets go of all flows, as it does with each some time after its last packet."""
        with netns.inside(self.host), netlink.Socket(conntrack.NETFILTER) as asking:
            assert asking.transact([netlink.message(conntrack.DELETE, 0, struct.pack("=BBH", 0, 0, 0))]) == [0]

    def vif(self, sliver: str, slice_: str = "v") -> record.Attached:
        return record.read(self.own.place, slice_).vifs[f"{slice_}.{sliver}"]

    def addresses6(self, sliver: str) -> tuple[str, str]:
        """Its own, and its gateway's."""
        return rules.ip6(self.vif(sliver).address), rules.ip6(self.vif(sliver).gateway)

    def dropped(self, why: str) -> int:
        """How many packets of the slice the rules have dropped for that."""
        with netns.inside(self.host):
            return nft.counters(rules.table_name(self.own.place.mark, "v"))[why]

    def gateway_mac(self, sliver: str) -> str:
        return rules.gateway_mac(self.own.place.mark, f"v.{sliver}")

    def frames(self, sliver: str, *frames: bytes) -> None:
        """Sent by its vif `outside`, past all that is in the sliver."""
        with netns.inside(self.own.place.pin(f"v.{sliver}")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("outside", 0))
            for frame in frames:
                raw.send(frame)

    @contextmanager
    def listening(self, port: int, kind: int = socket.SOCK_DGRAM, at: str = "0.0.0.0") -> Iterator[socket.socket]:
        """A socket in the world that nothing is kept from."""
        with netns.inside(self.world):
            s = socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET, kind)
        with s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.settimeout(5)
            s.bind((at, port))
            if kind == socket.SOCK_STREAM:
                s.listen()
            yield s


@contextmanager
def a_world(directory: Path) -> Iterator[World]:
    with ExitStack() as stack:
        world = World(stack.enter_context(place_below(directory)))
        for path in (world.host, world.world):
            run("ip", "netns", "add", path.name)
            stack.callback(run, "ip", "netns", "delete", path.name)
            run("ip", "-n", path.name, "link", "set", "lo", "up")
        world.on_host("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world.world.name)
        for path, *addresses in (
            (world.host, f"{NODE}/24", f"{NODE6}/64"),
            (world.world, f"{ROUTER}/24", f"{ROUTER6}/64"),
        ):
            for address in addresses:
                run("ip", "-n", path.name, "address", "add", address, "dev", "eth0", *(["nodad"] * (":" in address)))
            run("ip", "-n", path.name, "link", "set", "eth0", "up")
        for address in (f"{SERVER}/32", f"{PEER}/32", f"{SERVER6}/128", f"{PEER6}/128"):
            run("ip", "-n", world.world.name, "address", "add", address, "dev", "lo")
        for router in (ROUTER, ROUTER6):
            world.on_host("ip", "route", "add", "default", "via", router)
        for server in (SERVER, SERVER6):
            eventually(lambda to=server: "1 received" in world.on_host("ping", "-c1", "-W1", to))
        yield world
        world.down()


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, to: str, kind: int, content: bytes) -> bytes:
    return mac(to) + mac(source) + struct.pack("!H", kind) + content


def udp4(source: str, to: str, port: int, content: bytes, fragment: int = 0) -> bytes:
    """IPv4 with a checksum, UDP without one; with the flags and the offset of a fragment."""
    udp = struct.pack("!HHHH", 4000, port, 8 + len(content), 0) + content
    return ip4(source, to, 17, udp, fragment)


def ip4(source: str, to: str, protocol: int, content: bytes, fragment: int = 0) -> bytes:
    """With a checksum."""
    addresses = (IPv4Address(a).packed for a in (source, to))
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(content), 7, fragment, 64, protocol, 0, *addresses)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + content


def checksum(content: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def icmp4(kind: int, code: int, content: bytes) -> bytes:
    """An ICMP message; `content` has an even length."""
    head = struct.pack("!BBHI", kind, code, 0, 0)
    return head[:2] + struct.pack("!H", checksum(head + content)) + head[4:] + content


def udp6(source: str, to: str, port: int, content: bytes) -> bytes:
    """UDP in IPv6, with a checksum."""
    return ip6(source, to, 17, struct.pack("!HHHH", 4000, port, 8 + len(content), 0) + content, 6)


def icmp6(source: str, to: str, kind: int, code: int, content: bytes, hops: int = 255) -> bytes:
    """ICMPv6 in IPv6."""
    return ip6(source, to, 58, struct.pack("!BBH", kind, code, 0) + content, 2, hops)


def ip6(source: str, to: str, protocol: int, content: bytes, sum_at: int = -1, hops: int = 64) -> bytes:
    """The checksum of the content is at that place of it, if anywhere."""
    addresses = b"".join(IPv6Address(a).packed for a in (source, to))
    if sum_at >= 0:
        pseudo = addresses + struct.pack("!II", len(content), protocol)
        total = checksum(pseudo + content + bytes(len(content) % 2)) or 0xFFFF
        content = content[:sum_at] + struct.pack("!H", total) + content[sum_at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(content), protocol, hops) + addresses + content


def neighbor(kind: int, source: str, to: str, target: str, its_mac: str) -> bytes:
    """A neighbour solicitation (135) or advertisement (136, overriding) for a target, with a MAC address."""
    flags = 0x60000000 if kind == 136 else 0
    option = struct.pack("!BB", 1 if kind == 135 else 2, 1) + mac(its_mac)
    return icmp6(source, to, kind, 0, struct.pack("!I", flags) + IPv6Address(target).packed + option)


def arp(operation: int, from_mac: str, from_ip: str, for_ip: str) -> bytes:
    addresses = mac(from_mac), IPv4Address(from_ip).packed, bytes(6), IPv4Address(for_ip).packed
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, *addresses)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("own")) as made:
        yield made
