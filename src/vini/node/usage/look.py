"""One look at what the kernel counted of slivers."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from vini.node import cgroup, netns, rtnl
from vini.node.container import disks, limits, volumes
from vini.node.loads import counters, disk, memory
from vini.node.netlink import Socket
from vini.node.outside import rules
from vini.node.place import Place
from vini.node.shares import record
from vini.usage import Look

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
Vif = tuple[str, str]  # namespace and interface
Tunnels = Mapping[str, Collection[Vif]]  # sliver -> its tunnels to other nodes, which may be beyond its reach


def look(place: Place, slivers: Tunnels) -> dict[str, Look]:
    """Namespace -> what is counted, of those that there are.  Of a source that can't be read now nothing is told."""
    if not slivers:
        return {}
    sent, at = record.sent(place), _interfaces(place, slivers)
    accounted, stored = _accounted(place), disks.slivers(place) | volumes.kept(place)
    tunneled = _tunneled(place, {of for some in slivers.values() for of, _ in some})
    out: dict[str, Look] = {}
    for ns, tunnels in slivers.items():
        if not place.pin(ns).exists():
            continue
        found: dict[str, tuple[int, ...]] = dict(tunneled[of][dev] for of, dev in tunnels if dev in tunneled[of])
        if ns in accounted:
            with suppress(OSError, ValueError, IndexError):
                found |= _cpu(cgroup.of(place, ns))
        if one := sent.get(ns):
            found[f"exempt {one.epoch}"] = one.seen[1:]
        found |= at.get(ns, {})
        out[ns] = Look(found, _memory(place, ns) if ns in accounted else 0, _disk(place, ns) if ns in stored else 0)
    return out


def _accounted(place: Place) -> set[str]:
    """Those with a group of their own: in which something lives or lived. Looked up once, for a slice of thousands."""
    found: set[str] = set()
    trees = [cgroup.of(place)]
    if (tree := limits.tree("memory")) is not None:
        trees.append(tree / place.mark)
    for at in trees:
        with suppress(FileNotFoundError), os.scandir(at) as entries:
            found |= {entry.name for entry in entries}
    return found


def _tunneled(place: Place, namespaces: Collection[str]) -> dict[str, dict[str, tuple[str, tuple[int, int]]]]:
    with netns.back_home():
        return {of: _counted(place.pin(of)) for of in namespaces}


def _counted(pin: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    """Interface -> the name of its counter, and bytes in and out; nothing where there is no such namespace."""
    try:
        netns.enter(pin)
        which = _namespace(pin)
        vifs = counters(Path("/proc/thread-self/net/dev").read_text())
    except OSError:
        return {}
    return {dev: (f"tunnel {which} {dev}", (seen[0], seen[2])) for dev, seen in vifs.items()}


def _namespace(pin: Path) -> int:
    """A number of the namespace that we are in, which no other one gets (since Linux 5.14) as long as this runs."""
    with socket.socket(socket.AF_UNIX) as here:
        try:
            return int.from_bytes(here.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return pin.stat().st_ino


def _interfaces(place: Place, slivers: Tunnels) -> dict[str, dict[str, tuple[int, int]]]:
    """Of the node's ends of the ways to the world, which root in a sliver can't reach: what they received was sent."""
    of = {rules.dev_name(place.mark, ns): ns for ns in slivers}
    with Socket() as asked:
        there = {link.dev: link.index for link in rtnl.links(asked) if link.dev in of}
    if not there:
        return {}
    counted = counters(Path("/proc/thread-self/net/dev").read_text())
    return {
        of[dev]: {f"outside {index}": (counted[dev][2], counted[dev][0])}
        for dev, index in there.items()
        if dev in counted
    }


def _cpu(group: Path) -> dict[str, tuple[int]]:
    """Of all that ever ran in a sliver's group; that one is another when the group was made anew."""
    with (group / "cpu.stat").open() as file:
        used = int(file.readline().split()[1])  # usage_usec is the first line, in every version
        return {f"cpu {os.fstat(file.fileno()).st_ino}": (used,)}


def _memory(place: Place, ns: str) -> int:
    """As the kernel accounts for its group, caches of files included; where it doesn't, what its processes have."""
    group, tree = cgroup.of(place, ns), limits.tree("memory")
    accounts = [group / "memory.current"]
    if tree is not None:
        accounts.append(tree / place.mark / ns / "memory.usage_in_bytes")
    for account in accounts:
        with suppress(OSError, ValueError):
            return int(account.read_text())
    return memory(group)


def _disk(place: Place, ns: str) -> int:
    used = 0
    with suppress(OSError):
        own = disk(place, ns)
        used = own[0] if own else 0
        used += sum(n for n, _ in volumes.used(place, ns).values())
    return used
