"""The chain of this machine's events: what is done to the database by hand is named, and no kill breaks it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from strategies import spec_of

from vini.cli import vini
from vini.client.login import Login
from vini.client.remote import RemoteClient
from vini.model import Sliver, Topology, Unsupported, ViniError
from vini.store import Head, Store, Verdict, hashchain, local_log

PAIR = Topology("lab", {"a": Sliver("a"), "b": Sliver("b")})


def note(store: Store, *whats: str) -> None:
    for what in whats:
        with store.transaction():
            store.note("lab", "ada", what)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vini.db"


@pytest.fixture
def five(file: Path) -> Store:
    """With five events; one of them made a desired state."""
    store = Store(file)
    with store.transaction():
        store.put(PAIR, spec_of(PAIR, 7), "ada", "up")
    note(store, "grant tcp:80", "link a b --fail silent", "link a b --restore", "down")
    return store


def by_hand(store: Store, *statements: str) -> str:
    """What is wrong after somebody did that."""
    for statement in statements:
        store._db.execute(statement)
    return store.check_events().broken


def test_events_are_in_the_chain_from_the_first_moment(five, file):
    found = five.check_events()
    assert (found.events, found.head.place, found.broken) == (5, 5, "")
    assert Store(file).check_events() == found, "the next program finds the same"
    assert Store(Path(":memory:")).check_events() == Verdict(0, Head(0, hashchain.START))


@pytest.mark.parametrize(
    "statement, says",
    [
        ("UPDATE events SET who = 'eve' WHERE id = 3", "Event 3, at place 3, or its link, was changed"),
        ("UPDATE events SET at = at + 0.001 WHERE id = 1", "Event 1, at place 1, or its link"),
        ("UPDATE events SET generation = 8 WHERE id = 1", "Event 1, at place 1, or its link"),
        ("UPDATE events SET who = x'00ff' WHERE id = 2", "Event 2, at place 2, or its link"),
        ("DELETE FROM events WHERE id = 2", "Event 2, at place 2, was taken out"),
        ("DELETE FROM event_chain WHERE place = 4", "Links 4 to 4 are missing, before event 5"),
        ("DELETE FROM event_chain WHERE place = 5", "ends at place 4, but 5 events were put into it"),
        ("UPDATE event_chain SET hash = 'x' WHERE place = 2", "Event 2, at place 2, or its link"),
        (
            "INSERT INTO events VALUES (9, 1, 'eve', 'up', 'lab', 1)",
            "Event 9 is not in the chain: it was put in by hand",
        ),
        ("DROP TABLE event_chain", "can't be read: no such table"),
    ],
)
def test_what_is_done_by_hand_is_named(five, statement, says):
    try:
        assert says in by_hand(five, statement)
    except ViniError as e:
        assert says in str(e)


def test_what_was_done_by_hand_stops_nobody_and_stays_visible(five, file):
    by_hand(five, "DELETE FROM events WHERE id = 5", "DELETE FROM chained")
    again = Store(file)
    note(again, "up")  # it gets the number of the one that was taken out
    assert again.events("lab", 1)[0][2] == "up"
    assert "Event 5, at place 5, or its link, was changed" in again.check_events().broken


def test_who_makes_the_whole_chain_anew_is_betrayed_by_a_head_that_was_kept(five, file):
    kept = five.check_events().head
    by_hand(five, "UPDATE events SET who = 'eve' WHERE id = 4", "DELETE FROM event_chain", "DELETE FROM chained")
    again = Store(file)
    assert again.check_events().broken == ""
    assert "at place 5 it had another hash once" in again.check_events(kept).broken
    assert "before the head that you kept" in again.check_events(kept._replace(place=9)).broken


def test_what_an_older_version_wrote_is_chained_when_the_file_is_opened(file):
    with sqlite3.connect(file) as old:
        old.executescript(local_log.SCHEMA.partition("CREATE TABLE IF NOT EXISTS event_chain")[0])
        old.execute("INSERT INTO events VALUES (3, 1.5, 'ada', 'up', 'lab', 1)")
        old.execute("INSERT INTO events VALUES (8, 2.5, 'ada', 'down', 'lab', 2)")
    store = Store(file)
    note(store, "up")
    assert store.check_events()[0::2] == (3, "")


def test_what_an_older_version_wrote_beside_the_chain_is_told_and_the_chain_can_begin_anew(five, file):
    """By the statements that the documentation gives."""
    five._db.execute("INSERT INTO events (at, who, what, slice, generation) VALUES (1.5, 'ada', 'up', 'lab', 1)")
    note(five, "down")
    assert (
        "Event 6 is not in the chain" in five.check_events().broken and "an older version" in five.check_events().broken
    )
    anew = "DELETE FROM event_chain; DELETE FROM chained;"
    assert anew in (Path(__file__).parents[2] / "docs/explanation/audit.md").read_text()
    five._db.executescript(anew)
    again = Store(file)
    note(again, "up")
    assert again.check_events()[0::2] == (8, "")


def test_the_oldest_go_in_the_order_of_the_chain_and_what_is_kept_hangs_together(five, monkeypatch):
    early = five.check_events().head
    monkeypatch.setattr(local_log, "EVENTS", 3)
    note(five, "up")
    assert [what for _, _, what, _ in five.events("lab")] == ["up", "down", "link a b --restore"]
    found = five.check_events(early)
    assert (found.events, found.head.place, found.broken) == (3, 6, "")
    assert "not kept any more" in five.check_events(early._replace(place=2)).broken
    assert "Link 3, to which the oldest event refers, is missing" in by_hand(
        five, "DELETE FROM event_chain WHERE place = 3"
    )


@pytest.mark.parametrize("moment", ["links", "_forget"])
def test_a_kill_in_the_middle_leaves_neither_an_event_nor_a_link(five, file, moment):
    """Killed when the event is written and its link is not; and when both are, before the commit."""
    killed = (
        "import os, sys; from pathlib import Path; from vini.store import Store, local_log\n"
        "store = Store(Path(sys.argv[1]))\n"
        f"local_log.{moment} = lambda *_: os.kill(os.getpid(), 9)\n"
        "with store.transaction(): store.note('lab', 'eve', 'up')\n"
    )
    before = five.check_events()
    assert subprocess.run([sys.executable, "-c", killed, file], check=False).returncode == -signal.SIGKILL
    assert five.check_events() == before
    note(Store(file), "up")
    assert five.check_events()[0::2] == (6, "")


def test_of_a_testbed_the_central_is_asked():
    with pytest.raises(Unsupported, match="`vini central audit`"):
        RemoteClient(Login("https://central.example:8443", "ada@example.org", "token")).check_events()


@pytest.mark.parametrize("words", ["--verify -s lab", "--head 1:0"])
def test_options_that_do_not_go_together_are_refused(words):
    assert CliRunner().invoke(vini, ["log", *words.split()]).exit_code == 2
