"""How many packets per second a process forwards, in Python and in C, beside the kernel on the same path."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vini.bench.generator import Rate
from vini.bench.result import Found, Missing, ratios, row
from vini.model import ViniError
from vini.node import netns

PROGRAMS = Path(__file__).parents[3] / "examples" / "programs"
KERNEL, C, PYTHON = "kernel", "C", "Python"
_START_S = 20.0
WARM_S = 0.3  # the first packets find the way and warm the caches; their loss is not counted


def process_forwarding(
    router: Path, kernel_forwards: Callable[[bool], None], send: Callable[[float], Rate], seconds: float, rounds: int
) -> Found:
    """Rates and their ratios to the kernel's, round by round.

    `router` is the namespace between a generator and a sink, with its routes and its neighbours' MAC addresses set.
    `kernel_forwards` sets ip_forward of the router; `send` sends for so many seconds and tells what arrived.  Both
    programs forward by the kernel's table, and are stopped when this returns.
    """
    if why := lacking():
        return [Missing("process forwarding", why)]
    with tempfile.TemporaryDirectory() as directory:
        compiled = compile_example("ring-forwarder", Path(directory))
        commands = {C: [str(compiled)], PYTHON: [sys.executable, str(PROGRAMS / "ospf-router.py")]}
        kpps: dict[str, list[float]] = {KERNEL: [], **{name: [] for name in commands}}
        for _ in range(rounds):
            kernel_forwards(True)
            kpps[KERNEL].append(_rate(send, seconds))
            kernel_forwards(False)
            for name, command in commands.items():
                with running(router, command):
                    kpps[name].append(_rate(send, seconds))
    return rows(kpps)


def lacking() -> str:
    """Why the examples can't be measured here; "" where they can."""
    if not PROGRAMS.is_dir():
        return "the programs are in examples/, which only a checkout has"
    return "" if shutil.which("gcc") else "gcc is not installed (`apt-get install gcc libc6-dev`)"


def compile_example(name: str, directory: Path) -> Path:
    """The program of that name in examples/programs, in C, compiled into that directory."""
    compiled = directory / name
    subprocess.run(["gcc", "-O2", "-o", compiled, PROGRAMS / f"{name}.c"], check=True)
    return compiled


def rows(kpps: dict[str, list[float]]) -> Found:
    """The figures of all rounds."""
    found: Found = [row(f"forwarding by {name}", rates, "kpps") for name, rates in kpps.items()]
    for name in (C, PYTHON):
        found.append(row(f"a process in {name}, of the kernel's rate", ratios(kpps[name], kpps[KERNEL]), "x"))
    return found


def _rate(send: Callable[[float], Rate], seconds: float) -> float:
    send(WARM_S)
    return send(seconds).arrived_kpps


@contextmanager
def running(namespace: Path, command: Sequence[str]) -> Iterator[None]:
    """A forwarder that has opened its vifs; ended with the block."""
    with netns.inside(namespace):
        process = subprocess.Popen(command)
    try:
        _wait_until_open(process)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_until_open(process: subprocess.Popen[bytes]) -> None:
    """Both vifs are packet sockets of it, as /proc/net/packet of its namespace tells."""
    deadline = time.monotonic() + _START_S
    while len(Path(f"/proc/{process.pid}/net/packet").read_text().splitlines()) < 3:  # the first is the table's head
        if process.poll() is not None or time.monotonic() > deadline:
            raise ViniError(f"`{process.args!r}` did not open the router's vifs; run it there by hand to see why.")
        time.sleep(0.01)
