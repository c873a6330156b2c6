"""Importers: one file of each format against a text that a person can review, and what is refused."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vini.formats import Imported, detect, read, wanted_files
from vini.model import Impairment, Routing, StaticRoute, TopologyError
from vini.names import SLICE_NAME, SLIVER_NAME, VIF_NAME, vif
from vini.topology import dump, parse

FILES = Path(__file__).parent / "formats"
LAB_FILES = {
    "daemons": "zebra=yes\nbgpd=no\nospfd=yes\nripd=yes\npimd=yes\nvtysh_enable=yes\n",
    "r1/frr.conf": (
        "interface eth1\n ip address 10.0.1.1/24\ninterface lo\n ip address 172.20.0.1/32\n"
        "interface eth3\n ip address 10.0.3.1/24\nrouter ospf\n network 10.0.0.0/8 area 0\nrouter bgp 65001\n"
    ),
    "bird.conf": "protocol device {}\nprotocol ospf v3 six {}\nprotocol bgp up { local as 65002; }\n",
    "motd": "welcome\n",
}
GOLDEN = {
    "triangle.graphml": "graphml",
    "doubled.gml": "gml",
    "small.sndlib.txt": "sndlib",
    "small.sndlib.xml": "sndlib-xml",
    "mixed.clab.yml": "containerlab",
    "iias.rb": "pl-vini",
}


def text_of(name: str) -> str:
    return (FILES / name).read_text()


def consistent(imported: Imported) -> None:
    """What every imported topology keeps, whatever it was imported from."""
    topology = imported.topology
    assert SLICE_NAME.match(topology.name)
    names, vifs = set(), set()
    for name, sliver in topology.slivers.items():
        assert name == sliver.name and SLIVER_NAME.match(name)
    for link in topology.links:
        a, b = link.ends
        assert a.sliver in topology.slivers and b.sliver in topology.slivers and a.sliver != b.sliver
        name = link.name or f"{a.sliver}--{b.sliver}"
        assert name not in names
        names.add(name)
        for end, peer in ((a, b), (b, a)):
            dev = end.vif or vif(peer.sliver)
            assert VIF_NAME.match(dev) and len(dev) <= 15
            assert (end.sliver, dev) not in vifs
            vifs.add((end.sliver, dev))
    assert all(note and note.endswith((".", "...")) for note in imported.notes)


def shown(imported: Imported) -> str:
    """The topology without what is default, and the notes, a line each."""
    topology = imported.topology
    lines = [f"topology {topology.name}"]
    for part in (*topology.slivers.values(), *topology.links):
        lines.append(msgspec.json.encode(part).decode())
    return "\n".join([*lines, *(f"note: {n}" for n in imported.notes), ""])


@pytest.mark.parametrize("name", GOLDEN)
def test_each_format_becomes_the_reviewed_topology(name: str) -> None:
    imported = read(text_of(name), name, LAB_FILES)
    consistent(imported)
    golden = FILES / f"{name}.golden"
    if os.environ.get("VINI_GOLDEN") == "write":
        golden.write_text(shown(imported))
    assert shown(imported) == golden.read_text()
    assert parse(dump(imported.topology)) == imported.topology


@pytest.mark.parametrize(("name", "format_"), GOLDEN.items())
def test_content_tells_the_format_whatever_the_name(name: str, format_: str) -> None:
    assert detect(text_of(name), "unnamed") == format_
    assert detect("\ufeff" + text_of(name), name) == format_
    assert read("\ufeff" + text_of(name), name, LAB_FILES) == read(text_of(name), name, LAB_FILES)


@pytest.mark.parametrize(
    "text", ["", "name: x\nslivers: {a: {}}\nlinks: []\n", "{}", "<html></html>", "\0\1\2", "graph theory [1]"]
)
def test_what_is_no_known_format_is_not_detected(text: str) -> None:
    assert detect(text, "topology.yaml") is None
    with pytest.raises(TopologyError, match=r"topology\.yaml: (The format of this file is|This is a topology file of)"):
        read(text, "topology.yaml")


# --- what can be chosen ----------------------------------------------------------------------------------


def test_routing_goes_into_every_router() -> None:
    isis = Routing(protocols=("isis",), daemon="frr")
    for name in ("triangle.graphml", "doubled.gml", "small.sndlib.txt", "iias.rb"):
        assert all(s.routing == isis for s in read(text_of(name), name, routing=isis).topology.slivers.values())
    assert all(s.routing is None for s in read(text_of("iias.rb"), "x", routing=None).topology.slivers.values())


def test_rate_is_set_only_where_an_emulator_can_hold_it() -> None:
    imported = read(text_of("triangle.graphml"), "t.graphml")
    slow, fast = imported.topology.links[:2]
    assert slow.impairment == Impairment(delay_ms=2.52, rate_mbit=155.0)  # Berlin to Munich: 504 km
    assert fast.impairment.rate_mbit == 0 and fast.name == "berlin--munchen-2"
    assert any("above 1000 Mbit/s" in n for n in imported.notes)


def test_opposite_edges_of_a_directed_graph_are_one_link_with_two_rates() -> None:
    text = text_of("triangle.graphml").replace('"undirected"', '"directed"').replace("10000000000.0", "2000000")
    first = read(text, "t.graphml").topology.links[0]
    assert first.impairment.rate_mbit == 155.0
    assert first.ends[1].impairment == Impairment(delay_ms=2.52, rate_mbit=2.0)


def test_parallel_vifs_of_long_names_stay_unique() -> None:
    peers = [f"averyveryverylongname{i}" for i in range(3)]
    nodes = "".join(f'node [ id {i} label "{p}" ]\n' for i, p in enumerate(["hub", *peers]))
    edges = "".join(f"edge [ source 0 target {i} ]\nedge [ source {i} target 0 ]\n" for i in (1, 2, 3))
    imported = read(f"graph [\n{nodes}{edges}]", "x.gml")
    consistent(imported)
    assert len(imported.topology.links) == 6


def test_a_parallel_link_never_takes_the_name_of_another() -> None:
    nodes = "".join(f'node [ id {i} label "{p}" ]\n' for i, p in enumerate(["a", "b", "b-2"]))
    edges = "".join(f"edge [ source 0 target {i} ]\n" for i in (1, 1, 2, 1))
    imported = read(f"graph [\n{nodes}{edges}]", "x.gml")
    consistent(imported)
    assert [link.name for link in imported.topology.links] == ["", "a--b-3", "", "a--b-4"]


def test_a_double_never_takes_the_name_of_another() -> None:
    nodes = "".join(f'node [ id {i} label "{p}" ]\n' for i, p in enumerate(["x", "x", "x-2", "x" * 60, "x" * 60, ""]))
    imported = read(f"graph [\n{nodes}]", "x.gml")
    consistent(imported)
    assert list(imported.topology.slivers) == ["x", "x-3", "x-2", "x" * 40, "x" * 38 + "-2", "n-5"]


def test_parallel_links_of_long_names_have_names_that_fit() -> None:
    nodes = "".join(f'node [ id {i} label "{"x" * 30}{i}" ]\n' for i in (1, 2))
    imported = read(f"graph [\n{nodes}{'edge [ source 1 target 2 ] ' * 3}]", "x.gml")
    consistent(imported)
    assert all(len(link.name) <= 40 for link in imported.topology.links)
    assert parse(dump(imported.topology)) == imported.topology


def test_notes_can_not_steer_a_terminal() -> None:
    imported = read('graph [ node [ id 1 label "a\x1b[2Jb" Odd\x1b 1 ] ]', "x.gml")
    assert all(note.isprintable() for note in imported.notes)
    assert imported.topology.slivers["a-2jb"].label == "a [2Jb"


def test_yed_labels_are_read() -> None:
    text = (
        '<graphml xmlns:y="http://y"><key id="d0" for="node" yfiles.type="nodegraphics"/><graph id="G">'
        '<node id="n0"><data key="d0"><y:ShapeNode><y:NodeLabel>Core 1</y:NodeLabel></y:ShapeNode></data></node>'
        "</graph></graphml>"
    )
    assert list(read(text, "drawn.graphml").topology.slivers) == ["core-1"]


# --- containerlab ----------------------------------------------------------------------------------------


def test_wanted_files_stay_inside_of_the_lab() -> None:
    wanted = wanted_files(text_of("mixed.clab.yml"), "mixed.clab.yml")
    assert wanted == ("daemons", "r1/frr.conf", "bird.conf", "scripts", "motd", "pc/x")
    assert wanted_files(text_of("doubled.gml"), "doubled.gml") == ()
    for path in ("../secret", "/etc/shadow", "~/.ssh/id_rsa", "a/../../b"):
        text = f"topology:\n  nodes:\n    a: {{kind: linux, binds: ['{path}:/x']}}\n"
        assert wanted_files(text, "a.clab.yml") == ()
        assert any("outside of the lab's directory" in n for n in read(text, "a.clab.yml").notes)


ADDRESSED = """
topology:
  nodes:
    a: {kind: linux, exec: [ip addr add 10.1.0.1/24 dev eth1, ip address add fd00::1/64 dev eth1]}
    b: {kind: linux, exec: [ip  a add 10.1.0.2/24 dev eth1, ip addr add 10.2.0.1/24 dev eth2, echo done]}
    c: {kind: linux, exec: [ip addr add 10.3.0.1/24 dev eth1]}
    d: {kind: linux, exec: [ip addr add 10.4.0.1/24 dev eth1, ip addr add 10.4.0.1/24 dev lo]}
    e: {kind: linux, exec: [ip addr add 10.4.0.2/24 dev eth1]}
    f: {kind: linux, exec: [ip addr add 10.4.0.3/24 dev eth1]}
    g: {kind: linux, exec: [ip addr add 10.4.0.4/24 dev eth1]}
  links:
    - endpoints: ["a:eth1", "b:eth1"]
    - endpoints: ["b:eth2", "c:eth1"]
    - endpoints: ["d:eth1", "e:eth1"]
    - endpoints: ["f:eth1", "g:eth1"]
