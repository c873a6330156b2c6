"""This machine's boots: which one it is now, and how long it lasts."""

from __future__ import annotations

import time
from pathlib import Path


def boot() -> str:
    """Another one after each start of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boottime() -> float:
    """s since then, those in which the machine slept among them; nobody sets that clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
