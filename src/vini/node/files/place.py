"""A conf file's place in the file system, reached so that nobody can lead us elsewhere: directory by directory from /,
none of them a symbolic link, and then by its name in the last one (openat(2))."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vini.model import Value
from vini.rules.conf_files import MOST_BYTES

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfit(Exception):
    """There can be no conf file there; str() is a sentence."""


class Seen(Value, frozen=True):
    """A regular file, as it is now."""

    digest: str  # SHA-256 of its contents; "": it is larger than any conf file
    mode: int
    uid: int
    gid: int


class Spot:
    """A name in a directory that is held open."""

    def __init__(self, directory: int, path: str):
        self._directory, self._path, self._name = directory, path, path.rpartition("/")[2]
        self._new = f".vini-{hashlib.sha256(path.encode()).hexdigest()[:16]}.new"  # no `*.conf`, and always the same

    def seen(self) -> Seen | None:
        """What is there; None: nothing.  Raises Unfit where it is no regular file."""
        try:
            if not stat.S_ISREG(os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_mode):
                raise Unfit(
                    f"{self._path} on this machine is no plain file, but a directory, a symbolic link or the like."
                )
            fd = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            about = os.fstat(fd)
            content = file.read(MOST_BYTES + 1)
        digest = hashlib.sha256(content).hexdigest() if len(content) <= MOST_BYTES else ""
        return Seen(digest, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)

    def write(self, content: bytes, want: Seen) -> None:
        """All of it is there when this returns, whatever happens then; until then, what was there before is.  OSError
        where the disk does not take it: nothing is changed."""
        self.clear()
        fd = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fchown(fd, want.uid, want.gid)
                os.fchmod(fd, want.mode)
                os.fsync(fd)
            os.rename(self._new, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            self.clear()
            raise
        os.fsync(self._directory)

    def remove(self) -> None:
        """It is not there any more."""
        os.unlink(self._name, dir_fd=self._directory)
        os.fsync(self._directory)

    def clear(self) -> None:
        """Take away what a crash in the middle of writing left."""
        with suppress(FileNotFoundError):
            os.unlink(self._new, dir_fd=self._directory)


@contextmanager
def spot(path: str, never: Collection[Path], make: bool) -> Iterator[Spot | None]:
    """The place of a file; None where its directory is not there.  With `make` what lacks of the way there is made.

    Raises Unfit where the way leads by a symbolic link, or into one of these directories, however they are called.
    """
    kept = {(s.st_dev, s.st_ino) for p in never if (s := _stat(p))}
    held = os.open("/", _DIRECTORY)
    try:
        at = ""
        for name in path.split("/")[1:-1]:
            at += f"/{name}"
            further = _entered(held, name, at, make)
            if further is None:
                yield None
                return
            os.close(held)
            held = further
            about = os.fstat(held)
            if (about.st_dev, about.st_ino) in kept:
                raise Unfit(f"{at} is VINI's own on this machine; no conf file may be there.")
        yield Spot(held, path)
    finally:
        os.close(held)


def _entered(held: int, name: str, at: str, make: bool) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=held)
    except FileNotFoundError:
        if not make:
            return None
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Unfit(f"{at} on this machine is a symbolic link, or no directory; name the path without it.") from e
        raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=held)
        os.fsync(held)
    return os.open(name, _DIRECTORY, dir_fd=held)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
