"""Keeps the programs of a slice within their share of a processor, by the packets that they may handle.

The kernel's verifier sees to it that a program ends; how dear one packet is, only running it tells.  So what the
programs of a slice take is measured now and then, and where it is more than its share, and the node has no processor
to spare, the slice's budget of packets is lowered to what would fit; when there is room again, it is raised step by
step.  A slice that is alone may use all there is.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from vini.model import Value, ViniError
from vini.node.budget import SLICE_KPPS
from vini.node.programs import Programs

SHARE = 0.8  # of one processor, for all programs of a slice together
SPARE = 0.3  # processors; with more than that idle nobody is in anybody's way
_LEAST_KPPS = 1
_TICKS = os.sysconf("SC_CLK_TCK")
log = logging.getLogger("vini.guard")


class Processors(Value, frozen=True):
    """Seconds that all processors of the node together were idle, and busy with packets (proc_stat(5))."""

    idle_s: float
    packets_s: float


def processors() -> Processors:
    """Since the node came up."""
    fields = [int(f) / _TICKS for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return Processors(fields[3] + fields[4], fields[6])


def next_kpps(now_kpps: int, seen_kpps: float, share: float, idle: float) -> int:
    """The budget of a slice whose programs took this share of a processor at that rate, `idle` ones being left.

    kpps: 10**3 packets/s.
    """
    if share > SHARE and idle < SPARE:
        return max(_LEAST_KPPS, min(now_kpps, round(seen_kpps * SHARE / share)))
    if share < SHARE / 2 or idle > 2 * SPARE:
        return min(SLICE_KPPS, 2 * now_kpps)
    return now_kpps


class Guard:
    """Remembers how many packets each sliver had seen at the last look, to know their rate."""

    def __init__(self, programs: Programs):
        self._programs = programs
        self._seen: dict[str, int] = {}
        self._at, self._processors = time.monotonic(), processors()
        self._rested = False  # so what was measured before is too old to compare with

    def rests(self) -> bool:
        """Whether there are no programs, so that there is nothing to measure."""
        if self._programs.slivers():
            return False
        self._seen.clear()
        self._rested = True
        return True

    def look(self) -> None:
        """Measure, and set the budgets of slices whose programs take too much, or could have more again."""
        running: dict[str, float] = defaultdict(float)
        seen_kpps: dict[str, float] = defaultdict(float)
        if self._rested:
            self._at, self._processors, self._rested = time.monotonic(), processors(), False
            return
        now, seen = time.monotonic(), {}
        for ns, ns_per_s in self._programs.running_ns_per_s().items():
            slice_ = ns.partition(".")[0]
            running[slice_] += ns_per_s
            with suppress(ViniError, OSError):  # unloaded meanwhile
                seen[ns] = self._programs.spent(ns).passed
                seen_kpps[slice_] += (seen[ns] - self._seen.get(ns, seen[ns])) / (now - self._at) / 1000
        idle, packets = self._since(now)
        self._seen, self._at = seen, now
        estimated = sum(running.values()) / 1e9
        for slice_, ns_per_s in running.items():
            # The parts are estimates; the whole, the time for packets of all sorts, is what the kernel measured.
            share = ns_per_s / 1e9 * (min(1.0, packets / estimated) if estimated else 1.0)
            with suppress(ViniError, OSError):
                self._set(slice_, seen_kpps[slice_], share, idle)

    def _since(self, now: float) -> tuple[float, float]:
        """How many processors were idle, and busy with packets, since the last look."""
        before, self._processors = self._processors, processors()
        elapsed = max(now - self._at, 0.001)
        after = self._processors
        return (after.idle_s - before.idle_s) / elapsed, (after.packets_s - before.packets_s) / elapsed

    def _set(self, slice_: str, seen_kpps: float, share: float, idle: float) -> None:
        have = self._programs.slice_kpps(slice_)
        want = next_kpps(have, seen_kpps, share, idle)
        if want == have:
            return
        self._programs.set_slice_kpps(slice_, want)
        if want < have:
            log.warning(
                "slice %s: its programs took %d %% of a processor; at most %d packets/s now",
                slice_,
                100 * share,
                1000 * want,
            )
