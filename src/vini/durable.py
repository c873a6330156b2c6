"""Files that a crash leaves as they were or as they were to become."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """All of it is on the disk under that name when this returns, whatever happens then; until then, what was there
    before is.  OSError where the disk or the directory does not take it: nothing is changed."""
    new = path.with_name(f"{path.name}.new")
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)  # first: later it could fail where all is done
    try:
        _replace(new, path, content, mode)
        os.fsync(directory)  # a new name has reached the disk only when its directory has (fsync(2))
    finally:
        os.close(directory)


def _replace(new: Path, path: Path, content: bytes, mode: int) -> None:
    try:
        new.unlink(missing_ok=True)  # one that a crash left may be readable for others
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def rename(old: Path, new: Path) -> None:
    """Within a directory, of a file whose content is on the disk; its new name is, too, when this returns."""
    directory = os.open(new.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        old.rename(new)
        os.fsync(directory)
    finally:
        os.close(directory)
