"""Memory of the kernel that it charges to no group: the agent looks who holds how much, and ends who holds too much.

To look into a sliver costs about as much as to look at its interfaces.  So it is done at once where the kernel's own
memory has grown since the last time, and else only now and then.  A sliver that holds more than its `memory` is ended,
and starts again, at once the first time, as after any crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vini.model import Container, Value
from vini.node import cgroup, netlink, netns, sliver_log
from vini.node.container import held, ours, queues
from vini.node.place import Place

_MB = 10**6
# Parts of the machine's memory: by the first the kernel's own has grown when all slivers are looked into; by up to the
# second, where it moves much anyway: by 16 times what it usually grows from look to look, of the latest 32 or so.
_GROWN, _MOST_GROWN, _USUALLY, _LATEST = 512, 64, 16, 32
_AT_EACH, _SELDOM = 8, 16  # so many slivers, or a 16th of them, are looked into at each look
_GONE_WITHIN_S, _POLL_S = 1.0, 0.005
_FIRST_S, _LONGEST_S = 1.0, 8.0  # before one that is ended again starts: twice as long each time
_FORGOTTEN_S = 60.0  # without being ended again
Found = list[tuple[str, int]]  # a sentence with a place for megabytes, and bytes


class _Looked(Value, frozen=True):
    """The kernel's own memory when a sliver was looked into, or less of it since; how many looks ago that was."""

    own: int
    ago: int = 0


class _Wide(Value, frozen=True):
    """The kernel's own memory when what only its growth tells was asked of a sliver, or less of it since."""

    netlink: int  # when sockets of netlink were read
    ago: int  # so many looks into it
    programs: int  # when no more waited for programs than usual


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


class _Spared(Value, frozen=True):
    """What is in a sliver's network and not its own: inodes of sockets; interface -> bytes in VINI's wire."""

    sockets: frozenset[int] = frozenset()
    wires: Mapping[str, int] = {}


_NOTHING = _Spared()


class Uncounted:
    """Of the slivers of one place.

    `wires`: sliver -> name of each interface at which a wire of VINI's is wanted, and what that may hold, in bytes.
    """

    def __init__(
        self, place: Place, read: Callable[[], str] = _meminfo, clock: Callable[[], float] = time.monotonic,
        wires: Callable[[str], Mapping[str, int]] = lambda _: {},
    ):  # fmt: skip
        self._place, self._read, self._clock, self._wires = place, read, clock, wires
        self._own, self._grain, self._count = 0, 0, 0
        self._rises = 0.0  # bytes by which it usually grows from look to look
        self._looked: dict[str, _Looked] = {}
        self._wide: dict[str, _Wide] = {}
        self._ended: dict[str, _Ended] = {}
        self._short: dict[str, float] = {}  # when queues were made shorter

    def begin(self, slivers: int) -> None:
        """A look at some of so many containers."""
        before = self._own
        self._own, total = own_memory(self._read())
        if before:
            self._rises += (max(0, self._own - before) - self._rises) / _LATEST
        self._grain = min(max(total // _GROWN, round(_USUALLY * self._rises)), total // _MOST_GROWN)
        self._count = slivers
        if len(self._looked) > 2 * slivers + _AT_EACH:  # most of those are gone
            self._looked.clear()
            self._wide.clear()

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
        most = o.memory_mb * _MB
        with netns.inside(self._place.pin(o.ns)), netlink.Socket() as socket:
            there = queues.links(socket)
            raised = self._shortened(o, queues.shorten(socket, there, most))
            others = [
                ("queues of tun devices had room for {} MB again, when they had been made shorter", raised),
                *self._wider(o),
                ("queues for neighbours had room for {} MB", sum(queues.for_neighbours(socket).values())),
                ("tables of neighbours took {} MB", queues.of_neighbours(most)),
            ]
            found = others + _plain(socket, there, _NOTHING)
            if sum(size for _, size in found) > most:  # what is spared is asked only then: it costs more
                spared = _Spared(ours.sockets(self._place), self._wires(o.ns))
                found = others + _plain(socket, there, spared)
            return found

    def _wider(self, o: Container) -> Found:
        """Of what is looked at, or counts, as far as the kernel's own memory has grown."""
        before = self._wide.get(o.ns)
        netlink_own = min(before.netlink, self._own) if before else 0
        programs_own = min(before.programs, self._own) if before else self._own
        ago, found = before.ago + 1 if before else 0, Found()
        if self._own > netlink_own + self._grain or ago >= _SELDOM:
            waits, netlink_own, ago = held.by_netlink(), self._own, 0
            if waits is None:
                found.append(("sockets of netlink were too many to look at, and count as {} MB", o.memory_mb * _MB + 1))
            else:
                found.append(("packets that waited in sockets of netlink held {} MB", waits))
        queued = queues.for_programs()
        if queued.most == queued.least:
            programs_own = self._own
        found.append(("queues for programs held {} MB", queued.counted(self._own - programs_own)))
        self._wide[o.ns] = _Wide(netlink_own, ago, programs_own)
        return found

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
            queues.end(socket, queues.held(socket, queues.links(socket), self._wires(o.ns)))
            queues.end(socket, queues.for_neighbours(socket))
            queues.end(socket, queues.neighbours(socket))

    def _tell(self, o: Container, what: str) -> None:
        sliver_log.append(self._place, o.ns, sliver_log.BOOT, what)


def _plain(socket: netlink.Socket, there: list[queues.Link], spared: _Spared) -> Found:
    """What the kernel tells of sockets and interfaces of the thread's namespace."""
    rings, waiting = held.by_rings(spared.sockets)
    return [
        ("rings of packet sockets held {} MB", rings),
        ("packets that waited in sockets held {} MB", waiting + held.by_others()),
        ("queues of interfaces held {} MB", sum(queues.held(socket, there, spared.wires).values())),
    ]
