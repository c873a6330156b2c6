"""Writes down what the kernel tells of flows; what it misses, it tells.

Memory is bounded by the flows that the grants allow at a time; a burst of events waits in the kernel's buffer, and what
does not fit there is counted as a loss, after which all flows are looked up anew.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from vini.node import netlink as nl
from vini.node.flows import conntrack
from vini.node.flows.book import ENDED, OPEN, UNSEEN, Book, Closing, Row
from vini.node.flows.conntrack import Flow
from vini.node.outside import record
from vini.node.outside.rules import ip6
from vini.node.place import Place

log = logging.getLogger("vini.flows")
_BUFFER = 32 << 20  # bytes of events that wait in the kernel; some 100,000
_RCVBUFFORCE = 33
_MOST = 5000  # events that are written down at once
_STEP_S = 0.5  # between two commits: what a kill can lose
LOOK_S = 60.0  # between two looks at the counters of flows that go on
_TIDY_S = 30.0
_HEADER = struct.Struct("=IHHII")
_SETTINGS = {"nf_conntrack_acct": "1", "nf_conntrack_timestamp": "1"}  # bytes, packets and times of each flow
Key = tuple[int, ...]


def key_of(flow: Flow) -> Key:
    """Nobody else's, as long as the flow is there."""
    return (flow.id, flow.protocol, flow.src, flow.sport, flow.dst, flow.dport)


class Recorder:
    """One place's; it is at home in the node's network namespace."""

    def __init__(self, place: Place, book: Book, clock: Callable[[], float] = time.time):
        self._place, self._book, self._clock = place, book, clock
        self._open: dict[Key, Row] = {}
        self._owners: dict[int, str] = {}
        self._events = _subscribed()
        self._looked = self._tidied = 0.0
        self._known = 0

    def run(self, over: Callable[[], bool]) -> None:
        """Until `over` says so, which is asked about twice a second."""
        for name, value in _SETTINGS.items():
            with suppress(OSError):
                Path("/proc/sys/net/netfilter", name).write_text(value)
        self._open = self._book.open_flows()
        self._look()
        while not over():
            self.step(_STEP_S)
        self._look()
        if not record.slices(self._place):  # nothing of them can pass any more
            now = self._clock()
            self._book.close(Closing(row, now, ENDED, None) for row in self._open.values())
        self._book.end(self._clock())

    def step(self, patience_s: float) -> None:
        """What has come by then, and it is on the disk."""
        until = time.monotonic() + patience_s
        while (left := until - time.monotonic()) > 0 and select.select([self._events], [], [], left)[0]:
            events, all_ = self._waiting(_MOST)
            self._take(events)
            if not all_:
                self._look()
        now = self._clock()
        self._forget_owners()
        if now - self._looked >= LOOK_S:
            self._look()
        self._book.commit(now)
        if now - self._tidied >= _TIDY_S:
            self._tidied = now
            for part in self._book.tidy(now):
                log.info("the flows of file %s are too old or too many, and are deleted", part)
                self._open = {k: r for k, r in self._open.items() if r.part != part}

    # --- what the kernel tells -------------------------------------------------------------------

    def _take(self, events: list[tuple[int, Flow]]) -> None:
        begun = [flow for kind, flow in events if kind == conntrack.NEW and key_of(flow) not in self._open]
        self._begin(begun)
        closings = []
        for kind, flow in events:
            if kind != conntrack.DELETE:
                continue
            row = self._open.pop(key_of(flow), None)
            if row is None:  # it began before anybody watched
                row = self._begin([flow]).get(key_of(flow))
                self._open.pop(key_of(flow), None)
            if row is not None:
                closings.append(Closing(row, flow.stop or self._clock(), ENDED, flow))
        self._book.close(closings)

    def _begin(self, flows: list[Flow]) -> dict[Key, Row]:
        """Those of this place's slivers."""
        now = self._clock()
        mine = [(ns, flow.start or now, flow) for flow in flows if (ns := self._owner(flow.src))]
        rows = self._book.begin(mine) if mine else []
        made = {key_of(flow): row for (_, _, flow), row in zip(mine, rows, strict=True)}
        self._open |= made
        return made

    def _look(self) -> None:
        """All flows that there are: their counters, those that are new to us, and those that are gone unseen."""
        now = self._looked = self._clock()
        with nl.Socket(conntrack.NETFILTER) as asking:
            there = {key_of(f): f for m in asking.dump(conntrack.DUMP) if (f := conntrack.decode(m))}
        self._begin([flow for key, flow in there.items() if key not in self._open])
        gone = self._open.keys() - there.keys()
        self._take(self._waiting(1 << 30)[0])  # what ended in a way that the kernel tells of is not "unseen"
        unseen = [Closing(self._open.pop(key), now, UNSEEN, None) for key in gone if key in self._open]
        live = [Closing(row, None, OPEN, there[key]) for key, row in self._open.items() if key in there]
        self._book.close([*unseen, *live])

    def _waiting(self, most: int) -> tuple[list[tuple[int, Flow]], bool]:
        """What waits in the kernel's buffer, and whether all of it is there."""
        out: list[tuple[int, Flow]] = []
        while len(out) < most:
            try:
                out += _flows(self._events.recv(1 << 16, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                self._book.lost(self._clock(), "more flows began and ended at once than could be written down")
                return out, False
        return out, True

    def _forget_owners(self) -> None:
        """Where something was attached or taken away since we looked, who has which address is looked up anew."""
        with suppress(OSError):
            changed = record.directory(self._place).stat().st_mtime_ns
            if changed != self._known:
                self._owners, self._known = {}, changed

    def _owner(self, address: int) -> str:
        """The sliver; "" where it is another place's."""
        if address not in self._owners:
            for slice_ in record.slices(self._place):
                kept = record.read(self._place, slice_)
                for ns, vif in kept.vifs.items():
                    four, six = IPv4Address(vif.address), IPv6Address(ip6(vif.address))
                    self._owners |= {int(four): ns, int(six): ns}
        return self._owners.get(address, "")


def _subscribed() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, conntrack.NETFILTER)
    with suppress(PermissionError):
        made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
    made.bind((0, conntrack.GROUPS))
    return made


def _flows(buffer: bytes) -> Iterator[tuple[int, Flow]]:
    at = 0
    while at + _HEADER.size <= len(buffer):
        length, kind, *_ = _HEADER.unpack_from(buffer, at)
        if kind in (conntrack.NEW, conntrack.DELETE) and (flow := conntrack.decode(buffer[at : at + length])):
            yield kind, flow
        at += max(_HEADER.size, (length + 3) & ~3)
