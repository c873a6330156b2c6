"""topology: text -> Topology -> text; every mistake at its place."""

from __future__ import annotations

import re
from pathlib import Path
from time import process_time

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vini import names, nearby
from vini.layout import link_name
from vini.model import (
    SPEAKS,
    BurstLoss,
    Command,
    End,
    Expect,
    Impairment,
    Link,
    Mistake,
    Place,
    Routing,
    Sliver,
    StaticRoute,
    Topology,
    TopologyError,
)
from vini.text import trace, units
from vini.text.mistakes import SHOWN, Wrong
from vini.text.schema import Either, Headed, ListOf, MapOf, Section
from vini.text.yamlplaces import MOST_NODES
from vini.topology import dump, parse, schema
from vini.topology.impairments import told
from vini.topology.keys import SECTIONS, TOPOLOGY

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.yaml") if not re.search(r"^timeline:", p.read_text(), re.M))


def mistakes(text: str, source: str = "lab.yaml") -> tuple[Mistake, ...]:
    with pytest.raises(TopologyError) as caught:
        parse(text, source)
    return caught.value.mistakes


def sliver(text: str, name: str = "a") -> Sliver:
    return parse(text, "lab.yaml").slivers[name]


def link(text: str, i: int = 0) -> Link:
    return parse(text, "lab.yaml").links[i]


AB = "slivers: [a, b]\nlinks:\n"
ABC = "slivers: [a, b, c]\nlinks:\n"

# --- good files -------------------------------------------------------------------------------


def test_the_smallest_file() -> None:
    assert parse("slivers: [a]", "my lab.yaml") == Topology("my-lab", {"a": Sliver("a")})


def test_the_name_comes_from_the_file_then_the_argument_then_the_source() -> None:
    assert parse("name: x\nslivers: [a]", "y.yaml", "z").name == "x"
    assert parse("slivers: [a]", "y.yaml", "z").name == "z"
    assert parse("slivers: [a]", "dir/y.yaml").name == "y"
    assert mistakes("slivers: [a]", "")[0].what == "The topology has no name."


def test_json_is_read() -> None:
    text = '{"name": "x", "slivers": {"a": {}, "b": null}, "links": [{"ends": ["a", "b"], "cost": 5}]}'
    expected = Topology("x", {"a": Sliver("a"), "b": Sliver("b")}, (Link((End("a"), End("b")), cost=5),))
    assert parse(text) == expected


@pytest.mark.parametrize(
    "line",
    [
        "- a -- b: {cost: 7}",
        "- a  --  b: {cost: 7}",
        "- {ends: [a, b], cost: 7}",
        "- ends: [{sliver: a}, b]\n    cost: 7",
    ],
)
def test_the_forms_of_a_link_say_the_same(line: str) -> None:
    assert link(f"{AB}  {line}") == Link((End("a"), End("b")), cost=7)


def test_vifs_in_short_and_full_form() -> None:
    assert link(AB + "  - a:x -- b:y").ends == (End("a", "x"), End("b", "y"))
    assert link(AB + "  - ends: ['a:x', {sliver: b, vif: y}]").ends == (End("a", "x"), End("b", "y"))


def test_an_end_starts_from_the_links_impairment() -> None:
    read = link(AB + "  - ends: [{sliver: a, loss: 1%, cost: 3}, b]\n    delay: 5ms\n    rate: 10mbit")
    assert read.impairment == Impairment(delay_ms=5, rate_mbit=10)
    assert read.ends[0] == End("a", cost=3, impairment=Impairment(delay_ms=5, rate_mbit=10, loss=0.01))
    assert read.ends[1].impairment is None


def test_an_end_can_lift_the_links_rate() -> None:
    read = link(AB + "  - ends: [{sliver: a, rate: unlimited}, b]\n    rate: 10mbit")
    assert read.ends[0].impairment == Impairment()


def test_link_name() -> None:
    assert link_name(Link((End("a"), End("b")))) == "a--b"
    assert link_name(Link((End("a"), End("b")), name="x")) == "x"


def test_defaults_groups_and_own_words_merge_in_this_order() -> None:
    text = """
name: x
routing: {protocols: [ospf], hello: 2s, dead: 8s}
defaults:
  sliver: {node: one, files: {/etc/motd: default, /etc/issue: default}}
  link: {cost: 5, delay: 1ms}
groups:
  edge: {routing: none, node: two}
  slow: {delay: 9ms}
  heard: {routing: {hello: 1s}, files: {/etc/motd: group}}
slivers:
  a:
  b: {groups: edge}
  c: {groups: [heard, edge], node: three}
  d: {groups: heard, routing: {daemon: bird}}
links:
  - a -- b
  - a -- c: {groups: slow, cost: 7}
"""
    topology = parse(text)
    a, b, c, d = topology.slivers.values()
    assert a.routing == Routing(("ospf",), hello_s=2, dead_s=8) and a.node == "one"
    assert b.routing is None and b.node == "two"
    assert d.routing == Routing(("ospf",), daemon="bird", hello_s=1, dead_s=8)
    assert c.routing is None and c.node == "three" and c.files == {"/etc/motd": "group", "/etc/issue": "default"}
    assert [(k.cost, k.impairment.delay_ms) for k in topology.links] == [(5, 1.0), (7, 9.0)]


def test_routing_of_one_sliver_keeps_the_slices_other_words() -> None:
    text = "routing: {protocols: [ospf, bgp], bfd: true}\nslivers:\n  a: {routing: {asn: 65001, announce: 10.9.0.0/16}}"
    expected = Routing(("ospf", "bgp"), bfd=True, asn=65001, announce=("10.9.0.0/16",))
    assert sliver(text).routing == expected


def test_without_routing_a_sliver_is_a_host() -> None:
    topology = parse("routing: ospf\nslivers: {a: {routing: none}, b: }", "x")
    assert topology.slivers["a"].routing is None
    assert topology.slivers["b"].routing == Routing(("ospf",))


def test_yaml_scalars_stay_text() -> None:
    text = "slivers:\n  no: {label: 1:30}\n  0x10: {files: {/etc/x: yes}}\n  1e3: {commands: [on]}"
    slivers = parse(text, "x").slivers
    assert list(slivers) == ["no", "0x10", "1e3"]
    assert slivers["no"].label == "1:30"
    assert slivers["0x10"].files == {"/etc/x": "yes"}
    assert slivers["1e3"].commands == (Command("on"),)


