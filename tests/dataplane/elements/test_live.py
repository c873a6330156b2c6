"""Programs at real vifs: large segments, checksums left to the device, and what the kernel itself makes of packets.

Packets of a test run are on no wire: they have none of these.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live import Line

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("clang"), reason="needs clang")]
EXAMPLES = Path(__file__).parents[3] / "examples/programs"


@pytest.fixture
def line(hook: str) -> Iterator[Callable[..., Line]]:
    """`line(length)`; for XDP without checksums that are left to the device: it would send them on unfinished."""
    with ExitStack() as stack:

        def make(length: int, **options: int) -> Line:
            made = Line(stack, length, **options)
            if hook == "xdp":
                for n in range(length):
                    for dev in ("left", "right"):
                        if dev in made.ip(n, "-br", "link"):
                            made.run(n, "ethtool", "-K", dev, "tx", "off", "gro", "on")
            return made

        yield make


def test_lookup_forwards_by_the_kernels_table(line, hook):
    net = line(3)
    program = net.start(
        1, hook, "input -> l :: lookup -> ttl :: dec-ttl -> out\nl[kernel] -> kernel\nttl[expired] -> kernel"
    )
    assert net.ping(0, "10.2.0.1")  # the first packets find no neighbour, and go by the kernel
    assert net.transfer(0, 2, "10.2.0.1") == "10.1.0.2"
    assert program.packets("l.hits") > 100
    misses = program.packets("l.misses")
    assert net.ping(0, "10.1.0.1")  # the router itself
    assert program.packets("l.misses") > misses


def test_lookup_of_ipv6_and_an_expired_hop_limit(line, hook):
    net = line(3)
    for n, dev, address in (
        (0, "right", "fd01::2"),
        (1, "left", "fd01::1"),
        (1, "right", "fd02::2"),
        (2, "left", "fd02::1"),
    ):
        net.ip(n, "address", "add", f"{address}/64", "dev", dev, "nodad")
    net.run(1, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    net.ip(0, "route", "add", "fd02::/64", "via", "fd01::1")
    net.ip(2, "route", "add", "fd01::/64", "via", "fd02::2")
    program = net.start(
        1, hook, "input -> l :: lookup -> ttl :: dec-ttl -> out\nl[kernel] -> kernel\nttl[expired] -> kernel"
    )
    assert net.ping(0, "fd02::1")
    assert net.ping(0, "fd02::1")
    assert program.packets("l.hits") >= 2
    said = net.run(0, "sh", "-c", "ping -c 1 -t 1 -W 5 fd02::1 || true")
    assert "Time exceeded" in said  # the kernel's answer: it got the packet as it was
    assert program.packets("ttl.expired") == 1


def test_nat_of_tcp_whose_checksums_are_left_to_the_device(line, hook):
    net = line(3)
    net.ip(2, "route", "add", "192.0.2.1", "via", "10.2.0.2")
    net.ip(2, "route", "del", "10.1.0.0/16", "via", "10.2.0.2")  # who is inside is not known outside
    program = net.start(
        1,
        hook,
        """
        input(left) -> sort :: classify(ip)
        input(right) -> sort
        sort[ip] -> n :: nat(192.0.2.1)
        sort[other] -> kernel
        n[out] -> out(right)
        n[in] -> out(left)
        n[other] -> kernel
    """,
    )
    assert net.ping(0, "10.2.0.1")
    assert net.transfer(0, 2, "10.2.0.1") == "192.0.2.1"
    assert program.packets("n.inward") > 10


def encap(kind: str, me: int, other: int) -> str:
    """The element that wraps packets for the other end of a tunnel."""
    return f"{kind}-encap(192.0.2.{me}, 192.0.2.{other}{'' if kind == 'ip' else ', 7'})"


def decap(kind: str, me: int, other: int) -> str:
    """The element that takes packets out that the other end wrapped."""
    return f"vxlan-decap(192.0.2.{me}, 7)" if kind == "vxlan" else encap(kind, me, other).replace("encap", "decap")


def others(kind: str, *names: str) -> str:
    """VXLAN wraps everything; other tunnels have an output for what they can't."""
    return "" if kind == "vxlan" else "".join(f"{name}[other] -> kernel\n" for name in names)


def tunnel(kind: str, me: int, other: int, inside: str, outside: str) -> str:
    """What comes in from the host goes into the tunnel, what comes from the other router comes out of it."""
    return f"""
        input({inside}) -> sort :: classify(ip)
        sort[ip] -> push :: {encap(kind, me, other)} -> out({outside})
        sort[other] -> kernel
        {others(kind, "push")}
        input({outside}) -> pop :: {decap(kind, me, other)} -> out({inside})
        pop[other] -> kernel
    """


