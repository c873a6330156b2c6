"""Settings of an interface that only ioctl(2) tells and changes (linux/ethtool.h, linux/sockios.h)."""

from __future__ import annotations

import ctypes
import fcntl
import struct

_SIOCETHTOOL = 0x8946
_GET_GRO, _SET_GRO = 0x2B, 0x2C
_GET_TX_CHECKSUM, _SET_TX_CHECKSUM = 0x16, 0x17
_REQUEST = struct.Struct("=16sQ16x")  # struct ifreq: name, and the address of a struct ethtool_value
_VALUE = struct.Struct("=II")  # command, value


def has_gro(socket: int, dev: str) -> bool:
    """Whether an interface of that socket's namespace gathers what it receives; for a veth: takes frames by NAPI."""
    return bool(_ask(socket, dev, _GET_GRO, 0))


def set_gro(socket: int, dev: str, on: bool) -> None:
    """Let it, or not.  OSError where the kernel refuses."""
    _ask(socket, dev, _SET_GRO, int(on))


def finishes_checksums(socket: int, dev: str) -> bool:
    """Whether packets leave it with complete checksums (ethtool's tx-checksumming is off), whoever made them."""
    return not _ask(socket, dev, _GET_TX_CHECKSUM, 0)


def set_finishing_checksums(socket: int, dev: str, on: bool) -> None:
    """Let it complete them, or not; completing also cuts TCP's large segments.  OSError where the kernel refuses."""
    _ask(socket, dev, _SET_TX_CHECKSUM, int(not on))


def _ask(socket: int, dev: str, command: int, value: int) -> int:
    room = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    fcntl.ioctl(socket, _SIOCETHTOOL, _REQUEST.pack(dev.encode(), ctypes.addressof(room)))
    return int(_VALUE.unpack_from(room)[1])