def test_all_of_a_sliver() -> None:
    text = """
slivers:
  a:
    label: "São Paulo"
    place: [-23.5, -46.6]
    node: n1.example.org
    site: princeton
    apart: cores
    addresses: [10.200.0.1, "FD00:0::1"]
    forward: true
    files: {/etc/motd: hello}
    commands: [ip a, {run: sleep 9, service: true}]
    routing: {raw: {frr.conf: "hostname x"}}
"""
    assert sliver(text) == Sliver(
        "a",
        Routing(raw={"frr.conf": "hostname x"}),
        addresses=("10.200.0.1/32", "fd00::1/128"),
        files={"/etc/motd": "hello"},
        commands=(Command("ip a"), Command("sleep 9", service=True)),
        forward=True,
        node="n1.example.org",
        site="princeton",
        apart="cores",
        place=Place(-23.5, -46.6),
        label="São Paulo",
    )


def test_default_by_way_of_a_neighbour_is_a_route_for_each_version_it_has() -> None:
    assert sliver("slivers: {a: {routes: [{to: default, via: b}]}, b: }\nlinks: [a -- b]").routes == (
        StaticRoute("0.0.0.0/0", "b"),
        StaticRoute("::/0", "b"),
    )
    v4 = (
        "slivers: {a: {routes: [{to: default, via: b}]}, b: }\n"
        "links: [{ends: [{sliver: a, addresses: 10.0.0.0/31}, {sliver: b, addresses: 10.0.0.1/31}]}]"
    )
    assert sliver(v4).routes == (StaticRoute("0.0.0.0/0", "b"),)
    assert sliver("slivers: {a: {routes: [{to: default, via: 'fd00::1'}]}}").routes == (StaticRoute("::/0", "fd00::1"),)


def test_merge_keys_and_aliases() -> None:
    text = "slivers: [a, b, c]\nlinks:\n  - a -- b: &slow {cost: 5, delay: 9ms}\n  - b -- c: {<<: *slow, cost: 6}"
    assert [(k.cost, k.impairment.delay_ms) for k in parse(text, "x").links] == [(5, 9.0), (6, 9.0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("expect: all", (Expect(),)),
        ("expect: [{from: a}]", (Expect("a"),)),
        ("expect: [{to: a, within: 5s}, {from: '*'}]", (Expect("*", "a", 5.0), Expect())),
        ("expect:", None),
    ],
)
def test_expect(text: str, expected: tuple[Expect, ...] | None) -> None:
    if expected is None:
        assert mistakes("slivers: [a]\n" + text)[0].what == "'expect' has no value."
    else:
        assert parse("slivers: [a]\n" + text, "x").expect == expected


# --- bad files --------------------------------------------------------------------------------

