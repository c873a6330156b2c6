"""Who is expected to reach whom."""

from __future__ import annotations

import pytest

from vini import expected, formats, topology
from vini.expected import expectations
from vini.model import End, Expect, Link, Routing, Sliver, Topology
from vini.reach import unreached

OSPF = Routing(("ospf",))


def chain(dark: str, *expect: Expect) -> Topology:
    """a - b - c - d - e, routers but those of which nothing is expected; nobody has a route."""
    slivers = {n: Sliver(n, expected=False) if n in dark else Sliver(n, OSPF) for n in "abcde"}
    links = tuple(Link((End(x), End(y))) for x, y in ("ab", "bc", "cd", "de"))
    return Topology("t", slivers, links, expect)


def missed(asked: Topology) -> str:
    return " ".join(sorted(s + d for s, d in unreached(asked, {})))


def test_when_nothing_was_said_all_reach_all_where_anything_routes():
    assert expectations(chain("")) == (Expect(),)
    assert expectations(Topology("t", {"a": Sliver("a")})) == ()
    assert expectations(chain("", Expect("a", "e"))) == (Expect("a", "e"),)


@pytest.mark.parametrize("expect", [(), (Expect(),)])
def test_nothing_is_expected_of_a_stand_in_nor_through_it(expect):
    assert missed(chain("e", *expect)) == "ab ac ad ba bc bd ca cb cd da db dc"
    assert missed(chain("c", *expect)) == "ab ba de ed"


def test_what_is_named_is_expected_in_any_case():
    assert missed(chain("c", Expect("a", "e"))) == "ae"
    assert missed(chain("c", Expect("c", "a"))) == "ca"
    assert missed(chain("c", Expect("*", "c"))) == "ac bc dc ec"
    assert missed(chain("c", Expect("*", "a"))) == "ba"


def test_a_switch_joins_but_is_nobody():
    lan = Topology("t", {"s": Sliver("s", mode="switch"), "a": Sliver("a"), "b": Sliver("b"), "x": Sliver("x")}, tuple(
        Link((End(n), End("s"))) for n in "abx"))  # fmt: skip
    assert set(expected.pairs(lan)) == {(x, y) for x in "abx" for y in "abx" if x != y}


def test_a_file_says_it_and_an_import_too():
    text = "name: t\nslivers: {a: , b: {expected: false}}\n"
    asked = topology.parse(text, "t.yaml")
    assert [s.expected for s in asked.slivers.values()] == [True, False]
    assert topology.parse(topology.dump(asked), "t.yaml") == asked
    lab = formats.read(
        "name: lab\ntopology:\n  nodes:\n    r1: {kind: linux}\n    r2: {kind: linux}\n    x: {kind: nokia_srlinux}\n"
        "  links:\n    - endpoints: ['r1:e1', 'x:e1']\n    - endpoints: ['x:e2', 'r2:e1']\n",
        "lab.clab.yml",
    )
    assert list(expected.pairs(lab.topology)) == []
    assert any(note.startswith("x: the system nokia_srlinux not carried over") for note in lab.notes)
