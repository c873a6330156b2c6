"""The rtnetlink messages that put an XDP program at a vif, and say which one is there (linux/if_link.h, IFLA_XDP).

Vifs have them only in native mode, in which veth runs programs before a packet becomes a socket buffer: in the generic
mode a program would be slower than at tc.  An interface to other nodes may have only that.
"""

from __future__ import annotations

import struct

from vini.model import Value
from vini.node import netlink as nl

_LINK_BODY = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_XDP, _FD, _ATTACHED, _FLAGS, _PROG_ID, _DRV_PROG_ID = 43, 1, 2, 3, 4, 5
# XDP_FLAGS_: only where there is none yet; by the kernel, before the driver's; by the driver, refused where it can't
_IF_NONE, _SKB_MODE, _DRV_MODE = 1 << 0, 1 << 1, 1 << 2
_NONE = -1
_ATTACHED_SKB = 2


def set_program(index: int, fd: int, *, generic: bool = False, only_new: bool = False) -> bytes:
    """Run this program on what arrives at an interface, in place of the one before (atomic); with `only_new` the kernel
    refuses where there is one (EBUSY)."""
    how = (_SKB_MODE if generic else _DRV_MODE) | (_IF_NONE if only_new else 0)
    asked = nl.nest(_XDP, nl.attribute(_FD, struct.pack("=i", fd)), nl.u32(_FLAGS, how))
    return nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + asked)


def delete_program(index: int, *, generic: bool = False) -> bytes:
    """Take the program away; no error where there is none."""
    return set_program(index, _NONE, generic=generic)


def seen_program(message: bytes) -> int:
    """The kernel's number of the program that a link (one answer to `rtnl.get_link`) runs natively; 0: none."""
    found = nl.attributes(nl.attributes(message, 16 + _LINK_BODY.size).get(_XDP, b""), 0)
    return int.from_bytes(found.get(_DRV_PROG_ID, b""), "little")


class SeenProgram(Value, frozen=True):
    """A program at an interface, in whatever mode; 0: none, or several at once."""

    id: int
    is_there: bool
    generic: bool


def seen_any(message: bytes) -> SeenProgram:
    """What a link (one answer to `rtnl.get_link` or a dump) runs on what arrives."""
    found = nl.attributes(nl.attributes(message, 16 + _LINK_BODY.size).get(_XDP, b""), 0)
    mode = found.get(_ATTACHED, b"\0")[0]  # XDP_ATTACHED_NONE, _DRV, _SKB, _HW, _MULTI
    return SeenProgram(int.from_bytes(found.get(_PROG_ID, b""), "little"), mode != 0, mode == _ATTACHED_SKB)
