"""Veth pairs: one socket makes all, each end is born in its namespace."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import EEXIST, ENOENT

from vini.model import AnyObject, Veth, VethEnd
from vini.node import netns, rtnl
from vini.node.drivers import GONE, Failures, refused
from vini.node.netlink import Socket
from vini.node.place import GROUP, Place

_AT_ONCE = 200  # a file is open per end


class Pairs:
    """Those of one VINI.  `observe`: what is there, in some namespaces."""

    def __init__(self, place: Place, observe: Callable[[Collection[str]], frozenset[AnyObject]]):
        self._place, self._observe = place, observe

    def make(self, objects: Sequence[AnyObject]) -> Failures:
        """Those that are there already stay as they are."""
        failures: Failures = {}
        pairs = [o for o in objects if isinstance(o, Veth)]
        with Socket() as socket:
            for chunk in _chunks(pairs, _AT_ONCE):
                with self._open(chunk) as (fds, requests):
                    for o, errno in zip(fds, socket.transact(requests), strict=True):
                        if errno == EEXIST:
                            errno = self._make_again(socket, o, requests[fds.index(o)])
                        if errno:
                            failures[o.key] = refused(o, errno)
                for o in chunk:
                    if o not in fds:
                        failures[o.key] = refused(o, ENOENT)
        return failures

    @contextmanager
    def _open(self, pairs: Sequence[Veth]) -> Iterator[tuple[list[Veth], list[bytes]]]:
        opened: dict[str, int] = {}
        able, requests = [], []
        try:
            for o in pairs:
                try:
                    for end in o.ends:
                        if end.ns not in opened:
                            opened[end.ns] = os.open(self._place.pin(end.ns), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                a, b = o.ends
                able.append(o)
                fds = (opened[a.ns], opened[b.ns])
                requests.append(rtnl.add_veth(fds, (a.dev, b.dev), (a.index, b.index), (a.mac, b.mac)))
            yield able, requests
        finally:
            for fd in opened.values():
                os.close(fd)

    def _make_again(self, socket: Socket, o: Veth, request: bytes) -> int:
        """Something has the name: this very pair, half of one that lost its other end, or somebody else's.

        Only what is ours gives way.
        """
        if o in self._observe({end.ns for end in o.ends}):
            return 0
        for end in o.ends:
            with netns.inside(self._place.pin(end.ns)), Socket() as there:
                links = rtnl.links(there)
                stale = [x.dev for x in links if x.group == GROUP and (x.dev == end.dev or x.index == end.index)]
                there.transact([rtnl.delete_link(dev) for dev in stale])
        return socket.transact([request])[0]

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Both ends of each; no error when they are gone."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Veth)
            for end in o.ends:
                try:
                    with netns.inside(self._place.pin(end.ns)), Socket() as socket:
                        errno = socket.transact([rtnl.delete_link(end.dev)])[0]
                except OSError:  # that namespace is gone; the pair goes with it
                    continue
                if errno and errno not in GONE:
                    failures[o.key] = refused(o, errno)
                break
        return failures


def paired(ends: Iterable[tuple[VethEnd, int]]) -> Iterator[Veth]:
    """Ends that name each other by index are a pair; an end whose other end wasn't looked at is none."""
    waiting: dict[tuple[int, int], list[VethEnd]] = {}
    for end, peer in ends:
        others = waiting.get((peer, end.index), [])
        if others:
            a, b = sorted((others.pop(), end), key=lambda e: (e.ns, e.dev))
            yield Veth((a, b))
        else:
            waiting.setdefault((end.index, peer), []).append(end)


def _chunks(items: Sequence[Veth], size: int) -> Iterator[Sequence[Veth]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
