"""Traces: what a link gives over time, measured on a real one or made up.

Two forms.  *Opportunities* are mahimahi's (https://github.com/ravinet/mahimahi, doc of mm-link): a line holds the
millisecond at which 1500 bytes may leave, and after the last one all begins again.  *Steps* are CSV: a header of
`time_ms` and any of `rate_mbit`, `delay_ms` and `loss`, and rows that hold until the next one.  A cell that is empty
means the link's own setting; a rate is also `outage`; a last row `60000,repeat` says when all begins again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

from vini.model import Mistake, TopologyError, Value
from vini.text import units
from vini.text.mistakes import Wrong, nearest, quote

MOST_BYTES = 4 << 20  # of a trace's text
COLUMNS = ("rate_mbit", "delay_ms", "loss")
OUTAGE, REPEAT = "outage", "repeat"
OPPORTUNITY_BITS = 1500 * 8
_LATEST_MS = 10**9
_SHOWN = 10  # mistakes
_WHOLE = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"-?[0-9]{1,24}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?")


class Step(Value, frozen=True):
    """What holds from `at_ms` on; None: the link's own setting.  A rate of 0 is an outage: packets wait."""

    at_ms: float
    rate_mbit: float | None = None
    delay_ms: float | None = None
    loss: float | None = None


class Trace(Value, frozen=True):
    """Either opportunities or steps."""

    opportunities_ms: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    period_ms: float = 0.0  # of steps; 0: the last one holds for ever

    @property
    def gives(self) -> frozenset[str]:
        """Which of COLUMNS it speaks about."""
        if self.opportunities_ms:
            return frozenset({"rate_mbit"})
        return frozenset(c for c in COLUMNS if any(getattr(s, c) is not None for s in self.steps))

    @property
    def repeats(self) -> bool:
        """Whether it begins again; else its last row holds for ever."""
        return bool(self.opportunities_ms or self.period_ms)

    def most(self, column: str) -> float:
        """The largest value of that column; 0 where there is none."""
        return max((getattr(s, column) or 0.0 for s in self.steps), default=0.0)

    def least_delay_ms(self, own_ms: float) -> float:
        """The shortest delay that it ever gives to a link whose own setting is `own_ms`."""
        given = [own_ms if s.delay_ms is None else s.delay_ms for s in self.steps]
        return min(given) if given and self.steps[0].at_ms == 0 else min([own_ms, *given])

    @property
    def length_ms(self) -> float:
        """Until it begins again, or until its last change."""
        return self.opportunities_ms[-1] if self.opportunities_ms else self.period_ms or self.steps[-1].at_ms


@lru_cache(maxsize=64)
def parse(text: str) -> Trace:
    """The trace that a text in either form describes.  Raises TopologyError with its mistakes, by line."""
    mistakes: list[Mistake] = []
    if len(text) > MOST_BYTES:
        raise TopologyError([Mistake(0, 0, f"The trace is longer than {MOST_BYTES >> 20} MiB; take a part of it.")])
    text = text.removeprefix("\ufeff")  # as Windows' programs begin a text
    split = ((n, line.strip()) for n, line in enumerate(text.split("\n"), 1))
    lines = [(n, line) for n, line in split if line and not line.startswith("#")]
    if not lines:
        mistakes.append(Mistake(0, 0, "The trace is empty.", f"begin it with 'time_ms,{','.join(COLUMNS)}'"))
        made = None
    elif re.fullmatch(r"-?[0-9.]+", lines[0][1]):
        made = _opportunities(lines, mistakes)
    else:
        made = _steps(lines, mistakes)
    if mistakes or made is None:
        more = [Mistake(0, 0, f"{len(mistakes) - _SHOWN} more mistakes are not shown.")] if mistakes[_SHOWN:] else []
        raise TopologyError([*mistakes[:_SHOWN], *more])
    return made


