"""Strangers on one testbed, all of it at once: two people who know nothing of each other, by the commands that they
type, on nodes where each sliver is a container; and what the world and the wire see of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_place import eventually, run, unspoilt
from testbed import SITE, Testbed, testbed

from vini.node.ssh.place import running

NEEDED = ("cgroup2", "containers", "disks", "outside", "shares", "ssh", "ping", "iperf3")
pytestmark = [pytest.mark.root, pytest.mark.needs(*NEEDED)]

BOB, EVE = "bob@example.org", "eve@example.org"
MOST_MBIT = 4
SERVER = "5.5.5.5"
PORT = 5201
FILE = """
name: home_bob
tunnel: {tunnel}
defaults: {{sliver: {{runtime: container}}}}
slivers:
  a:
    node: n1
    outside: true
    network: {{max: {most}mbit, min: 1mbit, daily: 1GB}}
    resources: {{reserve: 0.2, disk: 32MB}}
  b: {{node: n2, resources: {{disk: 32MB}}}}
links: [a -- b]
"""
OTHER = """
name: home_eve
tunnel: {tunnel}
slivers:
  c: {{node: {node}}}
"""


class World:
    """A machine beyond the nodes, on their wire, that has a public address.

    It reaches them by addresses of another network than the testbed's, whose are of those that nodes give slivers.
    """

    def __init__(self, bed: Testbed):
        self.path = f"world-{os.getpid()}"
        self._wire = f"vt{os.getpid()}w"
        self._bed = bed

    def call(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.path, *argv]

    @contextmanager
    def up(self) -> Iterator[None]:
        bridge = f"vt{os.getpid()}br"
        with ExitStack() as stack:
            run("ip", "netns", "add", self.path)
            stack.callback(run, "ip", "netns", "delete", self.path)
            run("ip", "link", "add", self._wire, "type", "veth", "peer", "name", "eth0", "netns", self.path)
            run("ip", "link", "set", self._wire, "master", bridge, "up")
            for command in ("address add 192.0.2.99/24 dev eth0", f"address add {SERVER}/32 dev lo",
                            "link set lo up", "link set eth0 up"):  # fmt: skip
                run("ip", "-n", self.path, *command.split())
            for name, host in self._bed.hosts.items():
                run("ip", "-n", host.path.name, "address", "add", f"{self.seen_as(name)}/24", "dev", "eth0")
                run("ip", "-n", host.path.name, "route", "add", "default", "via", "192.0.2.99")
            yield

    def seen_as(self, node: str) -> str:
        """The address by which it knows a node."""
        return f"192.0.2.{self._bed.hosts[node].ip.rpartition('.')[2]}"


class Person:
    """Somebody with an account, a login, and an SSH key."""

    def __init__(self, bed: Testbed, name: str, slice_: str, directory: Path):
        self.bed, self.name, self.slice = bed, name, slice_
        email = f"{name}@example.org"
        bed.vini("person", "add", email, "--site", SITE)  # by VINI_PASSWORD, which his login reads, too
        bed.vini("slice", "create", slice_, "--description", "mine", "--url", "https://example.org", "--share", email)
        self.vini("login", bed.central.url, "--email", email, "--fingerprint", bed.fingerprint)
        self.key = directory / f"{name}-key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        self.vini("key", "add", f"{self.key}.pub")

    def vini(self, *argv: str, check: bool = True) -> str:
        return self.bed.vini(*argv, check=check, who=self.name)

    def up(self, text: str, check: bool = True) -> str:
        file = self.bed.directory / f"{self.slice}.yaml"
        file.write_text(text)
        return self.vini("up", str(file), "--slice", self.slice, "--timeout", "120", check=check)

    def ssh(self, node: str, sliver: str, command: str) -> str:
        """By plain OpenSSH from elsewhere; what it printed, or why it was not let in."""
        host = self.bed.hosts[node]
        found = running(host.own.place)
        known = self.key.with_name("known")
        known.write_text(f"node {found.host_key if found else ''}\n")
        options = ("HostKeyAlias=node", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes",
                   "IdentitiesOnly=yes", "ConnectTimeout=20")  # fmt: skip
        argv = ["ssh", "-F", "none", "-p", "2222", "-i", self.key, *(w for o in options for w in ("-o", o))]
        argv += [f"{sliver}@{host.ip}", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def on_the_wire(bed: Testbed, node: str) -> int:
    """Bytes that its machine has sent, as the other end of its cable counts them."""
    return int(Path(f"/sys/class/net/{bed.hosts[node].wire}/statistics/rx_bytes").read_text())


@pytest.fixture(params=["vxlan", pytest.param("wireguard", marks=pytest.mark.needs("shares-wireguard"))])
def tunnel(request: pytest.FixtureRequest) -> str:
    """Containers start in no machine of the tests that has WireGuard, so that is for people whose kernel has it."""
    return str(request.param)


def test_strangers_have_all_that_is_theirs_and_nothing_else(
    tunnel: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp, strangers=True) as bed, World(bed).up():
        world = World(bed)
        for host in bed.hosts.values():
            assert "20 Mbit/s together" in host.vini("node", "uplink", "--rate", "20mbit")
        bob, eve = Person(bed, "bob", "home_bob", tmp_path), Person(bed, "eve", "home_eve", tmp_path)
        mine = FILE.format(tunnel=tunnel, most=MOST_MBIT)
        assert "an operator grants it" in bob.up(mine, check=False)
        bed.vini("outside", "grant", "home_bob", "--to", "5.5.0.0/16", "--allow", "tcp", "--allow", "icmp",
                 "--rate", "100mbit", "--packets", "50000")  # fmt: skip
        is_refused_what_would_harm_others(bob, mine)
        bob.up(mine)
        bed.vini("lease", "add", "n1", "--slice", "home_bob", "--hours", "2")
        (told,) = json.loads(bob.vini("status", "-s", "home_bob", "--json"))
        assert [s["state"] for s in told["slivers"]] == ["ready", "ready"]
        is_in_a_container_of_his_own(bed, bob)
        sends_no_more_than_its_share(bed, bob, world)
        whose_flow_it_was_is_told_to_the_admin_alone(bed, bob, eve, world)
        is_nobody_elses(bed, bob, eve, tunnel)
        bob.vini("key", "delete", bob.vini("key").splitlines()[-1].split()[0])
        eventually(lambda: "Permission denied" in bob.ssh("n1", "home_bob.a", "true")
                   or "Connection refused" in bob.ssh("n1", "home_bob.a", "true"))  # fmt: skip
        bob.vini("down", "-s", "home_bob")
        eve.vini("down", "-s", "home_eve")
        for host in bed.hosts.values():
            assert host.observe() == frozenset()
            assert host.slivers() == set()


def is_refused_what_would_harm_others(bob: Person, mine: str) -> None:
    light = mine.replace("{node: n2, resources: {disk: 32MB}}", "{node: n2, runtime: light}")
    assert "Slivers are containers on this testbed" in bob.up(light, check=False)
    assert "vxlan-xdp" in bob.up(mine.replace("tunnel: ", "tunnel: vxlan-xdp #"), check=False)


def is_in_a_container_of_his_own(bed: Testbed, bob: Person) -> None:
    """Root inside, and nobody outside."""
    assert eventually(lambda: bob.ssh("n1", "home_bob.a", "id -u").strip() == "0")
    assert bob.ssh("n2", "home_bob.b", "echo $VINI_NAME") == "b\n"
    inside, outside, count = bob.ssh("n1", "home_bob.a", "cat /proc/self/uid_map").split()
    assert (inside, count) == ("0", "65536") and int(outside) > 65536
    assert "No such file" in bob.ssh("n1", "home_bob.a", f"ls {bed.hosts['n1'].state}")
    assert eventually(lambda: " 1 received" in bob.ssh("n1", "home_bob.a", "ping -c1 -W2 b"))
    (size,) = bob.ssh("n1", "home_bob.a", "df --output=size -m / | tail -1").split()
    assert int(size) <= 32
    rows = {r["sliver"]: r for r in json.loads(bob.vini("top", "-s", "home_bob", "-n", "1", "--json"))}
    assert (rows["a"]["share"]["min_mbit"], rows["a"]["share"]["max_mbit"]) == (1.0, MOST_MBIT)
    assert rows["b"]["share"]["max_mbit"] == 20.0, "what the uplink carries"


def sends_no_more_than_its_share(bed: Testbed, bob: Person, world: World) -> None:
    """As who receives it sees, in the world and on the wire between nodes."""

    def to_the_world() -> float:
        server = subprocess.Popen(world.call("iperf3", "-s", "-1", "-J", "-p", str(PORT)), stdout=subprocess.PIPE)
        try:
            said = bob.ssh("n1", "home_bob.a", f"iperf3 -c {SERVER} -p {PORT} -t 4")
            out, _ = server.communicate(timeout=60)
        finally:
            server.kill()
        return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e6 if out else pytest.fail(said)

    def to_the_other_node() -> float:
        bob.ssh("n2", "home_bob.b", "pidof iperf3 || iperf3 -s -D")
        before, began = on_the_wire(bed, "n1"), time.monotonic()
        said = bob.ssh("n1", "home_bob.a", "iperf3 -c b -t 4")
        assert "receiver" in said, said
        return (on_the_wire(bed, "n1") - before) * 8e-6 / (time.monotonic() - began)

    for way in (to_the_world, to_the_other_node):
        unspoilt(way, lambda got: MOST_MBIT / 2 < got < MOST_MBIT * 1.1)
    rows = {r["sliver"]: r for r in json.loads(bob.vini("top", "-s", "home_bob", "-n", "1", "--json"))}
    assert rows["a"]["share"]["today_mb"] > 2 * 4 * MOST_MBIT / 2 / 8, "of both ways"


def whose_flow_it_was_is_told_to_the_admin_alone(bed: Testbed, bob: Person, eve: Person, world: World) -> None:
    """The world complains of an address and a port; one command tells the slice and the sliver."""
    server = subprocess.Popen(world.call("iperf3", "-s", "-1", "-J", "-p", str(PORT)), stdout=subprocess.PIPE)
    bob.ssh("n1", "home_bob.a", f"iperf3 -c {SERVER} -p {PORT} -n 100K")
    out, _ = server.communicate(timeout=60)
    (seen,) = json.loads(out)["start"]["connected"]
    assert seen["remote_host"].removeprefix("::ffff:") == world.seen_as("n1")
    question = ("audit", "who", f"{world.seen_as('n1')}:{seen['remote_port']}", f"{SERVER}:{PORT}", "--protocol", "tcp")

    def ended() -> dict | None:
        told = json.loads(bed.vini(*question, "--json"))
        assert told["n2"]["flows"] == []
        (flow,) = told["n1"]["flows"]
        return flow if flow["end"] == "ended" else None

    flow = eventually(ended)
    assert flow and (flow["slice"], flow["sliver"]) == ("home_bob", "a")
    assert flow["out_bytes"] > 100_000
    for person in (bob, eve):
        assert "home_bob" not in person.vini(*question, check=False)


def is_nobody_elses(bed: Testbed, bob: Person, eve: Person, tunnel: str) -> None:
    """Another person of the same testbed gets in nowhere, sees nothing, and has no room on the leased node."""
    refused = eve.up(OTHER.format(tunnel=tunnel, node="n1"), check=False)
    assert "leased" in refused and "n1" in refused, refused
    eve.up(OTHER.format(tunnel=tunnel, node="n2"))
    assert eventually(lambda: eve.ssh("n2", "home_eve.c", "echo $VINI_NAME") == "c\n")
    assert "Permission denied" in eve.ssh("n2", "home_bob.b", "true")
    assert "Permission denied" in bob.ssh("n2", "home_eve.c", "true")
    for words in (
        ("status", "-s", "home_bob"),
        ("exec", "-s", "home_bob", "b", "--", "true"),
        ("down", "-s", "home_bob"),
    ):
        assert "no slice" in eve.vini(*words, check=False).lower()
    (address,) = bob.ssh("n2", "home_bob.b", "hostname -I | cut -d' ' -f1").split()
    assert "bytes from" not in eve.ssh("n2", "home_eve.c", f"ping -c1 -W1 {address}")
    assert "bytes from" not in eve.ssh("n2", "home_eve.c", f"ping -c1 -W1 {bed.hosts['n2'].ip}")
    assert "iperf3" in bob.ssh("n2", "home_bob.b", "ps -e")
    assert "iperf3" not in eve.ssh("n2", "home_eve.c", "ps -e")