BAD = [
    # what does it all mean
    ("", 0, 0, "empty"),
    ("# only a comment", 0, 0, "empty"),
    ("[a, b]", 1, 1, "is a mapping"),
    ("name: x", 1, 1, "'slivers' is missing"),
    ("slivers: []", 1, 1, "There are no slivers"),
    ("slivers:", 1, 1, "There are no slivers"),
    ("<?xml version='1.0'?>\n<graphml xmlns='x'>", 1, 1, "vini import lab.yaml"),
    ("<network xmlns='http://sndlib.zib.de/network'>", 1, 1, "SNDlib"),
    ("?SNDlib native format; type: network; version: 1.0", 1, 1, "SNDlib"),
    ("graph [\n  node [ id 1 ]\n]", 1, 1, "GML"),
    ("$v = Slice.new(1, 2, 'x', true, 'XORP')", 1, 1, "PL-VINI"),
    ("name: x\ntopology:\n  nodes:\n    a: {kind: linux}\n", 1, 1, "containerlab"),
    ("slivers: [a]\ntimeline: []\n", 2, 1, "vini run lab.yaml"),
    ("slivers: [a]\nprobes: []\n", 2, 1, "vini run lab.yaml"),
    # YAML
    ("slivers:\n\t- a", 2, 1, "tab"),
    ("slivers: [a\nlinks: []", 2, 6, "','"),
    ("slivers: [a]]", 1, 13, "']'"),
    ("name: 'x\nslivers: [a]", 2, 13, "quoted text"),
    ("name: @x", 1, 7, "'@'"),
    ("expect:\n  - from: *\n", 2, 12, '"*"'),
    ("slivers: [a]\nname: x: y", 2, 8, "': '"),
    ("slivers: [a]\n---\nslivers: [b]", 2, 1, "second document"),
    ("slivers: &x [*x]", 1, 14, "inside of what it names"),
    ("slivers: [*x]", 1, 11, "names no anchor"),
    ("slivers: [!!python/name:os.system x]", 1, 11, "tag"),
    ("slivers: [a]\nslivers: [b]", 2, 1, "already there on line 1"),
    ("slivers: {a: , b: , a: }", 1, 21, "already there on line 1"),
    ("slivers: {[a]: x}", 1, 11, "key must be a text"),
    ("slivers: [a]\nlinks: [{<<: 5, ends: [a, a]}]", 2, 14, "merges mappings"),
    ("slivers: [a]\nname: \0", 2, 7, "may not stand in YAML"),
    ("slivers: [\ud800]", 1, 11, "not Unicode"),
    # unknown words
    ("slivres: [a]", 1, 1, "did you mean 'slivers'?"),
    ("slivers: {a: {place: [1, 2], rooting: ospf}}", 1, 30, "did you mean 'routing'?"),
    (AB + "  - a -- b: {dealy: 5ms}", 3, 14, "did you mean 'delay'?"),
    (AB + "  - end: [a, b]", 3, 5, "did you mean 'ends'?"),
    (AB + "  - ends: [a, {slivr: b}]", 3, 16, "did you mean 'sliver'?"),
    ("slivers: {a: {routing: {proto: ospf}}}", 1, 25, "did you mean 'protocols'?"),
    ("slivers: {a: {routing: osfp}}", 1, 24, "did you mean 'ospf'?"),
    ("slivers: {a: {routing: {protocols: ospf, daemon: quagga}}}", 1, 50, "one of: bird, frr"),
    ("slivers: [a]\ndefaults: {slivers: {}}", 2, 12, "did you mean 'sliver'?"),
    ("slivers: [a]\ngroups: {g: {nod: x}}", 2, 14, "did you mean 'node'?"),
    ("slivers: {a: {groups: edg}}\ngroups: {edge: {}}", 1, 23, "did you mean 'edge'?"),
    ("slivers: {a: {commands: [{rum: x}]}}", 1, 27, "did you mean 'run'?"),
    ("slivers: [a]\nexpect: [{form: a}]", 2, 11, "did you mean 'from'?"),
    # names
    ("slivers: [Denver]", 1, 11, "for example 'denver'"),
    ("slivers: {São Paulo: }", 1, 11, "for example 'sao-paulo'"),
    (f"slivers: [{'x' * 200}]", 1, 11, f"for example '{'x' * 40}'"),
    ("slivers: [Москва]", 1, 11, "at most 40 characters"),
    ("name: My Lab\nslivers: [a]", 1, 7, "for example 'my-lab'"),
    ("slivers: [a, b, a]", 1, 17, "already there on line 1"),
    (AB + "  - a -- c:eth0/1", 3, 5, "vif's name"),
    (AB + "  - 'a: -- b'", 3, 5, "no vif after"),
    (AB + "  - ends: [a, {sliver: b, vif: lo}]", 3, 32, "kernel's own"),
    (AB + "  - ends: [a, {sliver: 'b:x', vif: y}]", 3, 36, "two vif names"),
    # links
    (AB + "  - a -- c", 3, 5, "no sliver 'c'"),
    ("slivers: [denver, seattle]\nlinks: [denver -- seatle]", 2, 9, "did you mean 'seattle'?"),
    (AB + "  - a -- a", 3, 5, "to itself"),
    (AB + "  - a -> b", 3, 5, "did you mean 'a -- b'?"),
    (AB + "  - a--b", 3, 5, "did you mean 'a -- b'?"),
    (AB + "  - a - b: {cost: 5}", 3, 5, "did you mean 'a -- b'?"),
    (AB + "  - 5", 3, 5, "not a link"),
    (AB + "  - [a, b]", 3, 5, "takes a mapping"),
    (AB + "  - ends: [a]", 3, 5, "two ends, this one has 1"),
    (AB + "  - ends: [a, b, a]", 3, 5, "two ends, this one has 3"),
    (AB + "  - {cost: 5}", 3, 5, "'ends' is missing"),
    (AB + "  - a -- b\n  - b -- a", 4, 5, "needs a name"),
    (AB + "  - a -- b: {name: x}\n  - a:1 -- b:1: {name: x}", 4, 5, "already that of the link on line 3"),
    (AB + "  - a -- b\n  - a -- b:eth1: {name: x}", 4, 5, "'to-b'"),
    (ABC + "  - a:x -- b\n  - a:x -- c", 4, 5, "'x' of 'a' is already there (line 3)"),
    (ABC + "  - a:to-c -- b\n  - a -- c", 4, 5, "'to-c' of 'a' is already there (line 3)"),
    ("slivers: [a, b, a--b, c, b--c]\nlinks:\n  - a -- b--c\n  - a--b -- c", 4, 5, "already that of the link"),
    (AB + "  - a -- b: {groups: g}\ngroups: {g: {node: x}}", 3, 22, "sets 'node'"),
    # values
    (AB + "  - a -- b: {delay: 10}", 3, 21, "write 10ms or 10s"),
    (AB + "  - a -- b: {delay: -5ms}", 3, 21, "is negative"),
    (AB + "  - a -- b: {delay: 101s}", 3, 21, "in 0ms..100s"),
    (AB + "  - a -- b: {delay: 1e999s}", 3, 21, "out of range"),
    (AB + "  - a -- b: {delay: .nan}", 3, 21, "not a duration"),
    (AB + "  - a -- b: {delay: ms}", 3, 21, "not a duration"),
    (AB + "  - a -- b: {delay: [5ms]}", 3, 21, "takes one value, not a list"),
    (AB + "  - a -- b: {delay: }", 3, 14, "'delay' has no value"),
    (AB + "  - a -- b: {jitter: 5}", 3, 22, "has no unit"),
    (AB + "  - a -- b: {loss: 101%}", 3, 20, "0%..100%"),
    (AB + "  - a -- b: {loss: 1}", 3, 20, "write 1%"),
    (AB + "  - a -- b: {loss: half}", 3, 20, "not a loss"),
    (AB + "  - a -- b: {rate: 10}", 3, 20, "write 10mbit or 10gbit"),
    (AB + "  - a -- b: {rate: 10mb}", 3, 20, "not a rate"),
    (AB + "  - a -- b: {rate: 0.5kbit}", 3, 20, "1kbit..100gbit"),
    (AB + "  - a -- b: {rate: 101gbit}", 3, 20, "1kbit..100gbit"),
    (AB + "  - a -- b: {queue: 0}", 3, 21, "1..1000000"),
    (AB + "  - a -- b: {cost: 65536}", 3, 20, "1..65535"),
    (AB + "  - a -- b: {cost: 1e3}", 3, 20, "whole number"),
    (AB + f"  - a -- b: {{cost: {'9' * 5000}}}", 3, 20, "whole number"),
    (AB + "  - a -- b: {mtu: 67}", 3, 19, "68..65535"),
    (AB + "  - a -- b: {mtu: 1000}", 3, 5, "too small for IPv6"),
    (AB + "  - a -- b: {fault: broken}", 3, 21, "one of: carrier, none, silent"),
    (AB + "  - a -- b: {protocols: [osfp]}", 3, 26, "did you mean 'ospf'?"),
    (AB + "  - a -- b: {area: x}", 3, 20, "OSPF area"),
    ("slivers: {a: {forward: yes}}", 1, 24, "did you mean 'true'?"),
    ("slivers: {a: {place: [1]}}", 1, 22, "two numbers"),
    ("slivers: {a: {place: [91, 5]}}", 1, 22, "latitude"),
    ("slivers: {a: {place: [north, 5]}}", 1, 23, "not a number"),
    ("slivers: {a: {place: x}}", 1, 22, "takes a list"),
    ("slivers: {a: {node: ../x}}", 1, 21, "node's name"),
    ('slivers: {a: {label: "a\\nb"}}', 1, 22, "label"),
    ("slivers: {a: {files: {etc/motd: x}}}", 1, 23, "did you mean '/etc/motd'?"),
    ("slivers: {a: {files: {/etc/../x: x}}}", 1, 23, "'..'"),
    ("slivers: {a: {files: {/x: x}}}", 1, 23, "in '/' itself"),
    ("slivers: {a: {files: {/proc/x: x}}}", 1, 23, "kernel's"),
    ('slivers: {a: {files: {/etc/x: "\\0"}}}', 1, 31, "NUL"),
    ("slivers: {a: {commands: ['']}}", 1, 26, "must have a text"),
    ("slivers: {a: {routing: {raw: {../x: y}}}}", 1, 31, "configuration file"),
    ("slivers: a, b", 1, 10, "'slivers' takes a list, not the text 'a, b'. (write '[a, b]'"),
    ("slivers: {a: 5}", 1, 14, "takes a mapping, not the text '5'"),
    # routing
    ("slivers: {a: {routing: {protocols: bgp}}}", 1, 11, "no asn"),
    ("slivers: {a: {routing: {protocols: bgp, asn: 0}}}", 1, 46, "1..4294967295"),
    ("slivers: {a: {routing: {protocols: isis, daemon: bird}}}", 1, 36, "bird does not speak isis"),
    ("slivers: {a: {routing: [ospf, ospf]}}", 1, 24, "named twice"),
    ("slivers: {a: {routing: []}}", 1, 24, "names no protocols"),
    ("slivers: {a: {routing: {hello: 1s}}}", 1, 24, "names no protocols"),
    ("slivers: {a: {routing: {protocols: ospf, hello: 4s}}}", 1, 49, "longer than hello"),
    ("slivers: {a: {routing: {protocols: ospf, hello: 2s, dead: 1s}}}", 1, 59, "longer than hello"),
    ("slivers: {a: {routing: {protocols: ospf, hello: 1ms}}}", 1, 49, "50ms..65535s"),
    ("slivers: {a: {routing: {protocols: ospf, bfd: 1}}}", 1, 47, "neither true nor false"),
    ("slivers: {a: {routing: {protocols: ospf, announce: 10.0.0.1/8}}}", 1, 52, "did you mean 10.0.0.0/8?"),
    ("slivers: {a: {routing: }}", 1, 24, "write 'none'"),
    # static routes
    ("slivers: {a: {routes: [{to: default, via: b}]}, b: }", 1, 43, "no link to 'b'"),
    ("slivers: {a: {routes: [{to: default}]}}", 1, 24, "'via' is missing"),
    ("slivers: {a: {routes: [{to: nowhere, via: 10.0.0.1}]}}", 1, 29, "not a prefix"),
    ("slivers: {a: {routes: [{to: 10.0.0.0/8, via: 'fd00::1'}]}}", 1, 46, "no IPv4 address"),
    (
        "slivers: {a: {routes: [{to: default, via: 10.0.0.1}, {to: 0.0.0.0/0, via: 10.0.0.2}]}}",
        1,
        59,
        "already a route to 0.0.0.0/0",
    ),
    # addresses
    ("slivers: {a: {addresses: 10.0.0.1/24}}", 1, 26, "write 10.0.0.1"),
    ("slivers: {a: {addresses: 300.0.0.1}}", 1, 26, "too large"),
    ("slivers: {a: {addresses: 224.0.0.1}}", 1, 26, "unicast"),
    ("slivers: {a: {addresses: 127.0.0.1}}", 1, 26, "unicast"),
    ("slivers: {a: {addresses: 'fe80::1'}}", 1, 26, "link-local"),
    ("slivers: {a: {addresses: 172.16.0.1}, b: {addresses: 172.16.0.1}}", 1, 54, "overlaps"),
    ("slivers: {a: {addresses: [172.16.0.1, 172.16.0.1]}}", 1, 39, "overlaps"),
    ("slivers: [a]\nexpect: [{from: a, to: bb}]", 2, 24, "one of: a"),
    ("slivers: [a]\nexpect: [{within: 0s}]", 2, 19, "100ms..86400s"),
    ("slivers: [a]\nexpect: some", 2, 9, "one of: all"),
]


