"""What links really give: `vini link --verify`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
from msgspec.structs import asdict

from vini.cli.out import Ticker, count, dump, line, note, table
from vini.client import Slices, connect
from vini.model import Link, Mistake, Topology, TopologyError
from vini.text import units
from vini.text.mistakes import Wrong
from vini.truth import Check, Judgement, directions, to_measure, worst

_SHORTEST_S, _LONGEST_S = 1.0, 600.0
_SAID = {"true": "true", "off": "OFF", "can't tell": "can't tell", "not measured": "not measured"}


def verify(
    client: Slices, topology: Topology, links: Sequence[Link], load_text: str, for_text: str, as_json: bool
) -> None:
    """Measure these links and tell what each gives; exit code 1 where one is off."""
    load, for_s = _read(load_text, for_text)
    measured = to_measure(directions(topology, links))
    if not measured:
        dump(_json(Check())) if as_json else line("These links do nothing to packets that could be verified.")
        return
    note(
        f"Traffic of ours goes over {count(len(measured), 'direction')} for {for_s:g} s: single packets, then up to "
        "the full rate where there is one. What else uses these links is held up meanwhile."
    )
    ticker = Ticker("verifying")
    client = connect(ticker.say)
    with ticker.shown():
        check = asyncio.run(client.check_links(topology, links, load, for_s))
    if as_json:
        dump(_json(check))
    else:
        _show(check)
    raise click.exceptions.Exit(1 if worst(j.outcome for j in check.judgements) == "off" else 0)


def _read(load: str, for_: str) -> tuple[float, float]:
    try:
        share = units.read_loss(load)
    except Wrong as e:
        raise TopologyError([Mistake(0, 0, f"--load: {load!r} is not a share of a rate.", "write it like 80%")]) from e
    try:
        return share, units.read_s(for_, _SHORTEST_S, _LONGEST_S)
    except Wrong as e:
        raise TopologyError([Mistake(0, 0, f"--for: {e}", e.hint)]) from e


def _show(check: Check) -> None:
    rows = [
        (j.source, j.destination, v.wish, v.asked, v.got, v.tolerance, _SAID[v.outcome])
        for j in check.judgements
        for v in j.verdicts
    ]
    table(("FROM", "TO", "WISH", "ASKED", "GOT", "TOLERANCE", "VERDICT"), rows)
    for sentence in [*check.reasons(), *check.doubts()]:
        line(sentence)
    for j in check.judgements:
        for v in j.verdicts:
            if v.outcome == "not measured":
                line(f"From {j.source} to {j.destination}, {v.wish} isn't measured: {v.why}")
    if any(j.clock == "round trip" for j in check.judgements):
        note(
            "Between nodes are two clocks: what a delay is off by is half of what its round trip is off by, with what "
            "the way between the nodes takes; what each direction has of it can't be told."
        )
    late = check.noise
    who = "The noisiest machine" if any(j.clock != "one" for j in check.judgements) else "This machine"
    note(f"{who} wakes {late.median_ms:.3f} ms late (median), {late.p99_ms:.3f} ms (99th percentile).")


def _json(check: Check) -> dict[str, object]:
    return {
        "outcome": worst(j.outcome for j in check.judgements),
        "seconds": round(check.seconds, 3),
        "noise": asdict(check.noise),
        "directions": [_direction(j) for j in check.judgements],
    }


def _direction(j: Judgement) -> dict[str, object]:
    return {
        "from": j.source, "vif": j.vif, "to": j.destination, "outcome": j.outcome, "clock": j.clock,
        "verdicts": [asdict(v) for v in j.verdicts],
    }  # fmt: skip
