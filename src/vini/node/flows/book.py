"""Where flows are written down: SQLite files in `<state>/flows`, each some days or some hundred MB; the oldest go.

A file is whole after a `kill -9` at any moment: what was committed is there.  A flow's row is written when the flow
begins, and filled in when it ends; so who sent a packet is known while he still sends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vini.model import Value
from vini.node.flows.conntrack import Flow

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slivers (id INTEGER PRIMARY KEY, ns TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS flows (
  id INTEGER PRIMARY KEY, start REAL NOT NULL, stop REAL, how INTEGER NOT NULL, sliver INTEGER NOT NULL,
  protocol INTEGER NOT NULL, src INTEGER NOT NULL, sport INTEGER NOT NULL, nat INTEGER NOT NULL,
  nat_port INTEGER NOT NULL, dst INTEGER NOT NULL, dport INTEGER NOT NULL, out_packets INTEGER NOT NULL,
  out_bytes INTEGER NOT NULL, in_packets INTEGER NOT NULL, in_bytes INTEGER NOT NULL, kernel INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS who ON flows (dst, dport, nat_port);
CREATE TABLE IF NOT EXISTS watches (id INTEGER PRIMARY KEY, start REAL NOT NULL, stop REAL NOT NULL);
CREATE TABLE IF NOT EXISTS losses (at REAL NOT NULL, what TEXT NOT NULL);
"""
OPEN, ENDED, UNSEEN = 0, 1, 2  # `how` it stopped: not yet, as the kernel told, or while nobody watched
_CACHE_KIB = 32 << 10
_COLUMNS = (
    "start, stop, how, sliver, protocol, src, sport, nat, nat_port, dst, dport, out_packets, out_bytes, in_packets, "
    "in_bytes, kernel"
)
_MARKS = ", ".join("?" * 16)


class Keep(Value, frozen=True):
    """How much is kept: the least of both."""

    megabytes: int = 4096
    days: int = 90
    part_megabytes: int = 256  # of one file; smaller ones are quicker to write


class Row(NamedTuple):
    """Where a flow is written down."""

    part: int
    id: int


class Closing(NamedTuple):
    """How a flow stands: at its end, or so far."""

    row: Row
    stop: float | None
    how: int  # OPEN, ENDED or UNSEEN
    flow: Flow | None  # with its counters; None: nobody knows them any more


def directory(state: Path) -> Path:
    """Of one place's."""
    return state / "flows"


def parts(where: Path) -> list[int]:
    """The numbers of the files, the oldest first."""
    if not where.is_dir():
        return []
    return sorted(int(p.stem) for p in where.iterdir() if p.suffix == ".db" and p.stem.isdigit())


def path(where: Path, part: int) -> Path:
    """The file of that number."""
    return where / f"{part}.db"


