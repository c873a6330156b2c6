"""A central's directory while `vini central init` or `restore` makes a central there: all of it, or nothing.

Who owns what:

- `making.lock` is locked (flock(2)) by the one command that makes one there; another is refused before it looks on.
- `settings.json` makes it a central.  It is written last, in one step, and nobody makes another one where it is.
- `unfinished.json` tells that a command has begun: its token, the database, and the files that it makes.
- The table `vini_unfinished` in the database has the same token: what is in that database came from here.

In which order: lock; look that there is no central, that the database is empty (or has our token), and that no file of
another central is in the way; `unfinished.json`; a backup's certificates; the database's mark, then all else in it; new
certificates; `settings.json`; the database's mark is taken away, `unfinished.json`, and the lock's file.

A failure (also Ctrl-C) after `unfinished.json` takes away what is named there, and the database's content where it has
our token; nothing else.  A kill leaves,

- before `unfinished.json`: nothing but an empty file to lock;
- before `settings.json`: no central.  The same command finds both marks, empties that database and begins anew.  With
  another database it leaves that one alone; `restore --beside` refuses one that is marked, from everywhere;
- after `settings.json`: a central that is whole.  `run` takes the marks away (`finish`), and refuses a database
  that has another one's: so what has our mark was never served.

A mark here without the one there (somebody emptied that database and made a central of his own in it) gives no right to
anything; nor does one there without ours.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy.engine import make_url

from vini import durable
from vini.central import dumps
from vini.central import settings as settings_file
from vini.central.settings import Settings
from vini.model import Conflict, Denied, Value, ViniError
from vini.store import unfinished
from vini.store.database import Database

AUTHORITY = ("ca/ca.pem", "ca/ca.key", "ca/server.pem", "ca/server.key", "ca/engine.seed")
_LOCK, _MARK = "making.lock", "unfinished.json"


class _Begun(Value, frozen=True):
    """What `unfinished.json` tells."""

    token: str
    database: str = ""  # its URL, without the password: for whoever reads the file
    wrote: tuple[str, ...] = ()


class Making:
    """One that is being made, by whoever has the lock."""

    def __init__(self, directory: Path, settings: Settings):
        self._directory, self._settings = directory, settings
        self.url = settings.database_url(directory)
        self._begun = _read(directory) or _Begun(secrets.token_hex(16))
        self._has_begun = False
        self._filled: Database | None = None  # in which nothing is but what we began, or will

    def begin(self, files: Mapping[str, bytes]) -> None:
        """These are to be in the directory, and more of the authority's may come.  Raises Conflict where others are in
        their place."""
        known = {*self._begun.wrote}
        for name, content in files.items():
            path = self._directory / name
            if name not in known and path.exists() and path.read_bytes() != content:
                raise Conflict(f"{path} is another central's; choose another --dir, or move it away.")
        known |= {name for name in AUTHORITY if not (self._directory / name).exists()}
        shown = make_url(self.url).render_as_string(hide_password=True)
        self._begun = _Begun(self._begun.token, shown, tuple(sorted(known)))
        self._has_begun = True
        durable.write(self._directory / _MARK, msgspec.json.encode(self._begun))
        (self._directory / "ca").mkdir(exist_ok=True, mode=0o700)
        if files:
            self._directory.chmod(0o700)
        for name, content in files.items():
            if name in known:
                durable.write(self._directory / name, content)

    def look(self, database: Database, otherwise: str) -> None:
        """Raises Conflict where it is somebody else's, with that sentence where it is whole.  Nothing is changed."""
        if unfinished.is_free(database, self._begun.token):
            self._filled = database
            return
        refuse_unfinished(database)
        raise Conflict(otherwise)

    def fill(self, database: Database, load: Callable[[str], None] | None = None) -> None:
        """It holds nothing but the mark, and then what `load`, given the token, puts into it; a file is made by `load`
        with the mark in it."""
        self.look(database, f"The database {database} is not empty any more; see who else uses it.")
        self._empty(database)
        if not (load and database.is_sqlite):
            with database.transaction() as tx:
                unfinished.mark(tx, self._begun.token)
        if load:
            load(self._begun.token)

    def done(self) -> None:
        """All is there: from here on it is a central."""
        settings_file.write(self._directory, self._settings)
        if self._filled:
            unfinished.over(self._filled, self._begun.token)
        (self._directory / _MARK).unlink()

    def undo(self) -> None:
        """It was not to be."""
        if not self._has_begun:
            return
        (self._directory / "settings.json").unlink(missing_ok=True)  # there was none under this lock
        if self._filled and unfinished.is_free(self._filled, self._begun.token):
            self._empty(self._filled)
        for name in self._begun.wrote:
            (self._directory / name).unlink(missing_ok=True)
        with suppress(OSError):
            (self._directory / "ca").rmdir()
        (self._directory / _MARK).unlink(missing_ok=True)

    def _empty(self, database: Database) -> None:
        if database.is_sqlite:  # also logs of another one: SQLite would put what is in them into ours
            dumps.remove(Path(str(make_url(self.url).database)))
        elif not database.is_empty():
            database.clear()
        database.close()


def refuse_unfinished(database: Database) -> None:
    """Raises Conflict where somebody has begun a central in it that is not whole."""
    if unfinished.is_marked(database):
        how = "move its file away" if database.is_sqlite else "empty it (`dropdb`, `createdb`)"
        raise Conflict(
            f"In the database {database} another `vini central init` or `restore` has begun a central, and not ended: "
            f"wait for its end; where it was killed, do it again with the --dir that it had, or {how}."
        )


@contextmanager
def making(directory: Path, settings: Settings, taken: str) -> Iterator[Making]:
    """Nobody else makes one there meanwhile; what fails is taken away.  Raises Conflict, with `taken` where there is a
    central."""
    try:
        with _locked(directory):
            if (directory / "settings.json").exists():
                raise Conflict(taken)
            made = Making(directory, settings)
            try:
                yield made
            except BaseException:  # also Ctrl-C: half a central must not stay
                made.undo()
                raise
    except PermissionError as e:
        raise Denied(f"The central can't be made in {directory}; run this with sudo, or choose another --dir.") from e
    except OSError as e:
        raise ViniError(f"The central can't be made in {directory}: {e.strerror}; choose another --dir.") from e


def finish(directory: Path, database: Database) -> None:
    """Of a central that is there: who made it was killed when it was whole."""
    if not (directory / _MARK).exists():
        return
    with _locked(directory):
        if begun := _read(directory):
            unfinished.over(database, begun.token)
        (directory / _MARK).unlink(missing_ok=True)


def _read(directory: Path) -> _Begun | None:
    """Raises ViniError where it can't be read: then nobody knows what is whose."""
    path = directory / _MARK
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Begun)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise ViniError(f"{path} can't be read ({e}); choose another --dir.") from e


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Raises Conflict where another command has it.  A directory that was not there goes again when it is empty."""
    new = _missing(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / _LOCK
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                for made in new:
                    made.rmdir()
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            return  # else it was that of one that has just ended
    except BlockingIOError:
        pass
    raise Conflict(f"Another `vini central init` or `restore` is at work in {path.parent}; wait for its end.")


def _missing(directory: Path) -> Collection[Path]:
    """Of it and those above it, which are not there; the innermost first."""
    return [d for d in (directory, *directory.parents) if not d.exists()]
