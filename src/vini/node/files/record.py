"""What the agent remembers of conf files: what it is asked for, and what it wrote; each whole on disk, or as before."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from vini import durable
from vini.bus import NodeFile
from vini.model import Value, ViniError
from vini.node.files.place import Seen

T = TypeVar("T")


class Asked(Value, frozen=True, forbid_unknown_fields=False):
    """What one central asks for."""

    owner: str = ""  # which central, and as which node (`Ledgers.owner`)
    version: str = ""
    files: tuple[NodeFile, ...] = ()


class Written(Value, frozen=True, forbid_unknown_fields=False):
    """A file that we wrote, or are about to write."""

    seen: tuple[Seen, ...]  # what we wrote last, and what we are about to write
    pending: bool = False  # what is to be run after that has not succeeded yet


Book = dict[str, Written]  # by path


class Record:
    """One place's.  What can't be read is as if it were not there: then the central asks again, and files that we wrote
    are somebody else's, which are never touched unasked."""

    def __init__(self, state: Path):
        self._at = state / "conf-files"
        self.asked = self._read("asked.json", Asked) or Asked()
        self.book: Book = self._read("written.json", Book) or {}

    @property
    def lock(self) -> Path:
        """Of whoever runs a command."""
        return self._at / "command.lock"

    def _read(self, name: str, type_: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self._at / name).read_bytes(), type=type_)
        except (OSError, msgspec.DecodeError):
            return None

    def ask(self, asked: Asked) -> None:
        """From now on this is asked for.  Raises ViniError where the disk does not take it: then all is as before."""
        self._write("asked.json", asked)
        self.asked = asked

    def note(self, path: str, written: Written | None) -> None:
        """We wrote that, or are about to; None: it is no business of ours any more.  Raises ViniError as `ask`."""
        book = {p: w for p, w in self.book.items() if p != path} | ({path: written} if written else {})
        if book != self.book:
            self._write("written.json", book)
            self.book = book

    def _write(self, name: str, what: object) -> None:
        try:
            self._at.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._at / name, msgspec.json.encode(what))
        except OSError as e:
            raise ViniError(f"What is known of conf files can't be written to {self._at}: {e.strerror}.") from e
