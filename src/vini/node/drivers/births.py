"""The settings below /proc/sys/net that a sliver is born with, and keeps: its own, and those that its vifs inherit.

What a vif has, the kernel tells with the vif (`rtnl.family_settings`).  Of the namespace's own it tells nearly none; to
read them takes 0.25 ms, as long as a look at all else.  So they are read in turns: of up to 200 namespaces at every
look, of a thousand within five looks.
"""

from __future__ import annotations

from collections.abc import Collection

from vini.node.procfs import NetSettings
from vini.node.rtnl import FamilySettings

# No duplicate address detection: it would keep addresses tentative for a second.  IPv6 addresses stay when a link
# fails, as IPv4 ones do.  Packets may come back by another way than they went.  No redirects on a LAN: hosts would go
# by ways that no table shows, for minutes after those have failed; and ping(8) takes one for an error.
_OF_ALL = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/all/keep_addr_on_down": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/fib_multipath_hash_policy": "1",
    "ipv4/ping_group_range": "0 2147483647",
}
_OF_A_VIF = {
    "ipv6/conf/{}/accept_dad": "0",
    "ipv6/conf/{}/keep_addr_on_down": "1",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/accept_redirects": "0",
    "ipv4/conf/{}/rp_filter": "0",
    "ipv4/conf/{}/send_redirects": "0",
}
_NAMESPACES = _OF_ALL | {name.format("default"): value for name, value in _OF_A_VIF.items()}
_PER_LOOK = 200


class Births:
    """Remembers which namespaces it has read, and what it found."""

    def __init__(self, settings: NetSettings):
        self._settings = settings
        self._found: dict[str, bool] = {}  # namespace -> whether they were right; the one read last is last
        self._turn: frozenset[str] = frozenset()

    def give(self, ns: str) -> None:
        """Write them all, in the namespace that the thread is in."""
        for name, value in _NAMESPACES.items():
            self._settings.write(name, value)
        self._found[ns] = True

    def mend(self, ns: str) -> None:
        """Write them all, unless they were right when they were last read."""
        if not self._found.get(ns):
            self.give(ns)

    def begin_look(self, namespaces: Collection[str]) -> None:
        """Choose those that are read at this look at these: those never read, then those read longest ago."""
        new = [ns for ns in namespaces if ns not in self._found]
        old = [ns for ns in self._found if ns in namespaces]
        self._turn = frozenset((new + old)[:_PER_LOOK])

    def are_kept(self, ns: str, filters: bool) -> bool:
        """Whether they are right, as of now or as last read; the thread is in that namespace.  `filters` is what
        netlink tells: whether packets are filtered by where they come from."""
        if filters:
            self._found[ns] = False
        elif ns in self._turn:
            self._settings.entered()
            self._found.pop(ns, None)
            self._found[ns] = all(map(self._is_right, _NAMESPACES))
        return self._found.get(ns, True)

    def _is_right(self, name: str) -> bool:
        found = self._settings.read(name)
        return found is None or found.split() == _NAMESPACES[name].split()

    def forget(self, ns: str) -> None:
        """That namespace is gone; one that has its name is another."""
        self._found.pop(ns, None)


def vif_is_right(own: FamilySettings) -> bool:
    """Whether a vif has what it inherited at its birth."""
    return own.ipv4_born in ((), (0, 0)) and own.ipv6_born in ((), (0, 0, 0, 1))


def mend_vif(dev: str, settings: NetSettings) -> None:
    """Give a vif what it inherited at its birth."""
    for name, value in _OF_A_VIF.items():
        settings.write(name.format(dev), value)
