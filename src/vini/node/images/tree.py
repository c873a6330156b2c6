"""A root file system that grows out of an archive by somebody who may mean harm (tar(5), OCI image layers).

Each step of a name is a descriptor of the one before, and no symbolic link is followed (openat(2), O_NOFOLLOW): so no
name and no link in the archive leads out of the tree, not even to where another archive's file is.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Self

from vini.model import Value, ViniError
from vini.node import trees

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18
_LATEST_S = 2.0**33  # a time beyond that is nobody's, and not every file system has it
_DEEPEST = 100  # directories in each other
_HEADER_BYTES = 1 << 20  # of a header that holds a name; a longer one is an attack on memory
_LONG = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_IDS = 65536  # that a sliver has (vini.node.container.users)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image specification 1.0, layer.md


class Refused(ViniError):
    """An image that can't be trusted, or that no sliver could use."""


class Limits(Value, frozen=True):
    """What one image may take of the node's disk."""

    bytes: int = 20 * 10**9
    files: int = 1_000_000  # and directories and links


class Member(tarfile.TarInfo):
    """One whose headers can't ask for more memory than a name needs, and that is an error of tarfile's where they make
    no sense."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """The next one.  Raises tarfile.TarError: numbers that are none, and headers of headers without end, are no
        errors of its own."""
        try:
            return super().fromtarfile(tar)
        except (ValueError, RecursionError) as e:
            raise tarfile.ReadError("a header makes no sense") from e

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _LONG and self.size > _HEADER_BYTES:
            raise tarfile.ReadError("a name is too long")
        made: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return made


class Tree:
    """A directory that grows by archives, one upon the other, within limits.

    Refused, in a sentence: names that lead out or through a symbolic link, device nodes outside /dev, holes, owners
    that a sliver can't have, more than the limits.  Left away: /dev, named pipes, extended attributes, and the bits
    that make a program another user's: no program gains rights in a sliver.
    """

    def __init__(self, root: Path, limits: Limits = Limits()):  # noqa: B008  # frozen
        self._root = os.open(root, _DIRECTORY)
        self._limits = limits
        self.files = self.bytes = 0

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def add(self, stream: IO[bytes], *, layer: bool = False) -> None:
        """All of a tar stream; with `layer` what it says of files of the archives before is heeded (whiteouts).

        Raises Refused, or OSError where the disk does not take it.
        """
        made: set[int] = (
            set()
        )  # hashes, a third of the memory; its maker can't choose two paths of one (PYTHONHASHSEED)
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar:
                for member in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # else all would be kept in memory
                    path = _path(member.name)
                    self._count(member)
                    if layer and path.name.startswith(_WHITEOUT):
                        self._white_out(path, made)
                    else:
                        self._take(tar, member, path)
                        if layer:
                            made.update(map(hash, (path, *path.parents)))
        except tarfile.TarError as e:
            raise Refused(f"It is no tar archive, or a damaged one ({e}).") from e

    def _count(self, member: tarfile.TarInfo) -> None:
        self._one_more()
        self.bytes += member.size
        if self.bytes > self._limits.bytes:
            raise Refused(f"It has more than {self._limits.bytes / 10**9:g} GB, which is as much as an image may have.")
        if not (0 <= member.uid < _IDS and 0 <= member.gid < _IDS):
            raise Refused(
                f"{_shown(member.name)} is owned by {member.uid}:{member.gid}, and a sliver has ids below {_IDS} only."
            )

    def _one_more(self) -> None:
        self.files += 1
        if self.files > self._limits.files:
            raise Refused(f"It has more than {self._limits.files} files, which is as many as an image may have.")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        if path.parts[:1] == ("dev",) and len(path.parts) > 1:
            return  # every sliver has its own
        if not path.parts:
            if member.isdir():
                os.fchmod(self._root, member.mode & 0o1777)
            return
        if member.issparse():
            raise Refused(f"{_shown(member.name)} is stored with holes; make the archive without `tar --sparse`.")
        if member.ischr() or member.isblk():
            raise Refused(f"{_shown(member.name)} is a device node, which an image can't have outside /dev.")
        if member.isfifo():
            return
        parent = self._directory(path.parent, member.name)
        try:
            self._make(tar, member, path, parent)
        finally:
            os.close(parent)

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath, parent: int) -> None:
        name = path.name
        if member.isdir():
            _make_directory(name, parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            _chmod_directory(name, parent, member.mode & 0o1777)
            return
        _remove(name, parent)
        if member.issym():
            if "\0" in member.linkname:
                raise Refused(f"{_shown(member.name)} is a link to {_shown(member.linkname)}, which is no name.")
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(_path(member.linkname), member, name, parent)
            return
        elif member.isfile():
            _write(tar, member, name, parent)
        else:
            raise Refused(f"{_shown(member.name)} is of a kind that is unknown here ({member.type!r}).")
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        at = int(min(_LATEST_S, max(0.0, float(member.mtime))) * 10**9)
        os.utime(name, ns=(at, at), dir_fd=parent, follow_symlinks=False)

    def _link(self, to: PurePosixPath, member: tarfile.TarInfo, name: str, parent: int) -> None:
        source = self._directory(to.parent, member.linkname, make=False)
        try:
            if not stat.S_ISREG(os.stat(to.name, dir_fd=source, follow_symlinks=False).st_mode):
                raise Refused(f"{_shown(member.name)} is a hard link to {_shown(member.linkname)}, which is no file.")
            os.link(to.name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as e:
            raise Refused(
                f"{_shown(member.name)} is a hard link to {_shown(member.linkname)}, which is not there."
            ) from e
        finally:
            os.close(source)

    def _directory(self, path: PurePosixPath, asked: str, *, make: bool = True) -> int:
        """A descriptor of it, for the caller to close."""
        at = os.dup(self._root)
        for part in path.parts:
            try:
                below = _step(at, part, self._one_more if make else None)
            except OSError as e:
                raise Refused(
                    f"{_shown(asked)} would lie behind {part!r}, which is no directory (a link?); such names are not"
                    " followed."
                ) from e
            finally:
                os.close(at)
            at = below
        return at

    def _white_out(self, path: PurePosixPath, made: set[int]) -> None:
        """What earlier layers have there is gone; what this one has stays."""
        parent = self._directory(path.parent, str(path))
        try:
            if path.name == _OPAQUE:
                if hash(path) in made:  # said already: to look through the directory each time could take for ever
                    return
                made.add(hash(path))
                names = [n for n in os.listdir(parent) if hash(path.parent / n) not in made]  # noqa: PTH208  # a descriptor
            else:
                names = [path.name.removeprefix(_WHITEOUT)]
                if names[0] in ("", ".", ".."):
                    raise Refused(f"{_shown(str(path))} would delete what is no file.")
            for name in names:
                _remove(name, parent)
        finally:
            os.close(parent)


def _path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) > _DEEPEST or "\0" in name:
        raise Refused(f"The name {_shown(name)} leads out of the image, or too deep.")
    return path


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:97] + "...")


def _step(at: int, name: str, make: Callable[[], None] | None) -> int:
    """A descriptor of what is there; where nothing is, of a new directory, of which `make` is told before."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=at)
    except FileNotFoundError:
        if make is None:
            raise
        make()
        os.mkdir(name, 0o755, dir_fd=at)
        return os.open(name, _DIRECTORY, dir_fd=at)


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o755, dir_fd=parent)


def _chmod_directory(name: str, parent: int, mode: int) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _remove(name: str, parent: int) -> None:
    """Whatever it is, if it is there."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        trees.remove(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=parent), "wb") as out:
        source = tar.extractfile(member)
        assert source is not None
        shutil.copyfileobj(source, out, _CHUNK)
        out.flush()
        if out.tell() != member.size:
            raise Refused(f"The archive ends in the middle of {_shown(member.name)}.")
        os.fchmod(out.fileno(), member.mode & 0o777)
