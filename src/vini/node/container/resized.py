"""`python -I -S resized.py PID`: for as long as PID lives, a crun(1) in the foreground of our terminal, the one that it
made in a container has the size of ours.

crun itself copies that once, when it begins (seen in 1.8).  It alone holds the master of the container's terminal: that
is borrowed for a moment (pidfd_getfd(2)).  A program of its own with nothing of ours in it, so that it begins at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import termios
import time
from contextlib import suppress

_PIDFD_GETFD = 438  # its number on all machines
_BEGINS_S, _LOOK_S = 5.0, 0.02  # until it has made a terminal
_OTHERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP)


def follow(pid: int) -> None:
    """Until it has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours, process = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC), os.pidfd_open(pid)

    def copy() -> bool:
        """False where it has no terminal to copy it to."""
        fd = libc.syscall(_PIDFD_GETFD, process, _master(pid), 0)
        if fd < 0:
            return False
        size = fcntl.ioctl(ours, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(fd, termios.TIOCSWINSZ, size)  # the kernel tells those in its foreground, if it is another
        os.close(fd)
        return True

    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)  # they are for crun, which is in our group
    signal.signal(signal.SIGWINCH, lambda *_: copy() and None)
    ending = select.poll()
    ending.register(process, select.POLLIN)
    until = time.monotonic() + _BEGINS_S
    while not copy() and time.monotonic() < until:
        if ending.poll(_LOOK_S * 1000):
            return
    ending.poll()


def _master(pid: int) -> int:
    """The descriptor that it has of the master; -1: none."""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  # pathlib would have to be imported
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}").endswith("ptmx"):  # noqa: PTH115  # the same
                return int(name)
    return -1


if __name__ == "__main__":
    with suppress(OSError):  # it has ended, or the terminal has gone
        follow(int(sys.argv[1]))
