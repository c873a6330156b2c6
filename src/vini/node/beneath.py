"""Files below a directory that somebody else may write to, and never anywhere else.

Whoever owns a tree can put a symbolic link where a directory was a moment ago; so each step of a path goes by a
descriptor of the one before, and follows no link (openat(2), O_NOFOLLOW).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from vini.node import trees

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def directory(home: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory that `path`, below `home`, is in, and its name there.

    With `make`, directories are made, and whatever else is in their place goes.  OSError where there are none.
    """
    *above, name = PurePosixPath(path).parts
    if make:
        home.mkdir(parents=True, exist_ok=True)
    at = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            if make:
                _make(at, part)
            below = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        yield at, name
    finally:
        os.close(at)


def _make(at: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
            os.mkdir(name, dir_fd=at)


def make_way(at: int, name: str) -> bool:
    """Whether a plain file is there; whatever else is goes."""
    try:
        mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        trees.remove(name, dir_fd=at)
    elif not stat.S_ISREG(mode):
        os.unlink(name, dir_fd=at)
    return stat.S_ISREG(mode)
