"""A file that says, by being locked, that a process lives: the lock goes with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def locked(path: Path) -> IO[str] | None:
    """The file, made where it is not there, and locked (flock(2)) until it is closed; None where another has it.

    Whoever holds the lock may unlink the file: of those who have opened it already none takes it for the lock any more.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except FileNotFoundError:  # the directory was taken away in between
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if is_named(file, path):
            return file
        file.close()


def is_named(file: IO[str], path: Path) -> bool:
    """Whether that path still leads to that open file."""
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False
