"""Memory of the kernel that it charges to no group: the agent looks who holds how much, and ends who holds too much.

To look into a sliver costs about as much as to look at its interfaces.  So it is done at once where the kernel's own
memory has grown since the last time, and else only now and then.  A sliver that holds more than its `memory` is ended,
and starts again, at once the first time, as after any crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vini.model import Container, Value
from vini.node import cgroup, netlink, netns, sliver_log
from vini.node.container import held, queues
from vini.node.place import Place

_MB = 10**6
_GROWN = 512  # part of the machine's memory by which the kernel's own has grown when all slivers are looked into
_AT_EACH, _SELDOM = 8, 16  # so many slivers, or a 16th of them, are looked into at each look
_GONE_WITHIN_S, _POLL_S = 1.0, 0.005
_FIRST_S, _LONGEST_S = 1.0, 8.0  # before one that is ended again starts: twice as long each time
_FORGOTTEN_S = 60.0  # without being ended again
Found = list[tuple[str, int]]  # a sentence with a place for megabytes, and bytes


class _Looked(Value, frozen=True):
    """The kernel's own memory when a sliver was looked into, or less of it since; how many looks ago that was."""

    own: int
    ago: int = 0


class _Ended(Value, frozen=True):
    """When, and how long it waits for its next start."""

    at: float
    pause: float = 0.0


def own_memory(text: str) -> tuple[int, int]:
    """Bytes that the kernel has for itself and can't give back, and of the machine (/proc/meminfo, proc_meminfo(5))."""
    rows = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in text.splitlines())}
    of_files_and_processes = rows["Active"] + rows["Inactive"] + rows["Unevictable"]
    used = rows["MemTotal"] - rows["MemFree"] - of_files_and_processes - rows["SReclaimable"]
    return used, rows["MemTotal"]


def _meminfo() -> str:
    return Path("/proc/meminfo").read_text()


class Uncounted:
    """Of the slivers of one place."""

    def __init__(self, place: Place, read: Callable[[], str] = _meminfo, clock: Callable[[], float] = time.monotonic):
        self._place, self._read, self._clock = place, read, clock
        self._own, self._grain, self._count = 0, 0, 0
        self._looked: dict[str, _Looked] = {}
        self._ended: dict[str, _Ended] = {}
        self._short: dict[str, float] = {}  # when queues were made shorter

    def begin(self, slivers: int) -> None:
        """A look at some of so many containers."""
        self._own, total = own_memory(self._read())
        self._grain, self._count = total // _GROWN, slivers
        if len(self._looked) > 2 * slivers + _AT_EACH:  # most of those are gone
            self._looked.clear()

    def is_due(self, ns: str) -> bool:
        """Whether it is to be looked into at this look."""
        seen = self._looked.get(ns)
        seldom = min(_SELDOM, self._count // _AT_EACH)
        if seen is None or self._own > seen.own + self._grain or seen.ago >= seldom:
            self._looked[ns] = _Looked(self._own)
            return True
        self._looked[ns] = _Looked(min(seen.own, self._own), seen.ago + 1)
        return False

    def bound(self, o: Container) -> None:
        """Look into a sliver, and end it where it holds more than it may have of memory."""
        with suppress(OSError):  # it ends this moment
            found = self._found(o)
            if sum(size for _, size in found) > o.memory_mb * _MB:
                self._end(o, found)

    def waits(self, ns: str) -> float:
        """For how many seconds yet one that was ended is not started again."""
        ended = self._ended.get(ns)
        return max(0.0, ended.at + ended.pause - self._clock()) if ended else 0.0

    def _found(self, o: Container) -> Found:
        with netns.inside(self._place.pin(o.ns)), netlink.Socket() as socket:
            there = queues.links(socket)
            raised = self._shortened(o, queues.shorten(socket, there, o.memory_mb * _MB))
            rings, waiting = held.by_rings()
            neighbours, most = queues.for_neighbours(socket), o.memory_mb * _MB
            return [
                ("queues of tun devices had room for {} MB again, when they had been made shorter", raised),
                ("rings of packet sockets held {} MB", rings),
                ("packets that waited in sockets held {} MB", waiting + held.by_others()),
                ("queues of interfaces held {} MB", sum(queues.held(socket, there).values())),
                ("queues for neighbours had room for {} MB", sum(neighbours.values())),
                ("queues for programs held {} MB", queues.for_programs()),
                ("tables of neighbours took {} MB", queues.of_neighbours(most)),
            ]

    def _shortened(self, o: Container, packets: int) -> int:
        """Bytes of usual packets that there was room for in queues that were too long, where somebody makes them so
        again and again; else 0: whoever did it once knows by now."""
        if not packets:
            return 0
        before, now = self._short.get(o.ns), self._clock()
        self._short[o.ns] = now
        self._tell(o, f"queues of tun devices were made shorter: they had room for {packets} packets together")
        return packets * queues.USUAL_PACKET if before is not None and now < before + _FORGOTTEN_S else 0

    def _end(self, o: Container, found: Found) -> None:
        """Everybody in it: who holds a ring need not have its socket open, as where it is mapped, or sent and not
        taken.  What is left then are queues of interfaces, which go with them."""
        group = cgroup.of(self._place, o.ns)
        cgroup.kill(group)
        until = time.monotonic() + _GONE_WITHIN_S
        while cgroup.populated(group) and time.monotonic() < until:
            time.sleep(_POLL_S)
        named = " and ".join(what.format(size // _MB) for what, size in found if size >= _MB)
        self._tell(o, f"all processes were ended: {named}, and it may have {o.memory_mb} MB of memory")
        before, now = self._ended.get(o.ns), self._clock()
        again = before is not None and now < before.at + before.pause + _FORGOTTEN_S
        pause = min(_LONGEST_S, max(_FIRST_S, 2 * before.pause)) if again and before else 0.0
        self._ended[o.ns] = _Ended(now, pause)
        self.clear(o)

    def clear(self, o: Container) -> None:
        """Have nothing wait any more at interfaces of a sliver without processes."""
        with suppress(OSError), netns.inside(self._place.pin(o.ns)), netlink.Socket() as socket:
            queues.end(socket, queues.held(socket, queues.links(socket)))
            queues.end(socket, queues.for_neighbours(socket))
            queues.end(socket, queues.neighbours(socket))

    def _tell(self, o: Container, what: str) -> None:
        sliver_log.append(self._place, o.ns, sliver_log.BOOT, what)
