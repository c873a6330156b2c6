"""A run's plots, as inline SVG that follows the reader's light or dark page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from vini.experiment.probe import Probe
from vini.experiment.probes import Counters, Iperf3, Path, Ping, Udp
from vini.experiment.statistics import Row
from vini.experiment.summary import Measured
from vini.model import Unsupported
from vini.reach import MOST_LISTED

INK = "#010203"  # stands for the page's own text colour, which a file can't know when it is drawn
BLUE, RED = "#3b82c4", "#d23c4b"  # each readable on white and on black
SIZE = (10, 3)  # inches
MOST_POINTS = 20_000  # a plot with more is a blot, and a report of many MB

Axes = Any


def plot(name: str, measured: Measured, events: Sequence[Row], end_s: float) -> str:
    """One probe over time, with the events as vertical lines; "" for a kind that has no plot."""
    draw = _DRAW.get(type(measured.probe))
    return _figure(f"plot-{name}", lambda axes: draw(axes, measured), events, end_s) if draw and measured.rows else ""


def machine(samples: Sequence[Row], events: Sequence[Row], end_s: float) -> str:
    """Load, CPU and steal of the machine over time."""

    def draw(axes: Axes) -> None:
        t = [r["t"] for r in samples]
        axes.plot(t, [r["busy"] * 100 for r in samples], color=BLUE, label="CPU busy")
        axes.plot(t, [r["steal"] * 100 for r in samples], color=RED, label="steal")
        axes.set_ylabel("%")
        axes.set_ylim(0, 105)
        axes.legend(loc="upper right")

    return _figure("plot-machine", draw, events, end_s) if samples else ""


def _figure(salt: str, draw: Callable[[Axes], None], events: Sequence[Row], end_s: float) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as e:
        raise Unsupported("Reports need the Python package matplotlib. Install it with: pip install 'vini[run]'") from e
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": 9,
        "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_xlim(0, end_s)
        axes.set_xlabel("time, s")
        _events(axes, events)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _events(axes: Axes, events: Sequence[Row]) -> None:
    """A dashed line with the event's number in the report's table; commands are too many to draw."""
    for event in events:
        if event["t"] is not None and event["t"] >= 0 and event["action"] != "exec":
            axes.axvline(event["t"], color=INK, linestyle="--", linewidth=0.8, alpha=0.6)
            top = axes.get_xaxis_transform()
            axes.text(event["t"], 1.01, str(event["number"]), transform=top, ha="center", va="bottom")


def _lost(axes: Axes, times: Sequence[float], what: str) -> None:
    if times:
        axes.plot(times, [0.02] * len(times), "|", color=RED, transform=axes.get_xaxis_transform(), label=what)
        axes.legend(loc="upper right")


def _thin(rows: Sequence[Row]) -> list[Row]:
    step = 1 + len(rows) // MOST_POINTS
    return list(rows)[::step]


def _ping(axes: Axes, measured: Measured) -> None:
    _each(axes, measured, "rtt_ms", "round-trip time, ms", size=3)


def _udp(axes: Axes, measured: Measured) -> None:
    _each(axes, measured, "delay_ms", "one-way delay, ms", size=2)


def _each(axes: Axes, measured: Measured, column: str, label: str, size: int) -> None:
    """A dot for each packet, and a mark for each that was lost."""
    rows = _thin(measured.rows)
    got = [r for r in rows if r[column] is not None]
    axes.plot([r["t"] for r in got], [r[column] for r in got], ".", color=BLUE, markersize=size)
    _lost(axes, [r["t"] for r in rows if r[column] is None], "lost")
    axes.set_ylabel(label)


def _iperf3(axes: Axes, measured: Measured) -> None:
    got = [r for r in measured.rows if r["side"] == "received"]
    axes.step([r["t"] for r in got], [r["mbit_s"] for r in got], where="post", color=BLUE)
    axes.set_ylabel("goodput, Mbit/s")
    axes.set_ylim(bottom=0)


def _path(axes: Axes, measured: Measured) -> None:
    """One line of the chart for each distinct way; red where it did not arrive."""
    ways = list(dict.fromkeys(r["there"] for r in measured.rows))
    for arrives, colour in ((True, BLUE), (False, RED)):
        rows = [r for r in measured.rows if r["there_arrives"] is arrives]
        axes.plot([r["t"] for r in rows], [ways.index(r["there"]) for r in rows], "s", color=colour, markersize=4)
    labels = [f"{i + 1}: {_short(way)}" for i, way in enumerate(ways)]
    axes.set_yticks(range(len(ways)), labels)
    axes.set_ylim(len(ways) - 0.5, -0.5)


def _short(way: str) -> str:
    if " | " in way:
        return " | ".join(map(_short, way.split(" | ")))
    if ">" in way:
        return f"more than {MOST_LISTED} equal paths"
    hops = way.split()
    if len(hops) > 12:
        return f"{hops[0]} … {hops[-1]} ({len(hops) - 1} links)"
    return "–".join(h[:4].rstrip("-") for h in hops)


def _counters(axes: Axes, measured: Measured) -> None:
    """Bits per second sent by each vif; the ten busiest."""
    of: dict[str, list[Row]] = {}
    for row in measured.rows:
        of.setdefault(f"{row['sliver']}:{row['vif']}", []).append(row)
    busiest = sorted(of, key=lambda v: of[v][0]["tx_bytes"] - of[v][-1]["tx_bytes"])[:10]
    for vif in busiest:
        pairs = list(zip(of[vif], of[vif][1:], strict=False))
        rate = [(b["tx_bytes"] - a["tx_bytes"]) * 8e-6 / (b["t"] - a["t"]) for a, b in pairs]
        axes.plot([b["t"] for _, b in pairs], rate, label=vif, linewidth=1)
    axes.set_ylabel("sent, Mbit/s")
    axes.legend(loc="upper right", fontsize=7, ncols=2)


_DRAW: dict[type[Probe], Callable[[Axes, Measured], None]] = {
    Ping: _ping, Udp: _udp, Iperf3: _iperf3, Path: _path, Counters: _counters,
}  # fmt: skip
