"""What was asked for, by whom, and with what result: SQLite in the state directory.

Of slices that ended the newest KEPT are remembered, each by an empty row: however many come and go, the database stops
growing.  Forgetting is safe since a slice that comes up begins above every generation that any slice ever ended with
(the ledger refuses those below).  What was asked, and by whom, is `local_log`'s.

The standard library's driver: a central's store needs accounts and a second database, and SQLAlchemy for them; one
table on one machine does not.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import statvfs
from pathlib import Path

import msgspec

from vini.edit import nearest
from vini.model import NotFound, OutsideGrant, SliceSpec, Topology, Value, ViniError
from vini.store import local_log
from vini.store.hashchain import Head, Verdict

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slices (
  name TEXT PRIMARY KEY, generation INTEGER NOT NULL, topology BLOB NOT NULL, spec BLOB NOT NULL, updated REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS outside (slice TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL);
"""
KEPT = 100  # ended slices that are still known by name
_ROOM = 1 << 20  # bytes below which a disk counts as full: a transaction's log may need as much

Row = tuple[str, int, bytes, bytes, float]


class _Slivers(msgspec.Struct):
    """What of a topology says whether its slice has ended; the slivers themselves are not looked at."""

    slivers: dict[str, msgspec.Raw] = {}


class Stored(Value, frozen=True):
    """One slice as it was last asked for; an ended one has no slivers."""

    name: str
    generation: int
    topology: Topology
    spec: SliceSpec
    updated: float  # Unix time, s


