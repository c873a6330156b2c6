"""The mistakes of one file, gathered so that its author sees all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from vini.model import Mistake, TopologyError

Mark = tuple[int, int]  # line and column, 1-based; (0, 0): the whole file

SHOWN = 100  # of a hopeless file; also bounds the time spent on looking for nearest words
LONGEST_WORD = 64  # difflib takes quadratic time


class Wrong(ValueError):
    """A text is not what its key takes; a sentence, and a hint on what would be."""

    def __init__(self, what: str, hint: str = ""):
        super().__init__(what)
        self.hint = hint


class Mistakes:
    """Collects mistakes; the same one at the same place counts once."""

    def __init__(self) -> None:
        self.found: dict[Mistake, None] = {}

    def add(self, at: Mark, what: str, hint: str = "") -> None:
        self.found[Mistake(*at, what, hint)] = None

    def unknown(self, at: Mark, what: str, word: str, words: Iterable[str]) -> None:
        """`word` is none of `words`: the hint is the nearest one, or the list where it is short."""
        self.add(at, what, nearest(word, words) if len(self.found) < SHOWN else "")

    def error(self, source: str = "") -> TopologyError:
        """All mistakes in the order of the file; of more than SHOWN, the first, and how many are left."""
        ordered = sorted(self.found, key=lambda m: (m.line, m.column))
        left = len(ordered) - SHOWN
        if left > 0:
            ordered = [*ordered[:SHOWN], Mistake(0, 0, f"{left} more mistakes are not shown: mend these first.")]
        return TopologyError(ordered, source)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint: "did you mean 'denver'?", else the words themselves if there are few, else ""."""
    known = sorted(set(words))
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6) if len(word) <= LONGEST_WORD else []
    if close:
        return f"did you mean '{close[0]}'?"
    return f"one of: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def quote(text: str) -> str:
    """The user's own text inside a sentence: in quotes, on one line, cut after 60 characters."""
    return "'" + "".join(c if c.isprintable() else "?" for c in text[:60]) + ("...'" if len(text) > 60 else "'")