def ends(a: str, b: str, more: str = "") -> str:
    link = f"  - ends: [{{sliver: a, addresses: {a}}}, {{sliver: b, addresses: {b}}}]\n"
    return "slivers: [a, b, c]\nlinks:\n" + link + more


BAD += [
    (ends("172.16.0.1", "172.16.0.2/30"), 3, 35, "not an address with prefix length"),
    (ends("172.16.0.0/30", "172.16.0.1/30"), 3, 35, "network's own address"),
    (ends("172.16.0.3/30", "172.16.0.1/30"), 3, 35, "broadcast address"),
    (ends("172.16.0.1/31", "172.16.0.2/31"), 3, 74, "not in the same subnet"),
    (ends("172.16.0.1/30", "172.16.0.2/29"), 3, 74, "not in the same subnet"),
    (ends("172.16.0.1/30", "172.16.0.1/30"), 3, 74, "already used"),
    (ends("172.16.0.1/31", "[]"), 3, 35, "for example 172.16.0.0/31"),
    (ends("172.16.0.1/31", "'fd00::1/64'"), 3, 35, "no IPv4"),
    (
        ends("172.16.0.0/31", "172.16.0.1/31", "  - ends: [{sliver: a, addresses: 172.16.0.2/16}, "
             "{sliver: c, addresses: 172.16.0.3/16}]"),
        4,
        35,
        "overlaps with 172.16.0.0/31 of the link 'a--b' (line 3)",
    ),
    (
        ends("172.16.0.1/30", "172.16.0.2/30").replace("[a, b, c]", "{a: , b: , c: {addresses: 172.16.0.1}}"),
        3,
        35,
        "overlaps with 172.16.0.1/32 of the sliver 'c'",
    ),
    (
        ends("10.0.0.1/9", "10.0.0.2/9", "  - a -- c"),
        3,
        35,
        "which VINI chooses for the link 'a--c'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "part"), BAD)
def test_a_mistake_is_told_at_its_place(text: str, line: int, column: int, part: str) -> None:
    found = mistakes(text)
    matching = [m for m in found if part in str(m)]
    assert matching, found
    assert (line, column) in {(m.line, m.column) for m in matching}
    for m in found:
        assert m.what.endswith(".") and m.what[0] in "'" + m.what[0].upper(), "a complete sentence"


def test_all_mistakes_are_told_at_once_in_the_files_order() -> None:
    text = "slivers: {a: {node: '?'}, B: }\nlinks:\n  - a -- B: {delay: 5}\n  - a -- z\nexpect: [{from: y}]\nname: X"
    assert [(m.line, m.column) for m in mistakes(text)] == [(1, 21), (1, 27), (3, 21), (4, 5), (5, 17), (6, 7)]


def test_the_error_names_the_file_on_each_line() -> None:
    with pytest.raises(TopologyError) as caught:
        parse("x: 1\nslivers: [A]", "lab.yaml")
    assert all(line.startswith("lab.yaml: line ") for line in str(caught.value).splitlines())
    assert len(caught.value.mistakes) == 2 and caught.value.exit_code == 2


def test_what_refers_to_a_wrong_sliver_is_not_wrong_too() -> None:
    assert len(mistakes("slivers: [A, b]\nlinks: [A -- b]")) == 1
    assert len(mistakes("slivers: {a: 5, b: }\nlinks: [a -- b]")) == 1


def test_a_wrong_protocol_is_one_mistake() -> None:
    assert len(mistakes("slivers: {a: {routing: {protocols: osfp, daemon: bird}}}")) == 1


@pytest.mark.parametrize("timers", ["hello: 5, dead: 1s", "hello: 5s, dead: 5"])
def test_a_wrong_timer_is_not_compared_with_the_other(timers: str) -> None:
    assert len(mistakes(f"slivers: {{a: {{routing: {{protocols: ospf, {timers}}}}}}}")) == 1


def test_an_inherited_mistake_is_told_once() -> None:
    text = "routing: {protocols: isis, daemon: bird}\nslivers: [a, b, c]"
    assert [(m.line, m.column) for m in mistakes(text)] == [(1, 22)]


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x" * 10_000_001, "at most 10,000,000"),
        ("[" * 1_000_000, "50 levels"),
        ("- " * 1_000_000, "50 levels"),
        ("{a: " * 100_000, "50 levels"),
        ("a: [" + "x," * MOST_NODES + "]", "200,000 values"),
        (
            "a: &a0 [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)),
            "200,000 values",
        ),
        ("a0: &a0 {x: y}\n" + "".join(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40)),
         "200,000 values"),
    ],
    ids=["long", "deep flow", "deep block", "deep mapping", "many", "laughs", "merged laughs"],
)  # fmt: skip
def test_limits(text: str, part: str) -> None:
    found = mistakes(text)
    assert len(found) == 1 and part in str(found[0])


