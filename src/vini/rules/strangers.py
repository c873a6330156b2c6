"""What a slice may not ask for on a testbed whose people don't know each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from msgspec.structs import replace

from vini.model import Denied, Sliver, Topology
from vini.plugins.tunnels import TunnelKind

# By which no container sends into another slice; the first is what slices have that don't say.  A flood at XDP, which
# no Share governs, would take its neighbours' packets.
TUNNELS: tuple[TunnelKind, ...] = ("wireguard", "vxlan", "gretap")
DISK_MB = 500  # 10**6 bytes, of a sliver that says neither what it is nor how much it writes
IMAGES = PurePosixPath("/srv/vini/images")  # where operators put root file systems that any tenant may read


def settled(topology: Topology) -> Topology:
    """The same, in which a sliver that doesn't say what it is is what it may be here: a container with a disk."""

    def kept_in(sliver: Sliver) -> Sliver:
        own = sliver.resources
        bounded = own if own.disk_mb else replace(own, disk_mb=DISK_MB)
        return sliver if sliver.runtime else replace(sliver, runtime="container", resources=bounded)

    return replace(topology, slivers={name: kept_in(s) for name, s in topology.slivers.items()})


def check(topology: Topology) -> None:
    """Raises Denied for slivers that would have the rights or the files of a node, all of them named.

    A `light` sliver's processes are root on its node, those that `vini exec` starts too: so none is let pass, not even
    a switch that starts nothing itself.  A container's image is a file or directory of the node's: any other than those
    that were put there for it would be a way to read what is on the node.  Nor may it be one that a registry has, which
    would take the node's disk, or one of the store by its name, where others' snapshots are.  One without a
    disk, or with a volume without a size, could fill its node's.
    """
    slivers = topology.slivers.values()
    wrong = []
    if light := [s.name for s in slivers if s.runtime != "container"]:
        wrong.append(f"slivers are containers on this testbed: give {_named(light)} `runtime: container`")
    if images := [s.name for s in slivers if s.image and not _is_public(s)]:
        wrong.append(f"images are directories or archives below {IMAGES}: give {_named(images)} another one, or none")
    if unbounded := [s.name for s in slivers if s.runtime == "container" and not s.resources.disk_mb]:
        wrong.append(f"slivers may not fill a node: give {_named(unbounded)} a disk, as `resources: {{disk: 1GB}}`")
    if volumes := [s.name for s in slivers if s.volumes.keys() - s.bounds.keys()]:
        wrong.append(f"volumes may not fill a node: give those of {_named(volumes)} a size, as `{{at: /d, size: 1GB}}`")
    if wrong:
        said = "; ".join(wrong)
        raise Denied(f"{said[0].upper()}{said[1:]}.")


def check_between(crossing: Sequence[str], tunnel: TunnelKind) -> None:
    """Raises Denied where links lead from node to node by tunnels through which a sliver could harm other slices."""
    if crossing and tunnel not in TUNNELS:
        raise Denied(
            f"Links between nodes are of kind {' or '.join(TUNNELS)} on this testbed, since by those of kind {tunnel} "
            f"slivers could flood what others send: say `tunnel: {TUNNELS[0]}`, or place the slivers of "
            f"{_named(list(crossing))} on one node (`node:`)."
        )


def _is_public(sliver: Sliver) -> bool:
    image = PurePosixPath(sliver.image)
    return IMAGES in image.parents and ".." not in image.parts


def _named(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
