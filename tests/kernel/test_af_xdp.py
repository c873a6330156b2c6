"""A process of a sliver that has its vifs as AF_XDP sockets: it forwards without rights, and is healed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from own_place import OwnPlace, eventually, run
from test_commands import Shell
from test_program_command import carried

from vini.model import Process
from vini.node import cgroup, netns

PROGRAMS = Path(__file__).parents[2] / "examples/programs"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]
NET = """\
name: s
slivers:
  a: {{routes: [{{to: default, via: m}}]}}
  m: {{program: {{process: "{run}", af_xdp: true}}{more}}}
  b: {{routes: [{{to: default, via: m}}]}}
links: [a -- m, m -- b]
"""
NOBODY = "exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all "


class Joined(Shell):
    """a--m--b, where only m's process joins a and b."""

    def __init__(self, own: OwnPlace, directory: Path, command: str, more: str = ""):
        super().__init__(own, directory)
        (directory / "net.yaml").write_text(NET.format(run=command, more=more))
        self.place = own.place
        self.vini("up", "net.yaml")
        self.to = {family: self._address(family) for family in (4, 6)}

    def _address(self, family: int) -> str:
        shown = self.inside("b", f"ip -{family} -o addr show dev to-m scope global").split()
        return shown[shown.index("inet6" if family == 6 else "inet") + 1].partition("/")[0]

    def inside(self, sliver: str, command: str) -> str:
        with netns.inside(self.own.place.pin(f"s.{sliver}")):
            return run("sh", "-c", command, check=False)

    def pings(self, family: int = 4, *options: str) -> bool:
        words = " ".join(options)
        return " 1 received" in self.inside("a", f"ping -n -c 1 -W 1 {words} {self.to[family]}")

    def pids(self) -> list[int]:
        (found,) = (o for o in self.own.spec("s").objects if isinstance(o, Process))
        return cgroup.pids(cgroup.of(self.own.place, found.ns, found.name))


@pytest.fixture(scope="module")
def forwarder() -> Iterator[Path]:
    """The example, compiled, where the user `nobody` may read it too."""
    with TemporaryDirectory() as directory:
        program = Path(directory) / "forwarder"
        program.parent.chmod(0o755)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", program, PROGRAMS / "xsk-forwarder.c"], check=True)
        yield program


def test_a_process_without_any_right_forwards(own: OwnPlace, tmp_path: Path, forwarder: Path) -> None:
    net = Joined(own, tmp_path, f"{NOBODY} {forwarder}", more=", files: {/srv/x: y}")
    net.vini("ping", "m", "a")  # whoever may not ask for neighbours forwards to those that the kernel knows
    net.vini("ping", "m", "b")
    net.vini("ping", "-6", "m", "a")
    net.vini("ping", "-6", "m", "b")
    for family in (4, 6):
        assert eventually(lambda family=family: net.pings(family, "-s", "1400"))
        assert not net.pings(family, "-t", "1"), "it counts hops"
        version = socket.AF_INET if family == 4 else socket.AF_INET6
        assert carried(net, version, net.to[family], 3_000_000) == 3_000_000
    status = Path(f"/proc/{net.pids()[-1]}/status").read_text()
    (fare,) = net.json("program", "list")
    assert (fare["kind"], fare["hook"], fare["why"]) == ("process", "xdp", "its process has AF_XDP sockets")
    assert fare["packets"] > 0 and fare["over_budget"] == 0
    assert "CapEff:\t0000000000000000" in status and "Uid:\t65534" in status


def test_it_is_nobody_else_who_forwards(own: OwnPlace, tmp_path: Path, forwarder: Path) -> None:
    """While it stands still nothing passes, and what is for the sliver itself does; killed, it is started again."""
    net = Joined(own, tmp_path, f"exec {forwarder}")
    assert eventually(net.pings)
    first = net.pids()[-1]
    os.kill(first, signal.SIGSTOP)
    assert not net.pings()
    net.vini("ping", "a", "m")
    os.kill(first, signal.SIGKILL)
    assert eventually(net.pings)
    assert first not in net.pids()


VANDALS: dict[str, Callable[[Joined], object]] = {
    "the pins are lost": lambda net: run("rm", "-r", str(net.own.place.run / "bpf/s/m")),
    "the program is taken off": lambda net: net.inside("m", "ip link set dev to-b xdp off"),
    "a link goes": lambda net: net.inside("m", "ip link del to-b"),
    "a link goes down and up": lambda net: net.inside("m", "ip link set to-b down; ip link set to-b up"),
    "its keeper is killed": lambda net: os.kill(net.pids()[0], signal.SIGKILL),
}


def test_what_a_hand_did_is_healed(own: OwnPlace, tmp_path: Path, forwarder: Path) -> None:
    net = Joined(own, tmp_path, f"exec {forwarder}")
    assert eventually(net.pings)
    for what, vandal in VANDALS.items():
        vandal(net)
        eventually(lambda: own.is_as_asked("s"))
        assert eventually(net.pings), what


ROUTED = """\
name: s
routing: {{protocols: [ospf, ospf6], daemon: bird}}
slivers:
  a:
  m: {{program: {{process: "exec {run}", af_xdp: true}}}}
  b:
links: [a -- m, m -- b]
expect: [{{from: a, to: m}}, {{from: b, to: m}}]  # what lies behind m isn't told from the kernels' tables
"""


@pytest.mark.needs("bird")
def test_routing_daemons_notice_nothing(own: OwnPlace, tmp_path: Path, forwarder: Path) -> None:
    """Hellos come to the kernel; the table that they fill leads the process, which alone reaches b's loopback."""
    shell = Shell(own, tmp_path)
    (tmp_path / "net.yaml").write_text(ROUTED.format(run=forwarder))
    shell.vini("up", "net.yaml")

    def answers(*options: str) -> bool:
        with shell.start("ping", *options, "a", "b") as ping:
            ping.communicate(timeout=60)
        return ping.returncode == 0

    assert eventually(answers)
    assert eventually(lambda: answers("-6"))


def test_it_is_refused_where_a_link_would_not_hold(own: OwnPlace, tmp_path: Path, forwarder: Path) -> None:
    net = Joined(own, tmp_path, f"exec {forwarder}")
    complaint = net.vini("link", "m", "b", "--delay", "5ms", code=3)
    assert "asks for AF_XDP, whose packets would bypass the shaping of to-b" in complaint
    assert eventually(net.pings)


def test_only_a_process_has_sockets(own: OwnPlace, tmp_path: Path) -> None:
    shell = Shell(own, tmp_path)
    (tmp_path / "net.yaml").write_text(
        "slivers:\n  a: {}\n  m:\n    program: {c: 'x', af_xdp: true}\nlinks: [a -- m]\n"
    )
    assert "Only a `process` has AF_XDP sockets." in shell.vini("up", "net.yaml", code=2)
