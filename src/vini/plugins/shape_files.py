"""The files that a Shape stands on, in the form that the link element reads (docs/explanation/links.md).

They are named after their content, so a file under a name never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from vini import names
from vini.model import File, Impairment
from vini.text import trace
from vini.text.trace import Step

DIGESTS = 1 << 48  # what a qdisc has room to remember


def files(ns: str, impairment: Impairment) -> dict[str, File]:
    """Of the fields `table`, `lose` and `trace` of a Shape, those that it needs: field -> the file it names."""
    out = {}
    for field, text in _texts(impairment):
        path = f"shape/{names.digest('shape', text) % DIGESTS:012x}.{field}"
        out[field] = File(ns, path, text)
    return out


def _texts(i: Impairment) -> Iterator[tuple[str, str]]:
    if i.jitter_table_ms:
        yield "table", "".join(f"{ms * 1000:.3f}\n" for ms in i.jitter_table_ms)
    if i.lose:
        yield "lose", "".join(f"{first}-{last}\n" for first, last in i.lose)
    if i.trace:
        yield "trace", _trace(i.trace)


@lru_cache(maxsize=64)
def _trace(text: str) -> str:
    made = trace.parse(text)
    if made.opportunities_ms:
        return "opportunities\n" + "".join(f"{ms}\n" for ms in made.opportunities_ms)
    return f"steps {round(made.period_ms * 1000)}\n" + "".join(_row(step) for step in made.steps)


def _row(step: Step) -> str:
    """`time_us rate_kbit delay_us loss_ppm`; -1 is the link's own setting."""
    cells = ((step.rate_mbit, 1000), (step.delay_ms, 1000), (step.loss, 1_000_000))
    scaled = (-1 if value is None else round(value * factor) for value, factor in cells)
    return " ".join(str(n) for n in (round(step.at_ms * 1000), *scaled)) + "\n"
