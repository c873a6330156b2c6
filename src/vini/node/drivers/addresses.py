"""Addresses: the requests that give those that are missing, with the routes that the kernel adds to each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from errno import EACCES

from vini.model import Address, AnyObject
from vini.node import connected, rtnl_addresses
from vini.node.drivers.look import indexes, look
from vini.node.netlink import Socket
from vini.node.place import ROUTE_PROTOCOL
from vini.node.procfs import NetSettings


def ensuring(socket: Socket, batch: Sequence[Address], settings: NetSettings) -> Iterator[tuple[AnyObject, bytes]]:
    """Nothing for those that are new, which are made at once.  Where one is due, IPv6 is turned on if it is off."""
    index = indexes(batch)
    errnos = socket.transact([rtnl_addresses.add_address(index[o.dev], o.cidr, only_new=True) for o in batch])
    if old := [o for o, errno in zip(batch, errnos, strict=True) if errno]:  # it is there, or refused for good
        _turn_ipv6_on({o.dev for o, errno in zip(batch, errnos, strict=True) if errno == EACCES}, settings)
        seen = look(socket)
        sent: set[bytes] = set()
        for o in old:
            requests = connected.mend_address(index[o.dev], o.cidr, ROUTE_PROTOCOL, seen)
            yield from ((o, request) for request in requests if request not in sent)
            sent.update(requests)  # two addresses of one prefix share its route


def _turn_ipv6_on(devs: Collection[str], settings: NetSettings) -> None:
    settings.entered()
    for which in (*devs, "all", "default") if devs else ():
        settings.write(f"ipv6/conf/{which}/disable_ipv6", "0")
