"""A central in one file: settings, authority and database as they are at one moment; and back, on any machine."""

from __future__ import annotations

import gzip
import os
import sqlite3
import tarfile
import tempfile
import time
import zlib
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from vini.central import dumps
from vini.central import settings as settings_file
from vini.central.making import AUTHORITY, making, refuse_unfinished
from vini.central.settings import Settings
from vini.model import Conflict, Value, ViniError
from vini.store import slices
from vini.store.database import Database

_PLAIN = ("settings.json", *AUTHORITY)
_LARGEST = 1 << 40  # bytes of one member


class Restored(Value, frozen=True):
    """A central that is there now."""

    settings: Settings
    at: float  # of which moment its database is (Unix time, s); 0: of now, since others have it too


def save(directory: Path, file: Path) -> int:
    """Write it all to a new file that only its owner can read; how many bytes.  The central may run meanwhile.

    Raises Conflict where the file is there, ViniError where something can't be read or written.
    """
    settings = settings_file.read(directory)
    new = file.with_name(file.name + ".new")
    try:
        if file.exists():
            raise Conflict(f"{file} is there already; choose another name.")
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            dump = dumps.dump(settings.database_url(directory), Path(scratch))
            new.unlink(missing_ok=True)  # one that a crash left
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as out:
                with tarfile.open(fileobj=out, mode="w:gz") as tar:
                    for name in _PLAIN:
                        if (directory / name).exists():
                            tar.add(directory / name, name)
                    tar.add(dump, dump.name)
                out.flush()
                os.fsync(out.fileno())
        new.rename(file)
    except OSError as e:
        raise ViniError(f"The backup {file} can't be written: {e.strerror or e}; choose another place.") from e
    except sqlite3.Error as e:
        raise ViniError(f"The database can't be copied beside {file}: {e}; see that there is room.") from e
    finally:
        with suppress(OSError):
            new.unlink()
    return file.stat().st_size


def restore(
    file: Path, directory: Path, database: str = "", names: tuple[str, ...] = (), beside: bool = False
) -> Restored:
    """Make a central of a backup; with `database` in that one, which is to be empty, instead of the one it was in; with
    `names` reached by these instead of those that it had.  `beside`: one more of those that have its database, which
    is not touched; it is reached by these names besides those that it had, since nodes dial those.

    Raises Conflict where there is a central already, or a database that is not empty.  What is left of one that fails
    or is killed, `vini.central.making` tells: nothing that keeps it from being done again.
    """
    members, at = _members(file)
    settings = _settings(members, file)
    if database:
        settings = msgspec.structs.replace(settings, database=database)
    if names:
        before = settings.names if beside else ()
        settings = settings_file.renamed(settings, names)  # by others' names the first one is reached, not this one
        settings = msgspec.structs.replace(settings, names=(*names, *(n for n in before if n not in names)))
    taken = f"There is a central in {directory} already; choose another --dir, or move it away."
    with making(directory, settings, taken) as made, closing(Database(made.url)) as into:
        content = b"" if beside else _database(members, made.url, file)
        if beside:
            _check_shared(into)
        else:
            made.look(into, _not_empty(into))
        made.begin({name: members[name] for name in AUTHORITY if name in members})
        if not beside:
            made.fill(into, lambda token: dumps.load(made.url, content, token))
            _leap(into)
        made.done()
    return Restored(settings, 0.0 if beside else at)


def _not_empty(database: Database) -> str:
    if database.is_sqlite:
        return f"There is a database {database} already; move it away, or give --database."
    return (
        f"The database {database} is not empty.  For one more central beside those that have it: --beside.  To "
        "have it as it is in the backup, empty it first (`dropdb`, `createdb`), or give another one: --database."
    )


def _members(file: Path) -> tuple[dict[str, bytes], float]:
    """What is in it, and of which moment."""
    try:
        with gzip.open(file) as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
            found = {m.name: (_content(tar, m), m.mtime) for m in tar if m.isfile()}
            while whole.read(1 << 20):  # to its end: there is the sum that tells whether it is as it was written
                pass
    except FileNotFoundError as e:
        raise ViniError(f"There is no backup {file}; `vini central backup` writes one.") from e
    except (OSError, EOFError, zlib.error, tarfile.TarError) as e:
        raise ViniError(
            f"{file} is no backup of a central, or not all of one, or damaged: {e}; take another copy of it."
        ) from e
    moments = [at for name, (_, at) in found.items() if name in dumps.NAMES.values()]
    return {name: content for name, (content, _) in found.items()}, max(moments, default=0.0)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Of one of ours; names are looked up, never followed, so that none leads elsewhere."""
    known = {*_PLAIN, *dumps.NAMES.values()}
    reader = tar.extractfile(member) if member.name in known and member.size < _LARGEST else None
    if reader is None:
        raise tarfile.ReadError(f"it holds {member.name!r}, which no backup has")
    return reader.read()


def _settings(members: dict[str, bytes], file: Path) -> Settings:
    missing = [name for name in ("settings.json", "ca/ca.pem", "ca/ca.key") if name not in members]
    if missing:
        raise ViniError(f"{file} is no backup of a central: it lacks {', '.join(missing)}.")
    try:
        return msgspec.json.decode(members["settings.json"], type=Settings)
    except msgspec.DecodeError as e:
        raise ViniError(
            f"The settings in {file} can't be read: {e}; it is of another version: restore it by that one."
        ) from e


def _database(members: dict[str, bytes], url: str, file: Path) -> bytes:
    name = dumps.name_of(url)
    if name not in members:
        raise ViniError(
            f"The database in {file} is of another kind than {url.partition(':')[0]}; give --database of the kind that "
            "it was."
        )
    return members[name]


def _check_shared(database: Database) -> None:
    """Others have it, and it is as this version knows it."""
    if database.is_sqlite:
        raise Conflict("A database of SQLite has one central; for several of them, keep it in PostgreSQL.")
    refuse_unfinished(database)
    database.check()


def _leap(database: Database) -> None:
    """Nodes may hold what was asked of them after the backup was made."""
    database.migrate()
    with database.transaction() as tx:
        slices.leap(tx, time.time())
