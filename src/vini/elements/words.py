"""The words of an element program, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vini.text.mistakes import Mark, Mistakes, quote

_WORD = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)
      | (?P<end>\n|;)
      | (?P<arrow>->)
      | (?P<mark>[()\[\]{},=])
      | (?P<word>(?:[A-Za-z0-9_.:/%*+]|-(?!>))+)""",
    re.VERBOSE,
)


class Word(NamedTuple):
    """`kind` is "end" (of a line or statement), "arrow", "mark" or "word"."""

    kind: str
    text: str
    at: Mark


def words(text: str, mistakes: Mistakes) -> Iterator[Word]:
    """All words; what is none is a mistake, said once per stretch.  The last one is an "end" without text."""
    position, line, start, strange = 0, 1, 0, False
    while position < len(text):
        at = (line, position - start + 1)
        found = _WORD.match(text, position)
        if found is None:
            if not strange:
                mistakes.add(at, f"{quote(text[position])} means nothing here.", "comments begin with #")
            strange, position = True, position + 1
            continue
        strange, position = False, found.end()
        kind, word = str(found.lastgroup), found[0]
        if word == "\n":
            line, start = line + 1, position
        if kind != "space":
            yield Word(kind, word, at)
    yield Word("end", "", (line, len(text) - start + 1))
