"""Settings of an interface that only ioctl(2) tells and changes (linux/ethtool.h, linux/sockios.h)."""

from __future__ import annotations

import ctypes
import fcntl
import struct

_SIOCETHTOOL = 0x8946
_GET_GRO, _SET_GRO = 0x2B, 0x2C
_GET_TX_CHECKSUM, _SET_TX_CHECKSUM = 0x16, 0x17
_GET_LINK_SETTINGS = 0x4C
_UNKNOWN = 0xFFFFFFFF
_REQUEST = struct.Struct("=16sQ16x")  # struct ifreq: name, and the address of a struct ethtool_value
_SETTINGS = struct.Struct("=II7xb32x")  # command, speed, seven others, words of a mask, ten others
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


def speed_mbit(socket: int, dev: str) -> int:
    """Of an interface of that socket's namespace, as it is now; 0: the kernel does not know it."""
    try:
        words = -_settings(socket, dev, 0)[1]  # asked for none, the kernel says how many each of its masks has
        speed, _ = _settings(socket, dev, words)
    except OSError:
        return 0
    return speed if 0 < speed < _UNKNOWN else 0


def _settings(socket: int, dev: str, words: int) -> tuple[int, int]:
    """The speed, and the words of each mask, negative where those were not as many (struct ethtool_link_settings)."""
    room = ctypes.create_string_buffer(_SETTINGS.pack(_GET_LINK_SETTINGS, 0, words), _SETTINGS.size + 3 * 4 * 127)
    fcntl.ioctl(socket, _SIOCETHTOOL, _REQUEST.pack(dev.encode(), ctypes.addressof(room)))
    _, speed, said = _SETTINGS.unpack_from(room)
    return int(speed), int(said)


def _ask(socket: int, dev: str, command: int, value: int) -> int:
    room = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    fcntl.ioctl(socket, _SIOCETHTOOL, _REQUEST.pack(dev.encode(), ctypes.addressof(room)))
    return int(_VALUE.unpack_from(room)[1])
