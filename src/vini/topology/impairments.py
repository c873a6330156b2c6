"""What a direction of a link does to packets: from keys to an `Impairment`, and back; and what makes no sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from vini.model import BurstLoss, Impairment, Mistake, TopologyError
from vini.text import trace, units
from vini.text.mistakes import Mark, Mistakes, Wrong, quote
from vini.text.schema import Fields, Found
from vini.topology.keys import IMPAIRMENTS
from vini.topology.scalars import NOTHING

ReadFile = Callable[[str], str]  # the text of a file that a topology names, of NAME.o in base64; raises Wrong
_FIELDS = {  # key -> what it sets
    "delay": ("delay_ms",),
    "jitter": ("jitter_ms",),
    "distribution": ("distribution",),
    "jitter_table": ("jitter_table_ms",),
    "reordering": ("keeps_order",),
    "reorder": ("reorder",),
    "loss": ("loss",),
    "burst_loss": ("burst_loss",),
    "lose": ("lose",),
    "duplicate": ("duplicate",),
    "corrupt": ("corrupt",),
    "rate": ("rate_mbit",),
    "queue": ("queue_packets", "queue_bytes", "queue_ms"),
    "aqm": ("aqm",),
    "trace": ("trace",),
}
_SAME = ("delay", "jitter", "distribution", "reorder", "loss", "duplicate", "corrupt", "rate")  # as they were read
_MOST_RANGES = 10_000


def no_files(name: str) -> str:
    """Where there are no files to be read."""
    raise Wrong(f"The file {quote(name)} can't be read here.", "give its text in place of its name")


def read_impairment(fields: Fields, below: Impairment, read: ReadFile, at: Mark, mistakes: Mistakes) -> Impairment:
    """`below`, with what `fields` say; `at` is the place of mistakes that come from inherited keys."""
    before = len(mistakes.found)
    made = replace(below, **impairment_fields(fields, read, mistakes))
    if len(mistakes.found) == before:
        for keys, what, hint in contradictions(made):
            mistakes.add(next((fields[k].at for k in keys if k in fields), at), what, hint)
    return made


def impairment_fields(fields: Fields, read: ReadFile, mistakes: Mistakes) -> dict[str, Any]:
    """The fields of `Impairment` that those keys set."""
    out: dict[str, Any] = {_FIELDS[key][0]: found.value for key, found in fields.items() if key in _SAME}
    if "reordering" in fields:
        out["keeps_order"] = not fields["reordering"].value
    if "aqm" in fields:
        out["aqm"] = "" if fields["aqm"].value == NOTHING else fields["aqm"].value
    if "queue" in fields:
        out |= zip(_FIELDS["queue"], fields["queue"].value, strict=True)
    if "jitter_table" in fields:
        out["jitter_table_ms"] = _table(fields["jitter_table"], mistakes)
    if "burst_loss" in fields:
        out["burst_loss"] = _bursts(fields["burst_loss"], mistakes)
    if "lose" in fields:
        out["lose"] = _merged(fields["lose"], mistakes)
    if "trace" in fields:
        out["trace"] = _trace(fields["trace"], read, mistakes)
    return out


def _table(found: Found, mistakes: Mistakes) -> tuple[float, ...]:
    values = [f.value for f in found.value]
    if len(values) == 1:
        mistakes.add(found.at, "One quantile is no distribution.", "give two at least, or add it to 'delay'")
    for one, after in zip(found.value, found.value[1:], strict=False):
        if after.value < one.value:
            what = f"{units.duration(after.value)} comes after {units.duration(one.value)}, and quantiles ascend."
            mistakes.add(after.at, what, "sort them")
    if values and not max(values):
        mistakes.add(found.at, "This table adds no delay at all.", f"write '{NOTHING}'")
    return tuple(values)


def _bursts(found: Found, mistakes: Mistakes) -> BurstLoss | None:
    fields: Fields = found.value
    if fields is None or not {"enter", "leave"} <= fields.keys():
        return None  # noted by the reader
    bursts = BurstLoss(**{key: f.value for key, f in fields.items()})
    if not bursts.enter:
        mistakes.add(fields["enter"].at, "With this 'enter', no burst ever begins.", f"write 'burst_loss: {NOTHING}'")
    if not bursts.leave:
        mistakes.add(fields["leave"].at, "With this 'leave', the first burst never ends.", "write 1% for 100 packets")
    if bursts.bad <= bursts.good:
        what = f"A burst must lose more than {units.loss(bursts.good)}, which is lost without one."
        mistakes.add(found.at, what, "make 'bad' larger than 'good'")
    return bursts


def _merged(found: Found, mistakes: Mistakes) -> tuple[tuple[int, int], ...]:
    """The ranges in order, neighbours joined."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(f.value for f in found.value):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    if len(out) > _MOST_RANGES:
        mistakes.add(found.at, f"These are {len(out)} ranges of packets.", f"give {_MOST_RANGES} at most")
    return tuple(out)


def _trace(found: Found, read: ReadFile, mistakes: Mistakes) -> str:
    """The trace in its canonical form; "" where there is none, or a mistake was noted."""
    named = "\n" not in found.value
    if found.value == NOTHING:
        return ""
    try:
        text = read(found.value) if named else found.value
        return trace.canonical(trace.parse(text))
    except Wrong as e:
        mistakes.add(found.at, str(e), e.hint)
    except TopologyError as e:
        for m in e.mistakes:
            where = f"{found.value if named else 'the trace'}{f', line {m.line}' if m.line else ''}"
            mistakes.add(found.at, f"{where}: {m.what}", m.hint)
    return ""


