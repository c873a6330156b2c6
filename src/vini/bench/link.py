"""`vini bench link`: how fast links with a delay are, how fair to each other, and how true.

Namespaces and veth pairs of its own, shaped by the node's own driver; no slice, no agent.  Whatever is compared is
measured in the same run, and what is bare (the same veth pair without a shape) with it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vini.bench import interrupts, mahimahi, setup
from vini.bench.ours import PLACE, alone
from vini.bench.pair import Backend, Pairs, pairs
from vini.bench.result import Found, Missing, row
from vini.model import Impairment, Value, ViniError
from vini.node import netns, probe
from vini.truth import Here

Say = Callable[[str], None]
_WINDOW = 1 << 28  # bytes that TCP may have on the way: enough for 3 Gbit/s at a round trip of 600 ms
_BACKENDS: tuple[Backend, ...] = ("element", "netem")
_SETTLE_TRIPS = 18  # round trips until TCP has opened its window
_PING_IS_FINE_MS = 100  # from here on it tells whole milliseconds
_MEDIAN_MS, _P99_MS = 0.03, 0.2  # targets of the error: itself, and above the undelayed path's


class Sizes(Value, frozen=True):
    """How much is measured."""

    delays_ms: tuple[int, ...]
    seconds: float  # of each stream, after it has settled
    together: int  # links at once
    error_s: float  # of each measurement of delays
    rates_mbit: tuple[int, ...]  # at 80 % of which delays are measured


FULL = Sizes(delays_ms=(0, 1, 10, 100, 300), seconds=4, together=20, error_s=4, rates_mbit=(100, 1000))
QUICK = Sizes(delays_ms=(0, 10), seconds=2, together=5, error_s=2, rates_mbit=(100,))


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`."""
    chosen = sizes or (QUICK if quick else FULL)
    with alone(), interrupts.tidily():
        try:
            return setup.told(chosen, lambda: _all(chosen, say))
        finally:
            shutil.rmtree(PLACE.run, ignore_errors=True)


def _all(sizes: Sizes, say: Say) -> Found:
    out: Found = []
    able = probe.capabilities()
    if shutil.which("iperf3") is None:
        return [Missing("links", "it needs iperf3 (`apt-get install iperf3`)")]
    with pairs(PLACE, sizes.together) as made:
        _open_windows(made)
        for backend in _BACKENDS:
            if backend in able:
                out += _of(made, backend, sizes, say)
            else:
                remedy = next(f.remedy for f in probe.FEATURES if f.name == backend)
                out.append(Missing(f"links by {backend}", f"this machine lacks {backend}; {remedy}"))
        out += _mahimahi(made, sizes, say) if "element" in able else []
    return out


def _of(made: Pairs, backend: Backend, sizes: Sizes, say: Say) -> Found:
    out: Found = []
    for delay_ms in sizes.delays_ms:
        say(f"{backend}: one TCP stream at {delay_ms} ms, and over the bare pair")
        out += _one_stream(made, backend, delay_ms, sizes.seconds)
    say(f"{backend}: {sizes.together} TCP streams at once")
    out += _many_streams(made, backend, sizes)
    for delay_ms in sizes.delays_ms:
        for mbit in (0, *sizes.rates_mbit):
            say(f"{backend}: errors of a delay of {delay_ms} ms" + (f" at 80 % of {mbit} Mbit/s" if mbit else ""))
            out += _errors(made, backend, delay_ms, mbit, sizes.error_s)
    return out


def _mahimahi(made: Pairs, sizes: Sizes, say: Say) -> Found:
    """One stream and round trips, beside the element's in the same minute."""
    if mahimahi.mm_delay() is None:
        why = "there is no mm-delay in the PATH, and Debian 12 has no package of it (github.com/ravinet/mahimahi)"
        return [Missing("links by mahimahi", why)]
    out: Found = []
    with mahimahi.namespace(_WINDOW):
        for delay_ms in (d for d in sizes.delays_ms if d):
            say(f"mahimahi: one TCP stream and round trips at {delay_ms} ms, and the element's")
            theirs = mahimahi.stream_gbit(delay_ms, _omit_s(delay_ms), sizes.seconds, _WINDOW)
            with _shaped(made, [0], "element", delay_ms=delay_ms):
                (ours,) = _streams(made, [0], delay_ms, sizes.seconds)
                trip_ms = _round_trip_ms(made)
            name = f"{delay_ms} ms each way"
            out.append(row(f"mahimahi, {name}: one TCP stream", [theirs], "Gbit/s"))
            out.append(row(f"element / mahimahi, {name}: one TCP stream", [ours / theirs], "x", 1.0, "at least"))
            if 2 * delay_ms < _PING_IS_FINE_MS:
                for who, found in ("mahimahi", mahimahi.round_trip_ms(delay_ms, _WINDOW)), ("element", trip_ms):
                    out.append(row(f"{who}, {name}: error of a round trip, median", [found - 2 * delay_ms], "ms"))
    return out


def _round_trip_ms(made: Pairs) -> float:
    with netns.inside(made.where("a0")):
        argv = ["ping", "-n", "-i", "0.02", "-c", "100", "10.0.0.2"]
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return mahimahi.median_trip_ms(said)


# --- streams --------------------------------------------------------------------------------------


