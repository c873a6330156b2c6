"""The link element's model, driven with a simulated clock: exact, repeatable and without waiting.

`simulated.c` says how; nothing here has a process, a descriptor or a real time.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vini.dataplane import element
from vini.dataplane.build import FLAGS

MODEL = (
    "pool",
    "wire",
    "random",
    "shape",
    "series",
    "rate",
    "chance",
    "queue",
    "codel",
    "frame",
    "line",
    "pace",
    "arrivals",
)
MS = 1_000_000  # ns
ROOM = 1 << 18  # departures that a run may give
FOREVER = 1 << 62  # ns


def library(directory: Path) -> ctypes.CDLL:
    """Compile the model; the caller keeps it."""
    out = directory / "simulated.so"
    own = Path(__file__).with_name("simulated.c")
    units = [element.SOURCE / f"{name}.c" for name in MODEL]
    flags = [*FLAGS, "-Werror", "-shared", "-fPIC", f"-I{element.SOURCE}"]
    subprocess.run(["gcc", *flags, "-o", out, own, *units, "-lm"], check=True)
    lib = ctypes.CDLL(str(out))
    pointer, u64, u32, text = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_char_p
    lib.simulation_new.restype, lib.simulation_new.argtypes = pointer, [u64]
    lib.simulation_end.restype, lib.simulation_end.argtypes = None, [pointer]
    lib.simulation_set.restype, lib.simulation_set.argtypes = text, [pointer, text, u64]
    lib.simulation_depart.restype, lib.simulation_depart.argtypes = u32, [pointer, u64, u32, pointer, pointer]
    lib.simulation_arrive.restype = None
    lib.simulation_arrive.argtypes = [pointer, u64, u32, u32, ctypes.c_uint8]
    lib.simulation_run.restype = u32
    lib.simulation_run.argtypes = [pointer, u32, u32, pointer, u32, u32, pointer, pointer]
    lib.pace_pause_ns.restype, lib.pace_pause_ns.argtypes = u64, [pointer, u64]
    lib.arrivals_next.restype, lib.arrivals_next.argtypes = u64, [pointer, u64, u64, u64]
    lib.arrivals_looked.restype, lib.arrivals_looked.argtypes = u64, [u64, u64, u64, u64]
    lib.arrivals_end.restype, lib.arrivals_end.argtypes = None, [pointer, u64]
    lib.simulation_count.restype, lib.simulation_count.argtypes = u64, [pointer, text]
    return lib


Departures = list[tuple[int, int]]  # number of the frame, ns


class Line:
    """One direction of a link; time begins at 0 and is in nanoseconds."""

    def __init__(self, lib: ctypes.CDLL, seed: int = 1, **settings: int | str):
        self._lib = lib
        self._simulation = lib.simulation_new(seed)
        self._numbers, self._times = (ctypes.c_uint32 * ROOM)(), (ctypes.c_uint64 * ROOM)()
        self._arrived = 0
        self.set(0, **settings)

    def set(self, now: int, **settings: int | str) -> None:
        for name, value in settings.items():
            why = self._lib.simulation_set(self._simulation, f"{name}={value}".encode(), now)
            if why:
                raise ValueError(why.decode())

    def run(self, arrivals: Sequence[int], frame_bytes: int = 100) -> Departures:
        """Frames arrive at those times, numbered on from 0; what departs until the last of them."""
        times = (ctypes.c_uint64 * len(arrivals))(*arrivals)
        first, self._arrived = self._arrived, self._arrived + len(arrivals)
        n = self._lib.simulation_run(
            self._simulation, first, len(arrivals), times, frame_bytes, ROOM, self._numbers, self._times
        )
        return self._out(n)

    def arrive(self, now: int, frame_bytes: int = 100, tos: int = 0) -> None:
        """One frame; with a TOS byte it is an IPv4 packet, and has no number."""
        self._lib.simulation_arrive(self._simulation, now, self._arrived, frame_bytes, tos)
        self._arrived += 1

    def depart(self, now: int = FOREVER) -> Departures:
        """What departs up to then."""
        return self._out(self._lib.simulation_depart(self._simulation, now, ROOM, self._numbers, self._times))

    def _out(self, count: int) -> Departures:
        return list(zip(self._numbers[:count], self._times[:count], strict=True))

    def count(self, name: str) -> int:
        return int(self._lib.simulation_count(self._simulation, name.encode()))

    def close(self) -> None:
        self._lib.simulation_end(self._simulation)
