"""What slivers do to this machine: traffic of their vifs, CPU and memory of their processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vini.bus.messages.loads import SliverLoad
from vini.dataplane.element import Element, real_ns
from vini.node import cgroup, netns, pressure
from vini.node.container import volumes
from vini.node.drivers.share import ShareDriver
from vini.node.place import Place

_TICKS_PER_S, _PAGE = 100, 4096  # of /proc/PID/stat and statm (proc(5))
_RX_BYTES, _RX, _TX_BYTES, _TX = 0, 1, 8, 9  # fields of a line of /proc/net/dev
Shaped = Mapping[tuple[str, str], Mapping[str, int]]  # namespace and vif -> what the link element tells of it


def loads(place: Place, spaces: Iterable[str]) -> dict[str, SliverLoad]:
    """Namespace -> its counters since each vif and process began; without those that are not there."""
    shaped = _shaped(place)
    waited = dict(pressure.of_node())
    shares = ShareDriver(place).loads()
    out: dict[str, SliverLoad] = {}
    with netns.back_home():
        for ns in spaces:
            with suppress(OSError):
                netns.enter(place.pin(ns))
                vifs = counters(Path("/proc/thread-self/net/dev").read_text())
                group = cgroup.of(place, ns)
                told = {dev: n for (of, dev), n in shaped.items() if of == ns}
                share = shares.get(ns)
                own = dict(pressure.of_group(group))
                out[ns] = SliverLoad(
                    time.monotonic(),
                    vifs,
                    _cpu_s(group),
                    memory(group),
                    {dev: (n["sent"], n["late"]) for dev, n in told.items()},
                    {dev: n["began"] and real_ns(n["began"]) for dev, n in told.items() if "began" in n},
                    disk=disk(place, ns),
                    volumes=volumes.used(place, ns),
                    pressure=own,
                    node_pressure=waited,
                    share=share,
                )
    return out


def disk(place: Place, ns: str) -> tuple[int, int] | None:
    """Bytes that are used of a sliver's own disk, and its size; None: it has none."""
    if not place.sliver(ns).is_mount():
        return None
    seen = os.statvfs(place.sliver(ns))
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize, seen.f_blocks * seen.f_frsize


def counters(text: str) -> dict[str, tuple[int, int, int, int]]:
    """Interface -> bytes and packets received, bytes and packets sent, of /proc/net/dev."""
    out = {}
    for row in text.splitlines()[2:]:
        dev, _, numbers = row.partition(":")
        fields = [int(x) for x in numbers.split()]
        out[dev.strip()] = (fields[_RX_BYTES], fields[_RX], fields[_TX_BYTES], fields[_TX])
    return out


def _cpu_s(group: Path) -> float:
    """CPU time (s) of its living processes."""
    total = 0
    for pid in _pids(group):
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def memory(group: Path) -> int:
    """Bytes of their own that a sliver's living processes have."""
    total = 0
    for pid in _pids(group):
        with suppress(FileNotFoundError, ProcessLookupError):
            pages = Path(f"/proc/{pid}/statm").read_text().split()
            total += (int(pages[1]) - int(pages[2])) * _PAGE
    return total


def _pids(group: Path) -> list[int]:
    return [pid for below in group.glob("*/") for pid in cgroup.pids(below)]


def _shaped(place: Place) -> Shaped:
    """{} where no link element runs, since no link needs it."""
    ours = place.netns("").name
    try:
        with Element(place.run) as running:
            ports = running.stats()
    except OSError:
        return {}
    return {(ns.removeprefix(ours), dev): n for (ns, dev), n in ports.items()}
