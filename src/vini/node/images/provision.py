"""Root file systems for the agent's drivers.  Nobody waits for one that has to be unpacked first."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from threading import Lock
from typing import IO

import msgspec

from vini.model import Value, ViniError
from vini.node.images.obtain import is_source, stamp
from vini.node.images.store import Store
from vini.node.place import Place

_RECORD = ".below"  # in a sliver's run directory
_AGAIN_S = 10.0  # until what could not be unpacked is tried again


class NotYet(OSError):
    """It is being unpacked."""


class Provided(Value, frozen=True):
    """A root file system, as it lies on the disk."""

    root: str
    id: str = ""  # in the store; "": it is a directory of somebody else's
    base: str = ""  # as of an Image


def store(place: Place) -> Store:
    """This node's store."""
    return Store(place.state / "images")


def remember(place: Place, ns: str, below: Provided) -> None:
    """Write down on what a sliver stands, for as long as it is there, be it stopped."""
    place.sliver(ns).mkdir(parents=True, exist_ok=True)
    new = place.sliver(ns) / f"{_RECORD}.new"
    new.write_bytes(msgspec.json.encode(below))
    new.rename(place.sliver(ns) / _RECORD)


def below(place: Place, ns: str) -> Provided | None:
    """On what a sliver stands; None where that is the node's own root, or where there is no such sliver."""
    try:
        return msgspec.json.decode((place.sliver(ns) / _RECORD).read_bytes(), type=Provided)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def used(place: Place) -> frozenset[str]:
    """The ids of images on which slivers of the node stand."""
    homes = [p.parent.name for p in place.sliver("").glob(f"*/{_RECORD}")]
    return frozenset(found.id for ns in homes if (found := below(place, ns)) and found.id)


class _Work:
    """One image that is being unpacked."""

    def __init__(self, place: Place, word: str, stamp: str):
        self.stamp = stamp
        self.ended_at = 0.0
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the object
        command = [sys.executable, "-m", "vini.node.images", str(place.state / "images"), word]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, cwd="/")

    def goes_on(self) -> bool:
        """Whether it does."""
        if self._child.poll() is None:
            return True
        self.ended_at = self.ended_at or time.monotonic()
        return False

    def said(self) -> str:
        """Its last line."""
        self._said.seek(0)
        return (self._said.read().decode(errors="replace").strip().splitlines() or ["it could not be unpacked"])[-1]


class Provision:
    """Keeps in mind which images are being unpacked.  One object for all drivers of an agent, called by its threads."""

    def __init__(self, place: Place):
        self._place = place
        self._lock = Lock()
        self._work: dict[str, _Work] = {}

    def find(self, word: str) -> Provided:
        """OSError, with a sentence's rest, where it is not there; NotYet where it will be, to be asked again later."""
        if not is_source(word):
            return self._whole(word)
        try:
            now = stamp(word)
        except OSError as e:
            raise OSError(f"there is no image {word} on this node ({e.strerror}); make it, or correct `image:`") from e
        if there := store(self._place).known(word, now):
            self._work.pop(word, None)
            return Provided(str(store(self._place).root(there)), there.id, there.base)
        with self._lock:
            self._unpack(word, now)
        raise NotYet(f"its image {word} is being unpacked")

    def _whole(self, word: str) -> Provided:
        if word.startswith("/"):
            return Provided(word)  # what is_source left is a directory
        try:
            found = store(self._place).find(word)
        except ViniError as e:
            raise OSError(str(e)) from e
        return Provided(str(store(self._place).root(found)), found.id, found.base)

    def _unpack(self, word: str, now: str) -> None:
        work = self._work.get(word)
        if work is None or (work.stamp != now and not work.goes_on()):
            self._work[word] = _Work(self._place, word, now)
        elif not work.goes_on():
            if time.monotonic() - work.ended_at > _AGAIN_S:
                del self._work[word]
            raise OSError(work.said())
