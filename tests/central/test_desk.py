"""What the hub is told of the database: specs by what a node holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from vini import bus
from vini.central.delivery import Lack, Mark, Who
from vini.central.desk import StoredDesk
from vini.model import Netns, SliceSpec, Sliver, SliverStatus, Topology
from vini.rules.access import allows, of_sliver
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.nouns import Guest, NodeSaid
from vini.rules.wishes import NewSite
from vini.store import (
    authorized,
    events,
    guests,
    keys,
    members,
    nodegroups,
    nodes,
    persons,
    sites,
    slices,
    specs,
    tables,
    tags,
)
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


def newer(desk: StoredDesk, node: str, said: bus.Greeting, since: Mark | None = None) -> list[SliceSpec]:
    (found,) = desk.newer([Lack(node, said, since)])
    return list(found.specs)


def admitted(desk: StoredDesk, *names: str) -> list[dict[str, bus.Admission]]:
    return [found.slices for found in desk.authorized([Who(name) for name in names])]


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
    lacks = [Lack("n1", greeting(home_a=3), first.mark), Lack("n2", greeting(), first.mark), Lack("n2", greeting())]
    assert [found.specs for found in desk.newer(lacks)] == [(), (), ()]
    ask(database, 4)
    one, two, three = desk.newer(lacks)
    assert [s.generation for s in one.specs] == [4] and one.mark and first.mark and one.mark.seq > first.mark.seq
    assert (two.specs, three.specs) == ((), ())
    assert newer(desk, "n1", greeting(home_a=4), first.mark) == []


def test_what_is_not_asked_of_a_node_ends_there(database: Database) -> None:
    (end,) = newer(StoredDesk(database), "n2", greeting(home_old=7))
    assert (end.slice, end.objects, end.generation > 7) == ("home_old", frozenset(), True)


def test_a_node_ahead_of_a_restored_central_is_overtaken(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    (spec,) = newer(desk, "n1", greeting(home_a=9))
    assert spec.generation > 10 and spec.objects == {Netns("home_a.x")}
    with database.reading() as tx:
        assert slices.get(tx, "home_a").generation == spec.generation
    assert newer(desk, "n1", greeting(home_a=spec.generation)) == []


def test_of_a_restored_central_nodes_are_overtaken_that_were_at_several_generations(database: Database) -> None:
    """Each is at the last change of its own part; and some changes came before they connected."""
    desk = StoredDesk(database)
    both = {n: SliceSpec("home_a", n, 3, frozenset({Netns("home_a.x")})) for n in ("n1", "n2")}
    with database.transaction() as tx:
        slices.put_topology(tx, "home_a", UP, both, 1.0)
        for number in range(4, 12):
            held = specs.of_slice(tx, "home_a")
            now = {
                "n1": replace(both["n1"], generation=number),
                "n2": replace(both["n2"], generation=number, expires=float(number)),
            }
            slices.put_topology(tx, "home_a", UP, now, 1.0, held=held)
    assert [s.generation for s in newer(desk, "n1", greeting())] == [3]
    (one,) = newer(desk, "n1", greeting(home_a=9))
    (two,) = newer(desk, "n2", greeting(home_a=10 + 3))
    assert one.generation == two.generation > 13 and two.expires == 11.0
    assert newer(desk, "n2", greeting(home_a=two.generation)) == []


def test_who_may_come_into_a_slice_is_not_remembered_when_it_is_gone(database: Database) -> None:
    """A testbed has many that live for an hour."""
    desk = StoredDesk(database)
    ask(database, 3)
    assert set(admitted(desk, "n1")[0]) == {"home_a"} == set(desk._door._known)
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
        authorized.changed(tx)
    assert admitted(desk, "n1") == [{}]
    with database.transaction() as tx:
        slices.add(tx, "home_b", "ada@example.org", 1.0)
        spec = SliceSpec("home_b", "n1", 9, frozenset({Netns("home_b.x")}))
        slices.put_topology(tx, "home_b", Topology("home_b", UP.slivers), {"n1": spec}, 1.0)
    assert set(admitted(desk, "n1")[0]) == {"home_b"} == set(desk._door._known)


def test_a_node_that_holds_more_of_a_slice_that_is_gone_is_told_to_end_it(database: Database) -> None:
    """A restored central remembers that it ended, and the node that it was made anew after that."""
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
    (end,) = newer(desk, "n1", greeting(home_a=20))
    assert not end.objects and end.generation > 20
    with database.transaction() as tx:
        slices.add(tx, "home_a", "ada@example.org", 1.0)
        assert slices.next_generation(tx, "home_a") > end.generation


@pytest.mark.parametrize("since", [None, Mark(0, 0)], ids=["all", "what was written"])
@pytest.mark.parametrize("said", [{"ended": {"home_a": 9}}, {"forgotten": 9}, {"forgotten": 3}], ids=str)
def test_a_node_that_ended_or_forgot_more_is_not_asked_in_vain(database, said, since) -> None:
    """As one that comes into a slice which has had few changes, after many others that had more."""
    desk = StoredDesk(database)
    ask(database, 3)
    told = replace(greeting(), **said)
    (spec,) = newer(desk, "n1", told, since)
    assert spec.generation > 9 and spec.objects == {Netns("home_a.x")}
    held = replace(told, ended={}, generations={"home_a": spec.generation})
    assert newer(desk, "n1", held) == []


def test_an_end_is_asked_for_until_the_node_was_heard_to_have_ended_it(database: Database) -> None:
    """The central may have died before it wrote down what the node answered."""
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
        (asked,) = specs.specs_of_node(tx, "n1")
    ended = replace(greeting(), ended={"home_a": asked.generation})
    assert newer(desk, "n1", ended) == [asked]
    desk.reported([("n1", bus.Report((), slice="home_a", generation=asked.generation))])
    assert newer(desk, "n1", ended) == []


def test_what_another_version_stored_keeps_no_other_node_from_being_told(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        slices.add(tx, "home_b", "ada@example.org", 1.0)
        spec = SliceSpec("home_b", "n1", 4, frozenset({Netns("home_b.x")}))
        slices.put_topology(tx, "home_b", Topology("home_b", UP.slivers), {"n1": spec}, 1.0)
        tx.execute(update(tables.specs).where(tables.specs.c.slice == "home_a").values(body=b'{"new": 1}'))
        tx.execute(update(tables.slices).where(tables.slices.c.name == "home_a").values(topology=b'{"slivers": 1}'))
    for since in (None, Mark(0, 0)):
        assert [s.slice for s in newer(desk, "n1", greeting(), since)] == ["home_b"]
    assert set(desk.authorized([Who("n1")])[0].slices) == {"home_a", "home_b"}
    assert [s.slice for s in newer(desk, "n1", greeting(home_a=9))] == ["home_a", "home_b"], "it can only end there"


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


def test_a_sliver_that_sent_a_days_bytes_is_an_event_of_its_slice_and_so_is_the_next_day(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    for slowed in ("", "it sent 16 MB", "it sent 16 MB", ""):
        rows = (SliverStatus("home_a.x", "ready", slowed=slowed),)
        desk.reported([("n1", bus.Report(rows, slice="home_a", generation=3))])
    with database.reading() as tx:
        found, _ = events.some(tx, None, 100, kind="slice", target="home_a")
    assert [(e.what, e.detail) for e in reversed(found)] == [
        ("slowed", "sliver x: it sent 16 MB"),
        ("slowed no more", "sliver x"),
    ]


def test_a_failed_path_is_an_event_of_each_slice_on_it_and_so_is_its_return(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    why = {"x--y": "the path between nodes n1 and n2 is down"}

    def said(faults: dict[str, str], generation: int = 3, refused: str = "") -> None:
        rows = () if refused else (SliverStatus("home_a.x", "ready", faults=faults),)
        report = bus.Report(rows, slice="home_a", generation=generation, refused=refused)
        desk.reported([("n1", report), ("n2", report)])  # of n2 it isn't asked

    maintained = {"x--y": "substrate link east is down: new fibre"}
    for faults in ({}, maintained, why, why, why | {"x--z": "another cause"}, {}, {}):
        said(faults)
    with database.reading() as tx:
        found, _ = events.some(tx, None, 100, kind="slice", target="home_a")
    assert [(e.who, e.what, e.detail) for e in reversed(found)] == [
        ("node n1", "path failed", "link x--y failed: substrate link east is down: new fibre"),
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


def test_a_path_that_failed_and_came_back_unheard_is_an_event(database: Database) -> None:
    """As while the central was away: the node's count tells."""
    desk = StoredDesk(database)
    ask(database, 3)
    why = {"x--y": "the path between nodes n1 and n2 is down"}

    def said(times: int, faults: dict[str, str], refused: str = "") -> None:
        rows = () if refused else (SliverStatus("home_a.x", "ready", faults=faults, falls={"x--y": times}),)
        desk.reported([("n1", bus.Report(rows, slice="home_a", generation=3, refused=refused))])

    said(7, {})  # before this slice was heard of
    said(7, {}, refused="no room")
    said(8, {})
    for times, fails in ((8, 0), (9, 1), (9, 1), (9, 0), (10, 0), (13, 1), (14, 1), (0, 0), (1, 1), (1, 0)):
        said(times, why if fails else {})
    with database.reading() as tx:
        found, _ = events.some(tx, None, 100, kind="slice", target="home_a")
    unheard = "link x--y failed and came back {} before it was heard of".format
    failed, back = f"link x--y failed: {why['x--y']}", "link x--y back"
    assert [e.detail for e in reversed(found)] == [
        failed, back, unheard("once"), failed, unheard("2 times"), unheard("once"), back, failed, back
    ]  # fmt: skip


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
        n1, n2 = admitted(desk, "n1", "n2")
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
    assert admitted(desk, "n1") == [{}]


