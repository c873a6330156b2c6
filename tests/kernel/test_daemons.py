"""Real daemons on the real kernel: three routers in a row, a-b-c, in namespaces of this test alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from own_place import eventually

from vini import names
from vini.model import BgpPeer, File, Process, Router, RouterVif, Routing
from vini.plugins import ROUTERS, expected_adjacencies, frr

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(frr.BIN, "zebra").exists(), reason="needs the package frr"),
    pytest.mark.skipif(not shutil.which("bird"), reason="needs the package bird2"),
]
LINKS = (("a", "b", 10), ("b", "c", 20))
ASN = {"a": 65001, "b": 65002, "c": 65003}
IPV4_ONLY, IPV6_ONLY = ("ospf", "rip"), ("ospf6", "ripng")


def sh(command: str, text: str = "") -> str:
    return subprocess.run(["sh", "-c", command], input=text, check=True, capture_output=True, text=True).stdout


class Row:
    """Three namespaces, joined by veth pairs, and the daemons that run in them."""

    def __init__(self, run: Path, routing: dict[str, Routing]):
        self.run, self.mark = run, f"rt-{os.getpid()}"
        self.children: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.loopbacks = names.loopbacks(ASN)
        self.routers = {n: self._router(n, routing[n]) for n in ASN}

    def _router(self, name: str, routing: Routing) -> Router:
        addresses = names.link_addresses(f"{a}--{b}" for a, b, _ in LINKS)
        vifs, peers = [], []
        for one, other, cost in LINKS:
            ends = addresses[f"{one}--{other}"]
            for me, peer, ours, theirs in ((one, other, *ends), (other, one, *reversed(ends))):
                if me == name:
                    vifs.append(RouterVif(f"to-{peer}", peer, ours, theirs, cost, routing.protocols, routing.area))
                    peers += [BgpPeer(peer, t.partition("/")[0], ASN[peer]) for t in theirs]
        router_id = self.loopbacks[name][0].partition("/")[0]
        ns = f"{self.mark}-{name}"
        return Router(ns, name, router_id, self.loopbacks[name], routing, tuple(vifs), tuple(peers))

    def up(self) -> None:
        sh("ip -batch -", "".join(f"netns add {r.ns}\n" for r in self.routers.values()))
        for r in self.routers.values():
            sh(f"ip netns exec {r.ns} sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.forwarding=1"
               " net.ipv4.ip_forward=1 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.rp_filter=0")  # fmt: skip
        for a, b, _ in LINKS:
            sh(f"ip link add to-{b} netns {self.mark}-{a} type veth peer name to-{a} netns {self.mark}-{b}")
        for r in self.routers.values():
            lines = ["link set lo up", *(f"addr add {a} dev lo" for a in r.loopbacks)]
            for v in r.vifs:
                lines += [f"link set {v.dev} up", *(f"addr add {a} dev {v.dev}" for a in v.addresses)]
            sh(f"ip -n {r.ns} -batch -", "\n".join(lines))
        for r in self.routers.values():
            for p in self.write(r):
                self.start(r, p)

    def write(self, router: Router) -> list[Process]:
        objects = ROUTERS[router.routing.daemon].objects(router)
        for o in objects:
            if isinstance(o, File):
                at = self.run / router.name / o.path
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_text(o.text)
                at.chmod(o.mode)
        return [o for o in objects if isinstance(o, Process)]

    def argv(self, router: Router, argv: tuple[str, ...]) -> list[str]:
        filled = (a.replace("{run}", f"{self.run}/{router.name}") for a in argv)
        return ["nsenter", f"--net=/run/netns/{router.ns}", *filled]

    def start(self, router: Router, process: Process) -> None:
        log = (self.run / router.name / f"{process.name}.log").open("ab")
        self.children[router.name, process.name] = subprocess.Popen(
            self.argv(router, process.argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def said(self, name: str, argv: tuple[str, ...]) -> str:
        return subprocess.run(self.argv(self.routers[name], argv), capture_output=True, text=True).stdout

    def missing(self, families: tuple[int, ...]) -> list[str]:
        """Loopbacks that some router has no learnt route to."""
        out = []
        for r in self.routers.values():
            for family in families:
                routes = sh(f"ip -n {r.ns} -{family} route")
                for other, addresses in self.loopbacks.items():
                    address = addresses[0 if family == 4 else 1].partition("/")[0]
                    if other != r.name and f"{address} " not in routes:
                        out.append(f"{r.name} -> {address}")
        return out

    def adjacencies(self, name: str) -> dict[tuple[str, str, str], bool]:
        plugin, router = ROUTERS[self.routers[name].routing.daemon], self.routers[name]
        found = (a for p, argv in plugin.adjacencies_argv(router) for a in plugin.adjacencies(p, self.said(name, argv)))
        return {(a.protocol, a.neighbor, a.dev): a.up for a in found}

    def starting(self) -> list[str]:
        """The processes that give a daemon its lasting configuration (plugins/bird.py)."""
        script, out = f"{self.run}/", []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (process / "cmdline").read_text().split("\0")
                out += [process.name for w in words[:2] if w.startswith(script) and w.endswith("/bird/start")]
        return out

    def down(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        for r in self.routers.values():
            sh(f"ip netns del {r.ns}")


@pytest.fixture
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Row]]:
    made: list[Row] = []

    def make(daemon: str | dict[str, str], *protocols: str, **routing: object) -> Row:
        daemons = dict.fromkeys(ASN, daemon) if isinstance(daemon, str) else daemon
        intents = {
            n: Routing(protocols=protocols, daemon=d, asn=ASN[n] if "bgp" in protocols else 0, **routing)  # type: ignore[arg-type]
            for n, d in daemons.items()
        }
        row = Row(tmp_path_factory.mktemp("run"), intents)
        made.append(row)
        row.up()
        return row

    yield make
    for row in made:
        row.down()


def families(protocols: tuple[str, ...]) -> tuple[int, ...]:
    return (4,) if protocols[0] in IPV4_ONLY else (6,) if protocols[0] in IPV6_ONLY else (4, 6)


def assert_converges(row: Row, *protocols: str) -> None:
    eventually(lambda: not row.missing(families(protocols)))
    expected = expected_adjacencies(row.routers["b"])
    eventually(lambda: sum(row.adjacencies("b").values()) == expected)
    family = families(protocols)[0]
    target, source = (row.loopbacks[n][0 if family == 4 else 1].partition("/")[0] for n in ("c", "a"))
    # BIRD writes its routes anew when it is given its lasting configuration; the first ping may wait for a neighbour.
    eventually(lambda: f"src {source}" in row.said("a", ("ip", "route", "get", target)))
    eventually(lambda: "1 received" in row.said("a", ("ping", "-c1", "-W10", target)))


@pytest.mark.parametrize(("daemon", "protocol"), [
    *(("frr", p) for p in ("ospf", "ospf6", "isis", "rip", "ripng", "bgp")),
    *(("bird", p) for p in ("ospf", "ospf6", "rip", "ripng", "babel", "bgp")),
])  # fmt: skip
def test_three_routers_converge(rows: Callable[..., Row], daemon: str, protocol: str) -> None:
    row = rows(daemon, protocol)
    for r in row.routers.values():
        for p in row.write(r):
            assert p.ready is not None
            ready = p.ready
            eventually(lambda r=r, ready=ready: ready.expect.lstrip("^") in row.said(r.name, ready.argv))  # type: ignore[misc]
    assert_converges(row, protocol)


@pytest.mark.parametrize("protocol", ["ospf", "ospf6", "rip", "bgp"])
def test_frr_and_bird_understand_each_other(rows: Callable[..., Row], protocol: str) -> None:
    assert_converges(rows({"a": "frr", "b": "bird", "c": "frr"}, protocol), protocol)


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_a_change_of_cost_is_reloaded_and_no_adjacency_is_lost(rows: Callable[..., Row], daemon: str) -> None:
    row = rows(daemon, "ospf")
    assert_converges(row, "ospf")
    eventually(lambda: not row.starting())  # BIRD has been given its lasting configuration
    old = row.routers["b"]
    new = msgspec.structs.replace(old, vifs=tuple(msgspec.structs.replace(v, cost=77) for v in old.vifs))
    for was, p in zip(row.write(old), row.write(new), strict=True):
        if was != p:
            done = subprocess.run(row.argv(new, p.reload), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    for _ in range(10):  # a lost one needs a hello, so up to a second, to come back
        assert sum(row.adjacencies("b").values()) == 2
        time.sleep(0.1)
    eventually(lambda: cost_to(row, "b", "c") == 77)


def cost_to(row: Row, name: str, other: str) -> int:
    """The cost of the vif towards `other`, as the daemon uses it."""
    if row.routers[name].routing.daemon == "frr":
        shown = msgspec.json.decode(row.said(name, (*frr.VTYSH, "-d", "ospfd", "-c", "show ip ospf interface json")))
        return int(shown["interfaces"][f"to-{other}"]["cost"])
    shown = row.said(name, ("birdc", "-s", "{run}/bird/bird.ctl", f'show ospf interface ospf4 "to-{other}"'))
    return int(shown.partition("Cost: ")[2].split()[0])


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_bfd_sessions_come_up(rows: Callable[..., Row], daemon: str) -> None:
    row = rows(daemon, "ospf", "bgp", bfd=True)
    assert_converges(row, "ospf", "bgp")
    command = (*frr.VTYSH, "-d", "bfdd", "-c", "show bfd peers brief")
    if daemon == "bird":
        command = ("birdc", "-s", "{run}/bird/bird.ctl", "show", "bfd", "sessions")
    eventually(lambda: row.said("b", command).lower().count(" up ") >= 4)  # IPv4 and IPv6, two peers


def test_a_killed_bird_comes_back(rows: Callable[..., Row]) -> None:
    row = rows("bird", "ospf")
    assert_converges(row, "ospf")
    row.children["b", "bird"].kill()
    row.children["b", "bird"].wait()
    eventually(lambda: row.missing((4,)))  # a and c notice, by the dead interval
    row.start(row.routers["b"], row.write(row.routers["b"])[-1])
    assert_converges(row, "ospf")


def test_the_users_own_configuration_runs(rows: Callable[..., Row]) -> None:
    text = "log stderr all;\nrouter id 10.0.0.1;\nprotocol device {}\n"
    row = rows("bird", raw={"bird.conf": text})
    status = ("birdc", "-s", "{run}/bird/bird.ctl", "show status")
    eventually(lambda: "Router ID is 10.0.0.1" in row.said("a", status))


def test_a_daemon_that_can_not_start_says_why(rows: Callable[..., Row]) -> None:
    row = rows("bird", raw={"bird.conf": "asn = 3;\n"})
    assert row.children["a", "bird"].wait(60) != 0
    assert "syntax error" in (row.run / "a" / "bird.log").read_text()
