"""What a container is made of besides what every sliver has, and how it sees that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from msgspec import structs

from vini import environment, names
from vini.model import (
    AnyObject,
    Container,
    Disk,
    File,
    Mistake,
    Node,
    Process,
    Resources,
    Root,
    Sliver,
    TopologyError,
    Unsupported,
    Volume,
)

_HOSTS = "/etc/hosts"
_LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def container(slice_: str, node: Node, sliver: Sliver, known: str) -> Iterator[AnyObject]:
    """What its processes can't get out of, and the names of the slice's slivers as they know them."""
    if "containers" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} is a container, which node {node.name!r} can't run; `apt-get install crun` there "
            "(and Linux 5.19 or newer), look at `vini doctor`, or write `runtime: light`."
        )
    if sliver.program is not None and sliver.program.kind == "python":
        raise Unsupported(
            f"Sliver {sliver.name!r} is a container, inside which the node's Python, with vini.packets, is not seen; "
            "write `program: {process: COMMAND}`, or `runtime: light`."
        )
    ns, own = f"{slice_}.{sliver.name}", sliver.resources
    _check_volumes(sliver)
    if own.memory_reserve_mb and "memory-reserve" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} has memory reserved, which node {node.name!r} can't keep for it: only version 2 "
            "of cgroups guarantees memory; boot it with systemd.unified_cgroup_hierarchy=1, or leave it out."
        )
    if own.io_weight != Resources().io_weight and "io-weight" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} has an I/O weight, which the disk of node {node.name!r} does not heed: that takes "
            "version 2 of cgroups, and `echo bfq > /sys/block/DISK/queue/scheduler`; or leave `io_weight` out."
        )
    yield Container(
        ns, sliver.image, cpu_weight=own.cpu_weight, cpu_percent=math.ceil((own.reserve or own.cores) * 100),
        memory_mb=own.memory_mb, memory_high_mb=own.memory_high_mb, pids=own.pids, cpu_reserved=own.reserve > 0,
        disk=own.disk_mb > 0, restarts=sliver.restarts, resets=sliver.resets,
        volumes=tuple(sorted(sliver.volumes.items(), key=lambda v: v[1])),
        bounded=tuple(sorted(sliver.bounds)), memory_reserved_mb=own.memory_reserve_mb, io_weight=own.io_weight,
    )  # fmt: skip
    if (own.disk_mb or sliver.bounds) and "disks" not in node.capabilities:
        what, key = ("a disk", "`disk`") if own.disk_mb else ("volumes of a size", "`size`")
        raise Unsupported(
            f"Sliver {sliver.name!r} has {what}, and node {node.name!r} can't bound what a sliver writes: "
            f"`modprobe loop` and `apt-get install e2fsprogs` there, or leave {key} out."
        )
    if own.disk_mb:
        yield Disk(ns, own.disk_mb, own.inodes, own.disk_read_mb, own.disk_write_mb)
    for name, bound in sliver.bounds.items():
        yield Volume(ns, name, bound.mb, bound.inodes, own.disk_read_mb, own.disk_write_mb)
    if not sliver.image and _HOSTS not in sliver.files:
        yield File(ns, f"root{_HOSTS}", _LOCALHOST + known)


def _check_volumes(sliver: Sliver) -> None:
    """They become paths on the node, and not all come from a file that was checked."""
    for name, path in sliver.volumes.items():
        parts = PurePosixPath(path).parts
        if not names.SLIVER_NAME.fullmatch(name) or parts[:1] != ("/",) or len(parts) < 2 or ".." in parts:
            what = f"{sliver.name}: a volume can't be called {name!r} and be at {path!r}; write it like data: /data."
            raise TopologyError([Mistake(0, 0, what)])
    if unknown := sorted(sliver.bounds.keys() - sliver.volumes.keys()):
        raise TopologyError([Mistake(0, 0, f"{sliver.name}: there is no volume {unknown[0]!r} to bound.")])


def inside(sliver: Sliver, objects: Iterable[AnyObject]) -> Iterator[AnyObject]:
    """The same as a container has them: it sees of the sliver's files only those in its root,
    and doesn't write what the node reads."""
    for o in objects:
        if sliver.runtime != "container":
            yield o
        elif isinstance(o, Process):
            yield structs.replace(o, rooted=False, contained=True)
        elif isinstance(o, File) and o.path != environment.NAME and not o.path.startswith("root/"):
            yield structs.replace(o, path=f"root/run/{o.path}")
        elif not isinstance(o, Root):
            yield o