def test_of_a_hopeless_file_the_first_mistakes_are_shown() -> None:
    found = mistakes("slivers: [a]\nlinks:\n" + "".join(f"  - a -- x{i}\n" for i in range(3000)))
    assert len(found) == SHOWN + 1 and "2900 more mistakes" in found[-1].what


# --- properties -------------------------------------------------------------------------------

FLOATS = {"allow_nan": False, "allow_infinity": False}
printable = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Cn", "Co"]), max_size=30)
labels = printable.filter(str.isprintable)
contents = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)
sliver_names = st.from_regex(names.SLIVER_NAME, fullmatch=True)
slice_names = st.from_regex(names.SLICE_NAME, fullmatch=True)
vif_names = st.from_regex(names.VIF_NAME, fullmatch=True).filter(lambda v: v not in ("lo", "all", "default"))
prefixes = st.ip_addresses(v=4).map(lambda a: f"{a}/32") | st.ip_addresses(v=6).map(lambda a: f"{a}/128")
impairments = st.builds(
    Impairment,
    delay_ms=st.floats(0, 100_000, **FLOATS),
    jitter_ms=st.floats(0, 100_000, **FLOATS),
    loss=st.floats(0, 1, exclude_max=True, **FLOATS) | st.just(1.0),
    rate_mbit=st.just(0.0) | st.floats(0.001, 100_000, **FLOATS),
    queue_packets=st.integers(1, 1_000_000),
)
areas = st.ip_addresses(v=4).map(str)


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    hello = draw(st.floats(0.05, 60_000, **FLOATS))
    raw = draw(st.dictionaries(st.from_regex(r"[a-z]{1,9}\.conf", fullmatch=True), contents, max_size=2))
    daemon = draw(st.sampled_from(["frr", "bird"]))
    spoken = st.sampled_from(sorted(SPEAKS[daemon]))
    return Routing(
        protocols=tuple(draw(st.lists(spoken, unique=True, min_size=0 if raw else 1))),
        daemon=daemon,
        hello_s=hello,
        dead_s=draw(st.floats(hello, 65_535, exclude_min=True, **FLOATS)),
        area=draw(areas),
        asn=draw(st.integers(1, 2**32 - 1)),
        bfd=draw(st.booleans()),
        announce=tuple(draw(st.lists(prefixes, max_size=2))),
        raw=raw,
    )


@st.composite
def slivers(draw: st.DrawFn, name: str, i: int) -> Sliver:
    gateways = draw(st.lists(st.sampled_from(["0.0.0.0/0", "10.1.0.0/16", "::/0"]), unique=True, max_size=3))
    paths = st.from_regex(r"/(etc|root|opt/x)/[A-Za-z0-9 .:#&*-]{1,12}", fullmatch=True)
    return Sliver(
        name,
        routing=draw(st.none() | routings()),
        addresses=draw(st.sampled_from([(), (f"172.20.0.{i}/32",), (f"172.20.0.{i}/32", f"fd00:ff::{i:x}/128")])),
        routes=tuple(StaticRoute(to, "fd00::9" if ":" in to else "192.0.2.1") for to in gateways),
        files=draw(st.dictionaries(paths.filter(lambda p: p.split("/")[-1] not in (".", "..")), contents, max_size=2)),
        commands=tuple(
            Command(run, service)
            for run, service in draw(st.lists(st.tuples(contents.filter(str.strip), st.booleans()), max_size=2))
        ),
        forward=draw(st.none() | st.booleans()),
        node=draw(st.sampled_from(["", "n1", "no", "1.5"])),
        site=draw(st.sampled_from(["", "princeton", "no", "1"])),
        apart=draw(st.sampled_from(["", "cores", "no"])),
        place=draw(st.none() | st.builds(Place, st.floats(-90, 90, **FLOATS), st.floats(-180, 180, **FLOATS))),
        label=draw(labels),
    )


