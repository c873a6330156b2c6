"""What the hub is told of the database: specs by what a node holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vini import bus
from vini.central.delivery import Lack
from vini.central.desk import StoredDesk
from vini.model import Netns, SliceSpec, Sliver, SliverStatus, Topology
from vini.rules.access import allows, of_sliver
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.nouns import Guest, NodeSaid
from vini.rules.wishes import NewSite
from vini.store import authorized, events, guests, keys, members, nodes, persons, sites, slices, tags
from vini.store.database import Database

UP = Topology("home_a", {"x": Sliver("x")})


@pytest.fixture
def database(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'c.db')}")
    with made.transaction() as tx:
        sites.add(tx, NewSite("home"))
        persons.add(tx, "ada@example.org")
        for i, name in enumerate(("n1", "n2")):
            nodes.join(tx, name, "home", bytes([i]) * 32, NodeSaid(), 1.0)
        slices.add(tx, "home_a", "ada@example.org", 1.0)
    yield made
    made.close()


def ask(database: Database, generation: int) -> None:
    spec = SliceSpec("home_a", "n1", generation, frozenset({Netns("home_a.x")}))
    with database.transaction() as tx:
        slices.put_topology(tx, "home_a", UP, {"n1": spec}, 1.0)


def greeting(**held: int) -> bus.Greeting:
    return bus.Greeting("", 1, "n1", frozenset(), held)


def newer(desk: StoredDesk, node: str, said: bus.Greeting, since: int | None = None) -> list[SliceSpec]:
    ((specs, _),) = [(found.specs, found.seq) for found in desk.newer([Lack(node, said, since)])]
    return list(specs)


def test_a_node_gets_what_it_lacks_and_nothing_that_it_has(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    assert [(s.slice, s.generation) for s in newer(desk, "n1", greeting())] == [("home_a", 3)]
    assert [s.generation for s in newer(desk, "n1", greeting(home_a=2))] == [3]
    assert newer(desk, "n1", greeting(home_a=3)) == []
    assert newer(desk, "n2", greeting()) == []


def test_what_a_node_tells_of_itself_is_known_until_it_tells_otherwise(database: Database) -> None:
    desk = StoredDesk(database)
    key = "k" * 43 + "="
    for told in (key, ""):
        desk.reported([("n1", bus.Greeting("2", 1, "n1", frozenset({"wireguard"}), {}, wireguard=told))])
        with database.reading() as tx:
            row = nodes.get(tx, "n1")
        assert (row.node.wireguard, row.node.capabilities) == (told, frozenset({"wireguard"}))


def test_who_has_looked_is_told_of_what_was_written_since(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    (first,) = desk.newer([Lack("n1", greeting())])
    lacks = [Lack("n1", greeting(home_a=3), first.seq), Lack("n2", greeting(), first.seq), Lack("n2", greeting())]
    assert [found.specs for found in desk.newer(lacks)] == [(), (), ()]
    ask(database, 4)
    one, two, three = desk.newer(lacks)
    assert [s.generation for s in one.specs] == [4] and one.seq > first.seq
    assert (two.specs, three.specs) == ((), ())
    assert newer(desk, "n1", greeting(home_a=4), first.seq) == []


def test_what_is_not_asked_of_a_node_ends_there(database: Database) -> None:
    (end,) = newer(StoredDesk(database), "n2", greeting(home_old=7))
    assert (end.slice, end.objects, end.generation > 7) == ("home_old", frozenset(), True)


def test_a_node_ahead_of_a_restored_central_is_overtaken(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    (spec,) = newer(desk, "n1", greeting(home_a=9))
    assert spec.generation == 10 and spec.objects == {Netns("home_a.x")}
    with database.reading() as tx:
        assert slices.get(tx, "home_a").generation == 10
    assert newer(desk, "n1", greeting(home_a=10)) == []


def test_a_node_that_is_disabled_or_unknown_is_nobody(database: Database) -> None:
    desk = StoredDesk(database)
    assert desk.identities(["n3"]) == [None]
    (found,) = desk.identities(["n1"])
    assert found is not None and found.allowed and found.public_key == bytes(32)
    with database.transaction() as tx:
        nodes.set_state(tx, "n1", "disabled")
        assert nodes.connectable(tx) == {"n2"}
    (refused,) = desk.identities(["n1"])
    assert refused is not None and not refused.allowed and "disabled" in refused.why


def test_words_of_a_deleted_node_are_nobodys(database: Database) -> None:
    desk = StoredDesk(database)
    with database.transaction() as tx:
        nodes.delete(tx, "n2")
    desk.reported([("n2", greeting()), ("n1", bus.Offset(0.25, 0.001)), ("n2", bus.Offset(0.5, 0.001))])
    with database.reading() as tx:
        n1 = nodes.get(tx, "n1")
    assert (n1.clock_offset_s, n1.clock_error_s) == (0.25, 0.0005)


def test_a_failed_path_is_an_event_of_each_slice_on_it_and_so_is_its_return(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    why = {"x--y": "the path between nodes n1 and n2 is down"}

    def said(faults: dict[str, str], generation: int = 3, refused: str = "") -> None:
        rows = () if refused else (SliverStatus("home_a.x", "ready", faults=faults),)
        report = bus.Report(rows, slice="home_a", generation=generation, refused=refused)
        desk.reported([("n1", report), ("n2", report)])  # of n2 it isn't asked

    for faults in ({}, why, why, why | {"x--z": "another cause"}, {}, {}):
        said(faults)
    with database.reading() as tx:
        found, _ = events.some(tx, None, 100, kind="slice", target="home_a")
    assert [(e.who, e.what, e.detail) for e in reversed(found)] == [
        ("node n1", "path failed", "link x--y failed: the path between nodes n1 and n2 is down"),
        ("node n1", "path failed", "link x--z failed: another cause"),
        ("node n1", "path back", "link x--z back"),
        ("node n1", "path back", "link x--y back"),
    ]
    asked, caller = ("ada@example.org", "up"), Caller("ada@example.org", frozenset({("admin", "")}))
    with database.transaction() as tx:
        events.add(tx, at=9.0, who=asked[0], what=asked[1], kind="slice", target="home_a", detail="7")
        events.add(tx, at=9.5, who=asked[0], what="change slice", kind="slice", target="home_a", detail="a url")
        log = events.of_slice(tx, "home_a", 3, caller)
    assert [(e.who, e.what) for e in log] == [asked, ("node n1", "path back"), ("node n1", "path back")]


KEYS = {"ada": "ssh-ed25519 " + "A" * 68, "bob": "ssh-ed25519 " + "B" * 68}


def test_who_may_log_in_follows_from_members_accounts_keys_and_where_the_slice_is(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        before = authorized.newest(tx)
        number = slices.get(tx, "home_a").id
        persons.add(tx, "bob@example.org")
        for who, key in KEYS.items():
            members.add(tx, number, f"{who}@example.org")
            keys.add(tx, f"{who}@example.org", key)
        assert authorized.newest(tx) > before

    def open_to() -> list[str]:
        n1, n2 = desk.authorized(["n1", "n2"])
        assert n2 == {}
        assert " x" in n1["home_a"].hosts or n1["home_a"].hosts == ""
        return [k.key for k in n1["home_a"].keys]

    assert open_to() == [KEYS["ada"], KEYS["bob"]]
    for change, left in (
        (lambda tx: keys.blacklist(tx, KEYS["ada"]), [KEYS["bob"]]),
        (lambda tx: persons.change(tx, "bob@example.org", {"enabled": False}), []),
        (lambda tx: persons.change(tx, "bob@example.org", {"enabled": True}), [KEYS["bob"]]),
        (lambda tx: members.remove(tx, number, "bob@example.org"), []),
    ):
        with database.transaction() as tx:
            before = authorized.newest(tx)
            change(tx)
            assert authorized.newest(tx) > before
        assert open_to() == left
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
    assert desk.authorized(["n1"]) == [{}]


def test_what_processes_may_have_of_a_node_follows_from_the_tags_of_their_slice(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 1)
    with database.transaction() as tx:
        before = authorized.newest(tx)
        whole = tags.put(tx, "broker", "tcp:80, tcp:8000-8010", slice_="home_a")
        assert authorized.newest(tx) > before
    assert [d["home_a"].grants for d in desk.authorized(["n1"])] == [("tcp:80", "tcp:8000-8010")]
    assert desk.authorized(["n2"]) == [{}]
    with database.transaction() as tx:
        tags.put(tx, "broker", "tcp:443", slice_="home_a", node="n1")
        tags.put(tx, "elsewhere", "tcp:1", slice_="home_a")
        with pytest.raises(Invalid, match="'udp:53' is no grant"):
            tags.put(tx, "broker", "tcp:1 udp:53", slice_="home_a")
    assert desk.authorized(["n1"])[0]["home_a"].grants == ("tcp:443",)
    with database.transaction() as tx:
        seen = authorized.newest(tx)
        tags.delete(tx, whole.id)
        assert authorized.newest(tx) > seen


def test_a_guests_keys_open_what_he_was_let_into_for_as_long_as_he_was(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 1)
    with database.transaction() as tx:
        number = slices.get(tx, "home_a").id
        persons.add(tx, "bob@example.org")
        keys.add(tx, "bob@example.org", KEYS["bob"])
        before = authorized.newest(tx)
        guests.put(tx, number, Guest("bob@example.org", (), 0.0, "ada@example.org"))
        guests.put(tx, number, Guest("bob@example.org", ("x",), 100.0, "ada@example.org"))  # in place of the other
        assert authorized.newest(tx) > before
    assert desk.authorized(["n1"])[0]["home_a"].guests == (bus.GuestKey(KEYS["bob"], "bob@example.org", ("x",), 100.0),)
    assert desk.authorized(["n1"])[0]["home_a"].keys == ()
    with database.transaction() as tx:
        assert guests.expire(tx, 99.0) == 0
        row = slices.get(tx, "home_a")
        bob = Caller("bob@example.org", frozenset(), frozenset({"read", "write"}))
        assert allows(bob, "enter slice", of_sliver(row, "x"))
        assert not allows(bob, "enter slice", of_sliver(row, "y"))
        assert not allows(bob, "use slice", of_sliver(row, "x"))
        assert guests.expire(tx, 100.0) == 1
    assert desk.authorized(["n1"])[0]["home_a"].guests == ()
