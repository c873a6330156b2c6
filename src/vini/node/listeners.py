"""Who listens in a namespace to what the kernel tells of interfaces, and whether they have read it (netlink(7)).

A routing daemon may hear of interfaces by one socket and of addresses by another one, in two threads, as FRR's zebra
does since version 8.  On a busy machine it then takes an address for one of an interface that it has not heard of, or
of the one that had the same number before, and never has it again: its protocols stay silent on that interface
(https://github.com/FRRouting/frr/issues/13288).  So a new interface gets its addresses, of which the kernel gives the
first one when it comes up, after those who listen have read that it is there.
"""

from __future__ import annotations

import time
from pathlib import Path

_ROUTE, _LINKS = "0", 1  # NETLINK_ROUTE, RTMGRP_LINK
_PATIENCE_S = 0.5  # of one pass: who never reads holds up nobody for longer
_PAUSE_S = 0.001


class Patience:
    """With all listeners of one pass together."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _PATIENCE_S

    def wait(self) -> None:
        """Until all in the namespace that the thread is in have read what they were told, or it is over."""
        while _is_unread() and time.monotonic() < self._until:
            time.sleep(_PAUSE_S)


def _is_unread() -> bool:
    """Whether a socket that is told of interfaces holds something that nobody has read."""
    rows = map(str.split, Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:])
    return any(
        protocol == _ROUTE and int(groups, 16) & _LINKS and unread != "0" for _, protocol, _, groups, unread, *_ in rows
    )
