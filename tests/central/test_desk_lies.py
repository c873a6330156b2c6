"""Who lies to a central hurts himself only: questions are asked of the database together with those of others."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from msgspec import structs

from vini import bus
from vini.central.delivery import Ailing, Lack
from vini.central.desk import StoredDesk
from vini.model import Netns, SliceSpec, Sliver, SliverStatus, Topology
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import events, nodes, sites, slices, specs
from vini.store.database import Database


@pytest.fixture
def desk(database: Database) -> StoredDesk:
    return made(database)


def made(database: Database, clock: Callable[[], float] = time.time) -> StoredDesk:
    with database.transaction() as tx:
        sites.add(tx, NewSite("home"))
        nodes.join(tx, "n1", "home", bytes(32), NodeSaid(), 1.0)
        slices.add(tx, "home_a", "ada@example.org", 1.0)
        spec = SliceSpec("home_a", "n1", 3, frozenset({Netns("home_a.x")}))
        slices.put_topology(tx, "home_a", Topology("home_a", {"x": Sliver("x")}), {"n1": spec}, 1.0)
    return StoredDesk(database, clock)


def greeting(**held: int) -> bus.Greeting:
    return bus.Greeting("", 1, "n1", frozenset(), held)


def test_what_no_database_could_hold_is_not_asked_of_it(desk: StoredDesk) -> None:
    bad = {"home_a": 1 << 63, "home_\0": 4, "x" * 100: 4, **{f"home_{n}": 1 for n in range(40_000)}}
    one, two = desk.newer([Lack("n1", greeting(**bad)), Lack("n1", greeting())])
    assert len(one.specs) == 40_000 and [s.generation for s in two.specs] == [3]


@pytest.mark.parametrize("how", ["generations", "ended"])
def test_a_node_makes_a_slice_count_on_only_as_far_as_the_clock_may_have(database: Database, how: str) -> None:
    """All nodes of a slice are given what one of them says that it had, and numbers end somewhere."""
    now, year = 2e9, 366 * 86400
    desk = made(database, lambda: now)

    def said(generation: int) -> int:
        """The slice's generation after a node said that it had this one of it."""
        told = structs.replace(greeting(), **{how: {"home_a": generation}})
        desk.newer([Lack("n1", told)])
        with database.reading() as tx:
            return slices.get(tx, "home_a").generation

    most = int(now + year) << 20
    assert [said((1 << 62) - 1), said(most)] == [3, 3]
    assert said(77) == 77 + (1 << 20)
    assert said(most - 1) == said((1 << 62) - 1) == most - 1 + (1 << 20) < 1 << 53
    assert said(most + (2 << 20)) == most - 1 + (1 << 20), "nor by saying it again"


def test_what_no_central_can_have_given_is_said_once(desk: StoredDesk, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        (found,) = desk.newer([Lack("n1", greeting(home_a=1 << 60))])
        assert found.specs == ()
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == [
        f"node n1 says that it had generation {1 << 60} of slice home_a"
    ]
    said = caplog.records[0].getMessage()
    assert 0 < said.index("`vini node leave`") < said.index("`vini node join`"), "only who has left has forgotten"


def test_a_stranger_whose_name_is_none_keeps_no_node_out(desk: StoredDesk) -> None:
    one, two, three = desk.identities(["n\0", "n1", "n" * 300])
    assert one is None and two is not None and three is None


def test_what_fails_in_an_agent_is_known_until_it_is_well(desk: StoredDesk, database: Database) -> None:
    def failing() -> tuple[str, ...]:
        with database.reading() as tx:
            return nodes.get(tx, "n1").failing

    desk.reported([("n1", bus.Greeting("", 1, "n1", frozenset(), {}, failing=("A fails (no room).", "B fails (x).")))])
    assert failing() == ("A fails (no room).", "B fails (x).")
    desk.reported([("n1", Ailing(("A fails\0 (no\nroom).", *["x" * 1000] * 100))), ("gone", Ailing(("A",)))])
    assert failing() == ("A fails (noroom).", *["x" * 254] * 19)
    desk.reported([("n1", Ailing(()))])
    assert failing() == ()


def test_what_nobody_can_write_down_is_left_out_of_what_a_node_reports(desk: StoredDesk, database: Database) -> None:
    ails = SliverStatus("home_a.x", "ready", faults={"x\0y": "path\0 down"})
    words = [
        ("n1", bus.Report((ails,), slice="home_a", generation=3)),
        ("n1", bus.Report((), slice="home_\0", generation=1)),
    ]
    desk.reported(words)
    with database.reading() as tx:
        assert specs.behind(tx, "home_a") == {}
        (event,) = [e for e in events.some(tx, None, 100)[0] if e.what == events.PATH_FAILED]
    assert event.detail == "link xy failed: path down"