def test_who_may_log_in_is_asked_anew_only_where_it_may_be_another(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        number = slices.get(tx, "home_a").id
        members.add(tx, number, "ada@example.org")
        keys.add(tx, "ada@example.org", KEYS["ada"])
    (first,) = desk.authorized([Who("n1")])
    assert first.of is None and [k.key for k in first.slices["home_a"].keys] == [KEYS["ada"]]
    (same, also) = desk.authorized([Who("n1", first.mark), Who("n1")])
    assert (same.of, same.slices, same.over(first.slices)) == (frozenset(), {}, first.slices)
    assert (also.of, also.slices) == (None, first.slices)
    (looked,) = desk.newer([Lack("n1", greeting(home_a=3), first.mark)])
    assert not looked.admits

    with database.transaction() as tx:
        slices.add(tx, "home_b", "ada@example.org", 1.0)
        members.add(tx, slices.get(tx, "home_b").id, "ada@example.org")
        spec = SliceSpec("home_b", "n1", 7, frozenset({Netns("home_b.x")}))
        slices.put_topology(tx, "home_b", replace(UP, name="home_b"), {"n1": spec}, 1.0)
    (second,) = desk.authorized([Who("n1", first.mark)])
    assert second.of == {"home_b"} and [k.key for k in second.slices["home_b"].keys] == [KEYS["ada"]]
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
    (looked,) = desk.newer([Lack("n1", greeting(home_a=3, home_b=7), second.mark)])
    assert looked.admits
    (third,) = desk.authorized([Who("n1", second.mark)])
    assert (third.of, third.slices) == (frozenset({"home_a"}), {})
    held = third.over(second.over(first.slices))
    assert held.keys() == {"home_b"}
    with database.transaction() as tx:
        members.remove(tx, slices.get(tx, "home_b").id, "ada@example.org")
    (fourth,) = desk.authorized([Who("n1", third.mark)])
    assert (fourth.of, fourth.over(held)["home_b"].keys) == ({"home_b"}, ()), "only what is another is told"


def test_a_slice_of_a_name_that_another_had_lets_none_of_its_members_in(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 3)
    with database.transaction() as tx:
        members.add(tx, slices.get(tx, "home_a").id, "ada@example.org")
        keys.add(tx, "ada@example.org", KEYS["ada"])
    (first,) = desk.authorized([Who("n1")])
    assert first.slices["home_a"].keys
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
        slices.add(tx, "home_a", "bob@example.org", 1.0)
    ask(database, 9)
    (second,) = desk.authorized([Who("n1", first.mark)])
    assert second.over(first.slices)["home_a"].keys == ()


def test_an_end_that_a_node_has_told_of_takes_its_keys_away(database: Database) -> None:
    """Its row is gone by then, so that only who sent the end can ask for it."""
    desk = StoredDesk(database)
    ask(database, 3)
    (first,) = desk.authorized([Who("n1")])
    with database.transaction() as tx:
        slices.delete(tx, "home_a")
        slices.acknowledge(tx, "home_a", "n1", slices.generation(tx, "home_a"), b"", 2.0)
    (after,) = desk.authorized([Who("n1", first.mark, frozenset({"home_a"}))])
    assert after.over(first.slices) == {}


def test_nodegroups_and_tags_of_nodes_are_looked_at_too(database: Database) -> None:
    """They say to which slices a grant is given."""
    with database.transaction() as tx:
        for change in (
            lambda: nodegroups.add(tx, "fast", "speed", "high"),
            lambda: tags.put(tx, "speed", "high", node="n1"),
            lambda: tags.delete(tx, tags.some(tx, None, 9, name="speed")[0][0].id),
            lambda: nodegroups.delete(tx, "fast"),
        ):
            before = authorized.newest(tx)
            change()
            assert authorized.newest(tx) > before


def test_what_processes_may_have_of_a_node_follows_from_the_tags_of_their_slice(database: Database) -> None:
    desk = StoredDesk(database)
    ask(database, 1)
    with database.transaction() as tx:
        before = authorized.newest(tx)
        whole = tags.put(tx, "broker", "tcp:80, tcp:8000-8010", slice_="home_a")
        assert authorized.newest(tx) > before
    assert [d["home_a"].grants for d in admitted(desk, "n1")] == [("tcp:80", "tcp:8000-8010")]
    assert admitted(desk, "n2") == [{}]
    with database.transaction() as tx:
        tags.put(tx, "broker", "tcp:443", slice_="home_a", node="n1")
        tags.put(tx, "elsewhere", "tcp:1", slice_="home_a")
        with pytest.raises(Invalid, match="'udp:53' is no grant"):
            tags.put(tx, "broker", "tcp:1 udp:53", slice_="home_a")
    assert admitted(desk, "n1")[0]["home_a"].grants == ("tcp:443",)
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
    assert admitted(desk, "n1")[0]["home_a"].guests == (bus.GuestKey(KEYS["bob"], "bob@example.org", ("x",), 100.0),)
    assert admitted(desk, "n1")[0]["home_a"].keys == ()
    with database.transaction() as tx:
        assert guests.expire(tx, 99.0) == 0
        row = slices.get(tx, "home_a")
        bob = Caller("bob@example.org", frozenset(), frozenset({"read", "write"}))
        assert allows(bob, "enter slice", of_sliver(row, "x"))
        assert not allows(bob, "enter slice", of_sliver(row, "y"))
        assert not allows(bob, "use slice", of_sliver(row, "x"))
        assert guests.expire(tx, 100.0) == 1
    assert admitted(desk, "n1")[0]["home_a"].guests == ()
