"""Who lies to a central hurts himself only: questions are asked of the database together with those of others."""

from __future__ import annotations

import pytest

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
    with database.transaction() as tx:
        sites.add(tx, NewSite("home"))
        nodes.join(tx, "n1", "home", bytes(32), NodeSaid(), 1.0)
        slices.add(tx, "home_a", "ada@example.org", 1.0)
        spec = SliceSpec("home_a", "n1", 3, frozenset({Netns("home_a.x")}))
        slices.put_topology(tx, "home_a", Topology("home_a", {"x": Sliver("x")}), {"n1": spec}, 1.0)
    return StoredDesk(database)


def greeting(**held: int) -> bus.Greeting:
    return bus.Greeting("", 1, "n1", frozenset(), held)


def test_what_no_database_could_hold_is_not_asked_of_it(desk: StoredDesk) -> None:
    bad = {"home_a": 1 << 63, "home_\0": 4, "x" * 100: 4, **{f"home_{n}": 1 for n in range(40_000)}}
    one, two = desk.newer([Lack("n1", greeting(**bad)), Lack("n1", greeting())])
    assert len(one.specs) == 40_000 and [s.generation for s in two.specs] == [3]


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