def canonical(trace: Trace) -> str:
    """The text that parses back to it."""
    if trace.opportunities_ms:
        return "".join(f"{ms}\n" for ms in trace.opportunities_ms)
    columns = [c for c in COLUMNS if c in trace.gives]
    rows = [",".join(("time_ms", *columns))]
    rows += [",".join((units.number(s.at_ms), *(_cell(c, getattr(s, c)) for c in columns))) for s in trace.steps]
    end = [f"{units.number(trace.period_ms)},{REPEAT}"] if trace.period_ms else []
    return "\n".join([*rows, *end]) + "\n"


def summary(trace: Trace) -> str:
    """A few words for a person: "rate 1.2mbit..24mbit, 60s long again and again"."""
    told = []
    if trace.opportunities_ms:
        mbit = len(trace.opportunities_ms) * OPPORTUNITY_BITS / trace.length_ms / 1000
        told.append(f"{mbit:.3g}mbit on average")
    for column, unit in (("rate_mbit", "mbit"), ("delay_ms", "ms"), ("loss", "")):
        values = [v for s in trace.steps if (v := getattr(s, column)) is not None]
        if values:
            ends = (min(values), max(values))
            least, most = (f"{100 * v:.3g}%" if column == "loss" else f"{v:g}{unit}" for v in ends)
            told.append(f"{column.partition('_')[0]} {least}" + (f"..{most}" if most != least else ""))
    if trace.length_ms:
        again = " again and again" if trace.repeats else ""
        told.append(f"{units.duration(trace.length_ms)} long{again}")
    return ", ".join(told)


# --- opportunities ----------------------------------------------------------------------------


def _opportunities(lines: list[tuple[int, str]], mistakes: list[Mistake]) -> Trace:
    times: list[int] = []
    for number, line in lines:
        if not _WHOLE.fullmatch(line) or int(line) > _LATEST_MS:
            hint = f"a line holds one number, 0..{_LATEST_MS}"
            mistakes.append(Mistake(number, 1, f"{quote(line)} is not a time in whole milliseconds.", hint))
        elif times and int(line) < times[-1]:
            what = f"The time goes back, from {times[-1]} ms to {line} ms."
            mistakes.append(Mistake(number, 1, what, "sort the lines"))
        else:
            times.append(int(line))
    if not mistakes and times[-1] == 0:
        what = "All opportunities are at 0 ms, which would be no time at all before they come again."
        mistakes.append(Mistake(lines[-1][0], 1, what, "let the last one come later"))
    return Trace(opportunities_ms=tuple(times))


# --- steps ------------------------------------------------------------------------------------


def _steps(lines: list[tuple[int, str]], mistakes: list[Mistake]) -> Trace | None:
    columns = _columns(*lines[0], mistakes)
    if columns is None:
        return None
    steps: list[Step] = []
    period_ms, before_ms = 0.0, -1.0
    for number, line in lines[1:]:
        cells = [c.strip() for c in line.split(",")]
        try:
            at_ms = _time(cells[0], before_ms)
            if period_ms:
                raise Wrong(f"There is a row after '{REPEAT}'.", "make it the last one")
            before_ms = at_ms
            if len(cells) > 1 and cells[1] == REPEAT:
                period_ms = at_ms
            elif len(cells) != len(columns):
                what = f"This row has {units.count(len(cells), 'cell')}, but the header has {len(columns)}."
                raise Wrong(what, ",".join(columns))
            else:
                steps.append(Step(at_ms, **_values(number, columns[1:], cells[1:], mistakes)))
        except Wrong as e:
            mistakes.append(Mistake(number, 1, str(e), e.hint))
    if not mistakes:
        _check_whole(lines, steps, mistakes)
    return Trace(steps=tuple(steps), period_ms=period_ms)


def _check_whole(lines: list[tuple[int, str]], steps: list[Step], mistakes: list[Mistake]) -> None:
    if not steps:
        mistakes.append(Mistake(lines[-1][0], 1, "The trace has no rows.", "add one, such as '0,10'"))
    elif not Trace(steps=tuple(steps)).gives:
        mistakes.append(Mistake(lines[0][0], 1, "All cells are empty.", f"give one of {', '.join(COLUMNS)}"))
    elif steps[0].at_ms == 0 and all(s.rate_mbit == 0 for s in steps):
        mistakes.append(Mistake(lines[-1][0], 1, "Nothing ever gets through: all is outage.", "let it end"))


