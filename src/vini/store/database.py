"""One database, SQLite or PostgreSQL: opens it, migrates it, and gives transactions.

All of the dialects' differences that are not SQL live here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from vini.model import Conflict, ViniError

Tx = Connection  # what functions of the store work in: everything through one of these happens, or nothing does

_PATIENCE_S = 30  # how long a writer waits for its turn
_READERS = 8
_LEAST_SQLITE = (3, 35)  # for RETURNING
_AT_LAST = "vini at last"
_PROBE = {  # of libpq: a server that the network hides is given up within 10 to 20 s, not after a quarter of an hour
    "connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}  # fmt: skip
_RETRIABLE = ("40001", "40P01")  # PostgreSQL: serialization failure, deadlock detected


def at_last(tx: Tx, act: Callable[[Tx, list[Any]], None], item: object) -> None:
    """Have `act` done, once, with all items that were given for it, when the rest of the transaction is done.

    For what takes a lock that everybody needs: nobody holds it for longer than a commit, or waits for
    another one meanwhile.
    """
    tx.info.setdefault(_AT_LAST, {}).setdefault(act, []).append(item)


def clock(tx: Tx) -> float:
    """What time it is (Unix time, s), the same for all centrals: PostgreSQL's; SQLite has none but this machine's."""
    if tx.dialect.name == "sqlite":
        return time.time()
    return float(tx.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())


class DatabaseError(ViniError):
    """The database can't be used, or refused; whoever runs the central can mend it."""


