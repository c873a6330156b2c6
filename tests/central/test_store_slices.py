"""Slices and specs: generations only grow, an end reaches its nodes, and who looks again learns what changed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.model import CapacityError, Conflict, Denied, Netns, NotFound, SliceSpec, Sliver, Stale, Topology
from vini.rules.errors import Invalid
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import nodes, reminders, sites, slices, specs, tunnels
from vini.store.database import Database, Tx

PAIR = Topology("lab", {"a": Sliver("a"), "b": Sliver("b")})
NAMES = ("n1", "n2", "n3")


def spec(node: str, generation: int, slice_: str = "princeton_iias", expires: float = 0.0) -> SliceSpec:
    return SliceSpec(slice_, node, generation, frozenset({Netns(f"{slice_}.{node}")}), expires=expires)


@pytest.fixture
def db(database: Database) -> Database:
    with database.transaction() as tx:
        sites.add(tx, NewSite("princeton", max_slices=2))
        for i, name in enumerate(NAMES):
            nodes.join(tx, name, "princeton", bytes([i]) * 32, NodeSaid())
        slices.add(tx, "princeton_iias", "a@b.c", 1000.0)
    return database


def put(db: Database, on: tuple[str, ...], generation: int | None = None, name: str = "princeton_iias") -> int:
    with db.transaction() as tx:
        number = generation or slices.next_generation(tx, name)
        slices.put_topology(tx, name, PAIR, {n: spec(n, number, name) for n in on}, 5.0)
        return number


def held(db: Database, node: str) -> list[SliceSpec]:
    with db.reading() as tx:
        return slices.specs_of_node(tx, node)


def behind(tx: Tx) -> dict[str, int]:
    return {node: at.wanted for node, at in specs.behind(tx, "princeton_iias").items()}


def test_what_was_put_is_what_nodes_get(db):
    assert put(db, ("n1", "n2")) == 1
    assert held(db, "n1") == [spec("n1", 1)]
    assert held(db, "n3") == []
    with db.reading() as tx:
        row = slices.get(tx, "princeton_iias")
        assert (row.topology, row.generation, row.updated) == (PAIR, 1, 5.0)
        assert slices.generations_of_node(tx, "n1") == {"princeton_iias": 1}
        assert slices.spec(tx, "princeton_iias", "n2") == spec("n2", 1)
        assert behind(tx) == {"n1": 1, "n2": 1}


def test_nodes_for_which_nothing_changes_stay_at_their_generation(db):
    put(db, ("n1", "n2", "n3"))
    for node in ("n1", "n2", "n3"):
        with db.transaction() as tx:
            slices.acknowledge(tx, "princeton_iias", node, 1, b"fine", 1.0)
    with db.transaction() as tx:
        seq, _ = slices.changed_since(tx, 0)
        wanted = {n: spec(n, 2, expires=7.0 if n == "n2" else 0.0) for n in ("n1", "n2")}
        now = specs.of_slice(tx, "princeton_iias")
        written = slices.put_topology(tx, "princeton_iias", PAIR, wanted, 5.0, held=now, renamed=False)
        assert slices.changed_since(tx, seq)[1] == {"n2", "n3"}, "it changes there, and ends there"
        assert written == {"n2", "n3"}
        assert behind(tx) == {"n2": 2, "n3": 2}
        assert slices.reports(tx, "princeton_iias")["n1"][:2] == (1, b"fine")
        assert slices.get(tx, "princeton_iias").generation == 2
    assert held(db, "n1") == [spec("n1", 1)] and held(db, "n2") == [spec("n2", 2, expires=7.0)]
    with db.transaction() as tx:
        seq, _ = slices.changed_since(tx, 0)
        wanted = {n: replace(s, generation=3) for n, s in wanted.items()}
        now = specs.of_slice(tx, "princeton_iias")
        written = slices.put_topology(tx, "princeton_iias", PAIR, wanted, 5.0, held=now)
        assert {"n1", "n2"} <= slices.changed_since(tx, seq)[1], "those who log in there know other names now"
        assert written == set(), "n3 has not told yet that it ended, and is asked for that already"
        later = {n: replace(s, generation=4, not_before=9.0) for n, s in wanted.items()}
        now = specs.of_slice(tx, "princeton_iias")
        written = slices.put_topology(tx, "princeton_iias", PAIR, later, 5.0, held=now)
        assert written >= {"n1", "n2"}, "each tells when it acted"
        at_once = {n: replace(s, generation=5) for n, s in wanted.items()}
        now = specs.of_slice(tx, "princeton_iias")
        assert slices.put_topology(tx, "princeton_iias", PAIR, at_once, 5.0, held=now) >= {"n1", "n2"}


def test_what_is_amended_is_told_to_those_for_which_it_is_something_else(db):
    """As of a slice on a thousand nodes of which one is leased, or a path between two is taken down."""
    put(db, ("n1", "n2"))
    with db.transaction() as tx:
        assert slices.amend(tx, "princeton_iias", lambda s: replace(s, expires=9.0) if s.node == "n2" else s)
    assert held(db, "n1") == [spec("n1", 1)]
    assert held(db, "n2") == [spec("n2", 2, expires=9.0)]
    with db.reading() as tx:
        assert slices.get(tx, "princeton_iias").generation == 2
        assert behind(tx) == {"n1": 1, "n2": 2}


def test_nor_is_it_told_to_those_that_acted_at_a_moment_or_are_to_end_it(db):
    """As when a lease ends on one node of a slice whose last change was an event of a timeline."""
    put(db, ("n1", "n2", "n3"))
    with db.transaction() as tx:
        timed = {n: replace(spec(n, 2), not_before=9.0) for n in ("n1", "n2")}
        slices.put_topology(tx, "princeton_iias", PAIR, timed, 5.0)
        seq, _ = slices.changed_since(tx, 0)
        assert slices.amend(tx, "princeton_iias", lambda s: replace(s, expires=9.0) if s.node == "n2" else s)
        assert slices.changed_since(tx, seq)[1] == {"n2"}
        assert behind(tx) == {"n1": 2, "n2": 3, "n3": 2}


def test_nothing_goes_back_to_an_older_generation(db):
    put(db, ("n1",), 7)
    for old in (7, 3):
        with pytest.raises(Stale, match="at generation 7 already"):
            put(db, ("n1",), old)
    assert held(db, "n1") == [spec("n1", 7)]
    assert put(db, ("n1",)) == 8


def test_a_node_that_a_slice_leaves_is_told_until_it_says_that_it_is_so(db):
    put(db, ("n1", "n2"))
    put(db, ("n2",))
    assert held(db, "n1") == [SliceSpec("princeton_iias", "n1", 2)]
    with db.transaction() as tx:
        slices.acknowledge(tx, "princeton_iias", "n1", 1, b"late", 6.0)  # of what it held before
    assert held(db, "n1") == [SliceSpec("princeton_iias", "n1", 2)]
    with db.transaction() as tx:
        slices.acknowledge(tx, "princeton_iias", "n1", 2, b"gone", 7.0)
    assert held(db, "n1") == []


def test_reports_are_the_newest_of_each_node(db):
    put(db, ("n1", "n2"))
    with db.transaction() as tx:
        slices.acknowledge(tx, "princeton_iias", "n1", 1, b"first", 6.0)
    put(db, ("n1", "n2"))
    with db.transaction() as tx:
        slices.acknowledge(tx, "princeton_iias", "n1", 2, b"second", 7.0)
        slices.acknowledge(tx, "princeton_iias", "n1", 1, b"late", 8.0)
        slices.acknowledge(tx, "princeton_iias", "n2", 99, b"of nothing", 8.0)
        slices.acknowledge(tx, "princeton_iias", "nobody", 1, b"", 8.0)
    with db.reading() as tx:
        assert slices.reports(tx, "princeton_iias") == {"n1": (2, b"second", 7.0)}
        assert behind(tx) == {"n2": 2}


def test_who_looks_again_learns_which_nodes_changed(db):
    with db.reading() as tx:
        assert slices.changed_since(tx, 0) == (0, set())
    put(db, ("n1", "n2"))
    with db.reading() as tx:
        seq, changed = slices.changed_since(tx, 0)
        assert changed == {"n1", "n2"}
        assert slices.changed_since(tx, seq) == (seq, set())
    put(db, ("n2", "n3"))
    with db.reading() as tx:
        assert slices.changed_since(tx, seq)[1] == {"n1", "n2", "n3"}


def test_changes_become_visible_in_the_order_of_their_numbers(db, another):
    """Of two transactions at once the later number never shows first: a look between them would lose one."""
    with db.transaction() as tx:
        slices.add(tx, "princeton_two", "a@b.c", 1000.0)
    stop = threading.Event()
    seen: set[str] = set()
    missed: list[int] = []

    def look() -> None:
        seq = 0
        one = another()
        while not stop.is_set():
            with one.reading() as tx:
                new, changed = slices.changed_since(tx, seq)
            missed.extend([new] if new > seq and not changed else [])
            seen.update(changed)
            seq = new

    looks = threading.Thread(target=look)
    looks.start()
    writers = [
        threading.Thread(target=lambda n=name, o=on: [put(another(), (o,), name=n) for _ in range(5)])
        for name, on in (("princeton_iias", "n1"), ("princeton_two", "n2"))
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    looks.join()
    assert (seen, missed) == ({"n1", "n2"}, [])


def test_two_edits_at_once_get_two_generations(db, another):
    """`next_generation` holds the slice: of two edits at once none is lost."""
    numbers: list[int] = []

    def edit(one: Database) -> None:
        for _ in range(10):
            numbers.append(put(one, ("n1",)))

    threads = [threading.Thread(target=edit, args=[one]) for one in (db, another())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 21))


def test_a_slice_that_ends_ends_on_its_nodes_and_its_name_goes_on_counting(db):
    put(db, ("n1",), 7)
    with db.transaction() as tx:
        slices.delete(tx, "princeton_iias")
    assert held(db, "n1") == [SliceSpec("princeton_iias", "n1", 8)]
    with db.transaction() as tx:
        with pytest.raises(NotFound):
            slices.get(tx, "princeton_iias")
        assert slices.generation(tx, "princeton_iias") == 8
        slices.add(tx, "princeton_iias", "a@b.c", 2000.0)
        assert slices.next_generation(tx, "princeton_iias") == 9


def test_a_slice_begins_above_all_that_nodes_may_have_forgotten(db):
    put(db, ("n1",), 41)
    with db.transaction() as tx:
        slices.add(tx, "princeton_two", "a@b.c", 1000.0)
        assert slices.next_generation(tx, "princeton_two") == 42
        slices.delete(tx, "princeton_iias")
        assert slices.next_generation(tx, "princeton_two") == 43


def test_specs_of_two_generations_are_no_desired_state(db):
    with db.transaction() as tx, pytest.raises(Invalid):
        slices.put_topology(tx, "princeton_iias", PAIR, {"n1": spec("n1", 1), "n2": spec("n2", 2)}, 0.0)


def test_a_renewed_slice_lives_longer_on_its_nodes_too(db):
    put(db, ("n1",))
    with db.transaction() as tx:
        with pytest.raises(Invalid, match="a description and a URL"):
            slices.renew(tx, "princeton_iias", 1000.0, 2_000_000.0)
        slices.change(tx, "princeton_iias", {"description": "routing", "url": "https://vini.example"})
        assert slices.renew(tx, "princeton_iias", 1000.0, 2_000_000.0).expires == 2_000_000.0
    assert held(db, "n1") == [spec("n1", 2, expires=2_000_000.0)]
    with db.reading() as tx:
        assert slices.expired(tx, 1_999_999.0) == []
        assert slices.expired(tx, 2_000_000.0) == ["princeton_iias"]


def test_a_site_has_as_many_slices_as_it_may(db):
    with db.transaction() as tx:
        with pytest.raises(Conflict):
            slices.add(tx, "princeton_iias", "a@b.c", 0.0)
        slices.add(tx, "princeton_two", "a@b.c", 0.0)
        with pytest.raises(Denied, match="may have 2 slices, and has 2"):
            slices.add(tx, "princeton_three", "a@b.c", 0.0)
        sites.change(tx, "princeton", {"max_slices": 0})
        with pytest.raises(Denied, match="max_slices is 0"):
            slices.renew(tx, "princeton_two", 0.0, 1.0)


def test_a_node_that_was_reinstalled_gets_all_again(db):
    put(db, ("n1",))
    with db.transaction() as tx:
        slices.acknowledge(tx, "princeton_iias", "n1", 1, b"", 6.0)
        with pytest.raises(Conflict, match="reinstall"):
            nodes.join(tx, "n1", "princeton", b"x" * 32, NodeSaid())
        nodes.set_state(tx, "n1", "reinstall")
        row = nodes.join(tx, "n1", "princeton", b"x" * 32, NodeSaid(version="2"))
        assert (row.boot_state, row.public_key, row.version) == ("boot", b"x" * 32, "2")
        assert behind(tx) == {"n1": 1}


def test_a_node_that_is_gone_takes_its_specs_along(db):
    put(db, ("n1", "n2"))
    with db.transaction() as tx:
        nodes.delete(tx, "n1")
        with pytest.raises(NotFound):
            nodes.heard(tx, "n1", 9.0, NodeSaid())
    assert put(db, ("n2",)) == 2


def test_a_node_from_an_old_disk_is_told_to_end_what_is_gone(db):
    put(db, ("n1", "n2"), 5)
    with db.transaction() as tx:
        slices.add(tx, "princeton_two", "a@b.c", 1000.0)
    put(db, ("n1",), 6, "princeton_two")
    with db.transaction() as tx:
        slices.delete(tx, "princeton_two")
        slices.acknowledge(tx, "princeton_two", "n1", 7, b"", 1.0)
        assert specs.strays(tx, "n1", {"princeton_iias": 3, "princeton_two": 6, "never_heard": 9}) == [
            SliceSpec("never_heard", "n1", 10),
            SliceSpec("princeton_two", "n1", 7),
        ]
        assert specs.strays(tx, "n3", {"princeton_iias": 5}) == [SliceSpec("princeton_iias", "n3", 6)]


@pytest.mark.parametrize("name", ["", "N1", "n 1", "n1\n", "x" * 300, "a\x00b"])
def test_a_machine_needs_a_name(db, name):
    with pytest.raises(Invalid, match="no name for a node"), db.transaction() as tx:
        nodes.join(tx, name, "princeton", b"k" * 32, NodeSaid())


def test_two_nodes_can_not_claim_one_address_or_key(db):
    with db.transaction() as tx:
        nodes.join(tx, "n4", "princeton", b"4" * 32, NodeSaid(address="192.0.2.4"))
        for key, address, says in ((b"5" * 32, "192.0.2.4", "has the address"), (b"4" * 32, "", "disk copied")):
            with pytest.raises(Conflict, match=says):
                nodes.join(tx, "n5", "princeton", key, NodeSaid(address=address))
        with pytest.raises(Invalid, match="no IPv4 or IPv6"):
            nodes.join(tx, "n5", "princeton", b"5" * 32, NodeSaid(address="here"))


def test_whatever_a_node_says_is_stored(db):
    said = NodeSaid(frozenset({"a\x00b", "c d", ""}), "", 1 << 40, float("inf"), -5, "x\x00" * 500)
    with db.transaction() as tx:
        nodes.heard(tx, "n1", 9.0, said, float("nan"))
        row = nodes.get(tx, "n1")
        assert (row.capabilities, row.cores, row.memory_mib) == (frozenset({"ab", "cd"}), 0.0, 0)
        for key, kept in (("k" * 43 + "=", "k" * 43 + "="), ("k" * 42 + "=", ""), ("'; " * 20, "")):
            nodes.heard(tx, "n1", 9.0, NodeSaid(wireguard=key))
            assert nodes.get(tx, "n1").wireguard == kept
        slices.acknowledge(tx, "princeton_iias", "n1", 1 << 80, b"", 1.0)
        slices.acknowledge(tx, "princeton_iias", "n1", -1, b"", 1.0)


def test_owners_are_reminded_once_a_week_and_once_two_days_before(db):
    day = 86_400.0
    ends = 1000.0 + 14 * day
    said = []
    for left in (8, 7, 6.9, 5, 2, 1.9, 0.1, 0):
        with db.transaction() as tx:
            said += [(left, r.before_s / day) for r in reminders.remind(tx, ends - left * day)]
    assert said == [(7, 7), (2, 2)]
    with db.transaction() as tx:
        slices.change(tx, "princeton_iias", {"description": "x", "url": "https://x.example"})
        slices.renew(tx, "princeton_iias", ends - day, ends + 30 * day)
        assert reminders.remind(tx, ends) == []
        assert len(reminders.remind(tx, ends + 24 * day)) == 1


class TestTunnels:
    def test_a_link_keeps_its_number_and_a_freed_one_rests(self, db):
        with db.transaction() as tx:
            first = tunnels.lease(tx, "s", ["x", "y"])
            assert len(set(first.values())) == 2
            again = tunnels.lease(tx, "s", ["y", "z"])
            assert again["y"] == first["y"]
            assert again["z"] not in first.values()
            assert tunnels.lease(tx, "other", ["x"])["x"] not in {*first.values(), *again.values()}
            assert tunnels.lease(tx, "s", []) == {}

    def test_numbers_begin_again_after_the_last(self, db):
        from vini.store import counters

        with db.transaction() as tx:
            kept = tunnels.lease(tx, "old", ["first", "second"])
            counters.add(tx, "vni", tunnels.MOST - 4)
            new = tunnels.lease(tx, "s", [str(i) for i in range(100)])
            assert not set(kept.values()) & set(new.values())
            assert len(set(new.values())) == 100
            assert {tunnels.MOST, tunnels.MOST - 1, 3} <= set(new.values())

    def test_two_writers_never_get_one_number(self, db, another):
        got: list[int] = []

        def lease(one: Database, slice_: str) -> None:
            for i in range(8):
                with one.transaction() as tx:
                    got.extend(tunnels.lease(tx, f"{slice_}{i}", [str(k) for k in range(20)]).values())

        threads = [threading.Thread(target=lease, args=[o, s]) for o, s in ((db, "a"), (another(), "b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == len(set(got)) == 320

    def test_a_slice_keeps_its_port_as_long_as_it_wants_one_and_no_other_has_it(self, db):
        with db.transaction() as tx:
            port = tunnels.lease_port(tx, "s", wanted=True)
            assert port in tunnels.PORTS
            others = {tunnels.lease_port(tx, f"o{i}", wanted=True) for i in range(100)}
            assert len(others) == 100 and port not in others
            assert tunnels.lease_port(tx, "s", wanted=True) == port
            assert tunnels.lease_port(tx, "s", wanted=False) == 0
            assert tunnels.lease_port(tx, "late", wanted=True) not in {port, *others}, "a freed one rests"
            tunnels.give_back(tx, "late")

    def test_when_all_ports_are_taken_that_is_said_and_a_freed_one_is_found(self, db):
        from vini.store import counters
        from vini.store.tables import wireguards

        with db.transaction() as tx:
            rows = [{"slice": f"s{i}", "number": i} for i in range(1, len(tunnels.PORTS) + 1)]
            tx.execute(wireguards.insert(), rows)
            with pytest.raises(CapacityError, match="12000 ports for slices with encrypted tunnels"):
                tunnels.lease_port(tx, "one-more", wanted=True)
            counters.add(tx, "wireguard", 8000)
            tunnels.give_back(tx, "s77")
            assert tunnels.lease_port(tx, "one-more", wanted=True) == tunnels.PORTS[77 - 1]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.sampled_from("uvwxyz"))), max_size=8))
    def test_whatever_is_leased_is_unique_and_stable(self, db, asked):
        have: dict[tuple[str, str], int] = {}
        with db.transaction() as tx:
            for slice_, links in asked:
                given_ = tunnels.lease(tx, slice_, links)
                assert set(given_) == links
                assert all(have.get((slice_, link), vni) == vni for link, vni in given_.items())
                have = {k: v for k, v in have.items() if k[0] != slice_} | {
                    (slice_, link): vni for link, vni in given_.items()
                }
                assert len(set(have.values())) == len(have)
            for slice_ in "ab":
                tunnels.lease(tx, slice_, ())
