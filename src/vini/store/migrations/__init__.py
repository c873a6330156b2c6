"""The tables' history: each file of `versions` is one step from an older version of VINI to a newer one.

A step never loses data, and runs in one transaction on SQLite and on PostgreSQL.  A new one is made by
`python -m vini.store.migrations "what it does"`, from what `tables.py` has and the newest step has not.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from vini.store.database import DatabaseError

_LOCK = 0x56494E49  # "VINI"


def config(tx: Connection | None = None) -> Config:
    """What Alembic asks for; it works in our transaction."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = tx
    return made


def upgrade(tx: Connection, name: str) -> None:
    """To the newest version; a second central that starts at the same moment waits, and finds it done."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if _known(tx, name) != newest():
        command.upgrade(config(tx), "head")


def check(tx: Connection, name: str) -> None:
    """Raises DatabaseError unless the tables are of this version."""
    if (at := _known(tx, name)) != newest():
        how = "`vini central run` brings it up to date" if at else "`vini central init` makes it so"
        raise DatabaseError(f"The database {name} is not ready for this version; {how}.")


def newest() -> str:
    """The newest step of this version."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    assert found
    return found


def _known(tx: Connection, name: str) -> str | None:
    """Where the database is; one of a newer VINI is left alone."""
    at = MigrationContext.configure(tx).get_current_revision()
    if at and at not in {s.revision for s in ScriptDirectory.from_config(config()).walk_revisions()}:
        raise DatabaseError(f"The database {name} was written by a newer VINI ({at}); install that one here too.")
    return at
