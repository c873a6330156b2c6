"""What one process of a sliver said: a file that it appends to, bounded, in which each life of it has a beginning."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_LIMIT = 1 << 20  # bytes; beyond it the log is begun anew, the old one kept beside it
_LAST_BYTES = 1 << 16  # that are looked through for the last lines
_PART = "--- "  # begins a line that parts it, of which these are the two
STARTED, TOLD = "--- started ", "--- told to reload "


class ProcessLog:
    """One such file, which may not be there."""

    def __init__(self, path: Path):
        self.path = path

    def part(self, what: str = STARTED) -> BinaryIO:
        """Open it for one who appends, after a line that says what begins here."""
        log = self.path.open("ab")
        log.write(f"{what}{time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        log.flush()
        return log

    def trim(self) -> None:
        """Keep a long log's end beside it and begin it anew; it is written in append mode, so its writer goes on.

        No more than that end is read and kept, however much came since the last look.  Where its disk is full of what
        it said, that goes first, and the end is lost.
        """
        with suppress(FileNotFoundError):
            if self.path.stat().st_size > _LIMIT:
                end = self._end(_LIMIT)
                os.truncate(self.path, 0)
                with suppress(OSError):
                    self.path.with_suffix(".log.1").write_text(end)

    def length(self) -> int:
        """In bytes.  FileNotFoundError where there is none."""
        return self.path.stat().st_size

    def newest(self) -> str:
        """What it said since it was started or last told to reload.  FileNotFoundError where there is no log."""
        return self._end(_LIMIT).rpartition(f"\n{_PART}")[2]

    def last_lines(self, n: int = 3) -> str:
        """Of this life, on one line; "(none)" where it said nothing."""
        try:
            text = self._end(_LAST_BYTES)
        except FileNotFoundError:
            return "(none)"
        latest = text.rpartition(STARTED)[2].splitlines()[1:] if STARTED in text else text.splitlines()
        return " / ".join(latest[-n:]).strip() or "(none)"

    def _end(self, most: int) -> str:
        """Its last bytes: somebody else writes it, who may write more than there is memory for."""
        with self.path.open("rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - most))
            return f.read(most).decode(errors="replace")
