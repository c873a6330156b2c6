"""What reading another tool's file gives, and how it is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vini.model import Mistake, Routing, Topology, TopologyError, Value

OSPF = Routing(protocols=("ospf",))  # for files that draw a network of routers but say nothing of routing

MOST_COMPARED = 1000  # names among which the nearest to a misspelt one is looked for


class Imported(Value, frozen=True):
    """A topology from another tool's file, and a sentence for everything that was left out or changed."""

    topology: Topology
    notes: tuple[str, ...] = ()


def refused(what: str, hint: str = "", line: int = 0, column: int = 0) -> TopologyError:
    """The error for a file that its author must mend; `line` and `column` from 1; line 0: the whole file."""
    return TopologyError([Mistake(line, column or min(line, 1), what, hint)])


def listed(words: Iterable[str], most: int = 5) -> str:
    """The words with commas between them; after `most`, only how many more there are."""
    all_words = list(words)
    shown = ", ".join(all_words[:most])
    return shown + (f" and {len(all_words) - most} more" if len(all_words) > most else "")


def tally(words: Iterable[str]) -> str:
    """The distinct words, each with its count: `env (2), ports (1)`."""
    return ", ".join(f"{word} ({n})" for word, n in sorted(Counter(words).items()))


def several(n: int, one: str, many: str = "") -> str:
    """`1 link`, `2 links`."""
    return f"{n} {one if n == 1 else many or one + 's'}"
