"""What was asked of this machine's slices, in a chain as a central's events are (`hashchain`).

An event and its link are written by the transaction that does what it tells of: a kill in the middle leaves neither,
and neither costs a write of its own.  The newest EVENTS are kept; the last link that goes stays, as what the oldest
that is kept refers to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from vini.store.hashchain import START, Head, Kept, Link, Verdict, follow, links

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, slice TEXT NOT NULL,
  generation INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_of ON events (slice, id);
CREATE TABLE IF NOT EXISTS event_chain (place INTEGER PRIMARY KEY, event_id INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_chain_of ON event_chain (event_id);
CREATE TABLE IF NOT EXISTS chained (
  one INTEGER PRIMARY KEY CHECK (one = 1), length INTEGER NOT NULL, forgotten INTEGER NOT NULL
);
"""
EVENTS = 100_000  # of all slices together; some 20 MB


def begin(db: sqlite3.Connection) -> None:
    """Chain the events of a version that did not; inside a transaction."""
    if is_begun(db):
        return
    last = db.execute("SELECT max(place) FROM event_chain").fetchone()[0] or 0  # above 0: somebody took our row away
    db.execute("INSERT INTO chained VALUES (1, ?, 0)", (last,))
    if not last:
        _seal(db, db.execute("SELECT * FROM events ORDER BY id").fetchall())


def is_begun(db: sqlite3.Connection) -> bool:
    """Whether there is a chain."""
    return db.execute("SELECT 1 FROM chained").fetchone() is not None


def add(db: sqlite3.Connection, at: float, who: str, what: str, slice_: str, generation: int) -> None:
    """Inside a transaction."""
    event = (at, who, what, slice_, generation)
    number = db.execute("INSERT INTO events (at, who, what, slice, generation) VALUES (?, ?, ?, ?, ?)", event).lastrowid
    _seal(db, [(number, *event)])
    _forget(db)


def of_slice(db: sqlite3.Connection, slice_: str, limit: int) -> list[tuple[float, str, str, int]]:
    """When, who, what, generation; the newest first."""
    rows = db.execute(
        "SELECT at, who, what, generation FROM events WHERE slice = ? ORDER BY id DESC LIMIT ?", (slice_, limit)
    )
    return list(rows)


def check(db: sqlite3.Connection, once: Head | None = None) -> Verdict:
    """As `hashchain.follow`; inside a transaction."""
    length, forgotten = _state(db)
    rows = db.execute(
        "SELECT place, event_id, hash, events.* FROM event_chain LEFT JOIN events ON id = event_id WHERE place > ? "
        "ORDER BY place",
        (forgotten,),
    )
    kept = (Link(row[0], row[1], row[2], None if row[3] is None else row[3:]) for row in rows)
    alien = db.execute("SELECT min(id) FROM events WHERE id NOT IN (SELECT event_id FROM event_chain)").fetchone()[0]
    return follow(Kept(_head(db, forgotten), kept, length, alien), once)


def _state(db: sqlite3.Connection) -> tuple[int, int]:
    """How many links were ever made, and of how many the events are not kept any more."""
    length, forgotten = db.execute("SELECT length, forgotten FROM chained").fetchone() or (0, 0)
    return length, forgotten


def _head(db: sqlite3.Connection, place: int) -> Head:
    """With the hash "" where that link is gone."""
    if place == 0:
        return Head(0, START)
    row = db.execute("SELECT hash FROM event_chain WHERE place = ?", (place,)).fetchone()
    return Head(place, row[0] if row else "")


def _seal(db: sqlite3.Connection, new: Sequence[Sequence[Any]]) -> None:
    made: Iterable[tuple[int, int, str]] = links(new, _head(db, _state(db)[0]))
    db.executemany("INSERT INTO event_chain VALUES (?, ?, ?)", made)
    db.execute("UPDATE chained SET length = length + ?", (len(new),))


def _forget(db: sqlite3.Connection) -> None:
    length, forgotten = _state(db)
    last = length - EVENTS
    if last <= forgotten:
        return
    db.execute("DELETE FROM events WHERE id IN (SELECT event_id FROM event_chain WHERE place <= ?)", (last,))
    db.execute("DELETE FROM event_chain WHERE place < ?", (last,))
    db.execute("UPDATE chained SET forgotten = ?", (last,))
