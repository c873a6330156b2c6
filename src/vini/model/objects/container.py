"""A sliver's container."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key


class Container(Object, frozen=True):
    """An OCI container: a sliver whose processes see neither the node nor the other slivers.

    User, pid, mount, uts, ipc and cgroup namespaces of its own, in the sliver's network namespace, which outlives it.
    Its root file system is private: `image`, or what the node's own root has in /usr with an /etc made up for it.
    What the slice's files put there lies in `<run>/slivers/<ns>/root/`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "cpu_weight",
            "cpu_percent",
            "memory_mb",
            "memory_high_mb",
            "pids",
            "cpu_reserved",
            "memory_reserved_mb",
            "io_weight",
        }  # fmt: skip
    )
    ns: str
    image: str = ""  # a root file system, as a sliver names it
    cpu_weight: int = 100  # of its processes together against another sliver's, 1..1000
    cpu_percent: int = 0  # of one core that they may use together; 0: all
    memory_mb: int = 512  # 10**6 bytes; beyond it one of them is ended, and none of another sliver
    memory_high_mb: int = 0  # beyond it they are slowed down; 0: never
    pids: int = 512  # processes and threads at once
    cpu_reserved: bool = False  # `cpu_percent` is its own: it comes before all that have none reserved
    disk: bool = False  # what it writes is on the sliver's Disk
    restarts: int = 0
    volumes: tuple[tuple[str, str], ...] = ()  # name, and where it is inside; by the latter
    resets: int = 0  # with another number than before it begins with an empty upper layer
    bounded: tuple[str, ...] = ()  # names of those of its volumes that are Volumes, sorted; others have no bound
    memory_reserved_mb: int = 0  # 10**6 bytes that are not reclaimed from it while others want them; 0: none
    io_weight: int = 100  # of what it reads and writes against another sliver's, 1..1000

    @property
    def key(self) -> Key:
        return ("container", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        volumes = (("volume", self.ns, name) for name in self.bounded)
        return (("netns", self.ns), *((("disk", self.ns),) if self.disk else ()), *volumes)
