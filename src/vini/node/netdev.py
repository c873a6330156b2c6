"""What an interface's driver can do with XDP: the generic netlink messages of "netdev" (Linux 6.3, linux/netdev.h)."""

from __future__ import annotations

import struct

from vini.model import Value
from vini.node import netlink as nl
from vini.node.netlink import GENERIC, Socket

_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_...
_DEV_GET, _IFINDEX, _XDP_FEATURES = 1, 1, 3  # NETDEV_CMD_DEV_GET, NETDEV_A_DEV_...
_BASIC, _REDIRECT, _XMIT = 1, 2, 4  # NETDEV_XDP_ACT_...
_GENERIC = struct.Struct("=BBH")  # command, version, reserved


class XdpFeatures(Value, frozen=True):
    """Of one interface: whether it runs programs natively, and takes frames that a program elsewhere redirects."""

    runs: bool = False
    takes: bool = False


def xdp_features(index: int) -> XdpFeatures:
    """Of an interface of the namespace that the calling thread is in; nothing where the kernel can't tell."""
    with Socket(GENERIC) as generic:
        try:
            known = nl.attributes(generic.ask(_family()), 16 + _GENERIC.size)
            family = int.from_bytes(known.get(_FAMILY_ID, b""), "little")
            answer = generic.ask(nl.message(family, 0, _GENERIC.pack(_DEV_GET, 1, 0) + nl.u32(_IFINDEX, index)))
        except OSError:
            return XdpFeatures()
    found = nl.attributes(answer, 16 + _GENERIC.size) if answer else {}
    bits = int.from_bytes(found.get(_XDP_FEATURES, b""), "little")
    return XdpFeatures(bits & (_BASIC | _REDIRECT) == _BASIC | _REDIRECT, bool(bits & _XMIT))


def _family() -> bytes:
    return nl.message(_CONTROL, 0, _GENERIC.pack(_GET_FAMILY, 1, 0) + nl.text(_FAMILY_NAME, "netdev"))
