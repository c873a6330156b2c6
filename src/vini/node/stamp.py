"""Whether a file is another than it was, without reading it."""

from __future__ import annotations

from pathlib import Path


def stamp(path: Path) -> tuple[int, int]:
    """Another value whenever the file was replaced or written; (0, 0) where there is none."""
    try:
        seen = path.stat()
    except OSError:
        return 0, 0
    return seen.st_ino, seen.st_mtime_ns