class Book:
    """One writer's.  What it did is on the disk after `commit`, and not before."""

    def __init__(self, where: Path, keep: Keep, now: float):
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._where, self._keep = where, keep
        self._slivers: dict[str, int] = {}
        self._older: dict[int, sqlite3.Connection] = {}
        known = parts(where)
        self._part = known[-1] if known else 1
        self._db = _opened(path(where, self._part))
        self._watch = self._begin_watch(now, now)

    # --- flows --------------------------------------------------------------------------------

    def begin(self, flows: Sequence[tuple[str, float, Flow]]) -> list[Row]:
        """Write new flows down: each with its sliver and when it began."""
        first = self._db.execute("SELECT coalesce(max(id), 0) FROM flows").fetchone()[0] + 1
        rows = [
            (start, None, OPEN, self._sliver(ns), f.protocol, f.src, f.sport, f.nat, f.nat_port, f.dst, f.dport,
             f.out_packets, f.out_bytes, f.in_packets, f.in_bytes, f.id)
            for ns, start, f in ((ns, start, _stored(f)) for ns, start, f in flows)
        ]  # fmt: skip
        self._db.executemany(f"INSERT INTO flows ({_COLUMNS}) VALUES ({_MARKS})", rows)
        return [Row(self._part, first + i) for i in range(len(rows))]

    def close(self, closings: Iterable[Closing]) -> None:
        """Fill in how flows stand; of one whose file is gone already nothing."""
        by_part: dict[int, list[Closing]] = {}
        for c in closings:
            by_part.setdefault(c.row.part, []).append(c)
        for part, group in by_part.items():
            if (db := self._of(part)) is not None:
                counted = [(c.stop, c.how, *c.flow[8:12], c.row.id) for c in group if c.flow]
                db.executemany(
                    "UPDATE flows SET stop = ?, how = ?, out_packets = ?, out_bytes = ?, in_packets = ?, in_bytes = ? "
                    "WHERE id = ?", counted,
                )  # fmt: skip
                unknown = [(c.stop, c.how, c.row.id) for c in group if not c.flow]
                db.executemany("UPDATE flows SET stop = ?, how = ? WHERE id = ?", unknown)

    def open_flows(self) -> dict[tuple[int, ...], Row]:
        """Those that have not ended as far as is written, by their kernel's number and addresses; of all files."""
        out: dict[tuple[int, ...], Row] = {}
        query = "SELECT id, kernel, protocol, src, sport, dst, dport FROM flows WHERE how = 0"
        for part in parts(self._where):
            if (db := self._of(part)) is not None:
                out.update({tuple(map(number, rest)): Row(part, id_) for id_, *rest in db.execute(query)})
        return out

    def lost(self, now: float, what: str) -> None:
        """Something was missed, and this is all that is known of it."""
        self._db.execute("INSERT INTO losses VALUES (?, ?)", (now, what))

    # --- files --------------------------------------------------------------------------------

    def commit(self, now: float) -> None:
        """Up to this moment all was watched, and it is on the disk."""
        self._db.execute("UPDATE watches SET stop = ? WHERE id = ?", (now, self._watch))
        for db in (self._db, *self._older.values()):
            db.commit()
        if path(self._where, self._part).stat().st_size > self._keep.part_megabytes * 10**6:
            self._turn(now)

    def tidy(self, now: float) -> list[int]:
        """Delete the oldest files until what is kept is as little as is asked for; their numbers."""
        gone = []
        sizes = {p: path(self._where, p).stat().st_size for p in parts(self._where)}
        for part in sorted(sizes)[:-1]:
            last = path(self._where, part).stat().st_mtime
            if sum(sizes.values()) <= self._keep.megabytes * 10**6 and now - last <= self._keep.days * 86400:
                break
            if (db := self._older.pop(part, None)) is not None:
                db.close()
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path(self._where, part)}{suffix}").unlink()
            gone.append(part)
            del sizes[part]
        return gone

    def end(self, now: float) -> None:
        """Nobody watches from now on."""
        self.commit(now)
        for db in (self._db, *self._older.values()):
            db.close()

    def _turn(self, now: float) -> None:
        """On to the next file; flows that have not ended stay in theirs."""
        self._older[self._part] = self._db
        self._part += 1
        self._slivers = {}
        self._db = _opened(path(self._where, self._part))
        self._watch = self._begin_watch(now, now)
        self._db.commit()

    def _begin_watch(self, start: float, stop: float) -> int:
        return int(self._db.execute("INSERT INTO watches (start, stop) VALUES (?, ?)", (start, stop)).lastrowid or 0)

    def _of(self, part: int) -> sqlite3.Connection | None:
        if part == self._part:
            return self._db
        if part not in self._older:
            if not path(self._where, part).exists():
                return None
            self._older[part] = _opened(path(self._where, part))
        return self._older[part]

    def _sliver(self, ns: str) -> int:
        if ns not in self._slivers:
            self._db.execute("INSERT OR IGNORE INTO slivers (ns) VALUES (?)", (ns,))
            found = self._db.execute("SELECT id FROM slivers WHERE ns = ?", (ns,)).fetchone()
            self._slivers[ns] = int(found[0])
        return self._slivers[ns]


def column(address: int) -> int | bytes:
    """As a column has it: one of IPv6 is beyond the numbers that SQLite knows."""
    return address if address < 1 << 32 else address.to_bytes(16, "big")


def number(stored: int | bytes) -> int:
    """What a column has, as a number again."""
    return int.from_bytes(stored, "big") if isinstance(stored, bytes) else int(stored)


def _stored(f: Flow) -> Any:
    return f._replace(src=column(f.src), nat=column(f.nat), dst=column(f.dst))  # type: ignore[arg-type]


def _opened(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=30)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing that was committed; a power cut the last seconds
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    db.executescript(_SCHEMA)
    return db
