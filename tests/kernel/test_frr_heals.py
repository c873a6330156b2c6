"""FRR's routers have all their routes again after a hand was at their links and addresses, also many times over.

Being as asked is not enough: the kernel must forward by what OSPF says, each destination by the link that leads there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from own_place import OwnPlace, eventually, run

from vini import names
from vini.layout import layout
from vini.model import End, Link, Routing, Sliver, Topology

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "frr")]

BOTH = Routing(("ospf", "ospf6"), daemon="frr")
OWN = """router ospf
 timers throttle spf 0 50 500
exit
router ospf6
 timers throttle spf 0 50 500
exit
interface lo
 ip ospf area 0
 ipv6 ospf6 area 0
"""
VIF = """interface {}
 ip ospf area 0
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 4
 ipv6 ospf6 area 0
 ipv6 ospf6 network point-to-point
 ipv6 ospf6 hello-interval 1
 ipv6 ospf6 dead-interval 4
"""
RAW = Routing(("ospf", "ospf6"), daemon="frr", raw={"frr.conf": OWN + VIF.format("to-a") + VIF.format("to-c")})


def triangle() -> Topology:
    """Three routers, of which b has a configuration of its own."""
    links = tuple(Link((End(a), End(b))) for a, b in ("ab", "bc", "ca"))
    return Topology("v", {n: Sliver(n, routing=RAW if n == "b" else BOTH) for n in "abc"}, links)


LOOPBACKS = layout(triangle()).loopbacks


@pytest.fixture(scope="module")
def up(ours: OwnPlace) -> Iterator[OwnPlace]:
    asyncio.run(ours.client().up(triangle(), timeout_s=60))
    eventually(lambda: forwards(ours))
    yield ours


def inside(own: OwnPlace, sliver: str, *argv: str) -> str:
    return run("nsenter", f"--net={own.place.netns(f'v.{sliver}')}", "--", *argv, check=False)


def forwards(own: OwnPlace) -> bool:
    """Each router sends to each other's loopbacks by the link to it.  Fails with those that don't."""
    wrong = []
    for a in "abc":
        asked = [(b, cidr.partition("/")[0]) for b in "abc" if b != a for cidr in LOOPBACKS[b]]
        said = inside(own, a, "sh", "-c", "; ".join(f"ip -o route get {ip}" for _, ip in asked))
        for b, ip in asked:
            if not any(x.startswith(f"{ip} ") and f"dev {names.vif(b)} " in x for x in said.splitlines()):
                wrong.append(f"{a} to {b}, {ip}: {said}")
    assert not wrong, wrong
    return True


DEEDS = {
    "a link is deleted": ("ip link del to-{}",),
    "a vif gets another address": ("ip link set to-{} address 02:00:00:00:00:99",),
    "a vif gets another name": ("ip link set to-{} down", "ip link set to-{} name lan0"),
    "a vif goes down": ("ip link set to-{} down",),
    "a vif loses its addresses": ("ip address flush dev to-{}",),
    "a router loses its loopback's addresses": ("ip address flush dev lo",),
    "IPv6 is turned off": ("sysctl -qw net.ipv6.conf.all.disable_ipv6=1",),
    "a vif has no ARP and no multicast": ("ip link set to-{} arp off", "ip link set to-{} multicast off"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_routes_are_there_again_however_often_it_is_done(up: OwnPlace, deed: str) -> None:
    for a, b in ("ab", "ab", "ab", "bc") if "deleted" in deed else ("ab", "bc"):
        for command in DEEDS[deed]:
            inside(up, a, *command.format(b).split())
        eventually(lambda: up.is_as_asked("v"))
        eventually(lambda: forwards(up))
