"""The node's store of unpacked images: each in a directory that is named by what is in it, complete or not there.

    <state>/images/sha256-<64 digits>/root/      the root file system; read-only for all who use it
    <state>/images/sha256-<64 digits>/image.json what it is
    <state>/images/names/<name>                  a symbolic link to one of them
    <state>/images/sources/<digest>.json         which file, as it was then, became which image
    <state>/images/new-<pid>/                    one that is being unpacked

Only root may enter it: what is in an image may be a program that makes its caller root.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import msgspec

from vini.model import Conflict, NotFound, Value
from vini.node import trees
from vini.node.images.tree import Limits, Refused, Tree

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
ID = re.compile(r"sha256-[0-9a-f]{64}")
NODE = "node"  # the base of images whose programs are those of the node
_LIMITS = Limits()
_ABOUT = "image.json"


class Image(Value, frozen=True, omit_defaults=False):
    """One image of the store."""

    id: str  # "sha256-" and 64 hexadecimal digits
    source: str  # what it was made from, for people
    made: float  # seconds since 1970, when it was unpacked here
    files: int
    bytes: int
    recipe: str = ""  # digest of what `vini image build` was asked for
    base: str = ""  # NODE, or none


class Source(Value, frozen=True):
    """A file, as it was when it became an image."""

    word: str
    stamp: str  # of a file: inode, size and time of change; "": it is elsewhere
    id: str


class Store:
    """The images of one node."""

    def __init__(self, directory: Path):
        self._directory = directory

    def images(self) -> list[Image]:
        """All that are complete, the oldest first."""
        found = (self._read(p.name) for p in self._directory.glob("sha256-*"))
        return sorted((i for i in found if i), key=lambda i: (i.made, i.id))

    def names(self) -> dict[str, str]:
        """Name -> id."""
        return {p.name: p.readlink().name for p in sorted(self._directory.glob("names/*")) if p.is_symlink()}

    def find(self, word: str) -> Image:
        """By its name, its id, or the beginning of that.  Raises NotFound."""
        names = self.names()
        ids = [i.id for i in self.images()]
        begins = [i for i in ids if len(word) >= 8 and word[:1] and i.removeprefix("sha256-").startswith(word)]
        wanted = names.get(word) or (word if word in ids else "") or (begins[0] if len(begins) == 1 else "")
        if wanted and (found := self._read(wanted)):
            return found
        near = next(iter(get_close_matches(word, [*names], n=1, cutoff=0.5)), "")
        hint = f"did you mean {near!r}?" if near else "`vini image list` shows those that are; `vini image import FILE`"
        raise NotFound(f"There is no image {word!r} on this node; {hint}{'' if near else ' adds one.'}")

    def root(self, image: Image) -> Path:
        """Its root file system."""
        return self._directory / image.id / "root"

    def add(self, id_: str, source: str, fill: Callable[[Tree], object], *, base: str = "") -> Image:
        """The image of that id; where there is none, `fill` makes it, and it is there when that has ended well.

        To be called with the lock.  Raises what `fill` raises; nothing is left of it then.
        """
        if there := self._read(id_):
            return there
        with self.room() as room:
            (room / "root").mkdir()
            (room / "root").chmod(0o755)
            with Tree(room / "root", _LIMITS) as tree:
                fill(tree)
                image = Image(id_, source, time.time(), tree.files, tree.bytes, base=base)
            check(room / "root", base)
            (room / _ABOUT).write_bytes(msgspec.json.encode(image))
            _flush(room)
            room.rename(self._directory / id_)
        return image

    def describe(self, image: Image, **changes: str) -> Image:
        """Remember something else of it."""
        changed = msgspec.structs.replace(image, **changes)
        _write(self._directory / image.id / _ABOUT, msgspec.json.encode(changed))
        return changed

    def call(self, name: str, image: Image) -> None:
        """From now on that name means that image."""
        if not NAME.fullmatch(name) or name.startswith("sha256-"):
            raise Refused(f"An image can't be called {name!r}; use a-z, 0-9, '.', '_' and '-', at most 80.")
        (self._directory / "names").mkdir(exist_ok=True)
        new = self._directory / "names" / f".{name}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(Path("..") / image.id)
        new.rename(self._directory / "names" / name)

    def remove(self, word: str, used: frozenset[str]) -> Image:
        """Take a name away, and the image where no other name means it.  Raises Conflict where a sliver uses it."""
        image = self.find(word)
        others = [n for n, i in self.names().items() if i == image.id and n != word]
        if word in self.names() and others:
            (self._directory / "names" / word).unlink()
            return image
        if image.id in used:
            raise Conflict(
                f"The image {word!r} is a running sliver's; end that sliver, or give it another image, first."
            )
        for name in (n for n, i in self.names().items() if i == image.id):
            (self._directory / "names" / name).unlink()
        # First it is no image any more, then it goes: a crash leaves what the next import clears away.
        gone = self._directory / f"new-{os.getpid()}-{image.id}"
        (self._directory / image.id).rename(gone)
        trees.remove(gone)
        return image

    # --- where images came from ---------------------------------------------------------------

    def known(self, word: str, stamp: str) -> Image | None:
        """The image that this source became, if it is still as it was and so is that."""
        try:
            seen = msgspec.json.decode(self._source(word).read_bytes(), type=Source)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return self._read(seen.id) if (seen.word, seen.stamp) == (word, stamp) else None

    def know(self, word: str, stamp: str, image: Image) -> None:
        """Remember it."""
        self._source(word).parent.mkdir(exist_ok=True)
        _write(self._source(word), msgspec.json.encode(Source(word, stamp, image.id)))

    def _source(self, word: str) -> Path:
        return self._directory / "sources" / f"{hashlib.sha256(word.encode()).hexdigest()[:32]}.json"

    # --- one at a time ------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process adds or removes images; what others left half-made when they were killed goes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        with (self._directory / "lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            for left in self._directory.glob("new-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A directory to make something in, gone afterwards unless it was renamed.  To be called with the lock."""
        room = self._directory / f"new-{os.getpid()}"
        number = 0
        while room.exists():
            number += 1
            room = self._directory / f"new-{os.getpid()}-{number}"
        room.mkdir()
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _read(self, id_: str) -> Image | None:
        try:
            return msgspec.json.decode((self._directory / id_ / _ABOUT).read_bytes(), type=Image)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None


def check(root: Path, base: str = "") -> None:
    """Raises Refused for what no sliver could live in."""
    if base == NODE:
        return
    for program in ("sh", "sleep"):
        places = [root / d / program for d in ("bin", "usr/bin", "sbin", "usr/sbin", "usr/local/bin")]
        if not any(os.path.lexists(p) for p in places):
            raise Refused(f"It has no {program!r} in /bin or /usr/bin, which a sliver needs; is it a root file system?")


def _flush(directory: Path) -> None:
    """What is in its file system is on the disk: a name may outlive a power cut only with what it names (syncfs(2))."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def _write(at: Path, content: bytes) -> None:
    new = at.with_name(f".{at.name}.{os.getpid()}")
    new.write_bytes(content)
    new.rename(at)
