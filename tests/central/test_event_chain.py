"""The chain of events: what somebody does to the database by hand is named; two centrals make one chain."""

from __future__ import annotations

import threading

import older
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from vini.central import settings
from vini.cli import vini
from vini.store import chain, events
from vini.store.database import Database, Tx


def add(tx: Tx, *targets: str, at: float = 1.0) -> None:
    for target in targets:
        events.add(tx, at=at, who="ada@example.org", what="up", kind="slice", target=target)


@pytest.fixture
def five(database: Database) -> Database:
    """With five events, of two transactions."""
    with database.transaction() as tx:
        add(tx, "a", "b")
    with database.transaction() as tx:
        add(tx, "c", "d", "e")
    return database


def checked(database: Database, kept: chain.Head | None = None) -> chain.Verdict:
    with database.reading() as tx:
        return chain.check(tx, kept)


def by_hand(database: Database, *statements: str) -> str:
    """What is wrong after somebody did that."""
    with database.transaction() as tx:
        for statement in statements:
            tx.execute(text(statement))
    return checked(database).broken


def test_events_are_in_the_chain_from_the_first_moment(five):
    found = checked(five)
    assert (found.events, found.head.place, found.broken) == (5, 5, "")


@pytest.mark.parametrize(
    "statement, says",
    [
        ("UPDATE events SET who = 'eve@example.org' WHERE id = 3", "Event 3, at place 3, or its link, was changed"),
        ("UPDATE events SET at = at + 0.001 WHERE id = 1", "Event 1, at place 1, or its link"),
        ("DELETE FROM events WHERE id = 2", "Event 2, at place 2, was taken out"),
        ("DELETE FROM event_chain WHERE place = 4", "Links 4 to 4 are missing, before event 5"),
        ("DELETE FROM event_chain WHERE place = 5", "ends at place 4, but 5 events were put into it"),
        ("UPDATE event_chain SET hash = 'x' WHERE place = 2", "Event 2, at place 2, or its link"),
        (
            "INSERT INTO events (id, at, who, what, kind, target, result, duration_s) "
            "VALUES (9, 1, 'eve', 'up', 'slice', 'x', 'ok', 0)",
            "Event 9 is not in the chain: it was put in by hand",
        ),
    ],
)
def test_what_is_done_by_hand_is_named(five, statement, says):
    assert says in by_hand(five, statement)


def test_who_makes_the_whole_chain_anew_is_betrayed_by_a_head_that_was_kept(five):
    kept = checked(five).head
    by_hand(five, "UPDATE events SET who = 'eve' WHERE id = 4")
    with five.transaction() as tx:
        before = chain.START
        for row in tx.execute(text("SELECT * FROM events ORDER BY id")).all():
            before = chain.linked(before, row)
            tx.execute(text("UPDATE event_chain SET hash = :h WHERE event_id = :i"), {"h": before, "i": row.id})
    assert checked(five).broken == ""
    assert "at place 5 it had another hash once" in checked(five, kept).broken


def test_a_kept_head_is_found_again_when_more_has_happened(five):
    kept = checked(five).head
    with five.transaction() as tx:
        add(tx, "f")
    assert checked(five, kept).broken == ""
    assert "before the head that you kept" in checked(five, kept._replace(place=9)).broken


def test_what_was_rolled_back_left_no_link(five):
    with pytest.raises(ZeroDivisionError), five.transaction() as tx:
        add(tx, "x")
        _ = 1 / 0
    with five.transaction() as tx:
        add(tx, "f")
    assert checked(five)[:2] == (6, checked(five).head) and checked(five).broken == ""


def test_two_centrals_make_one_chain(database, another):
    start = threading.Barrier(4)

    def write(one: Database) -> None:
        start.wait(10)
        for i in range(10):
            with one.transaction() as tx:
                add(tx, f"{i}")

    threads = [threading.Thread(target=write, args=[one]) for one in (database, another(), another(), another())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = checked(database)
    assert (found.events, found.broken) == (40, "")


def test_the_oldest_are_forgotten_and_what_is_kept_still_hangs_together(database):
    for at in (1.0, 2.0, 3.0):
        with database.transaction() as tx:
            add(tx, f"s{at}", at=at)
    early = checked(database).head
    with database.transaction() as tx:
        assert events.forget(tx, 2.5) == 2
        assert events.forget(tx, 2.5) == 0
    assert checked(database, early) == chain.Verdict(1, early)
    assert "not kept any more" in checked(database, early._replace(place=1)).broken
    with database.transaction() as tx:
        assert events.forget(tx, 9.0) == 1
    with database.transaction() as tx:
        add(tx, "later")
    assert checked(database).broken == ""
    assert "is missing" in by_hand(database, "DELETE FROM event_chain WHERE place = 3")


def test_events_of_an_older_version_are_chained_when_it_is_upgraded(five):
    with five.transaction() as tx:
        older.back_to(tx, "0008")
    five.migrate()
    with five.transaction() as tx:
        add(tx, "new")
    assert (checked(five).events, checked(five).broken) == (6, "")


def test_the_command_prints_the_head_and_names_what_is_wrong(five, url, tmp_path):
    settings.write(tmp_path, settings.Settings(("central.example",), 8443, url))

    def run(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(vini, ["central", "audit", "--dir", str(tmp_path), *more])
        return done.exit_code, done.output + str(done.exception or "")

    head = str(checked(five).head)
    assert run() == (0, f"5 events, and none was changed. Keep this head elsewhere:\n  {head}\n")
    assert run("--head", head, "--json")[0] == 0
    assert "is no head of a chain" in run("--head", "yesterday's")[1]
    by_hand(five, "DELETE FROM events WHERE id = 5")
    code, said = run("--json")
    assert code == 1 and '"broken": "Event 5, at place 5, was taken out."' in said