"""


def test_addresses_are_carried_over_where_both_ends_agree_and_no_link_overlaps() -> None:
    imported = read(ADDRESSED, "x.clab.yml")
    addresses = [tuple(e.addresses for e in link.ends) for link in imported.topology.links]
    assert addresses == [(("10.1.0.1/24",), ("10.1.0.2/24",)), ((), ()), ((), ()), ((), ())]
    commands = {name: [c.run for c in s.commands] for name, s in imported.topology.slivers.items()}
    assert commands["a"] == ["ip address add fd00::1/64 dev eth1"]
    assert commands["b"] == ["ip addr add 10.2.0.1/24 dev eth2", "echo done"]
    assert len(commands["d"]) == 2
    assert any(n.startswith("a: fd00::1/64 of eth1 not made an address") for n in imported.notes)
    assert parse(dump(imported.topology)) == imported.topology


def test_containerlab_routers_keep_their_own_configuration() -> None:
    slivers = read(text_of("mixed.clab.yml"), "mixed.clab.yml", LAB_FILES).topology.slivers
    r1, r2, bird, pc = (slivers[n] for n in ("r1", "r2", "bird", "pc"))
    assert r1.routing == Routing(("ospf",), raw={"frr.conf": LAB_FILES["r1/frr.conf"]})
    assert r1.addresses == ("172.20.0.1/32",) and not r1.files
    assert r2.routing == Routing(("ospf", "rip"))
    assert bird.routing == Routing(("ospf6", "bgp"), "bird", asn=65002, raw={"bird.conf": LAB_FILES["bird.conf"]})
    assert pc.routing is None and pc.files == {"/etc/motd": "welcome\n"}
    assert pc.commands == () and pc.routes == (StaticRoute("10.0.0.0/8", "10.0.3.1"),)
    assert slivers["gateway"].forward is True


ROUTED = """
name: routed
topology:
  nodes:
    r1:
      kind: linux
      sysctls: {net.ipv4.ip_forward: 1}
      exec:
        - ip addr add 10.1.0.1/24 dev eth1
        - ip addr add 10.2.0.1/24 dev eth2
        - ip -6 addr add fd00:1::1/64 dev eth1
        - ip route add 10.9.0.0/16 via 10.1.0.9
        - ip route add blackhole 10.8.0.0/16
    client:
      kind: linux
      exec:
        - ip addr add 10.1.0.2/24 dev eth1
        - ip -6 addr add fd00:1::2/64 dev eth1
        - ip route del default
        - ip route add default via 10.1.0.1 dev eth1
        - ip -6 route replace default via fd00:1::1
        - ip route add default via 172.20.20.1 dev eth0
        - echo done
    server:
      kind: linux
      exec:
        - sh -c "ip link set eth1 up && ip addr add 10.2.0.2/24 dev eth1; ip route delete default"
        - ip route flush default && ip route add default via 10.2.0.1
    other:
      kind: linux
      exec: ["ip addr add 10.7.0.2/24 dev eth1", "bash -c 'ip route add default via 10.2.0.1 | tee /log'"]
  links:
    - endpoints: ["r1:eth1", "client:eth1"]
    - endpoints: ["r1:eth2", "server:eth1"]
    - endpoints: ["client:eth2", "other:eth1"]