@pytest.mark.parametrize("kind", ["ip", "gre", "vxlan"])
def test_tunnels_of_bulk_tcp(line, hook, kind):
    net = line(4)
    for host, dev in ((0, "right"), (3, "left")):  # room for the headers
        net.ip(host, "link", "set", dev, "mtu", "1400")
    left = net.start(1, hook, tunnel(kind, 1, 2, "left", "right"))
    net.start(2, hook, tunnel(kind, 2, 1, "right", "left"))
    assert net.ping(0, "10.3.0.1")
    assert net.transfer(0, 3, "10.3.0.1") == "10.1.0.2"
    assert net.transfer(3, 0, "10.1.0.2") == "10.3.0.1"
    assert left.packets("push.wrapped") > 100
    assert left.packets("pop.unwrapped") > 100
    assert left.packets("push.lost") == 0


def test_the_kernel_takes_what_a_label_was_taken_off(line, hook):
    net = line(4, mtu=1600)
    for host, dev in ((0, "right"), (3, "left")):
        net.ip(host, "link", "set", dev, "mtu", "1500", "gso_max_segs", "1")
    edge = """
        input(left) -> l :: classify(ip)
        l[ip] -> push :: push-label(labels={10.3.0.0/16 = 100 right, 10.1.0.0/16 = 101 left}) -> out
        push[none] -> kernel
        l[other] -> kernel
        input(right) -> r :: classify(mpls, ip)
        r[mpls] -> pop :: pop-label -> kernel
        pop[other] -> drop
        r[ip] -> push
        r[other] -> kernel
    """
    there = (
        edge.replace("input(left)", "input(x)")
        .replace("input(right)", "input(left)")
        .replace("input(x)", "input(right)")
    )
    left, right = net.start(1, hook, edge), net.start(2, hook, there)
    assert net.ping(0, "10.3.0.1")
    assert net.transfer(0, 3, "10.3.0.1", size=200_000) == "10.1.0.2"
    assert left.packets("push.pushed") > 10
    assert right.packets("pop.popped") > 10


def test_flat_identifiers_between_three_slivers(line, hook):
    net = line(3, mtu=1600)
    edge = (EXAMPLES / "flat-ids-edge.elements").read_text()
    transit = (EXAMPLES / "flat-ids-transit.elements").read_text()
    for host, dev in ((0, "right"), (2, "left")):
        net.ip(host, "address", "add", f"10.{(1, 0, 3)[host]}.7.7/32", "dev", dev)
        net.ip(host, "link", "set", dev, "gso_max_segs", "1")
    net.ip(0, "route", "add", "10.3.7.7", "via", "10.1.0.1", "src", "10.1.7.7", "mtu", "1500")
    net.ip(2, "route", "add", "10.1.7.7", "via", "10.2.0.2", "src", "10.3.7.7", "mtu", "1500")
    west, east = net.start(0, hook, edge), net.start(2, hook, edge)
    middle = net.start(1, hook, transit, ("to-west", "to-east"))
    assert net.ping(0, "10.3.7.7")
    assert net.transfer(0, 2, "10.3.7.7", size=200_000) == "10.1.7.7"
    assert west.packets("push.pushed") > 10
    assert east.packets("pop.popped") > 10
    assert middle.packets("route.hits") > 20
    middle.write("route.ids", "3", "to-west")  # as if it had moved
    assert not net.ping(0, "10.3.7.7")


def test_mirror_copies_to_a_vif(line, hook):
    if hook == "xdp":
        pytest.skip("XDP can't copy packets")
    net = line(3)
    program = net.start(1, hook, "input(left) -> mirror(right) -> kernel")
    assert net.ping(0, "10.1.0.1")
    assert program.packets("mirror.copies") >= 2
    assert program.packets("mirror.failures") == 0


@pytest.mark.parametrize("kind", ["ip", "gre", "vxlan"])
def test_one_tunnel_behind_another(line, hook, kind):
    """What comes out of a tunnel goes into the next one: at tc the kernel remembers that a packet was wrapped."""
    net = line(5)
    for host, dev in ((0, "right"), (4, "left")):
        net.ip(host, "link", "set", dev, "mtu", "1400")
    text = f"""
        input(left) -> out_of_1 :: {decap(kind, 2, 1)} -> there :: {encap(kind, 2, 3)} -> out(right)
        input(right) -> out_of_3 :: {decap(kind, 2, 3)} -> back :: {encap(kind, 2, 1)} -> out(left)
        out_of_1[other] -> kernel
        out_of_3[other] -> kernel
        {others(kind, "there", "back")}
    """
    net.start(1, hook, tunnel(kind, 1, 2, "left", "right"))
    middle = net.start(2, hook, text)
    net.start(3, hook, tunnel(kind, 3, 2, "right", "left"))
    assert net.ping(0, "10.4.0.1")
    assert net.transfer(0, 4, "10.4.0.1") == "10.1.0.2"
    assert net.transfer(4, 0, "10.1.0.2") == "10.4.0.1"
    assert (middle.packets("there.lost"), middle.packets("back.lost")) == (0, 0)
