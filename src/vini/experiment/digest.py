"""A run's summary in a few lines of text, for a terminal.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vini.experiment.paths import told

# What a person looks at first, of each kind of probe; the rest is in summary.json.
FIRST = {
    "ping": ("sent", "lost", "median_ms", "longest_outage_s"),
    "udp": ("sent", "lost", "longest_gap_ms", "median_ms", "jitter_ms"),
    "iperf3": ("goodput_mbit_s", "median_mbit_s", "stalled_s", "retransmits"),
    "path": ("changes",),
    "traceroute": ("rounds",),
    "routes": ("changes", "last_change_s"),
    "counters": ("vifs",),
    "capture": ("packets", "bytes"),
}


def digest(summary: dict[str, Any]) -> list[str]:
    """The verdict, the events, the ways with their levels, and the first numbers of each probe."""
    return [*_verdict(summary), *_events(summary), *_paths(summary), *_probes(summary)]


def _verdict(summary: dict[str, Any]) -> Iterator[str]:
    kinds = " and ".join(summary["failure_kinds"])
    failed = f", kind of failure: {kinds}" if kinds else ""
    yield f"{summary['name']}: {summary['measured_s']:g} s measured, seed {summary['seed']}{failed}"
    if not summary["trustworthy"]:
        yield "NOT TRUSTWORTHY:"
        yield from (f"  {reason}" for reason in summary["reasons"])
    else:
        yield summary["timeliness"]
    yield summary["links"]["sentence"]
    yield from (f"  {doubt}" for doubt in summary["links"]["doubts"])


def _events(summary: dict[str, Any]) -> Iterator[str]:
    for event in summary["events"]:
        at = "       –" if event["t"] is None else f"{event['t']:8.2f}"
        yield f"{at} s  {event['what']}" + (f"  ({event['outcome']})" if event["outcome"] else "")


def _paths(summary: dict[str, Any]) -> Iterator[str]:
    for name, found in summary["paths"].items():
        for phase in found["phases"]:
            way = told(phase["path"], phase["arrives"])
            rtt = "" if phase["median_rtt_ms"] is None else f"  {phase['median_rtt_ms']:.1f} ms"
            yield f"{name}: {phase['from_s']:6.2f} to {phase['to_s']:6.2f} s  {way}{rtt}"


def _probes(summary: dict[str, Any]) -> Iterator[str]:
    for name, probe in summary["probes"].items():
        statistics = probe["statistics"]
        numbers = ", ".join(f"{k} {statistics[k]}" for k in FIRST[probe["kind"]] if statistics.get(k) is not None)
        yield f"{name} ({probe['kind']}): {numbers or 'nothing measured'}"