"""


def test_routes_that_commands_set_become_routes_of_the_topology() -> None:
    imported = read(ROUTED, "x.clab.yml")
    slivers = imported.topology.slivers
    routes = {name: [(r.to, r.via) for r in s.routes] for name, s in slivers.items()}
    assert routes["client"] == [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1")]
    assert routes["server"] == [("0.0.0.0/0", "10.2.0.1")]
    commands = {name: [c.run for c in s.commands] for name, s in slivers.items()}
    assert commands["client"] == ["echo done"] and commands["server"] == ["ip link set eth1 up"]
    assert commands["r1"] == ["ip route replace 10.9.0.0/16 via 10.1.0.9", "ip route replace blackhole 10.8.0.0/16"]
    assert commands["other"][1] == "bash -c 'ip route add default via 10.2.0.1 | tee /log'"
    for note in (
        "client: 2 routes that `exec` sets became routes of the topology.",
        "client: `ip route add default via 172.20.20.1 dev eth0` left out: no neighbour in the lab has that address.",
        "r1: `ip route add` in `exec` is `ip route replace` now: VINI may have a route there already.",
    ):
        assert note in imported.notes
    assert any(n.startswith("client, server: `exec` takes away the default route") for n in imported.notes)
    assert parse(dump(imported.topology)) == imported.topology


def test_a_file_of_our_own_needs_no_translation() -> None:
    with pytest.raises(TopologyError, match=r"of VINI's already: it has 'slivers'. \(.*'vini up a.yaml'"):
        read("name: a\nslivers: [a]\n", "a.yaml")


def test_a_route_by_an_address_that_the_topology_does_not_take_over_goes_by_the_neighbours_name() -> None:
    text = ROUTED.replace("10.2.0.2/24", "10.3.0.2/24")  # not in the subnet of the other end
    assert read(text, "x.clab.yml").topology.slivers["server"].routes == (StaticRoute("0.0.0.0/0", "r1"),)


ODD = """
topology:
  nodes:
    a:
      kind: linux
      binds: [f:/f, f:/proc/f, f:/a/../etc/f, f:relative/f, nul:/etc/nul, nul, "f:/etc/\\e"]
      exec: [" ", echo]
    b: {kind: frr, startup-config: nul}
    c: {kind: frr, startup-config: f}
  links:
    - {endpoints: ["a:lo", "b:very-long-interface-name"], mtu: 600}
    - {endpoints: ["a:eth1", "b:eth1"], ipv4: [10.0.0.1/24, 10.0.0.2/24], ipv6: [fd00::1/64, fd00::2/64]}
    - {endpoints: ["a:eth2", "b:eth2"], ipv4: [224.0.0.1/24]}
