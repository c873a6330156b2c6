"""The link element's process: built when first needed, started detached, spoken to by a unix socket.

`element.c` says what it does; docs/explanation/links.md what its messages look like.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from vini.model import DriverError, Unsupported

SOURCE = Path(__file__).with_name("element.c")
NETNS = Path("/run/netns")
# For packets, 2 KiB a frame; used up only as far as links hold packets, at most a quarter of the machine's.
MEMORY_MB = min(1024, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 22)
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-pthread")

PortName = tuple[str, str]  # name of the namespace's file in /run/netns, vif


def build() -> Path:
    """The program for the present source; compiled once per source, kept in VINI_CACHE (/var/cache/vini)."""
    source = SOURCE.read_bytes()
    name = blake2b(source + " ".join(_FLAGS).encode(), digest_size=8).hexdigest()
    program = Path(os.environ.get("VINI_CACHE", "/var/cache/vini")) / f"element-{name}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise Unsupported("This node can't build its link element: it needs gcc (`apt-get install gcc libc6-dev`).")
    program.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    new = program.with_name(f"{program.name}.{os.getpid()}")  # renamed when whole: others may build it too
    done = subprocess.run(["gcc", *_FLAGS, "-o", new, SOURCE, "-lm"], capture_output=True, text=True)
    if done.returncode:
        raise DriverError(f"gcc could not build the link element: {done.stderr.strip()[-400:]}")
    new.replace(program)
    return program


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


class Element:
    """A conversation with the running element; OSError where none runs or it dies meanwhile."""

    def __init__(self, run: Path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(10)
        try:
            self._socket.connect(str(run / "element.sock"))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Element:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def set(self, port: PortName, settings: Mapping[str, int], fds: Sequence[int] = ()) -> None:
        """Change a port's settings; with `fds`, its TAP and its packet socket, make or replace the port."""
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        self._ask(f"set {' '.join(port)} {words}", fds)

    def remove(self, port: PortName) -> bool:
        """Forget a port and the packets in it; its TAP goes within moments.  False where there is no such port."""
        return self._ask(f"remove {' '.join(port)}") == "ok removed\n"

    def ports(self) -> dict[PortName, dict[str, int]]:
        """The settings of every port, with the inode of its namespace and the index of its vif."""
        return dict(self._pages("list"))

    def stats(self) -> dict[PortName, dict[str, int]]:
        """What happened at every port so far, in packets (a large segment is one)."""
        return dict(self._pages("stats"))

    def state(self) -> dict[str, int]:
        """Its process id, whether it runs with real-time priority, and how much of its memory is free."""
        return _numbers(self._ask("list 1000000000").split()[1:])

    def _pages(self, verb: str) -> Iterator[tuple[PortName, dict[str, int]]]:
        at = 0
        while True:
            first, *lines = self._ask(f"{verb} {at}").splitlines()
            for line in lines:
                netns, dev, *words = line.split()
                yield (netns, dev), _numbers(words)
            at = _numbers(first.split()[1:])["next"]
            if not at:
                return

    def _ask(self, line: str, fds: Sequence[int] = ()) -> str:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        self._socket.sendmsg([line.encode()], rights)
        answer = self._socket.recv(1 << 16).decode()
        if not answer:
            raise ConnectionResetError("the link element went away")
        if not answer.startswith("ok"):
            raise DriverError(f"The link element refused `{line}`: {answer.strip()}.")
        return answer


def _numbers(words: Sequence[str]) -> dict[str, int]:
    return {name: int(value) for name, _, value in (w.partition("=") for w in words)}
