"""What root in a container can do to another slice's links by his own links to another node: nothing.

docs/explanation/many-machines.md says why.  One who is root in a `light` sliver is root on the node, so what he can do
is told here too: it shows that the attack is one.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import PORT, STATIC, Host, pair_over

from vini import names, placement
from vini.embed import embed
from vini.layout import address, layout
from vini.model import Container, End, Link, SliceSpec, Sliver, Topology
from vini.node import netns
from vini.node.drivers.contents import enter
from vini.plugins.tunnels import TunnelKind

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping")]
HIS = Topology(
    "v",
    {n: Sliver(n, routing=STATIC) for n in "ax"},
    (Link((End("a"), End("x"))),),
)
THEIRS = Topology("w", {n: Sliver(n, routing=STATIC) for n in "by"}, (Link((End("b"), End("y"))),))
# Who tries it: root of a sliver that is `light`, or of a container; or whoever rules the network of a container, on
# kernels that run none.
Who = Literal["light", "container", "network"]
PLACED = {"a": "one", "b": "one", "x": "two", "y": "two"}
NEIGHBOURS = {"y": "b", "b": "y"}  # the one on the other node, and the one on his own
SENT = """
ip neighbour replace 9.9.9.9 lladdr $MAC dev to-x && ip route replace 9.9.9.9 dev to-x || exit 9
ping -q -c 5 -i 0.2 -W 1 9.9.9.9; test $? = 1 || exit 8  # nobody answers
ip link set was down && ip link delete to-x && ip link set was name to-x
true
"""
BY_ENTRY = "bridge fdb replace $MAC dev to-x dst $TO vni $NUMBER"
BY_CHANGE = f"ip link set to-x type vxlan id $OWN remote $TO; {BY_ENTRY}"
BY_KEY = "ip link set to-x type gretap local $FROM remote $TO ikey $OWN okey $NUMBER"
# By a tunnel of his own, which his own network has to carry.
ANEW = "ip link set to-x down; ip link set to-x name was; ip link add to-x type $TYPE; ip link set to-x up"
VXLAN_ANEW = ANEW.replace("$TYPE", "vxlan id $NUMBER local $FROM remote $TO dstport 4789")
GRETAP_ANEW = ANEW.replace("$TYPE", "gretap local $FROM remote $TO key $NUMBER")
# What is tried, and whom that reaches from where the tunnel is.
TRIES: dict[TunnelKind, dict[str, str]] = {
    "vxlan": {BY_ENTRY: "yb", BY_CHANGE: "yb", VXLAN_ANEW: ""},
    "vxlan-xdp": {BY_ENTRY: "", VXLAN_ANEW: ""},
    "gretap": {BY_KEY: "y", GRETAP_ANEW: ""},
    "wireguard": {BY_ENTRY: "", BY_CHANGE: "", VXLAN_ANEW: ""},
}


def up(hosts: dict[str, Host], tunnel: TunnelKind, who: Who) -> dict[str, SliceSpec]:
    """Both slices are there on both hosts, each with numbers of its own; tells what is on each host."""
    nodes = [replace(h.node, capabilities=h.node.capabilities | {"containers"}) for h in hosts.values()]
    runtime = "light" if who == "light" else "container"
    his = replace(HIS, slivers={**HIS.slivers, "a": replace(HIS.slivers["a"], runtime=runtime)})
    specs = []
    for i, topology in enumerate((his, THEIRS)):
        placed = {n: PLACED[n] for n in topology.slivers}
        vnis = dict.fromkeys(placement.crossing(topology, placed), 100 + i)
        specs.append(embed(replace(topology, tunnel=tunnel), nodes, placed=placed, vnis=vnis, port=PORT + i))
    both = {}
    for host in hosts.values():
        objects = [o for of in specs for o in of[host.name].objects]
        if who == "network":
            objects = [o for o in objects if not isinstance(o, Container)]
        both[host.name] = replace(specs[0][host.name], objects=frozenset(objects))
        assert host.one_pass(both[host.name]) == {}
    for host in hosts.values():
        eventually(host.is_as_asked)
    eventually(lambda: pings(hosts, HIS, "a", "x") and pings(hosts, THEIRS, "b", "y"))
    return both


def pings(hosts: dict[str, Host], topology: Topology, source: str, to: str) -> bool:
    at = [address(layout(topology), n, 4) for n in (source, to)]
    argv = ["ping", "-c1", "-W2", "-I", *at]
    return ", 1 received" in hosts[PLACED[source]].inside(*argv, ns=f"{topology.name}.{source}")


@contextmanager
def listening(host: Host, sliver: str) -> Iterator[socket.socket]:
    """To all that comes in by a neighbour's link."""
    with netns.inside(host.own.place.pin(f"w.{sliver}")):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with ear:
        ear.bind((f"to-{NEIGHBOURS[sliver]}", 0x0800))
        ear.setblocking(False)
        yield ear


