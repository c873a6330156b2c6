"""What the processes of a sliver said, and say: `python -I -S logs.py DIRECTORY LINES FOLLOW BOOT [PROCESS...]`.

Prints the last LINES lines of each log there, each line with its process before it, with BOOT 1 only those since the
process was started last; with FOLLOW 1 then what comes, also of processes that begin later, until it is ended.  A
program of its own with nothing of ours in it, so that it begins at once.  Nothing but plain files is read, and no link
is followed: root in a sliver may have put one there.  What would move a terminal's cursor is written out.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

_LOOK_S = 0.2
_TAIL_BYTES = 1 << 20  # a log is no longer; what is beyond it is in NAME.log.1
_CHUNK = 1 << 16
_BEGIN = b"--- started "  # a line of this parts one life of a process from the next (process_log.py)
_LONGEST = 1 << 16  # a line that is longer is broken
_SHOWN = {c: f"\\x{c:02x}" for c in (*range(9), *range(10, 32), *range(127, 160))}  # control characters but tabs


class Log:
    """One file that grows."""

    def __init__(self, path: str):
        self._path, self._at, self._rest, self._inode = path, 0, b"", 0

    def _open(self) -> int | None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            os.close(fd)
            return None
        if seen.st_ino != self._inode or seen.st_size < self._at:  # begun anew
            self._inode, self._at, self._rest = seen.st_ino, 0, b""
        return fd

    def last(self, lines: int, boot: bool = False) -> list[bytes]:
        """The last of it, or of this life of its process; what follows comes by `more`."""
        fd = self._open()
        if fd is None:
            return []
        self._at = max(0, os.fstat(fd).st_size - _TAIL_BYTES)
        os.close(fd)
        found = self.more()
        if boot:
            begins = [i for i, line in enumerate(found) if line.startswith(_BEGIN)]
            found = found[begins[-1] :] if begins else found
        return found[-lines:] if lines else []

    def more(self) -> list[bytes]:
        """The lines that were written since, of which the end has come."""
        fd = self._open()
        if fd is None:
            return []
        found: list[bytes] = []
        with os.fdopen(fd, "rb", buffering=0) as file:
            file.seek(self._at)
            for _ in range(2 * _TAIL_BYTES // _CHUNK):  # one that is written faster than this is read later
                data = file.read(_CHUNK)
                if not data:
                    break
                self._at += len(data)
                *whole, self._rest = (self._rest + data).split(b"\n")
                found += whole
                if len(self._rest) > _LONGEST:
                    found, self._rest = [*found, self._rest], b""
        return found

    def rest(self) -> list[bytes]:
        """A last line without its end."""
        return [self._rest] if self._rest else []


def main(directory: str, lines: int, follow: bool, boot: bool, only: list[str]) -> None:
    """Until the end of what there is, or for ever."""
    logs: dict[str, Log] = {}
    first = True
    while True:
        for name in only or sorted(p.name[:-4] for p in Path(directory).glob("*.log")):
            if name not in logs:
                log = logs[name] = Log(f"{directory}/{name}.log")
                _say(name, log.last(lines, boot) if first else log.more())
            else:
                _say(name, logs[name].more())
        if not follow:
            for name, log in logs.items():
                _say(name, log.rest())
            return
        first = False
        time.sleep(_LOOK_S)


def _say(name: str, lines: list[bytes]) -> None:
    if lines:
        sys.stdout.buffer.write(b"".join(_shown(os.fsencode(name)) + b" | " + _shown(line) + b"\n" for line in lines))
        sys.stdout.buffer.flush()


def _shown(said: bytes) -> bytes:
    return said.removesuffix(b"\r").decode(errors="backslashreplace").translate(_SHOWN).encode()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1", sys.argv[5:])
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)
