"""Environments in topology files, and what they become."""

from __future__ import annotations

import pytest

from vini.embed import embed
from vini.model import File, Node, Process, TopologyError
from vini.topology import dump, parse

NODE = Node("n", frozenset({"root", "cgroup2", "containers", "frr"}))
FILE = """
name: s
defaults: {sliver: {runtime: RUNTIME, environment: {A: below, B: 2}}}
slivers:
  a:
    environment: {A: "x = $y"}
    initscript: |
      echo 1
    commands: [{run: "sleep 9", service: true}]
    routing: ospf
  b: {program: {process: cat}}
links: [a -- b]
"""
WORDS = ("env", "A=x = $y", "B=2")


@pytest.mark.parametrize("runtime", ["light", "container"])
def test_its_commands_have_it_and_daemons_do_not(runtime: str) -> None:
    made = embed(parse(FILE.replace("RUNTIME", runtime)), [NODE])["n"].objects
    said = {p.argv[:3] == WORDS for p in made if isinstance(p, Process) and p.ns == "s.a" and p.ready is None}
    assert said == {True}
    assert not [p for p in made if isinstance(p, Process) and p.ready is not None and "A=x = $y" in p.argv]
    (program,) = [p for p in made if isinstance(p, Process) and p.ns == "s.b"]
    assert program.argv[-6:] == ("env", "A=below", "B=2", "sh", "-c", "cat")


@pytest.mark.parametrize("runtime", ["light", "container"])
def test_what_the_node_reads_of_it_is_out_of_a_containers_reach(runtime: str) -> None:
    made = embed(parse(FILE.replace("RUNTIME", runtime)), [NODE])["n"].objects
    found = {o.ns: (o.path, o.text) for o in made if isinstance(o, File) and o.path.endswith("environment")}
    assert found == {"s.a": ("environment", "A=x = $y\nB=2\n"), "s.b": ("environment", "A=below\nB=2\n")}


def test_a_written_topology_has_it() -> None:
    topology = parse(FILE.replace("RUNTIME", "light"))
    assert parse(dump(topology)) == topology


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("{VINI_SLIVER: x.y}", "VINI's own to set"),
        ("{a-b: x}", "not the name of a variable"),
        ('{"A=B": x}', "not the name of a variable"),
        ('{A: "one\\ntwo"}', "one line"),
    ],
)
def test_what_is_no_variable_is_told(variables: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        parse(f"name: s\nslivers: {{a: {{environment: {variables}}}}}")
