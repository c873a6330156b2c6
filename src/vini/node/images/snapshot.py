"""Images of what a sliver's disk holds at this moment.

What is read is a tenant's, who may change it meanwhile: by descriptors, no link is followed (trees.walk, O_NOFOLLOW).
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from vini.model import Unsupported, ViniError
from vini.node import trees
from vini.node.container import crun, mounts
from vini.node.images.obtain import of_archive
from vini.node.images.provision import below
from vini.node.images.store import Image, Store
from vini.node.images.tree import Limits, Refused
from vini.node.place import Place

# Of these only the directories: what lies there is of the processes that ran.
_PASSING = ("dev", "proc", "run", "sys", "tmp", "var/run", "var/tmp")
_DEEPEST, _LONGEST = 1000, 3800  # directories in each other, and bytes of their names; the kernel takes 4096
_MOUNTABLE = re.compile(r"[\w./+@-]+")


def snapshot(place: Place, ns: str, store: Store) -> Image:
    """A new image: that on which the sliver stands, with what was written since.  Raises ViniError, OSError.

    Of a sliver that runs, each file is as it was when its turn came.  Volumes are not in it.
    """
    under = below(place, ns)
    if under is None or not (place.sliver(ns) / "root").is_dir():
        raise Unsupported(
            f"Sliver {ns.partition('.')[2]!r} has no disk of its own; only that of a container, or of one that stands"
            " on an image, can be kept."
        )
    if not _MOUNTABLE.fullmatch(under.root):
        raise ViniError(f"The image's path {under.root!r} can't be mounted; use letters and digits.")
    with store.lock(), store.room() as room:
        file = room / "snapshot.tar"
        mounts.apart(lambda: _pack(f"{place.sliver(ns)}/root:{under.root}", file))
        return of_archive(store, file, f"snapshot of {ns}", base=under.base)


def _pack(layers: str, file: Path) -> None:
    """In a mount namespace of its own, where they are seen as one."""
    mounts.mount("vini", crun.ROOM, "overlay", 0, f"lowerdir={layers},index=off")
    disk = os.statvfs(file.parent)
    most = min(Limits().bytes, disk.f_bavail * disk.f_frsize // 2)  # the archive, and then the tree of it
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, fd, name in _walk(crun.ROOM):
            _add(tar, path, fd, name, most)


def _walk(root: Path) -> Iterator[tuple[str, int, str]]:
    """Path in the archive, a descriptor of its directory, and its name there; in the order of names."""
    for at, fd, directories, names in trees.walk(root):
        inside = "/".join([*at[:_DEEPEST], ""])
        if len(at) > _DEEPEST or len(inside) > _LONGEST:
            raise ViniError(f"{inside[:60]}... is deeper than a path can say; an image can't hold that: delete it.")
        passing = any(inside.startswith(f"{p}/") for p in _PASSING)
        for name in sorted([*directories, *([] if passing else names)]):
            yield f"{inside}{name}", fd, name


def _add(tar: tarfile.TarFile, path: str, parent: int, name: str, most: int) -> None:
    """What has gone meanwhile, and what is no file, directory or link, is left out."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        member = tarfile.TarInfo(path)
        member.mode, member.uid, member.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        member.mtime = status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode):
            _add_file(tar, member, parent, name, most)
            return
        else:
            return
    except FileNotFoundError:
        return
    tar.addfile(member)


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, most: int) -> None:
    """A file with holes is one without them here: so what is too much is refused before it is written."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except OSError as e:
        if isinstance(e, FileNotFoundError):
            raise
        raise ViniError(f"{member.name} changed while it was read; `vini sliver freeze` the sliver first.") from e
    with os.fdopen(fd, "rb") as f:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return
        member.size = status.st_size
        if tar.offset + member.size > most:
            raise Refused(
                f"{member.name} has {member.size} bytes, holes counted, and all of an image may have {most} on this "
                "disk; delete it, or make it smaller."
            )
        try:
            tar.addfile(member, f)
        except OSError as e:
            raise ViniError(f"{member.name} changed while it was read; `vini sliver freeze` the sliver first.") from e
