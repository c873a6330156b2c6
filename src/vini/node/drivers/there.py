"""The namespace that a driver is in for the moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from vini.model import Object
from vini.node import rtnl
from vini.node.drivers import Failures, refused
from vini.node.netlink import Socket


class There:
    """Its name, its inode, a netlink socket in it, and its interfaces, asked for once when first needed."""

    def __init__(self, ns: str, inode: int, socket: Socket):
        self.ns, self.inode, self.socket = ns, inode, socket

    @cached_property
    def links(self) -> dict[int, rtnl.SeenLink]:
        """The interfaces by index."""
        return {link.index: link for link in rtnl.links(self.socket)}

    @cached_property
    def indexes(self) -> dict[str, int]:
        """The interfaces' indexes by name."""
        return {link.dev: index for index, link in self.links.items()}

    def missing(self, objects: Sequence[Object]) -> Failures:
        """A sentence for each object whose vif isn't there."""
        return {
            o.key: f"Sliver {self.ns} has no vif {o.dev}."  # type: ignore[attr-defined]
            for o in objects
            if o.dev not in self.indexes  # type: ignore[attr-defined]
        }

    def apply(self, requests: Sequence[tuple[Object, bytes]], gone: frozenset[int] = frozenset()) -> Failures:
        """Send all requests; a sentence for each object of which one failed with an errno not in `gone`."""
        errnos = self.socket.transact([request for _, request in requests])
        return {
            o.key: refused(o, errno)
            for (o, _), errno in zip(requests, errnos, strict=True)
            if errno and errno not in gone
        }
