"""What comes in by an interface leaves by its twin: how a container's packets reach a tunnel that it has no hold of.

One program for all: the indexes of the two differ by TWIN.  The kernel itself says nothing by them, so IPv6 is off.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENODEV, ENOENT

from vini.model import Interface
from vini.node import bpf, rtnl, tc
from vini.node.netlink import Socket
from vini.node.procfs import NetSettings
from vini.node.rtnl import SeenLink

_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there
_DOING = "joining it with its tunnel"


def is_there(socket: Socket, link: SeenLink) -> bool:
    """Whether all that comes in by that interface crosses, and nothing else goes out."""
    if rtnl.has_ipv6(link):
        return False
    found = tc.filters(socket, link.index, tc.INGRESS)
    return any(f.priority == tc.PROGRAM_PRIORITY and f.name == bpf.CROSS and f.program for f in found)


class Crossing:
    """Holds the loaded program, so that an interface costs no load."""

    def __init__(self, settings: NetSettings) -> None:
        self._settings = settings
        self._program = -1

    def ensure(self, socket: Socket, o: Interface, index: int) -> None:
        """Have it cross, in the namespace that the calling thread is in.  OSError where the kernel refuses."""
        self._settings.entered()
        self._settings.write(f"ipv6/conf/{o.dev}/disable_ipv6", "1")
        if self._program < 0:
            self._program = bpf.load(bpf.CROSS)
        put = tc.set_filter(index, self._program, bpf.CROSS, tc.INGRESS, tc.PROGRAM_PRIORITY)
        socket.insist([tc.add_clsact(index), put], _DOING)

    def end(self, socket: Socket, o: Interface, index: int) -> None:
        """Have it be as any other again."""
        self._settings.entered()
        self._settings.write(f"ipv6/conf/{o.dev}/disable_ipv6", "0")
        socket.insist([tc.delete_filter(index, tc.INGRESS, tc.PROGRAM_PRIORITY)], _DOING, _GONE)

    def __del__(self) -> None:
        if self._program >= 0:
            os.close(self._program)