def _one_stream(made: Pairs, backend: Backend, delay_ms: int, seconds: float) -> Found:
    (bare,) = _streams(made, [0], 0, seconds)
    with _shaped(made, [0], backend, delay_ms=delay_ms):
        (got,) = _streams(made, [0], delay_ms, seconds)
    target = {10: 2.0, 300: 0.6}.get(delay_ms) if backend == "element" else None
    name = f"{backend}, {delay_ms} ms each way: one TCP stream"
    return [
        row(name, [got], "Gbit/s", target, "at least", note=f"bare pair in the same run: {bare:.2f} Gbit/s"),
        row(f"{name} / bare", [got / bare], "x"),
    ]


def _many_streams(made: Pairs, backend: Backend, sizes: Sizes) -> Found:
    all_ = range(sizes.together)
    with _shaped(made, all_, backend, delay_ms=10):
        got = _streams(made, all_, 10, 2 * sizes.seconds)
    fairness = sum(got) ** 2 / (len(got) * sum(x * x for x in got))  # Jain, Chiu, Hawe 1984
    name = f"{backend}, 10 ms each way: {sizes.together} TCP streams at once"
    return [
        row(f"{name}, together", [sum(got)], "Gbit/s", note=f"each {min(got):.3f} to {max(got):.3f}"),
        row(f"{name}, Jain's index", [fairness], "(1: all the same)", 0.9, "at least"),
    ]


def _streams(made: Pairs, which: Sequence[int], delay_ms: int, seconds: float) -> list[float]:
    """Gbit/s of one TCP stream in each of those pairs, all at once, each with its window open."""
    omit = _omit_s(delay_ms)
    servers = [_inside(made, f"b{i}", ["iperf3", "-s", "-1"], subprocess.DEVNULL) for i in which]
    try:
        _wait_listening(made, which)
        argv = ["iperf3", "-J", "-O", str(omit), "-t", f"{seconds:g}", "-c"]
        clients = [_inside(made, f"a{i}", [*argv, f"10.{i}.0.2"], subprocess.PIPE) for i in which]
        said = [json.loads(c.communicate(timeout=60 + omit + 2 * seconds)[0]) for c in clients]
    finally:
        for server in servers:
            server.kill()
            server.wait()
    if bad := next((s["error"] for s in said if "error" in s), None):
        raise ViniError(f"iperf3 failed in the benchmark: {bad}")
    return [s["end"]["sum_received"]["bits_per_second"] / 1e9 for s in said]


def _omit_s(delay_ms: int) -> int:
    return 1 + round(2 * delay_ms * _SETTLE_TRIPS / 1000)


def _inside(made: Pairs, sliver: str, argv: Sequence[str], out: int) -> subprocess.Popen[bytes]:
    with netns.inside(made.where(sliver)):
        return subprocess.Popen(argv, stdout=out, stderr=subprocess.DEVNULL)


def _wait_listening(made: Pairs, which: Sequence[int]) -> None:
    deadline = time.monotonic() + 10
    for i in which:
        with netns.inside(made.where(f"b{i}")):
            while not _listens(Path("/proc/thread-self/net/tcp6").read_text()):
                if time.monotonic() > deadline:
                    raise ViniError("iperf3 does not listen in the benchmark's namespaces.")
                time.sleep(0.01)


def _listens(tcp6: str) -> bool:
    """Whether somebody listens at port 5201; of ended connections to it is told for a minute (proc(5))."""
    rows = (line.split() for line in tcp6.splitlines()[1:])
    return any(local.endswith(":1451") and state == "0A" for _, local, _, state, *_ in rows)


def _open_windows(made: Pairs) -> None:
    for i in range(made.count):
        for end in "ab":
            with netns.inside(made.where(f"{end}{i}")):
                for name in ("tcp_rmem", "tcp_wmem"):
                    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:  # noqa: PTH123
                        file.write(f"4096 131072 {_WINDOW}")


@contextmanager
def _shaped(
    made: Pairs, which: Sequence[int], backend: Backend, delay_ms: int, rate_mbit: int = 0, ends: str = "ab"
) -> Iterator[None]:
    wishes = {"delay_us": delay_ms * 1000, "rate_kbit": rate_mbit * 1000}
    shapes = [made.shape(i, end, backend, **wishes) for i in which for end in ends]
    made.ensure(*shapes)
    try:
        yield
    finally:
        made.bare(*shapes)


# --- errors ---------------------------------------------------------------------------------------


def _errors(made: Pairs, backend: Backend, delay_ms: int, mbit: int, seconds: float) -> Found:
    """Of pair 0, and then, with the same packets, of pair 1, which is bare."""
    wish = Impairment(delay_ms=delay_ms, rate_mbit=mbit)
    with _shaped(made, [0], backend, delay_ms, mbit, ends="a"):
        link = asyncio.run(Here(made.where).delays(made.direction(0, "a", wish), 0.8 * mbit, seconds))
    bare = asyncio.run(Here(made.where).delays(made.direction(1, "a", Impairment()), 0.8 * mbit, seconds))
    what = f"80 % of {mbit} Mbit/s" if mbit else "idle"
    name = f"{backend}, {delay_ms} ms, {what}: one-way error"
    if not link or not bare:
        return [Missing(name, "no packet arrived", failed=True)]
    error, above = link.median - delay_ms, link.p99 - delay_ms - bare.p99
    note = f"undelayed in the same run: {1000 * bare.median:.0f} us, 99th percentile {1000 * bare.p99:.0f} us"
    late = f"1 % of this machine's wake-ups were {1000 * link.noise.p99_ms:.0f} us late or more meanwhile"
    targets = (_MEDIAN_MS, _P99_MS) if backend == "element" else (None, None)
    return [
        row(f"{name}, median", [error], "ms", targets[0], note=note),
        row(f"{name}, 99th percentile above the undelayed", [above], "ms", targets[1], note=late),
    ]
