"""iperf3(1): its command lines, and its report, understood.  Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vini.api.inside import CommandFailed, Completed, last_lines
from vini.api.results import IperfResult

LISTENING = "listening"
CONNECT_TIMEOUT_MS = 5000


def server_argv(address: str, port: int) -> Sequence[str]:
    """The receiver: it prints LISTENING, and ends after one test."""
    return ["iperf3", "-s", "-1", "-B", address, "-p", str(port), "--forceflush"]


def client_argv(
    source: str, destination: str, port: int, seconds: float, window: int, rate_mbit: float
) -> Sequence[str]:
    """The sender; 0 for `window` (bytes) and `rate_mbit` leaves it to the kernel."""
    ends = ["-c", destination, "-B", source, "-p", str(port), "--connect-timeout", str(CONNECT_TIMEOUT_MS)]
    wishes = ["-w", str(window)] if window else []
    wishes += ["-b", f"{rate_mbit:g}M"] if rate_mbit else []
    return ["iperf3", "-J", "-t", f"{seconds:g}", *ends, *wishes]


def result(source: str, destination: str, done: Completed) -> IperfResult:
    """What the sender reports.  Raises CommandFailed with what it said went wrong."""
    try:
        said = json.loads(done.stdout)
    except json.JSONDecodeError:
        said = {"error": last_lines(done.stderr or done.stdout)}
    if done.returncode or "error" in said:
        why = said.get("error") or f"it ended with status {done.returncode}"
        raise CommandFailed(f"iperf3 from {source} to {destination} failed: {why}.", done)
    got, sent = said["end"]["sum_received"], said["end"]["sum_sent"]
    intervals = tuple(i["sum"]["bits_per_second"] / 1e6 for i in said["intervals"])
    mbit = got["bits_per_second"] / 1e6
    return IperfResult(source, destination, mbit, got["seconds"], sent["retransmits"], intervals)