class Store:
    """Slices and events.  A method that returned has reached the disk."""

    def __init__(self, path: Path):
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA + local_log.SCHEMA)
            if not local_log.is_begun(self._db):
                with self.transaction():
                    local_log.begin(self._db)
        except (sqlite3.Error, OSError) as e:
            raise ViniError(f"The database {path} can't be used: {e}; {_remedy(path)}.") from e

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a second writer waits for its turn."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back
                yield
        except sqlite3.Error as e:
            raise ViniError(f"The database {self._path} refused to write: {e}; {_remedy(self._path)}.") from e

    def slices(self) -> list[Stored]:
        """All slices that are asked for and that this version can read, by name."""
        return [s for s in self._all() if s.topology.slivers]

    def unreadable(self) -> list[str]:
        """The names of slices that another version stored so that this one can't read them."""
        return [row[0] for row in self._rows() if _readable(row) is None and _has_slivers(row[2])]

    def _all(self) -> list[Stored]:
        return [stored for row in self._rows() if (stored := _readable(row))]

    def _rows(self) -> list[Row]:
        rows = self._db.execute("SELECT name, generation, topology, spec, updated FROM slices ORDER BY name")
        return rows.fetchall()

    def get(self, name: str) -> Stored:
        """Raises NotFound with the names that there are."""
        found = self.find(name)
        if found is None or not found.topology.slivers:
            raise NotFound(f"There is no slice {name!r}; {self._hint(name)}")
        return found

    def _hint(self, name: str) -> str:
        known = [s.name for s in self.slices()]
        if near := nearest(name, known):
            return f"did you mean {near!r}?"
        return f"there is: {', '.join(known)}." if known else "none is up; `vini up FILE` brings one up."

    def find(self, name: str) -> Stored | None:
        """Also one that has ended: its generation goes on.  Raises ViniError where another version stored it."""
        row = self._db.execute(
            "SELECT name, generation, topology, spec, updated FROM slices WHERE name = ?", (name,)
        ).fetchone()
        return _stored(row) if row else None

    def generation(self, name: str) -> int:
        """The generation that the next one of a slice must be above, be it readable or not.

        Of one that is up, its own; else the highest that any slice ever had: so the slice can neither be mistaken
        for an earlier one of its name, nor for one that ended and was forgotten.
        """
        row = self._db.execute("SELECT generation, topology FROM slices WHERE name = ?", (name,)).fetchone()
        if row and _has_slivers(row[1]):
            return int(row[0])
        known = "SELECT generation FROM slices UNION ALL SELECT generation FROM forgotten"
        highest = self._db.execute(f"SELECT max(generation) FROM ({known})").fetchone()[0]
        return int(highest or 0)

    def put(self, topology: Topology, spec: SliceSpec, who: str, what: str) -> None:
        """Store a new desired state and the event that made it; inside a transaction."""
        now = time.time()
        row = (spec.slice, spec.generation, msgspec.json.encode(topology), msgspec.json.encode(spec), now)
        self._db.execute("INSERT OR REPLACE INTO slices VALUES (?, ?, ?, ?, ?)", row)
        local_log.add(self._db, now, who, what, spec.slice, spec.generation)
        if not topology.slivers:
            self._forget()

    def _forget(self) -> None:
        """All but the newest ended slices; `generation` remembers that they were."""
        rows = self._db.execute("SELECT name, generation, topology FROM slices ORDER BY rowid DESC")
        for name, generation, _ in [row for row in rows if not _has_slivers(row[2])][KEPT:]:
            self._db.execute(
                "INSERT INTO forgotten VALUES (1, ?) "
                "ON CONFLICT (one) DO UPDATE SET generation = max(generation, excluded.generation)",
                (generation,),
            )
            self._db.execute("DELETE FROM slices WHERE name = ?", (name,))

    def granted(self, slice_: str) -> OutsideGrant | None:
        """What a slice may do in the world, whether or not it is up; None: nothing."""
        row = self._db.execute("SELECT body FROM outside WHERE slice = ?", (slice_,)).fetchone()
        try:
            return msgspec.json.decode(row[0], type=OutsideGrant) if row else None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise ViniError(
                f"What slice {slice_!r} may do in the world was stored by another version of VINI, which this one "
                f"can't read ({e}); grant it anew, or revoke it: `vini outside revoke {slice_}`."
            ) from e

    def grant(self, slice_: str, grant: OutsideGrant | None) -> None:
        """In place of what was granted before; inside a transaction."""
        self._db.execute("DELETE FROM outside WHERE slice = ?", (slice_,))
        if grant is not None:
            self._db.execute("INSERT INTO outside VALUES (?, ?)", (slice_, msgspec.json.encode(grant)))

    def note(self, slice_: str, who: str, what: str) -> None:
        """The event that something was asked which changes no desired state; inside a transaction."""
        local_log.add(self._db, time.time(), who, what, slice_, 0)

    def events(self, slice_: str, limit: int = 50) -> list[tuple[float, str, str, int]]:
        """When, who, what, generation (0: it made none); the newest first."""
        return local_log.of_slice(self._db, slice_, limit)

    def check_events(self, once: Head | None = None) -> Verdict:
        """Whether events were changed, taken out or put in since they happened; with `once`, what was the head of their
        chain once, also whether they were all made anew."""
        try:
            self._db.execute("BEGIN")  # one moment, which no writer waits for
            with self._db:
                return local_log.check(self._db, once)
        except sqlite3.Error as e:
            raise ViniError(f"The database {self._path} can't be read: {e}; {_remedy(self._path)}.") from e


def _remedy(path: Path) -> str:
    """What helps a database that SQLite could not use.  On a full disk SQLite says no more than "disk I/O error"."""
    try:
        disk = statvfs(path.parent)
    except OSError:
        return "check the disk, or move the file away"
    if disk.f_bavail * disk.f_frsize < _ROOM:
        return f"its disk is full (`df {path.parent}`): make room on it and try again"
    return "check the disk, or move the file away"


def _stored(row: Row) -> Stored:
    name, generation, topology, spec, updated = row
    try:
        return Stored(
            name,
            generation,
            msgspec.json.decode(topology, type=Topology),
            msgspec.json.decode(spec, type=SliceSpec),
            updated,
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ViniError(
            f"Slice {name!r} was stored by another version of VINI, which this one can't read ({e}). "
            f"Take it down, `vini down -s {name}`, or bring it up anew from its file; that changes it in place."
        ) from e


def _readable(row: Row) -> Stored | None:
    try:
        return _stored(row)
    except ViniError:
        return None


def _has_slivers(topology: bytes) -> bool:
    """As far as it can be known of what another version wrote; an ended slice has none."""
    try:
        return bool(msgspec.json.decode(topology, type=_Slivers).slivers)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True
