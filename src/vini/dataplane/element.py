"""The link element's process: built when first needed, started detached, spoken to by a unix socket.

Its source is in `element/`, one concept per file; docs/explanation/links.md says what it does and what its messages
look like.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any

from vini.dataplane.build import build as built
from vini.model import DriverError

SOURCE = Path(__file__).with_name("element")
NETNS = Path("/run/netns")
# For packets, 2 KiB a frame; used up only as far as links hold packets, at most a quarter of the machine's.
MEMORY_MB = min(1024, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 22)

_DIES_WITHIN_S = 10.0  # the kernel closes its descriptors one after the other

PortName = tuple[str, str]  # name of the namespace's file in /run/netns, vif
FILES = ("table", "lose", "trace")  # settings whose value is a path, or NO_FILE
NO_FILE = "-"
# From here on a segment of 64 KiB is on the wire for no more than 0.1 ms, and may pass in one piece.
WHOLE_SEGMENTS_KBIT = 5_000_000


def needs_frames(settings: Mapping[str, Any]) -> bool:
    """Whether the kernel must split large segments before a port with these settings.

    So it is where each frame is lost, damaged, marked or put out of order by itself, or takes its turn alone at a
    rate at which a large segment would hold up others. Delay, jitter and duplicates don't tell; a queue's limits
    count the frames of a segment that stays whole.
    """
    single = ("loss_ppm", "enter_ppm", "corrupt_ppm", "reorder_ppm", "aqm")
    if any(settings.get(name) for name in single) or not settings.get("keeps_order", 1):
        return True
    if any(settings.get(name, NO_FILE) != NO_FILE for name in ("lose", "trace")):
        return True
    return 0 < int(settings.get("rate_kbit", 0)) < WHOLE_SEGMENTS_KBIT


def build() -> Path:
    """The program for the present source."""
    return built("element", SOURCE, ("-lm",))


def start(run: Path) -> None:
    """Start the element that listens at `run`/element.sock.  It outlives this process, and holds nothing of it.

    If one runs already, that one stays.
    """
    run.mkdir(parents=True, exist_ok=True)
    NETNS.mkdir(parents=True, exist_ok=True)
    argv = [str(build()), str(run / "element.sock"), str(NETNS), str(MEMORY_MB)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True)
    if done.returncode and not is_running(run):
        raise DriverError(f"The link element did not start: {done.stderr.strip()}")


def is_running(run: Path) -> bool:
    """Whether an element listens there."""
    with suppress(OSError), Element(run):
        return True
    return False


def real_ns(at_ns: int) -> int:
    """CLOCK_REALTIME when the element's own clock, CLOCK_MONOTONIC, showed that."""
    return at_ns + min(_ahead_ns() for _ in range(9))[1]


def _ahead_ns() -> tuple[int, int]:
    """The one less the other, behind how long it took to look at both."""
    before = time.monotonic_ns()
    real = time.time_ns()
    took = time.monotonic_ns() - before
    return took, real - before - took // 2


def kill(run: Path) -> None:
    """End the element's processes by force, also those that hang; returns once its place is free, or after 10 s.

    They are known by the lock that they hold, so nobody else is met.
    """
    lock = run / "element.sock.lock"
    deadline = time.monotonic() + _DIES_WITHIN_S
    while not _is_free(lock) and time.monotonic() < deadline:
        for pid in _holders(lock):
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        time.sleep(0.02)


def _is_free(lock: Path) -> bool:
    try:
        with lock.open() as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _holders(lock: Path) -> Iterator[int]:
    """The processes that have that file open."""
    name = os.path.realpath(lock)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if int(process.name) != os.getpid() and any(
                str(fd.readlink()) == name for fd in (process / "fd").iterdir()
            ):
                yield int(process.name)


class Element:
    """A conversation with the running element; OSError where none runs, or it dies meanwhile or doesn't answer.

    It outlives the element's keeper: what the next one didn't hear is said once more. Every request may be repeated.
    """

    def __init__(self, run: Path, patience_s: float = 10.0):
        self._path = str(run / "element.sock")
        self._patience_s = patience_s
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(self._patience_s)
        try:
            self._socket.connect(self._path)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Element:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def set(self, port: PortName, settings: Mapping[str, int | str], fds: Sequence[int] = ()) -> None:
        """Change a port's settings, all at once; with `fds`, its TAP and its packet socket, make or replace the port.

        A setting of FILES is an absolute path, or NO_FILE. DriverError with the place where one holds nonsense.
        """
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        self._ask(f"set {' '.join(port)} {words}", fds)

    def remove(self, port: PortName) -> bool:
        """Forget a port and the packets in it; its TAP goes within moments.  False where there is no such port."""
        return self._ask(f"remove {' '.join(port)}") == "ok removed\n"

    def count_from(self, port: PortName, counted: int) -> None:
        """So many packets have been counted by the port's loss list: the next one has the number after it."""
        self._ask(f"count {' '.join(port)} {counted}")

    def ports(self) -> dict[PortName, dict[str, Any]]:
        """The settings of every port, with the inode of its namespace and the index of its vif.

        Whole numbers, and paths for those of FILES.
        """
        return dict(self._pages("list"))

    def stats(self) -> dict[PortName, dict[str, int]]:
        """What happened at every port so far, in packets (a large segment is one).

        `counted` is how many the loss list has counted since it was set; `began` is CLOCK_MONOTONIC, in ns, when the
        port began with its trace, 0 where it has none.
        """
        return dict(self._pages("stats"))

    def state(self) -> dict[str, int]:
        """Process ids of keeper (`pid`) and `worker`, how often each was started again, whether packets move with
        real-time priority, how often its budget was used up, and how much of its memory is free."""
        return _numbers(self._ask("list 1000000000").split()[1:])

    def _pages(self, verb: str) -> Iterator[tuple[PortName, dict[str, Any]]]:
        at = 0
        while True:
            first, *lines = self._ask(f"{verb} {at}").splitlines()
            for line in lines:
                netns, dev, *words = line.split()
                yield (netns, dev), _values(words)
            at = _numbers(first.split()[1:])["next"]
            if not at:
                return

    def _ask(self, line: str, fds: Sequence[int] = ()) -> str:
        try:
            answer = self._say(line, fds)
        except ConnectionError:  # the keeper died; the socket is its successor's
            self._socket.close()
            self._connect()
            answer = self._say(line, fds)
        if not answer.startswith("ok"):
            raise DriverError(f"The link element refused `{line}`: {answer.strip()}.")
        return answer

    def _say(self, line: str, fds: Sequence[int]) -> str:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        self._socket.sendmsg([line.encode()], rights)
        answer = self._socket.recv(1 << 16).decode()
        if not answer:
            raise ConnectionResetError("the link element went away")
        return answer


def _values(words: Sequence[str]) -> dict[str, Any]:
    pairs = (w.partition("=") for w in words)
    return {name: value if name in FILES else int(value) for name, _, value in pairs}


def _numbers(words: Sequence[str]) -> dict[str, int]:
    return {name: int(value) for name, _, value in (w.partition("=") for w in words)}
