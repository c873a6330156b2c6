"""The files that a file names: their texts, found beside it; of an object file its text in base64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vini.text import objects
from vini.text.mistakes import Wrong, quote
from vini.text.trace import MOST_BYTES


def reader(directory: Path) -> Callable[[str], str]:
    """Reads a named file's text, relative to `directory`; Wrong, with a sentence, where it can't be had."""

    def read(name: str) -> str:
        path = directory / name
        try:
            if not path.is_file():
                there = "it is no regular file" if path.exists() else "there is no such file"
                raise FileNotFoundError(2, there)
            if path.stat().st_size > MOST_BYTES:
                raise Wrong(f"The file {quote(name)} has more than {MOST_BYTES >> 20} MiB.", "take a part of it")
            if path.suffix == objects.SUFFIX:
                return objects.encoded(path.read_bytes())
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as e:
            if isinstance(e, Wrong):
                raise
            if isinstance(e, OSError):
                hint = f"its path is relative to {directory}"
                raise Wrong(f"The file {quote(name)} can't be read: {e.strerror}.", hint) from e
            raise Wrong(f"The file {quote(name)} can't be read: it is not text in UTF-8.", "save it as UTF-8") from e

    return read
