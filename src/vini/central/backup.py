"""A central in one file: settings, authority and database as they are at one moment; and back, on any machine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import msgspec
from sqlalchemy.engine import make_url

from vini import durable
from vini.central import settings as settings_file
from vini.central.settings import Settings
from vini.model import Conflict, Unsupported, ViniError
from vini.store import slices
from vini.store.database import Database

_DATABASE = {"sqlite": "central.db", "postgresql": "central.pgdump"}
_PLAIN = ("settings.json", "ca/ca.pem", "ca/ca.key", "ca/server.pem", "ca/server.key", "ca/engine.seed")
_LARGEST = 1 << 40  # bytes of one member


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
            dump = _dumped(settings, directory, Path(scratch))
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as tar:
                for name in _PLAIN:
                    if (directory / name).exists():
                        tar.add(directory / name, name)
                tar.add(dump, dump.name)
        new.rename(file)
    except OSError as e:
        raise ViniError(f"The backup {file} can't be written: {e.strerror or e}; choose another place.") from e
    except sqlite3.Error as e:
        raise ViniError(f"The database can't be copied beside {file}: {e}; see that there is room.") from e
    finally:
        with suppress(OSError):
            new.unlink()
    return file.stat().st_size


def restore(file: Path, directory: Path, database: str = "", names: tuple[str, ...] = ()) -> Settings:
    """Make a central of a backup; with `database` in that one, which is to be empty, instead of the one it was in; with
    `names` reached by these instead of those that it had.

    Raises Conflict where there is a central already.
    """
    if (directory / "settings.json").exists():
        raise Conflict(f"There is a central in {directory} already; choose another --dir, or move it away.")
    try:
        with tarfile.open(file, "r:gz") as tar:
            members = {m.name: _content(tar, m) for m in tar if m.isfile()}
    except (OSError, tarfile.TarError) as e:
        raise ViniError(f"{file} is no backup of a central, or not all of one: {e}.") from e
    settings = _settings(members, file)
    if database:
        settings = msgspec.structs.replace(settings, database=database)
    if names:
        settings = settings_file.renamed(settings, names)
    (directory / "ca").mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    for name in _PLAIN[1:]:
        if name in members:
            durable.write(directory / name, members[name])
    _load(settings, directory, members, file)
    _leap(settings.database_url(directory))
    settings_file.write(directory, settings)  # last: so a central that is there is whole
    return settings


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Of one of ours; names are looked up, never followed, so that none leads elsewhere."""
    known = {*_PLAIN, *_DATABASE.values()}
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
        raise ViniError(f"The settings in {file} can't be read: {e}; it is of another version.") from e


# --- databases ----------------------------------------------------------------------------------


def _kind(url: str) -> str:
    return make_url(url).get_backend_name()


def _dumped(settings: Settings, directory: Path, scratch: Path) -> Path:
    """The database at one moment, in a file."""
    url = settings.database_url(directory)
    out = scratch / _DATABASE[_kind(url)]
    if _kind(url) == "sqlite":
        with (
            closing(sqlite3.connect(f"file:{make_url(url).database}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(out)) as copy,
        ):
            live.backup(copy)  # https://www.sqlite.org/backup.html: consistent beside writers
    else:
        _program("pg_dump", "--format=custom", f"--file={out}", f"--dbname={_libpq(url)}")
    return out


def _load(settings: Settings, directory: Path, members: dict[str, bytes], file: Path) -> None:
    url = settings.database_url(directory)
    name = _DATABASE[_kind(url)]
    if name not in members:
        raise ViniError(
            f"The database in {file} is of another kind than {_kind(url)!r}; give --database of the kind that it was."
        )
    if _kind(url) == "sqlite":
        path = Path(str(make_url(url).database))
        for of_another in ("-wal", "-shm"):  # SQLite would put what is in it into ours
            path.with_name(path.name + of_another).unlink(missing_ok=True)
        durable.write(path, members[name])
        return
    with tempfile.NamedTemporaryFile() as dump:
        dump.write(members[name])
        dump.flush()
        _program("pg_restore", "--single-transaction", "--no-owner", f"--dbname={_libpq(url)}", dump.name)


def _leap(url: str) -> None:
    """Nodes may hold what was asked of them after the backup was made."""
    database = Database(url)
    try:
        database.migrate()
        with database.transaction() as tx:
            slices.leap(tx, time.time())
    finally:
        database.close()


def _libpq(url: str) -> str:
    """As PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _program(name: str, *arguments: str) -> None:
    if shutil.which(name) is None:
        raise Unsupported(f"Backups of PostgreSQL need {name}; install it with `apt-get install postgresql-client`.")
    done = subprocess.run([name, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ViniError(f"{name} failed: {done.stderr.strip()}")
