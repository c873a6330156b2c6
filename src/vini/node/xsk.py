"""Gives a process AF_XDP sockets of the vifs of its sliver (Documentation/networking/af_xdp.rst), and looks after them.

A program of its own, started in the sliver as `python -I -S xsk.py RUN VIF... -- COMMAND...`; RUN is the sliver's run
directory.  It does all that needs rights: makes the sockets and the memory that they share, and enters the sockets
into the map of the program that runs at the vifs (plugins/sockets.c).  COMMAND inherits the descriptors and needs no
right of its own.  VINI_XSK tells it of them:

    MEMORY FRAME RING VIF=SOCKET...      the memory's descriptor; bytes in a frame; entries of each ring

The memory has two frames for each entry of a ring of each vif.  Then it waits for COMMAND's end, whose exit code it
takes.  Once a second it enters the sockets anew, for the map may be another by then, and ends COMMAND where a vif is
another one: nothing that is kept in a socket outlives its vif.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_AF_XDP, _SOL_XDP = 44, 283  # linux/socket.h, linux/if_xdp.h
_RX_RING, _TX_RING, _MEMORY, _FILL_RING, _COMPLETION_RING, _TX_BUDGET = 2, 3, 4, 5, 6, 9
_SHARED, _COPY = 1, 2
FRAME, RING = 2048, 2048
_AT_ONCE = 256  # packets that the kernel sends in one call; 32 where it can't be told
_SNDBUF = 16 << 20  # bytes on their way; what a link's queue holds is the link's business
_ENXIO = 6
_LOOK_S = 1.0
_libc = ctypes.CDLL(None, use_errno=True)


class Gone(Exception):
    """A sentence for the log."""


def main(run: Path, vifs: list[str], command: list[str]) -> int:
    """Until COMMAND ends."""
    with suppress(ValueError):  # not allowed, nor needed where CAP_IPC_LOCK is
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    memory = os.memfd_create("vini-xsk", 0)
    os.ftruncate(memory, 2 * RING * FRAME * len(vifs))
    sockets = _sockets(memory, vifs)
    if not _enter(run, sockets):
        raise Gone("the program that hands packets to sockets is not loaded yet")
    told = " ".join(f"{vif}={s.fileno()}" for vif, s in zip(vifs, sockets, strict=True))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    child = subprocess.Popen(
        command, env={**os.environ, "VINI_XSK": f"{memory} {FRAME} {RING} {told}"}, close_fds=False,
        preexec_fn=_tie,
    )  # fmt: skip
    try:
        return _wait(run, child, dict(zip(vifs, sockets, strict=True)))
    finally:
        child.kill()
        child.wait()


def _tie() -> None:
    """The child ends with us, and takes signals again."""
    _libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGTERM})


def _wait(run: Path, child: subprocess.Popen[bytes], sockets: dict[str, socket.socket]) -> int:
    while (code := child.poll()) is None:
        got = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, _LOOK_S)
        if got and got.si_signo == signal.SIGTERM:
            child.terminate()
        elif not got:
            for vif, s in sockets.items():
                if _is_unbound(s):
                    raise Gone(f"{vif} is another one now")
            _enter(run, list(sockets.values()))
    return code if code >= 0 else 128 - code


# --- sockets --------------------------------------------------------------------------------------


def _sockets(memory: int, vifs: list[str]) -> list[socket.socket]:
    """One for each vif, in copy mode; all share the memory, so that a packet goes from one to another as it is."""
    out: list[socket.socket] = []
    length = os.fstat(memory).st_size
    with mmap.mmap(memory, length) as mapped:
        for vif in vifs:
            s = socket.socket(_AF_XDP, socket.SOCK_RAW, 0)
            if not out:
                start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
                s.setsockopt(_SOL_XDP, _MEMORY, struct.pack("=QQIIII", start, length, FRAME, 0, 0, 0))
            for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING, _TX_RING):
                s.setsockopt(_SOL_XDP, ring, RING)
            s.setsockopt(socket.SOL_SOCKET, 32, _SNDBUF)  # SO_SNDBUFFORCE
            with suppress(OSError):  # before Linux 6.17
                s.setsockopt(_SOL_XDP, _TX_BUDGET, _AT_ONCE)
            _bind(s, vif, out[0].fileno() if out else None)
            os.set_inheritable(s.fileno(), True)
            out.append(s)
    return out


def _bind(s: socket.socket, vif: str, shared: int | None) -> None:
    flags = _COPY if shared is None else _SHARED
    address = struct.pack("=HHIII", _AF_XDP, flags, socket.if_nametoindex(vif), 0, shared or 0)
    if _libc.bind(s.fileno(), address, len(address)):
        errno = ctypes.get_errno()
        raise OSError(errno, f"binding an AF_XDP socket to {vif}: {os.strerror(errno)}")


def _is_unbound(s: socket.socket) -> bool:
    """Whether its interface went: asked to send what waits, it says that it has none."""
    try:
        s.send(b"", socket.MSG_DONTWAIT)
    except OSError as e:
        return e.errno == _ENXIO
    return False


# --- the map --------------------------------------------------------------------------------------


def _enter(run: Path, sockets: list[socket.socket]) -> bool:
    """Into the map of every loading of the program (node/shelf.py); False where there is none."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    slice_, _, sliver = run.name.partition(".")
    maps = list((run.parents[1] / "bpf" / slice_ / sliver).glob("[0-9]*/maps/sockets"))
    for path in maps:
        fd = libbpf.bpf_obj_get(os.fsencode(path))
        if fd < 0:
            continue  # replaced this moment
        try:
            for number, s in enumerate(sockets):
                key, value = struct.pack("=I", number), struct.pack("=I", s.fileno())
                if failed := libbpf.bpf_map_update_elem(fd, key, value, ctypes.c_uint64(0)):
                    raise Gone(f"the kernel does not take the sockets: {os.strerror(-failed)}")
        finally:
            os.close(fd)
    return bool(maps)


if __name__ == "__main__":
    at = sys.argv.index("--")
    try:
        sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:at], sys.argv[at + 1 :]))
    except (OSError, Gone) as e:
        sys.exit(f"AF_XDP: {e}.")
