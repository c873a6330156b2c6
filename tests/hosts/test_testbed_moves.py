"""A central's machine is lost: from its backup there is one on another machine, and nodes, people and slices go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from flow import unbroken
from own_place import eventually
from testbed import Central, Testbed, wired

from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]

SLICE = "home_line"
LINE = """
name: home_line
routing: {protocols: ospf, daemon: bird}
slivers:
  a: {node: n1}
  b: {node: n2}
  c: {node: n1}
links: [a -- b, b -- c]
expect: all
"""


@pytest.fixture(scope="module", params=["hub", "nats"])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """n1 and n2 are nodes; `spare` is a machine that has nothing yet.  The last of the tests moves the central."""
    if request.param == "nats" and not shutil.which("nats-server"):
        pytest.skip("no nats-server: apt install nats-server")
    with wired(("n1", "n2", "spare"), tmp_path_factory.mktemp) as made:
        made.init(own_engine=request.param == "nats")
        made.central.up()
        made.login()
        for name in ("n1", "n2"):
            made.join(made.hosts[name])
        made.vini("slice", "create", SLICE)
        yield made


def test_who_is_not_the_central_that_a_node_joined_is_not_followed(bed: Testbed) -> None:
    n1, _, spare = bed.hosts.values()
    other = Central(bed.directory / "other", spare.ip, bed.central.port, spare.inside())
    spare.vini("central", "init", "--dir", str(other.directory), "--name", spare.ip, "--admin", "eve@example.org")
    before = (n1.state / "uplink" / "identity.json").read_bytes()
    other.up()
    try:
        said = n1.vini("node", "follow", other.url, check=False)
        assert "it is not the central that this machine joined: its certificate is of another authority" in said
    finally:
        other.kill()
    assert (n1.state / "uplink" / "identity.json").read_bytes() == before
    assert n1.is_connected()
    assert "is no node of a testbed" in spare.vini("node", "follow", other.url, check=False)


def test_a_central_moves_to_another_machine_by_its_backup(bed: Testbed) -> None:
    line = bed.directory / "line.yaml"
    line.write_text(LINE)
    bed.vini("up", str(line), "--slice", SLICE)
    n1, n2, spare = bed.hosts.values()
    held = n1.held()
    file, there = bed.directory / "backup.tar.gz", bed.directory / "restored"
    with unbroken(bed.directory, (n1, n2), parse(LINE), "a", "c"):
        bed.vini("central", "backup", "--dir", str(bed.central.directory), str(file))
        bed.central.kill()
        shutil.rmtree(bed.central.directory)
        eventually(lambda: not n1.is_connected() and not n2.is_connected())

        url = f"https://{spare.ip}:{bed.central.port}"
        refused = n1.vini("node", "follow", url, check=False)
        assert "can't be followed: nobody listens there" in refused

        told = spare.vini("central", "restore", str(file), "--dir", str(there), "--name", spare.ip)
        assert f"sudo vini node follow {url}" in told and f"vini login {url}" in told
        moved = Central(there, spare.ip, bed.central.port, spare.inside())
        bed.central = moved
        moved.up()
        for node in (n1, n2):
            assert f"Node {node.name} goes to {url} now." in node.vini("node", "follow", url)
        eventually(lambda: all(n.uplink().startswith(f"connected to {url}") for n in (n1, n2)))
        assert n1.held() == n2.held() == held

        bed.vini("login", url, "--email", "ada@example.org", "--fingerprint", bed.fingerprint)
        eventually(lambda: json.loads(bed.vini("status", "-s", SLICE, "--json"))[0]["converged"])
        bed.vini("link", "-s", SLICE, "b", "c", "--cost", "77")
        eventually(lambda: n1.held() == n2.held() and n1.held()[SLICE] > held[SLICE] + 1000)  # above all of the past
        assert bed.vini("exec", "-s", SLICE, "b", "--", "echo", "hi") == "hi\n"
    bed.vini("down", "-s", SLICE)
    eventually(lambda: not any(h.held() or h.observe() for h in (n1, n2)))
