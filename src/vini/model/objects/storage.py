"""What a sliver sees as its file system, and the room that is set apart for what it writes."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key


class Root(Object, frozen=True):
    """A pinned mount namespace: the sliver's own view of the file system.

    Without `image`, the node's root, in which `dirs` are private to the sliver: each is an overlay
    over the node's.  With `image` that is the root, and all of it is
    private.  What the slice's files put there lies in `<run>/slivers/<ns>/root/`.
    """

    ns: str
    dirs: tuple[str, ...] = ()  # top-level directories, sorted: "/etc", "/root"
    image: str = ""  # a root file system, as a sliver names it

    @property
    def key(self) -> Key:
        return ("root", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Disk(Object, frozen=True):
    """A file system of the sliver's own, of a fixed size, that holds all that it writes, logs too.

    It is in a file of that size, `<state>/disks/<ns>.img`, so what is promised is there; it is mounted at the sliver's
    directory, `<run>/slivers/<ns>`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"read_mb", "write_mb"})
    ns: str
    mb: int  # 10**6 bytes
    inodes: int = 0  # files at most; 0: one for each 16 KiB
    read_mb: int = 0  # 10**6 bytes per second at most; 0: not bounded
    write_mb: int = 0

    @property
    def key(self) -> Key:
        return ("disk", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Volume(Object, frozen=True):
    """A container's directory that outlives it, as a file system of a fixed size.

    It is in a file of that size, `<state>/volumes/<ns>/<name>.img`, and is mounted beside it, at
    `<state>/volumes/<ns>/<name>`.  To remove it is to unmount it: what it holds stays until it is removed by name.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"read_mb", "write_mb"})
    falls: ClassVar[bool] = False
    ns: str
    name: str
    mb: int  # 10**6 bytes
    inodes: int = 0  # files at most; 0: one for each 16 KiB
    read_mb: int = 0  # 10**6 bytes per second at most; 0: not bounded
    write_mb: int = 0

    @property
    def key(self) -> Key:
        return ("volume", self.ns, self.name)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class File(Object, frozen=True):
    """A file of a sliver.  `path` is relative to `<run>/slivers/<ns>/`; below `root/` the sliver sees it as its own."""

    in_place: ClassVar[frozenset[str]] = frozenset({"text", "mode", "owner"})
    ns: str
    path: str
    text: str
    mode: int = 0o644
    owner: str = "root"

    @property
    def key(self) -> Key:
        return ("file", self.ns, self.path)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)
