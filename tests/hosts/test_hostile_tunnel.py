"""What root in a container can do to another slice's links with the end of a tunnel that is in his network."""

from __future__ import annotations

import json
import subprocess
from typing import Literal

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import PORT, STATIC, Host, pair_over

from vini import placement
from vini.embed import embed
from vini.layout import address, layout
from vini.model import End, Link, Sliver, Topology
from vini.node import netns
from vini.node.drivers.contents import enter
from vini.plugins.tunnels import TunnelKind

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]
HIS = Topology(
    "v",
    {n: Sliver(n, routing=STATIC) for n in "ax"},
    (Link((End("a"), End("x"))),),
)
THEIRS = Topology("w", {n: Sliver(n, routing=STATIC) for n in "by"}, (Link((End("b"), End("y"))),))
Runtime = Literal["light", "container"]
PLACED = {"a": "one", "b": "one", "x": "two", "y": "two"}
ASTRAY = """
set -e
bridge fdb replace $MAC dev to-x dst $TO vni $VNI
ip neighbour replace 9.9.9.9 lladdr $MAC dev to-x
ip route replace 9.9.9.9 dev to-x
ping -q -c 5 -i 0.2 -W 1 9.9.9.9 || test $? = 1  # nobody answers
"""


def up(hosts: dict[str, Host], tunnel: TunnelKind, runtime: Runtime) -> None:
    """Both slices are there on both hosts, each with numbers of its own."""
    nodes = [replace(h.node, capabilities=h.node.capabilities | {"containers"}) for h in hosts.values()]
    specs = []
    his = replace(HIS, slivers={**HIS.slivers, "a": replace(HIS.slivers["a"], runtime=runtime)})
    for i, topology in enumerate((his, THEIRS)):
        placed = {n: PLACED[n] for n in topology.slivers}
        vnis = dict.fromkeys(placement.crossing(topology, placed), 100 + i)
        specs.append(embed(replace(topology, tunnel=tunnel), nodes, placed=placed, vnis=vnis, port=PORT + i))
    for host in hosts.values():
        one, other = (of[host.name] for of in specs)
        assert host.one_pass(replace(one, objects=one.objects | other.objects)) == {}
    for host in hosts.values():
        eventually(host.is_as_asked)
    eventually(lambda: pings(hosts, HIS, "a", "x") and pings(hosts, THEIRS, "b", "y"))


def pings(hosts: dict[str, Host], topology: Topology, source: str, to: str) -> bool:
    at = [address(layout(topology), n, 4) for n in (source, to)]
    argv = ["ping", "-c1", "-W2", "-I", *at]
    return ", 1 received" in hosts[PLACED[source]].inside(*argv, ns=f"{topology.name}.{source}")


def link(hosts: dict[str, Host], ns: str, dev: str) -> dict:
    out = hosts[PLACED[ns.partition(".")[2]]].inside("ip", "-s", "-d", "-j", "link", "show", dev, ns=ns)
    (found,) = json.loads(out)
    return found


@pytest.mark.parametrize(
    ("tunnel", "runtime", "comes_out"),
    [
        # docs/explanation/many-machines.md: so strangers get no such tunnels
        pytest.param("vxlan", "container", True, marks=pytest.mark.needs("containers")),
        # Whoever is root in a container can do no more with his network than in a `light` sliver.
        pytest.param("wireguard", "light", False, marks=pytest.mark.needs_kernel("wireguard")),
    ],
)
def test_what_he_sends_astray_comes_out_of_another_slices_tunnel_unless_tunnels_are_encrypted(
    tmp_path_factory: pytest.TempPathFactory, tunnel: TunnelKind, runtime: Runtime, comes_out: bool
) -> None:
    with pair_over("IPv4", tmp_path_factory) as pair:
        hosts = dict(pair.hosts)
        up(hosts, tunnel, runtime)
        host, before = hosts["one"], link(hosts, "w.y", "to-b")
        known = {"MAC": before["address"], "VNI": str(before["linkinfo"]["info_data"]["id"])}
        own = link(hosts, "v.a", "to-x")["linkinfo"]["info_data"]["remote"]
        for to in {hosts["two"].node.address, own}:
            script = ASTRAY
            for name, value in {**known, "TO": to}.items():
                script = script.replace(f"${name}", value)
            with netns.inside(host.path):
                argv = ["sh", "-c", script]
                if runtime == "container":
                    argv = enter(host.own.place, "v.a", argv)
                else:
                    argv = ["nsenter", f"--net={host.own.place.netns('v.a')}", "--", *argv]
                tried = subprocess.run(argv, capture_output=True, timeout=60)
            assert tried.returncode == 0 and b"5 packets transmitted" in tried.stdout, tried.stderr.decode()
        got = link(hosts, "w.y", "to-b")["stats64"]["rx"]["bytes"] - before["stats64"]["rx"]["bytes"]
        assert (got >= 5 * 84) == comes_out, got
        assert pings(hosts, THEIRS, "b", "y")
