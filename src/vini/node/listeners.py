"""Who listens in a namespace to what the kernel tells of interfaces, and whether they have read it (netlink(7)).

A routing daemon may hear of interfaces by one socket and of addresses by another one, in two threads, as FRR's zebra
does since version 8.  On a busy machine it then takes an address for one of an interface that it has not heard of, or
of the one that had the same number before, and never has it again: its protocols stay silent on that interface
(https://github.com/FRRouting/frr/issues/13288).  So a new interface gets its addresses, of which the kernel gives the
first one when it comes up, after those who listen have read that it is there.

Whoever holds such a socket in a sliver may never read it.  So little is waited in each namespace, and no more for who
did not read meanwhile, until it has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, MutableMapping

_ROUTE, _LINKS = "0", 1  # NETLINK_ROUTE, RTMGRP_LINK
_OF_ALL_S, _OF_EACH_S = 0.5, 0.05  # of one pass, and of it in one namespace
_PAUSE_S = 0.001  # the first one; each is twice as long as the one before
_TABLE = 256 << 10  # bytes: where more sockets are than fit, nobody is waited for
Unread = dict[int, tuple[int, int]]  # inode of a socket -> bytes in it, and messages that it lost
Deaf = MutableMapping[str, Unread]  # namespace -> who there did not read within a wait, as that was then


class Patience:
    """With all listeners of one pass together; who is `deaf` is kept from pass to pass."""

    def __init__(self, deaf: Deaf) -> None:
        self._left, self._deaf = _OF_ALL_S, deaf

    def wait(self, ns: str) -> None:
        """Until all in that namespace, which the thread is in, have read of an interface that was made since the last
        wait; or until it is over."""
        if self._left <= 0:
            return
        whole, began = self._left >= _OF_EACH_S, time.monotonic()
        until, pause = began + min(_OF_EACH_S, self._left), _PAUSE_S
        before = self._deaf.pop(ns, {})
        late, deaf = _heard(dict(_unread()), before)
        while late and (now := time.monotonic()) < until:
            time.sleep(min(pause, until - now))
            pause *= 2
            there = dict(_unread())
            late = {inode: there[inode] for inode in late & there.keys()}
        if deaf := deaf | (late if whole else {}):
            self._deaf[ns] = deaf
        self._left -= time.monotonic() - began


def look_again(ns: str, deaf: Deaf) -> None:
    """Who has read meanwhile, in that namespace, which the thread is in, is waited for again."""
    before = deaf.pop(ns, {})
    unread = _unread() if before else ()
    if still := {i: now for i, now in unread if i in before and _is_no_less(now, before[i])}:
        deaf[ns] = still


def _heard(unread: Unread, deaf: Unread) -> tuple[Unread, Unread]:
    """Those who may read yet, and those who still do not.  A new interface is more to read, or more that is lost: where
    it is not more than before, somebody has read."""
    still = {i: now for i, now in unread.items() if i in deaf and now != deaf[i] and _is_no_less(now, deaf[i])}
    return {i: now for i, now in unread.items() if i not in still}, still


def _is_no_less(now: tuple[int, int], then: tuple[int, int]) -> bool:
    return all(n >= t for n, t in zip(now, then, strict=True))


def _unread() -> Iterator[tuple[int, tuple[int, int]]]:
    """The sockets that are told of interfaces and hold something that nobody has read."""
    for row in _table().splitlines()[1:]:
        _, protocol, _, groups, unread, _, _, _, lost, inode = row.split()
        if protocol == _ROUTE and int(groups, 16) & _LINKS and unread != "0":
            yield int(inode), (int(unread), int(lost))


def _table() -> str:
    """Empty where it is too long."""
    fd = os.open("/proc/thread-self/net/netlink", os.O_RDONLY | os.O_CLOEXEC)
    read = b""
    try:
        while len(read) <= _TABLE:
            if not (part := os.read(fd, _TABLE)):
                return read.decode()
            read += part
    finally:
        os.close(fd)
    return ""
