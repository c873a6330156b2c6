"""A process with AF_XDP sockets: what its sliver needs, and where it can't have them."""

import pytest

from vini.embed import embed
from vini.model import Bpf, BpfRow, File, Hook, Interface, Node, Process, Program, Sysctl, Unsupported
from vini.plugins import sockets
from vini.plugins.programs import prepare
from vini.topology import dump, parse

NET = """\
name: s
slivers:
  a: {}
  m: {program: {process: "./forwarder", af_xdp: true, vifs: [%s]}}
  b: {}
links: [a -- m, m -- b]
"""
NODE = Node("here", frozenset({"root", "cgroup2", "programs"}))
PROGRAM = Program("process", "./forwarder", af_xdp=True)


def objects(vifs: str = "to-a, to-b") -> frozenset:
    (spec,) = embed(parse(NET % vifs), [NODE]).values()
    return spec.objects


def test_sockets_come_with_the_program_that_feeds_them_and_a_kernel_that_does_not_forward() -> None:
    made = objects()
    (process,) = (o for o in made if isinstance(o, Process))
    outside, within = process.argv[: process.argv.index("{root}")], process.argv[process.argv.index("{root}") + 1 :]
    assert outside[-5:] == ("{node}/xsk.py", "{run}", "to-a", "to-b", "--")
    assert within == ("sh", "-c", "./forwarder")
    assert {(o.dev, o.hook, o.function) for o in made if isinstance(o, Hook)} == {
        ("to-a", "xdp", "at_0"), ("to-b", "xdp", "at_1")
    }  # fmt: skip
    (bpf,) = (o for o in made if isinstance(o, Bpf))
    (source,) = (o for o in made if isinstance(o, File) and o.path == bpf.source)
    assert source.text.endswith('AT(0, "to-a")\nAT(1, "to-b")\n')
    assert any(o.ns == "s.m" and ("ipv4/ip_forward", "0") in o.settings for o in made if isinstance(o, Sysctl))
    assert all(o.finished for o in made if isinstance(o, Interface) and o.dev == "to-m"), "XDP needs whole checksums"


def test_the_kernel_keeps_every_address_of_the_sliver() -> None:
    (bpf,) = (o for o in objects() if isinstance(o, Bpf))
    assert len(bpf.rows) == 6, "two vifs and the loopback, IPv4 and IPv6"
    assert sockets.own(["10.0.0.1/31", "fd00::1"]) == (
        BpfRow("own", "0a000001" + "0" * 24, "01"),
        BpfRow("own", "fd000000000000000000000000000001", "01"),
    )


def test_only_some_vifs() -> None:
    made = objects("to-b")
    assert [(o.dev, o.function) for o in made if isinstance(o, Hook)] == [("to-b", "at_0")]
    (process,) = (o for o in made if isinstance(o, Process))
    assert "to-a" not in process.argv


def test_a_topology_that_is_written_out_has_them() -> None:
    topology = parse(NET % "to-a")
    assert parse(dump(topology)) == topology and topology.slivers["m"].program.af_xdp


@pytest.mark.parametrize(
    ("shaped", "tunnels", "said"),
    [
        (["to-b"], [], "asks for AF_XDP, whose packets would bypass the shaping of to-b; leave `af_xdp` out"),
        ([], ["to-a"], "asks for AF_XDP, but to-a leads to another node"),
    ],
)
def test_it_is_refused_where_links_would_not_be_what_they_are(shaped: list[str], tunnels: list[str], said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        prepare("m", PROGRAM, ["to-a", "to-b"], shaped, tunnels)
    other = Program("process", "./forwarder", vifs=("to-c",), af_xdp=True)
    assert prepare("m", other, ["to-a", "to-b", "to-c"], shaped, tunnels).hook == "xdp", "what it does not touch"


def test_no_more_vifs_than_the_map_has_room_for() -> None:
    with pytest.raises(Unsupported, match="64 vifs at most; m has 65"):
        prepare("m", PROGRAM, [f"v{n}" for n in range(65)], ())


def test_frames_that_no_socket_takes_are_refused_and_not_lost() -> None:
    text = NET.replace("m -- b]", "{ends: [m, b], mtu: 1779}]")
    with pytest.raises(Unsupported, match="an MTU of 1778 at most, and to-b has 1779; give those links"):
        embed(parse(text % "to-b"), [NODE])
    assert embed(parse(text % "to-a"), [NODE]), "what has no socket may have any"
    assert embed(parse(text.replace("1779", "1778") % "to-b"), [NODE])