# --- what makes no sense ------------------------------------------------------------------------


def contradictions(i: Impairment) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Wishes that exclude each other: the keys at fault, a sentence, a hint."""
    gives = trace.parse(i.trace).gives if i.trace else frozenset()
    if i.jitter_table_ms and i.jitter_ms:
        what = "'jitter_table' and 'jitter' both say how the delay varies."
        yield ("jitter_table", "jitter"), what, "write 'jitter: 0ms', or 'jitter_table: none'"
    for column, key, value, none in (
        ("rate_mbit", "rate", i.rate_mbit, "unlimited"),
        ("delay_ms", "delay", i.delay_ms, "0ms"),
        ("loss", "loss", i.loss, "0%"),
    ):
        if column in gives and value and not _fills_in(i, column):
            yield ("trace", key), f"The trace and '{key}' both say it.", f"write '{key}: {none}', or 'trace: none'"
    if i.aqm and not i.rate_mbit and "rate_mbit" not in gives:
        what = "Without a rate nothing waits, so an 'aqm' has nothing to do."
        yield ("aqm",), what, "add 'rate', or write 'aqm: none'"
    if i.reorder and not (i.delay_ms or i.jitter_table_ms or "delay_ms" in gives):
        yield ("reorder",), "Without a delay no packet can overtake.", "add 'delay', or write 'reorder: 0%'"
    if i.distribution == "uniform" and i.jitter_ms > i.delay_ms and "delay_ms" not in gives:
        what = f"A uniform jitter of {units.duration(i.jitter_ms)} is larger than the delay, which can't be negative."
        yield ("jitter", "distribution", "delay"), what, f"at most {units.duration(i.delay_ms)}"


def _fills_in(i: Impairment, column: str) -> bool:
    """Whether the link's own setting holds where the trace's cells are empty."""
    made = trace.parse(i.trace)
    return bool(made.steps) and (made.steps[0].at_ms > 0 or any(getattr(s, column) is None for s in made.steps))


def check(i: Impairment) -> None:
    """Raises TopologyError where its wishes exclude each other."""
    found = [Mistake(0, 0, what, hint) for _, what, hint in contradictions(i)]
    if found:
        raise TopologyError(found)


# --- back to keys -------------------------------------------------------------------------------


def impairment_keys(i: Impairment, below: Impairment) -> dict[str, Any]:
    """The keys in which it differs from what it inherits, with values that read back as the same."""
    here, there = _written(i), _written(below)
    return {key: here[key] for key in IMPAIRMENTS if here[key] != there[key]}


def _written(i: Impairment) -> dict[str, Any]:
    return {
        "delay": units.duration(i.delay_ms),
        "jitter": units.duration(i.jitter_ms),
        "distribution": i.distribution,
        "jitter_table": [units.duration(ms) for ms in i.jitter_table_ms] or NOTHING,
        "reordering": not i.keeps_order,
        "reorder": units.loss(i.reorder),
        "loss": units.loss(i.loss),
        "burst_loss": _written_bursts(i.burst_loss),
        "lose": [units.packets(*r) for r in i.lose] or NOTHING,
        "duplicate": units.loss(i.duplicate),
        "corrupt": units.loss(i.corrupt),
        "rate": units.rate(i.rate_mbit),
        "queue": units.queue(i.queue_packets, i.queue_bytes, i.queue_ms),
        "aqm": i.aqm or NOTHING,
        "trace": i.trace or NOTHING,
    }


def _written_bursts(bursts: BurstLoss | None) -> dict[str, str] | str:
    if bursts is None:
        return NOTHING
    defaults = {"bad": 1.0, "good": 0.0}
    named = {key: getattr(bursts, key) for key in ("enter", "leave", "bad", "good")}
    return {key: units.loss(value) for key, value in named.items() if value != defaults.get(key)}


def told(i: Impairment) -> str:
    """What it does to packets, on one line for a person: "delay 5ms, loss 1%"; "" where it does nothing."""
    keys = set(impairment_keys(i, Impairment())) - {"queue"}
    if not i.jitter_ms:
        keys.discard("distribution")
    if i.rate_mbit or "rate_mbit" in (trace.parse(i.trace).gives if i.trace else ()):
        keys.add("queue")
    return _told(i, keys)


def told_change(wishes: dict[str, Any]) -> str:
    """The same for a change: what those fields of an `Impairment` become, be it nothing."""
    keys = {key for key, fields in _FIELDS.items() if wishes.keys() & set(fields)}
    return _told(replace(Impairment(), **wishes), keys)


def _told(i: Impairment, keys: set[str]) -> str:
    written = _written(i)
    if i.trace:
        written["trace"] = f"({trace.summary(trace.parse(i.trace))})"
    return ", ".join(_told_key(key, written[key]) for key in IMPAIRMENTS if key in keys)


def _told_key(key: str, value: Any) -> str:
    word = key.replace("_", " ")
    if isinstance(value, list):
        return f"{word} {' '.join(map(str, value[:5]))}{' ...' if value[5:] else ''}"
    if isinstance(value, dict):
        return f"{word} ({', '.join(f'{k} {v}' for k, v in value.items())})"
    if isinstance(value, bool):
        return word if value else f"no {word}"
    return f"{word} {value}"
