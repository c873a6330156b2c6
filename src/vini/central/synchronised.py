"""Whether something keeps this machine's clock right, as far as its kernel was told."""

from __future__ import annotations

import ctypes
import os

_UNSYNC = 0x40  # STA_UNSYNC (linux/timex.h)


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_byte * 256),
    ]  # fmt: skip


def why_unsynchronised() -> str:
    """ "": an NTP daemon has said that the clock is right.  Else why that is not known, a clause for who can change it.

    The kernel takes it back when it starts, when somebody sets the clock, and when no daemon has said so again for some
    hours.  chrony says so only with `rtcsync`, and not while the clock is off by more than 16 s (its sys_timex.c);
    systemd-timesyncd not where the hardware clock is in local time.
    """
    seen = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(seen)) < 0:
        return (
            f"this process may not ask its kernel for an NTP daemon's word ({os.strerror(ctypes.get_errno())}): does "
            "its unit say `ProtectClock=yes`?"
        )
    if seen.status & _UNSYNC:
        return (
            "no NTP daemon has told its kernel that it is right (`timedatectl set-ntp true` starts one; chrony needs "
            "`rtcsync` to tell it, systemd-timesyncd `timedatectl set-local-rtc 0`)"
        )
    return ""
