"""The rtnetlink messages that put an XDP program at a vif, and say which one is there (linux/if_link.h, IFLA_XDP).

Only in native mode, in which veth runs programs before a packet becomes a socket buffer: in the generic mode a
program would be slower than at tc.
"""

from __future__ import annotations

import struct

from vini.node import netlink as nl

_LINK_BODY = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_XDP, _FD, _ATTACHED, _FLAGS, _DRV_PROG_ID = 43, 1, 2, 3, 5
_DRV_MODE = 1 << 2  # XDP_FLAGS_DRV_MODE: refused where the driver can't
_NONE = -1


def set_program(index: int, fd: int) -> bytes:
    """Run this program on what arrives at an interface, in place of the one before (atomic)."""
    asked = nl.nest(_XDP, nl.attribute(_FD, struct.pack("=i", fd)), nl.u32(_FLAGS, _DRV_MODE))
    return nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + asked)


def delete_program(index: int) -> bytes:
    """Take the program away; no error where there is none."""
    return set_program(index, _NONE)


def seen_program(message: bytes) -> int:
    """The kernel's number of the program that a link (one answer to `rtnl.get_link`) runs natively; 0: none."""
    found = nl.attributes(nl.attributes(message, 16 + _LINK_BODY.size).get(_XDP, b""), 0)
    return int.from_bytes(found.get(_DRV_PROG_ID, b""), "little")