def heard(ear: socket.socket) -> int:
    """How many packets for 9.9.9.9 came since the last time: neighbours send none."""
    found = 0
    while True:
        try:
            frame, (_, _, direction, *_) = ear.recvfrom(2048)
        except BlockingIOError:
            return found
        found += direction != socket.PACKET_OUTGOING and frame[30:34] == bytes([9, 9, 9, 9])


def written(what: str, words: dict[str, str]) -> str:
    script = f"{what}\n{SENT}"
    for name, word in words.items():
        script = script.replace(f"${name}", word)
    return script


def tries(host: Host, who: Who, script: str) -> None:
    """Root in a sliver runs that; what the kernel refuses him is passed over, what he sends then is not."""
    with netns.inside(host.path):
        if who == "container":
            argv = enter(host.own.place, "v.a", ["sh", "-c", script])
        else:
            argv = ["nsenter", f"--net={host.own.place.netns('v.a')}", "--", "sh", "-c", script]
        done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.returncode == 0 and b"5 packets transmitted" in done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("tunnel", "who"),
    [
        # Root on the node anyway; that these reach somebody shows that they are attacks.
        pytest.param("vxlan", "light", marks=pytest.mark.needs("vxlan")),
        pytest.param("vxlan", "network", marks=pytest.mark.needs("vxlan")),
        pytest.param("vxlan", "container", marks=pytest.mark.needs("vxlan", "containers")),
        pytest.param("vxlan-xdp", "container", marks=pytest.mark.needs("vxlan-xdp", "containers")),
        pytest.param("gretap", "light", marks=pytest.mark.needs_kernel("gretap")),
        pytest.param("gretap", "network", marks=pytest.mark.needs_kernel("gretap")),
        pytest.param("wireguard", "light", marks=[pytest.mark.needs("vxlan"), pytest.mark.needs_kernel("wireguard")]),
    ],
)
def test_what_he_sends_astray_reaches_no_other_slice_unless_the_tunnel_is_in_a_network_that_he_rules(
    tmp_path_factory: pytest.TempPathFactory, tunnel: TunnelKind, who: Who
) -> None:
    with pair_over("IPv4", tmp_path_factory) as pair:
        hosts = dict(pair.hosts)
        specs, host = up(hosts, tunnel, who), hosts["one"]
        for victim in NEIGHBOURS:
            known = {"MAC": names.mac("w", victim, f"to-{NEIGHBOURS[victim]}"), "FROM": host.node.address}
            his_own = {o.remote if victim == "y" else o.local for o in host.tunnels() if o.ns == "v.a"}
            with listening(hosts[PLACED[victim]], victim) as ear:
                for to in {hosts[PLACED[victim]].node.address, *his_own}:
                    for what, reached in TRIES[tunnel].items():
                        tries(host, who, written(what, known | {"TO": to, "NUMBER": "101", "OWN": "100"}))
                        expected = 5 * (who == "light" and victim in reached)
                        assert heard(ear) == expected, (what, victim, to)
                        assert host.one_pass(specs["one"]) == {}
        assert pings(hosts, HIS, "a", "x")
        assert pings(hosts, THEIRS, "b", "y")
