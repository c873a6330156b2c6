"""A list of people and their slices, as a spreadsheet writes it: CSV, whose first line names the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from vini.edit import nearest
from vini.model import Mistake, TopologyError, Value
from vini.rules.words import EMAIL, LINE, SAID, SLICE, site_of

COLUMNS = ("email", "name", "password", "slice")
_SHAPES = {"email": EMAIL, "name": LINE, "slice": SLICE}
_SHORTEST, _LONGEST = 10, 256  # letters of a password, as the central takes them
_MOST = {"name": 254, "slice": 40}  # letters, likewise


class Entry(Value, frozen=True):
    """One line of it: somebody, and the slice that he is to use; "": none."""

    line: int
    email: str
    name: str = ""
    password: str = ""  # "": one is to be made
    slice: str = ""


def read(text: str, source: str, site: str) -> list[Entry]:
    """Who is in it, for this site.  Raises TopologyError with all mistakes."""
    rows = _rows(text, source)
    head = [word.lower() for word in rows.pop(0)[1]] if rows else []
    if mistakes := list(_mistakes_of_head(head)):
        raise TopologyError(mistakes, source)
    entries: list[Entry] = []
    for line, cells in rows:
        said = dict(zip(head, cells, strict=False))
        if len(cells) > len(head):
            mistakes.append(Mistake(line, len(head) + 1, f"This line has {len(cells)} cells, the first {len(head)}."))
        mistakes += _mistakes_of(line, head, said, site)
        entries.append(Entry(line, **{**said, "email": said["email"].lower()}))
    mistakes += _twice(entries, head)
    if not entries:
        mistakes.append(Mistake(0, 0, "Nobody is in it: below the first line, each line is somebody."))
    if mistakes:
        raise TopologyError(sorted(mistakes, key=lambda m: (m.line, m.column)), source)
    return entries


def _rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    """Each line that is not empty: its number and its cells."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        cut = [(rows.line_num, [cell.strip() for cell in cells]) for cells in rows]
    except csv.Error as e:
        raise TopologyError([Mistake(rows.line_num, 1, f"This is no line of a CSV file: {e}.")], source) from e
    return [(number, cells) for number, cells in cut if any(cells)]


def _delimiter(text: str) -> str:
    """Spreadsheets write what their country's numbers leave free."""
    head = text.partition("\n")[0]
    return max(",;\t", key=head.count)


def _mistakes_of_head(head: Sequence[str]) -> Iterator[Mistake]:
    if "email" not in head:
        what = "The first line names the columns, and one of them has to be `email`."
        yield Mistake(1, 1, what, f"such as: {','.join(COLUMNS)}")
        return
    for column, word in enumerate(head, 1):
        if word not in COLUMNS:
            near = nearest(word, COLUMNS)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(COLUMNS)}"
            yield Mistake(1, column, f"There is no column {word!r}.", hint)
        elif word in head[: column - 1]:
            yield Mistake(1, column, f"There are two columns {word!r}; leave one out.")


def _mistakes_of(line: int, head: Sequence[str], said: dict[str, str], site: str) -> Iterator[Mistake]:
    for column, word in enumerate(head, 1):
        text, shape = said.setdefault(word, ""), _SHAPES.get(word)
        if shape and (text or word == "email") and not re.fullmatch(shape, text):
            yield Mistake(line, column, f"{text!r} is not good here: {SAID[shape]}")
        elif len(text) > (most := _MOST.get(word, len(text))):
            yield Mistake(line, column, f"A {word} here has {most} letters at most; this one has {len(text)}.")
        elif word == "slice" and text and site_of(text) != site:
            yield Mistake(line, column, f"Slice {text!r} is not of site {site!r}: its name would begin with {site}_.")
        elif word == "password" and text and not _SHORTEST <= len(text) <= _LONGEST:
            yield Mistake(line, column, f"A password has {_SHORTEST} to {_LONGEST} letters.", "empty: one is made")


def _twice(entries: Sequence[Entry], head: Sequence[str]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for entry in entries:
        before = first.setdefault(entry.email, entry.line)
        if before != entry.line and entry.email:
            yield Mistake(entry.line, head.index("email") + 1, f"{entry.email} is in line {before} already.")
