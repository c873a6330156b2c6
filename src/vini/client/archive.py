"""Trees of files as a stream (tar(5), POSIX pax), and back from somebody who may mean harm.

What comes is unpacked below a directory that nobody else knows yet, by descriptors and without following any symbolic
link, so that no name in the stream leads out of it; links are made last.  Nothing is held in memory but names.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path, PurePosixPath
from typing import IO

from vini.model import Value, ViniError
from vini.node.images.tree import Member

_CHUNK = 1 << 18
_MOST_FILES = 1_000_000  # and directories and links
_TOLD = 100  # of what is left out
_SPARE_BYTES = 100 * 10**6  # that a copy leaves on a disk, or a twentieth of it
_MODE = 0o777  # no set-user-ID, set-group-ID and sticky bits come from elsewhere


class Copied(Value, frozen=True):
    """How much was copied, and which names of the tree were not, with the reason."""

    files: int = 0
    bytes: int = 0
    left_out: tuple[str, ...] = ()


def pack(sources: dict[str, Path], out: IO[bytes]) -> Copied:
    """Write these trees, each by its name, as a stream.  Links stay links; what is no file is left out."""
    files = size = 0
    left_out: list[str] = []

    def chosen(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal files, size
        if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            left_out.append(f"{member.name}: no file, directory or link")
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        files, size = files + (not member.isdir()), size + member.size
        return member

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sources.items():
            try:
                tar.add(source, arcname=name, filter=chosen)
            except FileNotFoundError as e:
                raise ViniError(f"There is no {e.filename!r}; check the name.") from e
            except PermissionError as e:
                raise ViniError(f"You may not read {e.filename!r}.") from e
    return Copied(files, size, tuple(left_out))


def unpack(stream: IO[bytes], name: str, target: Path) -> Copied:
    """What comes, a tree called `name`, becomes `target`; a file takes the place of a file, a tree needs a free place.

    Raises ViniError where what comes is no such tree, or the disk does not take it; `target` is then as before.
    """
    try:
        with _aside(target) as room:
            with _Tree(room) as tree, tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar:
                copied = tree.take(tar, name)
            _into_place(room / name, target)
    except tarfile.TarError as e:
        raise ViniError(f"What came is no archive that can be trusted ({e}); nothing was copied.") from e
    except OSError as e:
        raise ViniError(f"{target} can't be written: {e.strerror}; nothing was copied.") from e
    return copied


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A directory beside it, for this user only."""
    room = Path(tempfile.mkdtemp(prefix=".vini-cp-", dir=target.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _into_place(made: Path, target: Path) -> None:
    if not os.path.lexists(made):
        raise ViniError("Nothing came; is there such a file in the sliver?")
    if os.path.lexists(target) and (target.is_dir() or made.is_dir()) and not target.is_symlink():
        raise ViniError(f"There is {str(target)!r} already; remove it, or name another place.")
    made.replace(target)


class _Tree:
    """A directory that grows.  Each step of a path is opened by itself, and must be a directory (openat(2))."""

    def __init__(self, root: Path):
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._files = self._bytes = self._more_left_out = 0
        self._left_out: list[str] = []
        self._links: list[tuple[str, str]] = []
        self._modes: list[tuple[str, int]] = []

    def __enter__(self) -> _Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def take(self, tar: tarfile.TarFile, name: str) -> Copied:
        """All members of it that are below `name`."""
        for number, member in enumerate(tar, 1):
            tar.members.clear()  # type: ignore[attr-defined]  # else all would be kept in memory
            if number > _MOST_FILES:
                raise tarfile.ReadError(f"it has more than {_MOST_FILES} files; copy it in parts")
            path = PurePosixPath(member.name)
            if (
                path.is_absolute()
                or ".." in path.parts
                or not path.parts
                or path.parts[0] != name
                or len(path.parts) > 200
                or "\0" in member.name
            ):
                raise tarfile.ReadError(f"the name {member.name[:200]!r} leads out of {name!r}")
            self._take(tar, member, path)
        for name_, to in self._links:
            path = PurePosixPath(name_)
            self._below(path.parent, partial(_symlink, to, path.name))
        for name_, mode in reversed(self._modes):
            self._below(PurePosixPath(name_), partial(_chmod, mode))
        more = (f"{self._more_left_out} more",) if self._more_left_out else ()
        return Copied(self._files, self._bytes, (*self._left_out, *more))

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        if member.isdir():
            self._below(path.parent, lambda fd: _mkdir(path.name, fd))
            self._modes.append((str(path), member.mode & _MODE | 0o700))
        elif member.isfile() and not member.issparse():
            self._below(path.parent, lambda fd: self._write(tar, member, path.name, fd))
        elif member.issym() and _stays(path, member.linkname):
            self._links.append((str(path), member.linkname))
            self._files += 1
        elif member.islnk() and self._link(path, PurePosixPath(member.linkname)):
            self._files += 1
        else:
            self._leave_out(f"{_shown(str(path))}: {_why(member)}")

    def _leave_out(self, what: str) -> None:
        if len(self._left_out) < _TOLD:
            self._left_out.append(what)
        else:
            self._more_left_out += 1

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        if member.size > _room(os.fstatvfs(parent)):
            raise OSError(errno.ENOSPC, f"there is no room for {_shown(member.name)}, of {member.size} bytes")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, member.mode & _MODE | 0o600, dir_fd=parent)
        with os.fdopen(fd, "wb") as out:
            source = tar.extractfile(member)
            assert source is not None
            shutil.copyfileobj(source, out, _CHUNK)
        self._files, self._bytes = self._files + 1, self._bytes + member.size

    def _link(self, path: PurePosixPath, to: PurePosixPath) -> bool:
        """A second name of a file that came before."""
        if to.is_absolute() or ".." in to.parts or not to.parts or to.parts[0] != path.parts[0] or "\0" in str(to):
            return False

        def link(there: int) -> None:
            self._below(path.parent, lambda here: os.link(
                to.name, path.name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False))  # fmt: skip

        self._below(to.parent, link)
        return True

    def _below(self, directory: PurePosixPath, work: Callable[[int], None]) -> None:
        """Work in that directory, which came before; one that is missing is made."""
        fd = os.dup(self._root)
        try:
            for part in directory.parts:
                _mkdir(part, fd)
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            work(fd)
        finally:
            os.close(fd)


def _room(disk: os.statvfs_result) -> float:
    """Bytes that may be written there; without a bound where the file system tells no size (as many FUSE ones)."""
    if not disk.f_blocks:
        return inf
    return disk.f_bavail * disk.f_frsize - min(_SPARE_BYTES, disk.f_blocks * disk.f_frsize // 20)


def _mkdir(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)


def _symlink(to: str, name: str, parent: int) -> None:
    os.symlink(to, name, dir_fd=parent)


def _chmod(mode: int, fd: int) -> None:
    os.fchmod(fd, mode)


def _stays(path: PurePosixPath, to: str) -> bool:
    """Whether a link at `path` with this text leads to somewhere in the same tree, however it is resolved."""
    if to.startswith("/") or not to or "\0" in to:
        return False
    depth = len(path.parts) - 2  # below the tree's own name
    for part in PurePosixPath(to).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return ".." not in PurePosixPath(to).parts[_leading(to) :]


def _leading(to: str) -> int:
    """How many `..` it begins with; one further on may lead elsewhere, by another link."""
    parts = PurePosixPath(to).parts
    return next((i for i, part in enumerate(parts) if part != ".."), len(parts))


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _why(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname[:200]!r}, which is not part of what is copied"
    return "a file with holes" if member.isfile() else "no file, directory or link"
