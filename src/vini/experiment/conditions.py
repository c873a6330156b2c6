"""The machine during a run: sampled each second, and judged at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from vini.experiment.lateness import Lateness
from vini.experiment.network import Departures
from vini.experiment.statistics import Row, mean, median, rounded
from vini.model import Value

EVERY_S = 1.0
COLUMNS = {
    "t": "float", "load": "float", "busy": "float", "steal": "float", "memory_free_mb": "float", "late_ms": "float",
    "delayed": "int", "late": "int", "agent": "int",
}  # fmt: skip


class Limits(Value, frozen=True):
    """Beyond these the machine, not the network, may be what was measured."""

    load_per_core: float = 2.0  # median of the one-minute load average
    busy: float = 0.9  # mean share of CPU time that was not idle
    steal: float = 0.05  # mean share of CPU time that the hypervisor kept
    event_late_ms: float = 100.0  # an event's beginning, after its planned time
    clock_error_ms: float = 10.0  # by which the clock of a testbed's node may be wrong
    probe_late_ms: float = 50.0  # 95th percentile of a probe's own lateness
    memory_free_mb: float = 50.0
    late_share: float = 0.01  # of the packets on shaped links: left more than 1 ms after their time


class Ticks(Value, frozen=True):
    """CPU time since boot in clock ticks, from the first line of /proc/stat (proc_stat(5))."""

    idle: int
    steal: int
    total: int


def parse_stat(text: str) -> Ticks:
    """The sum over all CPUs; guest time is already inside user time."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, text.split("\n", 1)[0].split()[1:9])
    return Ticks(idle + iowait, steal, user + nice + system + idle + iowait + irq + softirq + steal)


async def watch(
    rows: list[Row],
    zero: float,
    lateness: Lateness,
    departures: Callable[[], Awaitable[Departures | None]],
    agent: Callable[[], int | None] = lambda: None,
) -> None:
    """Append a row each second until cancelled.

    `late_ms` is by how much our own event loop overslept, `late` how many of the `delayed` packets of that second left
    their links late, `agent` the process that keeps the slice as asked.
    """
    loop = asyncio.get_running_loop()
    lateness.add(await departures())
    before, due = parse_stat(_read("stat")), loop.time()
    while True:
        due += EVERY_S
        await asyncio.sleep(max(0.0, due - loop.time()))
        late, now = loop.time() - due, parse_stat(_read("stat"))
        total = max(1, now.total - before.total)
        delayed, late_packets = lateness.add(await departures())
        rows.append(
            {
                "t": loop.time() - zero,
                "load": float(_read("loadavg").split()[0]),
                "busy": 1 - (now.idle - before.idle) / total,
                "steal": (now.steal - before.steal) / total,
                "memory_free_mb": _memory_free_mb(),
                "late_ms": late * 1000,
                "delayed": delayed,
                "late": late_packets,
                "agent": agent(),
            }
        )
        before, due = now, max(due, loop.time() - EVERY_S)


def summary(rows: Sequence[Row], cores: int, lateness: Lateness) -> dict[str, float | None]:
    """The conditions in a few numbers."""
    return {
        "cores": cores,
        "load_median": rounded(median(r["load"] for r in rows), 2),
        "busy_mean": rounded(mean([r["busy"] for r in rows]), 4),
        "busy_max": rounded(max((r["busy"] for r in rows), default=None), 4),
        "steal_mean": rounded(mean([r["steal"] for r in rows]), 4),
        "steal_max": rounded(max((r["steal"] for r in rows), default=None), 4),
        "memory_free_min_mb": rounded(min((r["memory_free_mb"] for r in rows), default=None), 1),
        "loop_late_max_ms": rounded(max((r["late_ms"] for r in rows), default=None), 1),
        **lateness.summary(),
    }


def judge(
    rows: Sequence[Row],
    cores: int,
    lateness: Lateness,
    events_late_ms: dict[str, float],
    probes_late_ms: dict[str, float],
    limits: Limits,
) -> tuple[str, ...]:
    """Why the run is not to be trusted, as sentences; () when it is.  Pure."""
    seen = summary(rows, cores, lateness)
    reasons = []
    if not rows:
        reasons.append("The run was too short to sample the machine.")
    if (load := seen["load_median"]) is not None and load / cores > limits.load_per_core:
        reasons.append(f"The machine was overloaded: load {load / cores:.1f} per core, limit {limits.load_per_core:g}.")
    if (busy := seen["busy_mean"]) is not None and busy > limits.busy:
        reasons.append(f"The CPUs were {busy:.0%} busy on average, limit {limits.busy:.0%}.")
    if (steal := seen["steal_mean"]) is not None and steal > limits.steal:
        reasons.append(f"The hypervisor kept {steal:.1%} of the CPU time for others, limit {limits.steal:.0%}.")
    if (free := seen["memory_free_min_mb"]) is not None and free < limits.memory_free_mb:
        reasons.append(f"Only {free:.0f} MB of memory were left at one time, limit {limits.memory_free_mb:.0f} MB.")
    if why := lateness.reason(limits.late_share):
        reasons.append(why)
    for what, late in events_late_ms.items():
        if late > limits.event_late_ms:
            reasons.append(f"The event '{what}' came {late:.0f} ms late, limit {limits.event_late_ms:.0f} ms.")
    for name, late in probes_late_ms.items():
        if late > limits.probe_late_ms:
            reasons.append(
                f"Probe {name} measured {late:.0f} ms later than planned (95th percentile), "
                f"limit {limits.probe_late_ms:.0f} ms."
            )
    return tuple(reasons)


def cores() -> int:
    """The CPUs that we may run on."""
    return len(os.sched_getaffinity(0))


def _memory_free_mb() -> float:
    line = next(x for x in _read("meminfo").splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) / 1024


def _read(name: str) -> str:
    return Path("/proc", name).read_text()
