"""Trees of files that somebody else made: walked and deleted whatever their depth, and without following a link.

Whoever owns a tree can make it deeper than a path may be long, than this process may have descriptors, and than Python
may call itself: so nothing here holds more than a few directories open, and nothing recurses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Step = tuple[list[str], int, list[str], list[str]]


def remove(path: Path | str, *, dir_fd: int | None = None) -> None:
    """Delete a directory and all that is in it.  OSError where something is mounted in it, or where it changes
    meanwhile; the next call goes on."""
    fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        above = [(_identity(fd), "", _emptied(fd))]  # from the top down: what it is, its name, what is left in it
        while above:
            _, name, left = above[-1]
            if left:
                below = left.pop()
                fd = _step(fd, below)
                above.append((_identity(fd), below, _emptied(fd)))
                continue
            above.pop()
            if above:
                fd = _back(fd, above[-1][0])
                os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path, dir_fd=dir_fd)


def _emptied(at: int) -> list[str]:
    """The names of the directories in it that are not empty; whatever else is there goes."""
    left = []
    with os.scandir(at) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=at)
                elif not _is_removed(at, entry.name):
                    left.append(entry.name)
    return left


def _is_removed(at: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=at)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def walk(top: Path) -> Iterator[Step]:
    """Of each directory, from the top down: its path as names, a descriptor, and in order the names of the directories
    and of all else in it.  The path is valid until the next step, and so is the descriptor.

    What is mounted in it is left out.  OSError where it changes meanwhile, so that the way back is lost.
    """
    fd, path = os.open(top, _DIRECTORY), list[str]()
    try:
        device = os.fstat(fd).st_dev
        directories, others = _listed(fd)
        yield path, fd, directories, others
        above: list[tuple[tuple[int, int], Iterator[str]]] = [(_identity(fd), iter(directories))]
        while above:
            name = next(above[-1][1], None)
            if name is None:
                above.pop()
                if above:
                    path.pop()
                    fd = _back(fd, above[-1][0])
                continue
            try:
                fd = _step(fd, name)
            except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or a link (O_NOFOLLOW) is there now
                continue
            except OSError as e:
                if e.errno == errno.ELOOP:
                    continue
                raise
            path.append(name)
            directories, others = _listed(fd) if os.fstat(fd).st_dev == device else ([], [])
            yield path, fd, directories, others
            above.append((_identity(fd), iter(directories)))
    finally:
        os.close(fd)


def _back(fd: int, to: tuple[int, int]) -> int:
    """The directory above, which must be the one that we came from: else a name there would be another one's."""
    there = os.open("..", _DIRECTORY, dir_fd=fd)
    if _identity(there) != to:
        os.close(there)
        raise OSError(errno.ESTALE, "a directory was moved while its tree was gone through")
    os.close(fd)
    return there


def _step(fd: int, name: str) -> int:
    there = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return there


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _listed(fd: int) -> tuple[list[str], list[str]]:
    directories: list[str] = []
    others: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            (directories if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
    return sorted(directories), sorted(others)
