"""A testbed without IPv4: a central, its nodes and all that is between them speak IPv6 only."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from own_place import eventually, run
from testbed import LINE, Host, Testbed, testbed

from vini.model import Interface, Vxlan

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]
SLICE = "home_line"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp, six=True) as made:
        made.vini("slice", "create", SLICE, "--description", "a line", "--url", "https://example.org")
        up(made)
        yield made
        made.vini("down", "-s", SLICE)


def up(bed: Testbed) -> None:
    path = bed.directory / "line.yaml"
    path.write_text(LINE)
    bed.vini("up", str(path), "--slice", SLICE, "--timeout", "120")
    bed.converged(SLICE)


def vifs(host: Host) -> set[int]:
    return {o.mtu for o in host.observe() if isinstance(o, Interface) and o.dev != "lo"}


def test_machines_join_and_slices_span_them(bed: Testbed) -> None:
    for host in bed.hosts.values():
        assert ":" in host.ip and host.ip in bed.vini("nodes")
        tunnels = [o for o in host.observe() if isinstance(o, Vxlan)]
        assert {o.local for o in tunnels} == {host.ip} and len(tunnels) == 3
        assert vifs(host) == {1430}
        (eth0,) = json.loads(bed.vini("node", "interfaces", host.name, "--json"))
        assert eth0["name"] == "eth0" and eth0["primary"]
    assert "0% packet loss" in bed.vini("exec", "-s", SLICE, "a", "--", "ping", "-c2", "-i0.2", "-W5", "d")
    fits = ("ping", "-c2", "-W5", "-M", "do", "-s", str(1430 - 28), "b")
    assert "0% packet loss" in bed.vini("exec", "-s", SLICE, "a", "--", *fits)


def test_a_path_that_fails_is_seen(bed: Testbed) -> None:
    n2 = bed.hosts["n2"]
    with_fault = lambda: json.loads(bed.vini("status", "-s", SLICE, "--json", check=False))[0]["substrate"]  # noqa: E731
    run("nsenter", f"--net={n2.path}", "--", "ip", "-6", "route", "add", "blackhole", f"{bed.hosts['n1'].ip}/128")
    eventually(lambda: with_fault() != {})
    run("nsenter", f"--net={n2.path}", "--", "ip", "-6", "route", "delete", "blackhole", f"{bed.hosts['n1'].ip}/128")
    eventually(lambda: with_fault() == {})
    bed.converged(SLICE)


def test_links_follow_the_mtu_of_a_nodes_interface(bed: Testbed) -> None:
    """Whoever learns that the network between nodes carries less sets it there, and brings slices up anew."""
    n1 = bed.hosts["n1"]
    run("ip", "-n", n1.path.name, "link", "set", "eth0", "mtu", "1400")
    n1.kill()  # it would look once a minute; the next one tells it as it begins
    n1.start()
    eventually(lambda: json.loads(bed.vini("nodes", "--json"))[0]["mtu"] == 1400)
    eventually(n1.is_connected)
    up(bed)
    assert [vifs(host) for host in bed.hosts.values()] == [{1330}, {1330}]
    run("ip", "-n", n1.path.name, "link", "set", "eth0", "mtu", "1500")
