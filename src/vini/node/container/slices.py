"""Time slices of the scheduler, EEVDF: who has a reservation has short ones; sched_setattr(2), since Linux 6.12.

A thread that wakes up takes the processor at once from one with a longer slice, where it has had less than its share
(`PREEMPT_SHORT` in kernel/sched/features.h).  Else it waits until the other's slice is over, some milliseconds.  What a
thread starts inherits its slice.  Run as a program, `slices.py ARGV...`, it is ARGV with short ones.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

SHORT_NS = 100_000  # the kernel takes none below
_USUAL = 0  # the kernel's own
_NUMBERS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275), "s390x": (345, 346)}
_SET, _GET = _NUMBERS.get(platform.machine(), (-1, -1))  # of sched_setattr(2) and sched_getattr(2); -1: no such call
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
_POLICY, _RUNTIME = 1, 5
_SHARED = (os.SCHED_OTHER, os.SCHED_BATCH)  # policies of which the runtime is a slice
_libc = ctypes.CDLL(None, use_errno=True)


@cache
def can_be_short() -> bool:
    """Whether this kernel lets a thread choose."""
    with suppress(OSError):
        before = of(0)
        _choose(0, SHORT_NS)
        try:
            return of(0) == SHORT_NS
        finally:
            _choose(0, before)
    return False


def of(thread: int) -> int:
    """A thread's slice in ns, 0 where it is of a policy without; 0 is the calling one.  OSError where it has gone."""
    held = _held(thread)
    return held[_RUNTIME] if held[_POLICY] in _SHARED else 0


def ensure(group: Path, short: bool) -> None:
    """Give short slices to all that live in a cgroup and below, or take them back.

    What is started meanwhile may be missed: the next look finds it, where they are to be short.
    """
    if can_be_short():
        for thread in threads(group):
            with suppress(ProcessLookupError):
                if (of(thread) == SHORT_NS) != short:
                    _choose(thread, SHORT_NS if short else _USUAL)


def threads(group: Path) -> Iterator[int]:
    """All that live in a cgroup and below."""
    for directory, _, _ in os.walk(group):
        with suppress(OSError):  # the group has gone
            yield from map(int, Path(directory, "cgroup.threads").read_text().split())


def _choose(thread: int, slice_ns: int) -> None:
    """All else stays as it is."""
    held = list(_held(thread))
    if held[_POLICY] in _SHARED:
        held[_RUNTIME] = slice_ns
        _call(_SET, thread, _ATTRIBUTES.pack(*held), 0)


def _held(thread: int) -> tuple[int, ...]:
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    _call(_GET, thread, buffer, _ATTRIBUTES.size, 0)
    return _ATTRIBUTES.unpack(buffer.raw)


def _call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> None:
    if _libc.syscall(number, *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    with suppress(OSError):  # a kernel that knows nothing of it runs the command all the same
        _choose(0, SHORT_NS)
    os.execvp(sys.argv[1], sys.argv[1:])
