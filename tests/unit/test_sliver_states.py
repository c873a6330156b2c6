"""Slivers that are stopped, frozen, started anew: what is asked of their nodes then."""

from __future__ import annotations

import pytest

from vini import edit
from vini.embed import embed
from vini.model import Container, Halt, Node, NotFound, Process, Topology, ViniError
from vini.plan import plan
from vini.topology import dump, parse

ABLE = Node("n", frozenset({"root", "cgroup2", "containers", "frr"}))
FILE = """
name: s
routing: ospf
slivers:
  a: {runtime: container, commands: ["true"]}
  b: {commands: ["true"]}
links: [a -- b]
"""
NOW = parse(FILE)


def objects(topology: Topology, ns: str):
    return {o for o in embed(topology, [ABLE])["n"].objects if ns in o.slivers}


def test_what_is_stopped_keeps_all_but_what_runs() -> None:
    stopped = edit.set_state(NOW, ["a", "b"], "stopped")
    for ns in ("s.a", "s.b"):
        before, after = objects(NOW, ns), objects(stopped, ns)
        assert after - before == {Halt(ns, "stopped")}
        assert before - after == {o for o in before if isinstance(o, Process | Container)}
    assert edit.set_state(stopped, ["a", "b"], "running") == NOW


def test_what_is_frozen_keeps_all() -> None:
    frozen = edit.set_state(NOW, ["a"], "frozen")
    assert objects(frozen, "s.a") - objects(NOW, "s.a") == {Halt("s.a", "frozen")}
    assert objects(NOW, "s.a") <= objects(frozen, "s.a")


@pytest.mark.parametrize("ns", ["s.a", "s.b"])
def test_a_restart_makes_all_that_runs_anew_and_nothing_else(ns: str) -> None:
    before, after = objects(NOW, ns), objects(edit.restart(NOW, [ns[2:]]), ns)
    made = {op.object.key for op in plan(after, before) if op.verb == "ensure"}
    assert made == {o.key for o in before if isinstance(o, Process | Container)}


def test_a_file_that_does_not_say_how_often_it_was_started_changes_nothing_of_that() -> None:
    lived = edit.reset(edit.restart(NOW, ["a", "b"]), ["a"])
    assert (lived.slivers["a"].restarts, lived.slivers["a"].resets, lived.slivers["b"].restarts) == (2, 1, 1)
    assert edit.lived_on(lived, NOW) == lived
    assert edit.lived_on(NOW, lived) is lived
    assert edit.lived_on(lived, Topology("s")) == Topology("s")


def test_what_has_no_disk_is_not_reset_and_who_is_not_there_is_named() -> None:
    with pytest.raises(ViniError, match="'b' is light.*`vini sliver restart b`"):
        edit.reset(NOW, ["b"])
    with pytest.raises(NotFound):
        edit.set_state(NOW, ["nobody"], "stopped")


def test_what_is_written_is_read_as_the_same() -> None:
    lived = edit.set_state(edit.reset(NOW, ["a"]), ["b"], "frozen")
    assert parse(dump(lived)) == lived