@st.composite
def links(draw: st.DrawFn, a: str, b: str, i: int) -> Link:
    given_addresses = draw(st.booleans())
    ends = tuple(
        End(
            sliver,
            draw(st.sampled_from(["", f"e{i}"])),
            (f"172.21.{i}.{k}/31", f"fd00:{i:x}::{2 + k}/127") if given_addresses else (),
            draw(st.none() | st.integers(1, 65535)),
            draw(st.none() | impairments),
        )
        for k, sliver in enumerate((a, b))
    )
    return Link(
        (ends[0], ends[1]),
        name=draw(st.sampled_from(["", f"n{i}"])),
        cost=draw(st.integers(1, 65535)),
        impairment=draw(impairments),
        mtu=draw(st.integers(1280, 65535)),
        fault=draw(st.sampled_from(["none", "carrier", "silent"])),
        protocols=draw(st.none() | st.lists(st.sampled_from(["ospf", "bgp"]), unique=True).map(tuple)),
        area=draw(st.just("") | areas),
    )


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    chosen = draw(st.lists(sliver_names, min_size=1, max_size=5, unique=True))
    made = {name: draw(slivers(name, i)) for i, name in enumerate(chosen, 1)}
    pairs = [(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :]]
    linked = [draw(links(a, b, i)) for i, (a, b) in enumerate(pairs, 1) if draw(st.booleans())]
    if len({link_name(k) for k in linked}) < len(linked):
        linked = []
    everyone = st.sampled_from(["*", *chosen])
    expect = st.builds(Expect, everyone, everyone, st.floats(0.1, 86_400, **FLOATS) | st.just(60.0))
    return Topology(draw(slice_names), made, tuple(linked), tuple(draw(st.lists(expect, max_size=3))))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(topologies())
@example(Topology("x", {"a": Sliver("a", commands=(Command("a\x85"), Command("x\u2028\r\n")))}))
def test_dump_then_parse_gives_the_same_topology(topology: Topology) -> None:
    assert parse(dump(topology)) == topology == parse(dump(topology, quick=True))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
@example("? ")
@example("&a [*a]")
@example("slivers: {<<: {a: }}")
def test_any_text_gives_a_topology_or_a_topology_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "x"), Topology)
    except TopologyError as error:
        assert error.mistakes


FRAGMENTS = st.recursive(
    st.sampled_from(["a", "b", "a -- b", "all", "none", "ospf", "bgp", "10.0.0.1/24", "default", "5ms", "1%", "*", ""])
    | st.integers(-5, 70_000)
    | st.none()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({k for s in SECTIONS for k in s.keys} | {"a", "b", "/etc/x", "a -- b", "<<"})),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(TOPOLOGY.keys)), FRAGMENTS, max_size=7))
def test_any_tree_of_known_words_gives_a_topology_or_a_topology_error(tree: dict[str, object]) -> None:
    try:
        topology = parse(yaml.safe_dump(tree), "x")
    except TopologyError as error:
        assert error.mistakes
    else:
        assert parse(dump(topology)) == topology


@settings(deadline=None)
@given(st.floats(0, 1e5, **FLOATS), st.floats(0.001, 1e5, **FLOATS), st.floats(0, 1, exclude_max=True, **FLOATS))
def test_units_read_back_what_they_wrote(ms: float, mbit: float, loss: float) -> None:
    assert units.read_ms(units.duration(ms)) == ms
    assert units.read_s(units.duration_s(ms / 2)) == ms / 2
    assert units.read_mbit(units.rate(mbit)) == mbit
    assert units.read_loss(units.loss(loss)) == loss


@pytest.mark.parametrize(
    ("ms", "text"), [(9.1, "9.1ms"), (1000, "1s"), (0.25, "250us"), (0, "0ms"), (1500, "1.5s"), (0.5, "500us")]
)
def test_durations_are_written_as_people_write_them(ms: float, text: str) -> None:
    assert units.duration(ms) == text and units.read_ms(text) == ms


def test_dump_uses_the_short_forms() -> None:
    text = """name: x
routing: ospf
slivers: [a, b]
links:
  - a -- b
expect: all
"""
    assert dump(parse(text)) == text


def test_dump_of_what_needs_more() -> None:
    text = """name: x
routing: {protocols: [ospf], dead: 3s}
slivers:
  a: {label: Ålesund, place: [1.5, -2.0]}
  b: {routing: none}
links:
  - a -- b: {cost: 5, delay: 9.1ms, loss: 1%, rate: 1gbit}
  - ends:
      - {sliver: a, vif: x, cost: 7, delay: 1s}
      - b:y
    name: second
"""
    assert dump(parse(text)) == text


def test_reading_takes_time_in_proportion_to_the_routers() -> None:
    assert _reading_s(1000) < 12 * _reading_s(250)  # 4, give or take; a quadratic one takes 16


def _reading_s(routers: int) -> float:
    """Processor time, the best of three."""
    ring = Topology(
        "ring",
        {f"r{i}": Sliver(f"r{i}", Routing(("ospf",))) for i in range(routers)},
        tuple(Link((End(f"r{i}"), End(f"r{(i + 1) % routers}")), cost=i + 1) for i in range(routers)),
    )
    text, took = dump(ring), []
    for _ in range(3):
        start = process_time()
        assert parse(text) == ring
        took.append(process_time() - start)
    return min(took)


def test_units_refuse_with_a_sentence() -> None:
    with pytest.raises(Wrong, match=r"'5 ms' is not a duration\."):
        units.read_ms("5 ms")


# --- what links do to packets -----------------------------------------------------------------


