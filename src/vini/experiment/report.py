"""`report.html`: a run for a stranger's eyes, in one file without any outside asset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from vini.experiment import plots
from vini.experiment.paths import told
from vini.experiment.statistics import Row
from vini.experiment.summary import Measured

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: 14px; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; }
.verdict { padding: .6rem 1rem; border-left: .4rem solid #3a8f4d; background: #3a8f4d22; }
.verdict.bad { border-color: #d23c4b; background: #d23c4b22; font-size: 1.25rem; }
.note { color: #b5651d; }
h2 { margin-top: 2.2rem; }
"""
TITLES = {
    "ping": "Round-trip time", "iperf3": "TCP goodput", "udp": "UDP stream: loss and delay", "path": "Path taken",
    "traceroute": "Path as traceroute saw it", "routes": "Route changes", "counters": "Traffic of the vifs",
    "capture": "Packet capture",
}  # fmt: skip
PLAIN = (int, float, str, bool)
_UNITS = {"_mbit_s": "Mbit/s", "_mbit": "Mbit/s", "_ms": "ms", "_s": "s"}  # by the end of a statistic's name


def report(
    summary: dict[str, Any],
    all_: dict[str, Measured],
    events: Sequence[Row],
    samples: Sequence[Row],
    links: Sequence[Row] = (),
) -> str:
    """The whole page.  Every text from a user is escaped."""
    end_s = summary["measured_s"]
    title = f"{summary['name']}: run of {summary['started']}"
    parts = [
        f"<h1>{escape(summary['name'])}</h1>",
        f"<p>Started {escape(summary['started'])}, {end_s:g} s measured, seed {summary['seed']}.{_kinds(summary)}</p>",
        _verdict(summary),
        _events(summary["events"]),
        *(_paths(name, found) for name, found in summary["paths"].items()),
        *(_probe(name, summary["probes"][name], plots.plot(name, m, events, end_s)) for name, m in all_.items()),
        _epochs(summary["epochs"]),
        _links(summary["links"], links),
        "<h2>The machine</h2>" + plots.machine(samples, events, end_s) + _values(summary["conditions"]),
        "<p>All numbers are in this directory as Parquet and CSV; <code>sha256sum -c SHA256SUMS</code> "
        "tells whether it is as it was written.</p>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    top = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>'
    return f"{top}\n<body>\n{body}\n</body></html>\n"


def _kinds(summary: dict[str, Any]) -> str:
    kinds = summary["failure_kinds"]
    if not kinds:
        return " No link failed."
    what = {"silent": "silent (packets vanish, the carrier stays)", "carrier": "carrier down (both ends see it)"}
    return f" Kind of failure: <b>{' and '.join(what[k] for k in kinds)}</b>."


def _verdict(summary: dict[str, Any]) -> str:
    if summary["trustworthy"]:
        links = escape(summary["timeliness"])
        return f'<p class="verdict">The machine kept up: nothing speaks against these numbers. {links}</p>'
    reasons = "".join(f"<li>{escape(r)}</li>" for r in summary["reasons"])
    return f'<div class="verdict bad"><b>Not trustworthy.</b><ul>{reasons}</ul></div>'


def _events(events: Sequence[Row]) -> str:
    rows = (
        (e["number"], _time(e["planned_s"]), _time(e["t"]), _time(e["done_s"]), e["what"], e["outcome"] or "")
        for e in events
    )
    head = ("", "planned, s", "began, s", "done, s", "event", "outcome")
    return "<h2>Events</h2><p>The dashed lines in the plots.</p>" + _table(head, rows)


def _paths(name: str, found: dict[str, Any]) -> str:
    rows = (
        (
            _time(p["from_s"]), _time(p["to_s"]),
            told(p["path"], p["arrives"]),
            "the same" if _each(p["return_path"]) == {path[::-1] for path in _each(p["path"])}
            else told(p["return_path"], p["return_arrives"]),
            _span(p["computed_rtt_ms"], p["computed_rtt_max_ms"]), p["median_rtt_ms"], p["lost"],
        )
        for p in found["phases"]
    )  # fmt: skip
    head = ("from, s", "to, s", "way there", "way back", "computed RTT, ms", "median RTT, ms", "pings lost")
    return f"<h2>The ways packets took ({escape(name)})</h2>" + _table(head, rows)


def _each(listed: list[str] | str) -> set[tuple[str, ...]]:
    return {tuple(path.split()) for path in listed.split(" | ")} if isinstance(listed, str) else {tuple(listed)}


def _span(least: float | None, most: float | None) -> Any:
    """One number, or two where equal paths differ."""
    return least if least == most else f"{least} to {most}"


def _probe(name: str, found: dict[str, Any], svg: str) -> str:
    settings = found["settings"]
    where = " to ".join(settings[k] for k in ("source", "destination", "sliver", "vif") if k in settings)
    notes = "".join(f'<p class="note">{escape(n)}</p>' for n in found["notes"])
    title = f"<h2>{TITLES[found['kind']]}: {escape(name)}</h2><p>{escape(found['kind'])} {escape(where)}</p>"
    return title + notes + svg + _values(found["statistics"])


def _links(found: dict[str, Any], links: Sequence[Row]) -> str:
    """What they gave before the run, wish by wish."""
    head = ("from", "to", "wish", "asked", "got", "tolerance", "verdict", "")
    rows = ((r["source"], r["destination"], *(r[c] for c in ("wish", "asked", "got", "tolerance", "outcome", "why")))
            for r in links)  # fmt: skip
    doubts = "".join(f'<p class="note">{escape(d)}</p>' for d in found["doubts"])
    return f"<h2>The links before the run</h2><p>{escape(found['sentence'])}</p>{doubts}" + _table(head, rows)


def _epochs(epochs: list[dict[str, Any]]) -> str:
    head = ("since", "from, s", "to, s", "medians")
    return "<h2>Between the events</h2>" + _table(head, map(_epoch, epochs))


def _epoch(epoch: dict[str, Any]) -> tuple[Any, ...]:
    medians = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v if v is not None else '–'}" for k, v in of.items())
        for name, of in epoch["medians"].items()
    )
    return epoch["since"], _time(epoch["from_s"]), _time(epoch["to_s"]), medians


def _values(statistics: dict[str, Any]) -> str:
    """The plain numbers as a table; lists and mappings are in summary.json."""
    return _table(("", ""), ((_named(k), v) for k, v in statistics.items() if isinstance(v, PLAIN)))


def _named(key: str) -> str:
    """A statistic's name for people: `goodput_mbit_s` is "goodput, Mbit/s"."""
    for suffix, unit in _UNITS.items():
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')}, {unit}"
    return key.replace("_", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f'<td class="n">{value:g}</td>' if isinstance(value, float) else f'<td class="n">{value}</td>'
    return f"<td>{escape('–' if value is None else str(value))}</td>"


def _time(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
