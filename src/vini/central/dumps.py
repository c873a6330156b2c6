"""A central's database in a file, as it is at one moment; and back, into one that is empty."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from vini import durable
from vini.model import Unsupported, ViniError
from vini.store import unfinished
from vini.store.database import Database

NAMES = {"sqlite": "central.db", "postgresql": "central.pgdump"}


def name_of(url: str) -> str:
    """What the file of such a database is called in a backup."""
    return NAMES[_kind(url)]


def dump(url: str, directory: Path) -> Path:
    """The database at one moment, in a new file there.  Raises ViniError where it is damaged: a copy of that is of no
    use when it is needed."""
    out = directory / name_of(url)
    if _kind(url) == "sqlite":
        with closing(_opened(Path(str(make_url(url).database)))) as live, closing(sqlite3.connect(out)) as copy:
            live.backup(copy)  # https://www.sqlite.org/backup.html: consistent beside writers
            _check(copy, url)
            copy.execute(f"DROP TABLE IF EXISTS {unfinished.TABLE}")
    else:
        mark = f"--exclude-table={unfinished.TABLE}"
        _program("pg_dump", "--format=custom", mark, f"--file={out}", f"--dbname={_libpq(url)}")
    return out


def _opened(path: Path) -> sqlite3.Connection:
    """To be read; also where its disk may only be read, and nobody else has it open."""
    way = f"file:{quote(str(path))}?mode=ro"
    try:
        with suppress(sqlite3.OperationalError):
            return _readable(way)
        is_whole = not path.with_name(path.name + "-wal").exists()
        return _readable(f"{way}&immutable=1" if is_whole and not os.access(path, os.W_OK) else way)
    except sqlite3.OperationalError as e:
        raise ViniError(f"The database {path} can't be read: {e}; see that it is there, and its disk sound.") from e


def _readable(way: str) -> sqlite3.Connection:
    """Raises OperationalError where it is not."""
    live = sqlite3.connect(way, uri=True)
    try:
        live.execute("PRAGMA schema_version")
    except sqlite3.Error:
        live.close()
        raise
    return live


def _check(copy: sqlite3.Connection, url: str) -> None:
    try:
        found = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as e:
        found = str(e)
    if found != "ok":
        raise ViniError(
            f"The database {make_url(url).database} is damaged ({found.strip().splitlines()[0]}), so this would be no "
            "good backup: end the central, keep the backups that you have, and see that its disk is sound."
        )


def load(url: str, content: bytes, token: str) -> None:
    """Put it into a database that is empty but for the mark with that token; a file is made, with the mark in it."""
    if _kind(url) == "sqlite":
        _put(Path(str(make_url(url).database)), content, token)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        _program("pg_restore", "--single-transaction", "--no-owner", f"--dbname={_libpq(url)}", file.name)


def _put(path: Path, content: bytes, token: str) -> None:
    """Under its name it has the mark from the first."""
    new = path.with_name(path.name + ".new")
    remove(new)  # one that a crash left
    database = Database(f"sqlite:///{new}")
    try:
        durable.write(new, content)
        with database.transaction() as tx:
            unfinished.mark(tx, token)
        database.close()  # what is in its log is in the file then
        durable.rename(new, path)
    finally:
        database.close()
        remove(new)


def remove(path: Path) -> None:
    """A database of SQLite, with its logs."""
    for more in ("", "-wal", "-shm"):
        path.with_name(path.name + more).unlink(missing_ok=True)


def _kind(url: str) -> str:
    return make_url(url).get_backend_name()


def _libpq(url: str) -> str:
    """As PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _program(name: str, *arguments: str) -> None:
    if shutil.which(name) is None:
        raise Unsupported(f"Backups of PostgreSQL need {name}; install it with `apt-get install postgresql-client`.")
    done = subprocess.run([name, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ViniError(f"{name} failed: {done.stderr.strip()}")