"""


def test_what_a_topology_can_not_hold_is_left_out_with_a_note() -> None:
    odd = ODD.replace(", ipv4: [224.0.0.1/24]", "")
    imported = read(odd, "x.clab.yml", {"f": "text\n", "nul": "\0"})
    slivers, links = imported.topology.slivers, imported.topology.links
    assert slivers["a"].files == {"/etc/f": "text\n"}
    assert [c.run for c in slivers["a"].commands] == ["echo"]
    assert slivers["b"].routing is None and slivers["b"].forward is True
    assert slivers["c"].routing == Routing(raw={"frr.conf": "text\n"})
    assert links[0].mtu == 1280 and links[0].ends[0].vif != "lo" and len(links[0].ends[1].vif) <= 15
    assert links[1].ends[0].addresses == ("10.0.0.1/24", "fd00::1/64")
    for part in ("lies in '/'", "placed in '/proc'", "is relative", "can't be a path", "NUL", "raised to 1280"):
        assert any(part in note for note in imported.notes), part
    assert parse(dump(imported.topology)) == imported.topology
    with pytest.raises(TopologyError, match=r"line 13, .*224\.0\.0\.1"):
        read(ODD, "x.clab.yml")


@pytest.mark.parametrize("raw", ["333333.3333333333", "1000.0", "999", "1e9", "1e-300", "nan", "-5", "1544000", "x"])
def test_every_speed_survives_the_topology_file(raw: str) -> None:
    topology = read(text_of("triangle.graphml").replace("155000000.0", raw), "t.graphml").topology
    assert parse(dump(topology)) == topology


def test_the_frr_kind_has_its_configuration_in_startup_config() -> None:
    text = (
        "topology:\n  nodes:\n    a: {kind: frr, startup-config: a.conf, extras: {frr: {daemons: [ospfd, bgpd]}}}\n"
        "    b: {kind: frr, extras: {frr: {daemons: [isisd, bfdd]}}}\n"
    )
    assert wanted_files(text, "x.clab.yml") == ("a.conf",)
    conf = "router bgp 64512\nrouter isis x\n"
    slivers = read(text, "x.clab.yml", {"a.conf": conf}).topology.slivers
    assert slivers["a"].routing == Routing(("bgp",), asn=64512, raw={"frr.conf": conf})
    assert slivers["b"].routing == Routing(("isis",), bfd=True)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ('- endpoints: ["a:eth1"]', "line 6, column 7: This link has 1 endpoint; it must have two."),
        ('- endpoints: ["a:eth1", "bb:eth1"]', "line 6, column 29: This link ends at 'bb', but there is no such node"),
        ('- endpoints: ["a:eth1", "b"]', "line 6, column 29: This endpoint lacks a node or an interface."),
        ('- {type: vethh, endpoints: ["a:e", "b:e"]}', r"'vethh' is no type of link. \(did you mean 'veth'\?\)"),
        ('- endpoints: ["a:eth1", "b:eth1"]\n    - endpoints: ["a:eth1", "b:eth2"]', "'a:eth1' is used twice"),
        ('- {mtu: big, endpoints: ["a:eth1", "b:eth1"]}', "mtu is 'big'."),
        ('- {ipv4: [x], endpoints: ["a:eth1", "b:eth1"]}', "'x' is not an address"),
        ("- 5", "A link must be a mapping."),
    ],
)
def test_containerlab_mistakes_have_their_place(links: str, message: str) -> None:
    text = f"topology:\n  nodes:\n    a: {{kind: linux}}\n    b:\n  links:\n    {links}\n"
    with pytest.raises(TopologyError, match=message) as caught:
        read(text, "lab/x.clab.yml")
    assert str(caught.value).startswith("lab/x.clab.yml: line ")


# --- PL-VINI ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$x = Nodee.new('a', $v, 'b')", r"line 3, column 6: 'Nodee' is not known. \(did you mean 'Node'\?\)"),
        ("$x = Node.new('a', $w, 'b')", r"\$w is no slice"),
        ("$x = Node.new('a', $v)", "A Node takes other arguments"),
        ("$l = Link.new($a, $b, 5)", r"\$b is no node"),
        ("$l = Link.new($a, $a, 0)", "The cost 0 is not possible"),
        ("$l = Link.new($a, $a, 5", "The arguments of new can't be read"),
        ("system('rm -rf /')", "This is no statement that an experiment file can hold"),
        ("$a.openvpn(`id`)", "line 3, column 12: '`' has no meaning here"),
        ("$b.openvpn(true)", r"\$b is no node"),
        ("$w = Slice.new(1, 2, 'w', true, 'XORP')", "A second slice"),
    ],
)
def test_an_experiment_file_is_read_strictly_and_never_run(line: str, message: str) -> None:
    text = f"$v = Slice.new(1, 2, 's', true, 'XORP')\n$a = Node.new('h', $v, 'a')\n{line}\n"
    with pytest.raises(TopologyError, match=message):
        read(text, "experiment.rb")


def test_hints_come_from_the_names_in_the_file() -> None:
    text = "topology:\n  nodes: {spine1: , spine2: }\n  links:\n  - endpoints: ['spine1:e', 'spine3:e']\n"
    with pytest.raises(TopologyError, match=r"did you mean 'spine\d'\?"):
        read(text, "x.clab.yml")


# --- hostile and broken ------------------------------------------------------------------------------------

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><graphml><graph><node id="&b;"/></graph></graphml>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><graphml><graph><node id="&a;"/></graph></graphml>'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.graphml", BOMB, "The XML declares entities or refers to other files"),
        ("a.graphml", OUTSIDE, "The XML declares entities or refers to other files"),
        ("a.graphml", "<graphml>" + "<graph>" * 100_000, "nested more than 50 elements deep"),
        ("a.graphml", "<graphml><graph><node/></graph></graphml>", 'line 1, column 1: This <node> has no "id"'),
        ("a.graphml", '<graphml><graph><node id="a"/><node id="a"/></graph></graphml>', "id 'a' is used twice"),
        ("a.graphml", '<graphml><graph><node id="a"/><edge source="a" target="b"/></graph></graphml>', "ends at 'b'"),
        ("a.graphml", "<graphml><graph/></graphml>", "There is no node in this file"),
        ("a.graphml", "<graphml/>", "This GraphML file has no graph"),
        ("a.graphml", "\0\1\2\udcff", "This is not XML text|not well-formed XML"),
        ("a.gml", "graph " + "[ a " * 100_000, "nested more than 50 deep"),
        ("a.gml", "graph [ node [ id 1 ] ] ]", 'line 1, column 1: "]" where a key should be'),
        ("a.gml", 'graph [ label "x', "A text in quotation marks does not end"),
        ("a.gml", "graph [ node [ label 1 ] ]", "A node has no id"),
        ("a.gml", "graph [ node [ id 1 ] edge [ source 1 ] ]", "An edge has no target"),
        ("a.gml", "x [ ]", "This GML file has no graph"),
        ("a.gml", '"a" 5', "A text where a key should be"),
        ("a.gml", "[ ]", r'"\[" without a key before it'),
        ("a.txt", "?SNDlib native format\nNODES (\n A ( 1 x )\n)\n", "'x' should be a number"),
        ("a.txt", "?SNDlib native format\nNODES (\n A ( 1 2 )\n)\nLINKS (\n L A B\n)", "not of the form that its"),
        ("a.txt", "?SNDlib native format\nNODES (\n A ( 1 2 )\n", "is missing"),
        ("a.txt", "?SNDlib native format\n)\n", 'line 2, column 1: "\\)" without a "\\("'),
        ("a.xml", "<network/>", "This SNDlib file has no nodes"),
        ("a.clab.yml", "topology:\n  nodes:\n   - a\n", "nodes must be a mapping"),
        ("a.clab.yml", "topology: {nodes: {}}", "This lab has no nodes"),
        ("a.clab.yml", "topology: " + "[" * 100_000, "nested more than"),
        ("a.clab.yml", "{{ range .x }}\ntopology:\n  nodes:\n", "This is a Go template"),
        ("a.gml", "graph [ ]" + " " * 10_000_000, "at most 10,000,000 are read"),
    ],
)
def test_broken_and_hostile_files_get_a_sentence(name: str, text: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        read(text, name)
    assert all(re.search(r"[.?]$", m.what) for m in caught.value.mistakes)


@given(st.sampled_from(sorted(GOLDEN)), st.integers(0, 3000), st.integers(0, 30), st.text(max_size=20))
@settings(deadline=None)
def test_a_file_with_anything_replaced_is_read_or_refused(name: str, at: int, length: int, new: str) -> None:
    text = text_of(name)
    try:
        imported = read(text[:at] + new + text[at + length :], name, LAB_FILES)
        consistent(imported)
        assert parse(dump(imported.topology)) == imported.topology
    except TopologyError as error:
        assert error.mistakes


HUGE = {
    "doubles.gml": "graph [" + "".join(f'node [ id {i} label "x" ]' for i in range(20_000)) + "]",
    "parallels.gml": "graph [ node [ id 1 ] node [ id 2 ]" + "edge [ source 1 target 2 ]" * 20_000 + "]",
    "nowhere.clab.yml": "topology:\n  nodes:\n    a:\n    b:\n  links:\n"
    + "  - endpoints: ['a:e', 'nowhere:e']\n" * 20_000,
    "blank.txt": "\n" * 2_000_000,
    "backticks.rb": "$v = Node.new('a')\n" + "`\n" * 200_000,
    "text.graphml": "<graphml><graph>" + "a\n" * 1_000_000 + "</graph></graphml>",
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_files_take_time_in_proportion(name: str) -> None:
    began = time.process_time()
    try:
        consistent(read(HUGE[name], name))
    except TopologyError as error:
        assert error.mistakes
    assert time.process_time() - began < 60  # not a measurement: a quadratic one would take hours


def test_huge_configurations_take_time_in_proportion() -> None:
    text = "topology:\n  nodes:\n    a: {kind: linux, image: 'bird:2', binds: ['bird.conf:/etc/bird.conf']}\n"
    began = time.process_time()
    read(text, "a.clab.yml", {"bird.conf": "protocol bgp" + " local" * 200_000})
    assert time.process_time() - began < 60  # not a measurement: a quadratic one would take hours


@pytest.mark.parametrize("name", GOLDEN)
def test_a_file_cut_off_anywhere_is_read_or_refused(name: str) -> None:
    text = text_of(name)
    for length in range(0, len(text), 7):
        try:
            consistent(read(text[:length], name, LAB_FILES))
        except TopologyError as error:
            assert error.mistakes


def test_a_topology_file_of_ours_is_none_of_another_tool_whatever_texts_it_holds():
    text = "name: x\nslivers:\n  a:\n    files:\n      /srv/map.gml: |\n        graph [\n        ]\n"
    assert detect(text, "x.yaml") is None
    assert detect('{"slivers": {"a": {"files": {"/srv/x": "\\ngraph [ ]"}}}}', "x.json") is None
    assert detect("graph [\n  node [ id 1 ]\n]\n", "x") == "gml"