def test_all_that_a_link_may_do() -> None:
    text = (
        AB
        + """
  - ends: [{sliver: a, trace: cell.csv, lose: [120, 100-119, 3, 7], jitter: 0ms}, b]
    delay: 10ms
    jitter: 1ms
    distribution: pareto
    reordering: true
    reorder: 2%
    burst_loss: {enter: 1%, leave: 25%, good: 0.1%}
    duplicate: 1%
    corrupt: 0.5%
    rate: 10mbit
    queue: 64kB
    aqm: codel
"""
    )
    files = {"cell.csv": "time_ms,loss\n0,1%\n5,\n"}
    found = parse(text, "x", read_file=files.__getitem__).links[0]
    both = Impairment(
        delay_ms=10,
        jitter_ms=1,
        distribution="pareto",
        keeps_order=False,
        reorder=0.02,
        burst_loss=BurstLoss(0.01, 0.25, good=0.001),
        duplicate=0.01,
        corrupt=0.005,
        rate_mbit=10,
        queue_packets=0,
        queue_bytes=64_000,
        aqm="codel",
    )
    assert found.impairment == both
    own = replace(both, jitter_ms=0.0, trace=files["cell.csv"], lose=((3, 3), (7, 7), (100, 120)))
    assert found.ends[0].impairment == own and found.ends[1].impairment is None
    assert parse(dump(parse(text, "x", read_file=files.__getitem__))).links[0] == found


def test_what_is_inherited_can_be_taken_back() -> None:
    text = """
slivers: [a, b]
defaults:
  link:
    {burst_loss: {enter: 1%, leave: 9%}, lose: 3, jitter_table: [0ms, 1ms], trace: "1\\n", aqm: codel, reordering: true}
links:
  - a -- b: {burst_loss: none, lose: none, jitter_table: none, trace: none, aqm: none, reordering: false}
"""
    assert link(text).impairment == Impairment()


@pytest.mark.parametrize(
    ("queue", "packets", "size", "wait_ms"),
    [("50", 50, 0, 0), ("64kB", 0, 64_000, 0), ("1500B", 0, 1500, 0), ("2MB", 0, 2_000_000, 0), ("12.5ms", 0, 0, 12.5)],
)
def test_a_queue_is_bounded_in_packets_bytes_or_time(queue: str, packets: int, size: int, wait_ms: float) -> None:
    found = link(AB + f"  - a -- b: {{queue: {queue}}}").impairment
    assert (found.queue_packets, found.queue_bytes, found.queue_ms) == (packets, size, wait_ms)


@pytest.mark.parametrize(
    ("keys", "sentence", "hint"),
    [
        ("rate: 0mbit", "A rate of '0mbit' lets nothing through.", "write 'unlimited'"),
        ("rate: 0", "A rate of '0' lets nothing through.", "write 'unlimited'"),
        ('trace: "time_ms,rate_mbit,delay_ms,loss\\n0,10,-1,\\n"', "The delay -1 is out of range.", "0..100000 ms"),
        ("delay: -1ms", "'-1ms' is negative.", "0ms..100s"),
        ("loss: 200%", "The loss '200%' is out of range.", "0%..100%"),
        ("loss: -1%", "The loss '-1%' is negative.", "0%..100%"),
        ("duplicate: 1", "The share '1' needs a percent sign.", "write 1%"),
        ("queue: 0", "The queue '0' is out of range.", "1..1000000 packets"),
        ("queue: 5 apples", "'5 apples' is not a queue's length.", "64kB"),
        ("queue: 0ms", "'0ms' is out of range.", ""),
        ("lose: [0]", "There is no packet '0'.", "the first packet is 1"),
        ("lose: [9-7]", "The range '9-7' ends before it begins.", "did you mean '7-9'?"),
        ("lose: [x]", "'x' is no number of a packet.", "100-120"),
        ("distribution: gauss", "'gauss' is not a valid word here.", "normal"),
        ("aqm: red", "'red' is not a valid word here.", "codel"),
        ("aqm: codel", "Without a rate nothing waits, so an 'aqm' has nothing to do.", "add 'rate'"),
        ("reorder: 1%", "Without a delay no packet can overtake.", "add 'delay'"),
        ("jitter_table: [1ms]", "One quantile is no distribution.", "two at least"),
        ("jitter_table: [2ms, 1ms]", "1ms comes after 2ms, and quantiles ascend.", "sort them"),
        ("jitter_table: [0ms, 0ms]", "This table adds no delay at all.", "none"),
        ("jitter: 1ms, jitter_table: [0ms, 1ms]", "'jitter_table' and 'jitter' both say how the delay varies.", "none"),
        ("jitter: 2ms, delay: 1ms, distribution: uniform", "A uniform jitter of 2ms is larger than the delay", "1ms"),
        ("burst_loss: {enter: 1%}", "The key 'leave' is missing in a burst loss.", "leave"),
        ("burst_loss: {enter: 0%, leave: 1%}", "With this 'enter', no burst ever begins.", "none"),
        ("burst_loss: {enter: 1%, leave: 0%}", "With this 'leave', the first burst never ends.", "1%"),
        ("burst_loss: {enter: 1%, leave: 1%, bad: 5%, good: 5%}", "A burst must lose more than 5%", "larger"),
        ("trace: nowhere.csv", "The file 'nowhere.csv' can't be read here.", "its text"),
        ('rate: 1mbit, trace: "1\\n"', "The trace and 'rate' both say it.", "write 'rate: unlimited'"),
        ('loss: 1%, trace: "time_ms,loss\\n0,1%\\n"', "The trace and 'loss' both say it.", "write 'loss: 0%'"),
        ('trace: "5\\n4\\n"', "the trace, line 2: The time goes back, from 5 ms to 4 ms.", "sort"),
    ],
)
def test_what_a_link_cannot_do_is_told(keys: str, sentence: str, hint: str) -> None:
    (found,) = mistakes(AB + f"  - a -- b: {{{keys}}}")
    assert found.line == 3 and sentence in found.what and hint in found.hint


def test_all_mistakes_of_a_trace_are_told_with_its_lines() -> None:
    files = {"t.csv": "time_ms,rate_mbit\n0,0\n10,1\n5,1\nx,1\n20\n30,-1\n40,outage\n50,repeat\n60,1\n"}
    with pytest.raises(TopologyError) as caught:
        parse(AB + "  - a -- b: {trace: t.csv}", "x", read_file=files.__getitem__)
    assert [m.what for m in caught.value.mistakes] == [
        "t.csv, line 2: A rate of 0 lets nothing through.",
        "t.csv, line 4: The time does not go on, from 10 ms to 5 ms.",
        "t.csv, line 5: 'x' is not a time in ms.",
        "t.csv, line 6: This row has 1 cell, but the header has 2.",
        "t.csv, line 7: The rate -1 is out of range.",
        "t.csv, line 10: There is a row after 'repeat'.",
    ]
    assert {m.line for m in caught.value.mistakes} == {3}


