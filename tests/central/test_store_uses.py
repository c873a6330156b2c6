"""What slices take of nodes: kept beside the specs, so that placing one slice needs no look into all others."""

from __future__ import annotations

import older
import pytest

from vini import placement
from vini.model import Netns, SliceSpec, Sliver, Topology
from vini.placement import Use
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import nodes, persons, sites, slices, specs
from vini.store.database import Database, Tx

ONE = placement.cost(Sliver("x"))


def populate(database: Database) -> None:
    with database.transaction() as tx:
        sites.add(tx, NewSite("home", max_slices=9))
        persons.add(tx, "ada@example.org")
        for i, name in enumerate(("n1", "n2")):
            nodes.join(tx, name, "home", bytes([i]) * 32, NodeSaid(), 1.0)
        for name in ("home_a", "home_b"):
            slices.add(tx, name, "ada@example.org", 1.0, "for a test", "https://x.example")


def put(tx: Tx, name: str, **on: tuple[str, ...]) -> None:
    """Node -> the slivers there."""
    generation = slices.next_generation(tx, name)
    wanted = {
        node: SliceSpec(name, node, generation, frozenset(Netns(f"{name}.{s}") for s in slivers))
        for node, slivers in on.items()
    }
    every = {s: Sliver(s) for slivers in on.values() for s in slivers}
    slices.put_topology(tx, name, Topology(name, every), wanted, 1.0, above=generation)


def used(tx: Tx, but: str = "") -> dict[str, Use]:
    return {name: use for name, use in specs.used(tx, but).items() if use != Use()}


@pytest.fixture
def filled(database: Database) -> Database:
    populate(database)
    with database.transaction() as tx:
        put(tx, "home_a", n1=("x", "y"), n2=("z",))
        put(tx, "home_b", n2=("x",))
    return database


def test_it_is_the_sum_over_slices_but_for_the_one_that_is_placed(filled: Database) -> None:
    with filled.reading() as tx:
        assert used(tx) == {"n1": ONE * 2, "n2": ONE * 2}
        assert used(tx, "home_a") == {"n2": ONE}
        assert used(tx, "home_b") == {"n1": ONE * 2, "n2": ONE}


def test_it_follows_what_is_asked(filled: Database) -> None:
    with filled.transaction() as tx:
        put(tx, "home_a", n2=("x",))
        assert used(tx) == {"n2": ONE * 2}
        slices.delete(tx, "home_a")
        assert used(tx) == {"n2": ONE}
        specs.acknowledge(tx, "home_a", "n2", slices.generation(tx, "home_a"), b"", 2.0)
        put(tx, "home_b")
        assert used(tx) == {}


def test_the_same_for_longer_or_by_another_number_takes_the_same(filled: Database) -> None:
    with filled.transaction() as tx:
        slices.renew(tx, "home_a", 10.0, slices.get(tx, "home_a").expires + 1)
        slices.overtake(tx, {"home_b": 77})
        assert used(tx) == {"n1": ONE * 2, "n2": ONE * 2}
        nodes.delete(tx, "n1")
        assert used(tx) == {"n2": ONE * 2}


def test_many_changes_leave_no_crumbs(filled: Database) -> None:
    with filled.transaction() as tx:
        for i in range(70):
            put(tx, "home_a", n1=tuple(f"s{k}" for k in range(i % 7)) or ("x",))
        put(tx, "home_a")
        assert used(tx) == {"n2": ONE}


def test_an_older_database_learns_it_from_its_topologies(url: str) -> None:
    database = Database(url)
    database.migrate()
    populate(database)
    with database.transaction() as tx:
        put(tx, "home_a", n1=("x", "y"), n2=("z",))
        put(tx, "home_b", n2=("x",))
        older.back_to(tx, "0001")
    database.migrate()
    with database.transaction() as tx:
        assert used(tx, "home_b") == {"n1": ONE * 2, "n2": ONE}
        put(tx, "home_a")
        assert used(tx) == {"n2": ONE}
    database.close()
