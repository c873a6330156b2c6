"""What may be asked about what was used, and how sums are shown.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Literal, get_args

from msgspec.structs import asdict

from vini.model import Value
from vini.rules.errors import Invalid
from vini.rules.nouns import UsageRow
from vini.usage import SliceUse, Use, plus

Per = Literal["slice", "sliver", "site", "person", "node"]
PER: tuple[Per, ...] = get_args(Per)
SHOWN_DAYS = 30  # where nobody says since when
MOST_SLIVER_DAYS = 31  # what slivers used is read one by one
_EPOCH = date(1970, 1, 1)
_CURSOR = re.compile(r"(\d{4}-\d\d-\d\d)?/[^\0]+")


class UsageAsked(Value, frozen=True):
    """The question, in words; in names "*" stands for any text, "" is any."""

    per: Per = "slice"
    daily: bool = False  # a sum for each day
    since: str = ""  # a day of UTC
    until: str = ""
    slice: str = ""
    site: str = ""
    person: str = ""
    node: str = ""


class Wanted(Value, frozen=True):
    """The same, with days."""

    of: UsageAsked
    first: int  # day of UTC, since 1970
    last: int


def wanted(asked: UsageAsked, today: int) -> Wanted:
    """Of the last days where nobody says which.  Raises Invalid for what makes no sense."""
    last = day_of(asked.until) if asked.until else today
    first = day_of(asked.since) if asked.since else last - SHOWN_DAYS + 1
    if first > last:
        raise Invalid(f"{text_of(first)} is after {text_of(last)}; the first day comes first.")
    if asked.per == "sliver" and last - first >= MOST_SLIVER_DAYS:
        raise Invalid(f"What slivers used is told of {MOST_SLIVER_DAYS} days at a time; ask for fewer, or per slice.")
    return Wanted(asked, first, last)


def of_one(asked: UsageAsked) -> UsageAsked:
    """The same, where it is no question about slivers of more slices than one: each page of an answer reads anew what
    every sliver used.  Raises Invalid."""
    if asked.per == "sliver" and (not asked.slice or "*" in asked.slice):
        raise Invalid(
            "What slivers used is told of one slice at a time; ask for that (`vini usage --per sliver --slice NAME`), "
            "or per slice."
        )
    return asked


def day_of(text: str) -> int:
    """2026-11-29 as days since 1970.  Raises Invalid."""
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError as e:
        raise Invalid(f"{text!r} is no day; write it like 2026-11-29 (UTC).") from e


def text_of(day: int) -> str:
    """Days since 1970 as 2026-11-29."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def told(cursor: str) -> tuple[str, str]:
    """The day and the name that a page ended with.  Raises Invalid."""
    if not _CURSOR.fullmatch(cursor):
        raise Invalid("This cursor is none of ours; take `next` of the page before.")
    day, _, name = cursor.partition("/")
    return day, name


def row_of(name: str, day: str, site: str, person: str, nodes: int, use: Use) -> UsageRow:
    """A sum as it is shown."""
    counted = {k: v for k, v in asdict(use).items() if k != "cpu_us"}
    return UsageRow(name, day, site, person, nodes, cpu_s=use.cpu_us / 1e6, **counted)


def sums(used: Iterable[SliceUse], wanted: Wanted, node: str) -> list[UsageRow]:
    """Of one node's book, as a central makes them of those of all; there are no sites and persons."""
    asked = wanted.of
    found: dict[tuple[str, str], Use] = {}
    for row in used:
        if wanted.first <= row.day <= wanted.last and _fits(row.slice, asked.slice) and _fits(node, asked.node):
            for sliver, use in row.slivers.items():
                name = {"slice": row.slice, "sliver": f"{row.slice}/{sliver}", "node": node}.get(asked.per, "")
                key = (text_of(row.day) if asked.daily else "", name)
                found[key] = plus(found.get(key, Use()), use)
    return [row_of(name, day, "", "", 1, use) for (day, name), use in sorted(found.items())]


def _fits(text: str, pattern: str) -> bool:
    return not pattern or re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