def test_what_a_link_does_is_told_without_what_does_nothing() -> None:
    assert told(Impairment(delay_ms=20, jitter_ms=3, distribution="pareto")) == (
        "delay 20ms, jitter 3ms, distribution pareto"
    )
    assert told(Impairment(delay_ms=20, distribution="pareto")) == "delay 20ms"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The trace is empty."),
        ("# only this\n\n", "The trace is empty."),
        ("0\n0\n", "All opportunities are at 0 ms"),
        ("1\n2.5\n", "'2.5' is not a time in whole milliseconds."),
        ("-1\n", "'-1' is not a time in whole milliseconds."),
        ("time,rate\n", "'time,rate' is not a trace's header."),
        ("rate_mbit,time_ms\n10,0\n", "The column time_ms isn't the first."),
        ("time_ms;rate_mbit\n0;10\n", "The cells of 'time_ms;rate_mbit' are not separated by commas."),
        ("time_ms,rate_mbit\n0,nan\n", "'nan' is not a number for rate_mbit."),
        ("time_ms,rate_mbit\n0,1e999\n", "The rate 1e999 is out of range."),
        ("time_ms,delay_ms\n0,inf\n", "'inf' is not a number for delay_ms."),
        ("time_ms,delay_ms\n1e11,1\n", "The time 1e11 ms is out of range."),
        ("99999999999\n", "'99999999999' is not a time in whole milliseconds."),
        ("time_ms\n0\n", "The trace speaks about nothing."),
        ("time_ms,loss,loss\n0,1%,1%\n", "The column loss is there twice."),
        ("time_ms,rate_mbti\n0,1\n", "'rate_mbti' is not a column."),
        ("time_ms,loss\n", "The trace has no rows."),
        ("time_ms,loss\n0,\n", "All cells are empty."),
        ("time_ms,loss\n0,200%\n", "The loss '200%' is out of range."),
        ("time_ms,delay_ms\n0,-1\n", "The delay -1 is out of range."),
        ("time_ms,rate_mbit\n0,outage\n", "Nothing ever gets through"),
        ("1\n" * (trace.MOST_BYTES // 2 + 1), "The trace is longer than 4 MiB"),
    ],
)
def test_a_trace_that_makes_no_sense_is_told(text: str, sentence: str) -> None:
    with pytest.raises(TopologyError) as caught:
        trace.parse(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n"])
def test_a_trace_from_another_system_is_the_same(end: str) -> None:
    """With a byte order mark, and other ends of lines."""
    plain = trace.parse("time_ms,rate_mbit\n0,10\n5,repeat")
    assert trace.parse(end.join(["\ufefftime_ms,rate_mbit", "0, 10", "5,repeat", ""])) == plain
    assert trace.parse(f"\ufeff1{end}4{end}") == trace.parse("1\n4\n")


@given(st.text("0123456789.,-%\noutagerpm_sdly#", max_size=60).map(lambda t: "time_ms,rate_mbit,loss\n" + t))
def test_a_trace_is_read_or_refused_and_its_canonical_text_is_itself(text: str) -> None:
    try:
        made = trace.parse(text)
    except TopologyError as e:
        assert all(m.what.endswith(".") for m in e.mistakes)
    else:
        assert trace.parse(trace.canonical(made)) == made
        assert trace.summary(made)


# --- what is published ------------------------------------------------------------------------

jsonschema = pytest.importorskip("jsonschema", reason="checks the published schema; pip install jsonschema")


def json_value(text: str) -> object:
    """As an editor's YAML language server sees it (YAML 1.2: no octal, no `no`)."""
    return yaml.safe_load(text)


def validator() -> object:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$id"] == "topology.schema.json"  # what the reference says to save it as
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_valid_for_parser_and_schema(path: Path) -> None:
    text = path.read_text()
    topology = parse(text, str(path), read_file=nearby.reader(path.parent))
    assert topology.name == path.stem and topology.expect
    assert parse(dump(topology)) == topology == parse(dump(topology, quick=True))
    validator().validate(json_value(text))  # type: ignore[attr-defined]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(topologies())
def test_the_schema_accepts_what_is_dumped(topology: Topology) -> None:
    validator().validate(json_value(dump(topology)))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "slivres: [a]",
        "slivers: {a: {rooting: x}}",
        "slivers: [A]",
        "slivers: {a: {routing: osfp}}",
        AB + "  - a -- b: {dealy: 5ms}",
        AB + "  - a -- b: {delay: 5}",
        AB + "  - a - b",
        AB + "  - a -- b: {cost: 0}",
        AB + "  - {cost: 5}",
        "slivers: {a: {files: {etc/x: y}}}",
        "slivers: [a]\nexpect: some",
    ],
)
def test_parser_and_schema_refuse_the_same(text: str) -> None:
    assert mistakes(text)
    assert not validator().is_valid(json_value(text))  # type: ignore[attr-defined]


def reachable(kind: object) -> list[Section]:
    match kind:
        case Section():
            return [kind, *(s for k in kind.keys.values() for s in reachable(k.kind))]
        case ListOf() | MapOf():
            return reachable(kind.of)
        case Headed():
            return reachable(kind.section)
        case Either():
            return [s for k in kind.kinds for s in reachable(k)]
    return []


def test_every_key_is_documented_in_its_section() -> None:
    text = (ROOT / "docs/reference/topology.md").read_text()
    parts = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    for section in SECTIONS:
        part = parts[section.name.split(" ", 1)[1].capitalize()]
        documented = set(re.findall(r"^\| `([a-z_]+)` \|", part, re.M))
        assert documented == set(section.keys), section.name
    named = {s.name for s in SECTIONS} | {"the sliver defaults", "the link defaults", "a group"}
    assert {s.name for s in reachable(TOPOLOGY)} == named


def test_the_files_in_the_reference_are_valid() -> None:
    text = (ROOT / "docs/reference/topology.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        assert parse(block, "lab.yaml")


def test_key_descriptions_are_sentences() -> None:
    for section in reachable(TOPOLOGY):
        for name, key in section.keys.items():
            assert key.what.endswith("."), (section.name, name)