class Database:
    """Opens at the first use.  A transaction whose `with` block was left has reached the disk."""

    def __init__(self, url: str):
        self._url = _parsed(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        try:
            self._writer, self._reader, self._looker = self._sqlite() if self.is_sqlite else self._postgresql()
        except (SQLAlchemyError, ImportError) as e:
            raise DatabaseError(f"The database {self} can't be used: {_first_line(e)}.") from e

    def __str__(self) -> str:
        """Without the password."""
        return self._url.render_as_string(hide_password=True)

    def _sqlite(self) -> tuple[Engine, Engine, Engine]:
        """One connection that writes, since the file has one writer anyway; others only read, beside it (WAL)."""
        if sqlite3.sqlite_version_info < _LEAST_SQLITE:
            raise DatabaseError(
                f"SQLite {sqlite3.sqlite_version}, which this Python has, is too old: 3.35 is needed.  Take a Python "
                "with a newer one, or PostgreSQL: `vini central init --database postgresql://...`."
            )
        writer = create_engine(
            self._url, pool_size=1, max_overflow=0, pool_timeout=_PATIENCE_S, connect_args={"timeout": _PATIENCE_S}
        )
        reader = create_engine(self._url, pool_size=_READERS, max_overflow=0, pool_timeout=_PATIENCE_S)
        event.listen(writer, "connect", _prepare_writer)
        event.listen(reader, "connect", _prepare_reader)
        event.listen(writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE") and None)
        event.listen(reader, "begin", lambda connection: connection.exec_driver_sql("BEGIN") and None)
        return writer, reader, reader

    def _postgresql(self) -> tuple[Engine, Engine, Engine]:
        probe = {name: value for name, value in _PROBE.items() if name not in self._url.query}
        writer = create_engine(
            self._url, pool_size=5, max_overflow=2 * _READERS, pool_timeout=_PATIENCE_S, pool_pre_ping=True,
            connect_args=probe,
        )  # fmt: skip
        looker = create_engine(
            self._url, pool_size=2, max_overflow=_READERS, isolation_level="AUTOCOMMIT", connect_args=probe
        )
        reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return writer, reader, looker

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """All or nothing.  Don't ask for a second one inside: on SQLite there is one writer."""
        with self._told(), self._writer.begin() as tx:
            tx.info.pop(_AT_LAST, None)  # of one that was rolled back
            yield tx
            for act, items in tx.info.pop(_AT_LAST, {}).items():
                act(tx, items)

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """One consistent picture, which no writer waits for; writing in it is refused."""
        with self._told(), self._reader.begin() as tx:
            yield tx

    @contextmanager
    def looking(self) -> Iterator[Tx]:
        """For one statement that reads, and is asked several times a second: it costs one way to the server and back,
        where `reading` takes four.  After the server was started anew the first one fails."""
        with self._told(), self._looker.connect() as tx:
            yield tx

    def migrate(self) -> None:
        """Bring the tables to what this version knows; keeps all data.  Of several centrals at once one does it."""
        from vini.store import migrations

        with self.transaction() as tx:
            migrations.upgrade(tx, str(self))

    def check(self) -> None:
        """Raises DatabaseError with the next step where the tables are not what this version knows."""
        from vini.store import migrations

        with self.reading() as tx:
            migrations.check(tx, str(self))

    def is_empty(self) -> bool:
        """Whether there is no table in it, of whomever."""
        if self.is_sqlite and not Path(str(self._url.database)).exists():
            return True
        with self.reading() as tx:
            return not inspect(tx).get_table_names()

    def check_filled(self) -> None:
        """Raises DatabaseError where a central that is there has lost it: a new one would know nobody, and make slices
        of these names end on nodes."""
        if self.is_empty():
            raise DatabaseError(
                f'The database {self} is not there, or empty: is its disk mounted, and does "database" in '
                "settings.json name the right one?  If it is lost, `vini central restore` a backup into another --dir."
            )

    def clear(self) -> None:
        """Take all tables out of it."""
        with self.transaction() as tx:
            tables = MetaData()
            tables.reflect(tx)
            tables.drop_all(tx)

    def close(self) -> None:
        """Hang up; afterwards it opens again when it is used."""
        self._writer.dispose()
        self._reader.dispose()
        self._looker.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the database says, as an error of ours."""
        try:
            yield
        except IntegrityError as e:
            raise Conflict(
                "Somebody else wrote something at the same moment that excludes this; look, and try again."
            ) from e
        except PoolTimeout as e:
            raise DatabaseError(f"The database {self} has had no time for this for {_PATIENCE_S} s; try again.") from e
        except DBAPIError as e:
            if getattr(e.orig, "sqlstate", "") in _RETRIABLE:
                raise Conflict("Two changes at the same moment got in each other's way; try again.") from e
            raise DatabaseError(f"The database {self} refused: {_first_line(e.orig or e)}. {_remedy(e)}") from e


def _parsed(url: str) -> URL:
    try:
        found = make_url(url)
    except ArgumentError as e:
        raise DatabaseError(
            "This is no URL of a database. Write sqlite:////var/lib/vini/central.db, or postgresql://user@server/vini."
        ) from e
    if found.drivername in ("postgresql", "postgres"):
        found = found.set(drivername="postgresql+psycopg")
    if found.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseError(
            f"VINI keeps its data in SQLite or PostgreSQL, not in {found.get_backend_name()}; "
            "write sqlite:///FILE or postgresql://user@server/vini."
        )
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise DatabaseError("A database in memory would be gone with the central; write sqlite:///FILE.")
    return found


def _prepare_writer(connection: Any, _: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see "begin"
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was accepted is on the disk
    connection.execute("PRAGMA foreign_keys = ON")


def _prepare_reader(connection: Any, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON")


def _first_line(e: BaseException) -> str:
    return str(e).strip().splitlines()[0].rstrip(".") if str(e).strip() else type(e).__name__


def _remedy(e: DBAPIError) -> str:
    text = str(e.orig).lower()
    if "database" in text and "does not exist" in text:
        return "Make it (`createdb`), or mend its name in the URL."
    if "role" in text and "does not exist" in text:
        return "Make it (`createuser`), or name another one in the URL."
    if "no such table" in text or "does not exist" in text:
        return "`vini central init` makes its tables, if it is the right one."
    if "locked" in text:
        return "Another program holds it: see which (`fuser` with its file), end that, and try again."
    if "malformed" in text or "not a database" in text:
        return "It is damaged, or none of VINI's: see that its disk is sound, then restore a backup into another --dir."
    if "disk i/o" in text:
        return "Its disk fails, or is gone: see what the kernel says (`dmesg`)."
    if "readonly" in text or "read-only" in text or "permission" in text:
        return "Let the central's user write there; a standby takes no writes until it is promoted."
    if "unable to open" in text:
        return (
            "See that its directory is there, that the central's user may write in it, and that its disk is not "
            "mounted to be read only (`mount`)."
        )
    if "too many clients" in text or "connection slots" in text or "too many connections" in text:
        return "Raise max_connections there, or end what else is connected."
    if "full" in text or "no space" in text:
        return "Make room on its disk and try again."
    return "See that it runs and that its URL is right, then try again."