def _columns(number: int, line: str, mistakes: list[Mistake]) -> list[str] | None:
    columns = [c.strip() for c in line.split(",")]
    before = len(mistakes)
    if columns[0] != "time_ms":
        mistakes.append(Mistake(number, 1, *_no_header(line, columns)))
        return None
    for i, column in enumerate(columns[1:], 1):
        if column not in COLUMNS:
            mistakes.append(Mistake(number, 1, f"{quote(column)} is not a column.", nearest(column, COLUMNS)))
        elif column in columns[:i]:
            mistakes.append(Mistake(number, 1, f"The column {column} is there twice.", "keep one"))
    if len(columns) == 1:
        mistakes.append(Mistake(number, 1, "The trace speaks about nothing.", f"add one of {', '.join(COLUMNS)}"))
    return columns if len(mistakes) == before else None


def _no_header(line: str, columns: list[str]) -> tuple[str, str]:
    if "time_ms" in columns:
        return "The column time_ms isn't the first.", f"begin with 'time_ms,{','.join(COLUMNS)}'"
    if re.match(r"time_ms\s*[;\t]", line):
        return (
            f"The cells of {quote(line)} are not separated by commas.",
            "write 'time_ms,rate_mbit', and '0,10'",
        )
    hint = f"begin with 'time_ms,{','.join(COLUMNS)}', or with a whole number of ms (mahimahi)"
    return f"{quote(line)} is not a trace's header.", hint


def _time(cell: str, before_ms: float) -> float:
    if not _NUMBER.fullmatch(cell):
        raise Wrong(f"{quote(cell)} is not a time in ms.", "write a number such as 0 or 1500.5")
    at_ms = _micro(cell)
    if not 0 <= at_ms <= _LATEST_MS:
        raise Wrong(f"The time {cell} ms is out of range.", f"it must be in 0..{_LATEST_MS}")
    if at_ms <= before_ms:
        raise Wrong(f"The time does not go on, from {units.number(before_ms)} ms to {cell} ms.", "let it ascend")
    return at_ms


def _micro(cell: str) -> float:
    """To a whole number of millionths, which is what a node counts in."""
    number = Decimal(cell)
    return float(number if abs(number) > 10**12 else round(number, 3))


def _values(number: int, columns: list[str], cells: list[str], mistakes: list[Mistake]) -> dict[str, float | None]:
    """A row's cells by column; of each that is wrong, a mistake."""
    out: dict[str, float | None] = {}
    for column, cell in zip(columns, cells, strict=True):
        try:
            out[column] = _READERS[column](cell) if cell else None
        except Wrong as e:
            mistakes.append(Mistake(number, 1, str(e), e.hint))
    return out


def _rate(cell: str) -> float:
    if cell == OUTAGE:
        return 0.0
    mbit = _number(cell, "rate_mbit", "10 or 0.5")
    if mbit == 0:
        hint = f"write '{OUTAGE}' if you mean that; leave the cell empty for the link's own rate"
        raise Wrong("A rate of 0 lets nothing through.", hint)
    if not 0.001 <= mbit <= 100_000:
        raise Wrong(f"The rate {cell} is out of range.", "it must be in 0.001..100000 Mbit/s")
    return mbit


def _delay(cell: str) -> float:
    ms = _number(cell, "delay_ms", "20 or 0.5")
    if not 0 <= ms <= 100_000:
        raise Wrong(f"The delay {cell} is out of range.", "it must be in 0..100000 ms")
    return ms


def _number(cell: str, column: str, example: str) -> float:
    if not _NUMBER.fullmatch(cell):
        raise Wrong(f"{quote(cell)} is not a number for {column}.", f"write one such as {example}")
    return _micro(cell)


_READERS: dict[str, Callable[[str], float]] = {"rate_mbit": _rate, "delay_ms": _delay, "loss": units.read_loss}


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return ""
    if column == "rate_mbit" and value == 0:
        return OUTAGE
    return units.loss(value) if column == "loss" else units.number(value)
