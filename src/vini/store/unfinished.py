"""A mark in a database in which a central is being made: by it whoever began knows it again after a kill, and nobody
else takes it for a whole one.  It is a table of its own, which no migration knows, and is in no backup."""

from __future__ import annotations

from sqlalchemy import inspect, text

from vini.store.database import Database, Tx

TABLE = "vini_unfinished"


def is_free(database: Database, token: str) -> bool:
    """Whether nothing is in it, or only what who has this token has begun."""
    return database.is_empty() or _owner(database) == token


def is_marked(database: Database) -> bool:
    """Whether somebody has begun a central in it that is not whole."""
    return _owner(database) != ""


def mark(tx: Tx, token: str) -> None:
    """Of one without tables."""
    tx.execute(text(f"CREATE TABLE {TABLE} (token VARCHAR(64) NOT NULL)"))
    tx.execute(text(f"INSERT INTO {TABLE} VALUES (:token)"), {"token": token})


def over(database: Database, token: str) -> None:
    """It is whole; another one's mark stays."""
    if _owner(database) == token:
        with database.transaction() as tx:
            tx.execute(text(f"DROP TABLE {TABLE}"))


def _owner(database: Database) -> str:
    """ "": it has no mark."""
    with database.reading() as tx:
        if not inspect(tx).has_table(TABLE):
            return ""
        return str(tx.scalar(text(f"SELECT token FROM {TABLE}")))
