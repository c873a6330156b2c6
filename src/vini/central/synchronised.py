"""Whether something keeps this machine's clock right, as far as its kernel was told."""

from __future__ import annotations

import ctypes

_UNSYNC = 0x40  # STA_UNSYNC (linux/timex.h)


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_byte * 256),
    ]  # fmt: skip


def is_synchronised() -> bool:
    """An NTP daemon has said so.  The kernel takes that back when it starts, when somebody sets the clock, and when no
    daemon has said so again for some hours; then one that corrects the clock slowly may say it while it is far off."""
    seen = _Timex()
    return ctypes.CDLL(None).adjtimex(ctypes.byref(seen)) >= 0 and not seen.status & _UNSYNC
