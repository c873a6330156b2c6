"""The store: what it said it has, it has; after a crash all or nothing; generations only grow."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import spec_of, topologies

from vini.model import NotFound, SliceSpec, Sliver, Topology, ViniError
from vini.store import KEPT, Store

PAIR = Topology("lab", {"a": Sliver("a"), "b": Sliver("b")})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "vini.db")


def put(store: Store, topology: Topology = PAIR, generation: int = 1, what: str = "up") -> None:
    with store.transaction():
        store.put(topology, spec_of(topology, generation), "me", what)


def test_what_was_put_is_there_for_the_next_program_too(store, tmp_path):
    put(store)
    again = Store(tmp_path / "state" / "vini.db").get("lab")
    assert (again.topology, again.spec, again.generation) == (PAIR, spec_of(PAIR), 1)


@given(topologies(), st.integers(1, 1 << 40))
def test_any_topology_comes_back_as_it_was(topology, generation):
    store = Store(Path(":memory:"))
    put(store, topology, generation)
    found = store.find(topology.name)
    assert (found.topology, found.spec) == (topology, spec_of(topology, generation))


def test_an_unknown_slice_is_answered_with_those_that_there_are(store):
    with pytest.raises(NotFound, match="none is up"):
        store.get("lab")
    put(store)
    with pytest.raises(NotFound, match="There is no slice 'lap'; did you mean 'lab'"):
        store.get("lap")


def test_a_slice_that_ended_is_not_there_but_its_generation_goes_on(store):
    put(store)
    put(store, Topology("lab"), 2, "down")
    assert store.slices() == []
    with pytest.raises(NotFound):
        store.get("lab")
    assert store.find("lab").generation == 2


def test_a_transaction_that_breaks_leaves_nothing(store):
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.put(PAIR, spec_of(PAIR), "me", "up")
        raise KeyboardInterrupt
    assert store.find("lab") is None
    assert store.events("lab") == []
    put(store)  # and the next one isn't hindered
    assert store.get("lab").generation == 1


def test_two_writers_take_turns(tmp_path):
    """Each reads the generation and writes the next one: none is lost."""

    def bump() -> None:
        mine = Store(tmp_path / "vini.db")
        for _ in range(20):
            with mine.transaction():
                before = mine.find("lab")
                mine.put(PAIR, spec_of(PAIR, (before.generation if before else 0) + 1), "me", "up")

    threads = [threading.Thread(target=bump) for _ in range(3)]
    Store(tmp_path / "vini.db")
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert Store(tmp_path / "vini.db").get("lab").generation == 60


def test_events_tell_who_did_what_newest_first(store):
    for generation, what in enumerate(["up", "link a b --fail silent", "down"], 1):
        put(store, PAIR, generation, what)
    assert [(who, what, g) for _, who, what, g in store.events("lab")] == [
        ("me", "down", 3), ("me", "link a b --fail silent", 2), ("me", "up", 1),
    ]  # fmt: skip
    assert len(store.events("lab", limit=1)) == 1


def rows(store: Store, table: str) -> int:
    return store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def next_generation(store: Store, name: str) -> int:
    return store.generation(name) + 1


def test_of_many_slices_that_ended_the_newest_are_left_and_none_begins_below_an_end(store):
    put(store, Topology("stays", {"a": Sliver("a")}))
    for i in range(2 * KEPT):
        put(store, Topology(f"s{i}", {"a": Sliver("a")}), next_generation(store, f"s{i}"))
        put(store, Topology(f"s{i}"), next_generation(store, f"s{i}"), "down")
    assert rows(store, "slices") == KEPT + 1 and rows(store, "forgotten") == 1
    assert [s.name for s in store.slices()] == ["stays"]
    assert store.find("s0") is None and store.find(f"s{2 * KEPT - 1}").generation == 4 * KEPT + 1
    assert store.generation("s0") == store.generation("never") == 4 * KEPT + 1
    assert store.generation("stays") == 1


@given(st.lists(st.tuples(st.sampled_from("vwxyz"), st.booleans()), max_size=30))
def test_a_slice_that_comes_up_is_above_all_that_it_was_and_all_that_ended(steps):
    store, was, ended = Store(Path(":memory:")), {}, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vini.store.local.KEPT", 1)
        for name, up in steps:
            was_up = store.find(name) is not None and bool(store.find(name).topology.slivers)
            generation = next_generation(store, name)
            assert generation > was.get(name, 0)
            assert was_up or generation > ended
            put(store, Topology(name, {"a": Sliver("a")} if up else {}), generation)
            was[name] = generation
            ended = ended if up else max(ended, generation)
            assert rows(store, "slices") <= len(store.slices()) + 1


def test_a_file_that_is_no_database_is_named_in_a_sentence(tmp_path):
    (tmp_path / "vini.db").write_text("this is not SQLite, " * 100)
    with pytest.raises(ViniError, match=r"The database .*vini\.db can't be used: .*; check the disk"):
        Store(tmp_path / "vini.db")


def test_a_directory_that_cannot_be_made_is_named_in_a_sentence(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ViniError, match="can't be used"):
        Store(tmp_path / "state" / "vini.db")


def test_a_database_that_cannot_grow_says_so_and_keeps_what_it_had(store):
    put(store)
    store._db.execute("PRAGMA max_page_count=1")
    big = Topology("big", {"a": Sliver("a", files={"/etc/x": "x" * 100_000})})
    with pytest.raises(ViniError, match="refused to write: .*full"):
        put(store, big)
    assert store.find("big") is None
    assert store.get("lab").spec == spec_of(PAIR)


def test_a_killed_writer_leaves_all_or_nothing(store, tmp_path):
    """A connection that was in the middle of a transaction and is no more, as after SIGKILL."""
    put(store)
    other = sqlite3.connect(tmp_path / "state" / "vini.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE slices SET generation = 99")
    other.close()
    assert store.get("lab").generation == 1
    put(store, generation=2)


def test_an_empty_spec_is_the_end_of_a_slice():
    assert spec_of(Topology("lab"), 3) == SliceSpec("lab", "local", 3)


def test_a_row_of_another_version_costs_only_its_own_slice(store):
    put(store)
    put(store, Topology("next", {"a": Sliver("a")}), 7)
    put(store, Topology("gone"), 3)
    store._db.execute("""UPDATE slices SET topology = '{"name": "next", "hovers": 1, "slivers": {"a": {}}}'
        WHERE name = 'next'""")
    store._db.execute("UPDATE slices SET spec = '{}' WHERE name = 'gone'")
    assert [s.name for s in store.slices()] == ["lab"]
    assert store.unreadable() == ["next"]
    assert store.generation("next") == 7 and store.generation("lab") == 1
    with pytest.raises(ViniError, match="'next' was stored by another version of VINI.*`vini down -s next`"):
        store.get("next")


def test_where_the_disk_is_full_the_sentence_says_so(tmp_path, monkeypatch):
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr("vini.store.local.statvfs", lambda _: full)
    (tmp_path / "vini.db").write_text("this is not SQLite, " * 100)  # a full disk's own error is as dark
    with pytest.raises(ViniError, match=f"its disk is full .`df {tmp_path}`.: make room on it and try again"):
        Store(tmp_path / "vini.db")
