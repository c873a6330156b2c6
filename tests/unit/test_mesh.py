"""Who measures the way to whom, and what is believed of it."""

from __future__ import annotations

import pytest

from vini.rules.mesh import BELIEVED_S, Measured, Member, after, believed, members, one_way, pause, turn


def ring(many: int) -> list[Member]:
    return members((f"n{i:04}", f"10.0.{i >> 8}.{i & 255}") for i in range(many))


@pytest.mark.parametrize("many", [1, 2, 3, 4, 7, 8])
def test_of_each_two_nodes_one_asks_the_other(many: int) -> None:
    nodes = ring(many)
    asked = sorted(tuple(sorted((m.name, p.name))) for m in nodes for p in turn(m, nodes, {}))
    assert asked == [(a.name, b.name) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]


def test_a_thousand_nodes_ask_some_each_and_go_round_in_half_an_hour() -> None:
    nodes = ring(1000)
    me, known, minutes = nodes[17], dict[str, Measured](), 0.0
    while len(known) < 500:
        asked = turn(me, nodes, known)
        known = after(known, {m.name: 5.0 for m in asked}, 1000.0 + 60.0 * minutes)
        minutes += pause(len(asked))
        assert len(asked) / pause(len(asked)) <= 16, "a minute"
    assert minutes <= 36
    following = {m.name for m in turn(me, nodes, known)}
    assert max(known[n].asked for n in following) <= min(m.asked for n, m in known.items() if n not in following)


def test_nobody_asks_over_another_ip_version_nor_without_an_address_nor_itself() -> None:
    nodes = members([("a", "192.0.2.1"), ("b", "2001:db8::1"), ("c", ""), ("d", "127.0.0.1"), ("e", "192.0.2.2")])
    assert [m.name for m in nodes] == ["a", "b", "e"]
    assert [m.name for m in turn(nodes[0], nodes, {})] == ["e"]
    assert turn(nodes[1], nodes, {}) == []
    assert turn(Member("gone", "192.0.2.9"), nodes, {}) == []


def test_who_does_not_answer_is_as_far_as_it_was_and_his_turn_is_over() -> None:
    known = after({}, {"b": 8.0, "c": None}, 100.0)
    later = after(known, {"b": None, "d": float("nan"), "e": -1.0}, 200.0)
    assert later["b"] == Measured(8000, 100, 200)
    assert {later[n].rtt_us for n in "cde"} == {0}
    assert after(later, {}, 201.0 + BELIEVED_S) == {}


def test_the_newest_of_two_measurements_is_believed_for_some_hours() -> None:
    known = {"b": after({}, {"a": 8.0, "c": None}, 100.0), "a": after({}, {"b": 9.0}, 200.0)}
    since = dict.fromkeys("abc", 50.0)
    assert believed(known, since, 300.0) == {("a", "b"): Measured(9000, 200, 200)}
    assert believed(known, since, 200.0 + BELIEVED_S + 2) == {}
    assert believed(known, {**since, "b": 250.0}, 300.0) == {}, "it is another machine since"
    assert believed(known, {"a": 50.0}, 300.0) == {}, "it is gone"


def test_one_way_is_half_of_it_and_next_to_nothing_is_nothing() -> None:
    found = {("a", "b"): Measured(9000, 1, 1), ("a", "c"): Measured(180, 1, 1)}
    assert one_way(found) == {("a", "b"): 4.5, ("a", "c"): 0.0}
