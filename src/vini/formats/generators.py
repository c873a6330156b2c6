"""Regular and random topologies from a short spec: `ring:1000`, `grid:4x5`, `waxman:50,alpha=0.4`.

Each generator is a pure function from whole numbers to (count of slivers, pairs of their ordinals);
slivers are called r1, r2, ... in that order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from itertools import combinations

from vini.formats.waxman import waxman
from vini.model import End, Link, Mistake, Routing, Sliver, Topology, TopologyError
from vini.names import slug

Pairs = list[tuple[int, int]]
MAX_SLIVERS = 100_000
MAX_LINKS = 500_000  # a full mesh of 1000
MAX_WAXMAN = 1000  # every pair of slivers is looked at

_SPEC = re.compile(r"([a-z]+):(\d+(?:x\d+)*)((?:,[a-z]+=[^,]*)*)", re.ASCII)


def generate(spec: str, seed: int = 0, routing: Routing | None = None) -> Topology:
    """The topology that `spec` asks for, with `routing` in every sliver.

    The same spec and seed give the same topology on every Python; only waxman uses the seed.
    Raises TopologyError for a spec that is no spec, listing the generators.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise _refused(spec, f'"{spec[:80]}" is not a generator spec.')
    word, sizes_text, options_text = match.groups()
    if word not in _GENERATORS:
        near = difflib.get_close_matches(word, _GENERATORS, n=1)
        raise _refused(spec, f'There is no generator "{word}"' + (f'; did you mean "{near[0]}"?' if near else "."))
    sizes = [int(digits[:10]) for digits in sizes_text.split("x")]
    options = _options(spec, word, options_text)
    count, pairs = _GENERATORS[word](spec, sizes, options, seed)
    return _topology(slug(spec), count, pairs, routing)


def _topology(name: str, count: int, pairs: Pairs, routing: Routing | None) -> Topology:
    names = [f"r{i + 1}" for i in range(count)]
    slivers = {name: Sliver(name, routing=routing) for name in names}
    links = tuple(Link((End(names[a]), End(names[b]))) for a, b in pairs)
    return Topology(name, slivers, links)


# --- the shapes ---------------------------------------------------------------------------------


def _line(n: int) -> tuple[int, Pairs]:
    return n, [(i, i + 1) for i in range(n - 1)]


def _ring(n: int) -> tuple[int, Pairs]:
    return n, [(i, (i + 1) % n) for i in range(n)]


def _star(n: int) -> tuple[int, Pairs]:
    return n, [(0, i) for i in range(1, n)]


def _full(n: int) -> tuple[int, Pairs]:
    return n, list(combinations(range(n), 2))


def _grid(rows: int, columns: int) -> tuple[int, Pairs]:
    pairs: Pairs = []
    for at in range(rows * columns):
        if (at + 1) % columns:
            pairs.append((at, at + 1))
        if at + columns < rows * columns:
            pairs.append((at, at + columns))
    return rows * columns, pairs


def _torus(rows: int, columns: int) -> tuple[int, Pairs]:
    pairs: Pairs = []
    for row in range(rows):
        for column in range(columns):
            at = row * columns + column
            pairs.append((at, row * columns + (column + 1) % columns))
            pairs.append((at, (row + 1) % rows * columns + column))
    return rows * columns, pairs


def _tree(depth: int, fanout: int) -> tuple[int, Pairs]:
    count = sum(fanout**level for level in range(depth + 1))
    return count, [((child - 1) // fanout, child) for child in range(1, count)]


# --- from a spec's numbers to a shape --------------------------------------------------------------

_Build = Callable[[str, list[int], dict[str, float], int], tuple[int, Pairs]]


def _one(shape: Callable[[int], tuple[int, Pairs]], least: int, links: Callable[[int], int]) -> _Build:
    """A generator of one size; `links` counts its links before any is made."""

    def build(spec: str, sizes: list[int], _options: dict[str, float], _seed: int) -> tuple[int, Pairs]:
        (n,) = _sizes(spec, sizes, 1, least)
        _check_size(spec, n, links(n))
        return shape(n)

    return build


def _two(shape: Callable[[int, int], tuple[int, Pairs]], least: int) -> _Build:
    """A generator of rows and columns, written 4x5."""

    def build(spec: str, sizes: list[int], _options: dict[str, float], _seed: int) -> tuple[int, Pairs]:
        rows, columns = _sizes(spec, sizes, 2, least)
        _check_size(spec, rows * columns, 2 * rows * columns)
        return shape(rows, columns)

    return build


def _build_tree(spec: str, sizes: list[int], _options: dict[str, float], _seed: int) -> tuple[int, Pairs]:
    depth, fanout = _sizes(spec, sizes, 2, 1)
    count = level = 1
    for _ in range(min(depth, MAX_SLIVERS)):
        level *= fanout
        count += level
        _check_size(spec, count, count)
    return _tree(depth, fanout)


def _build_waxman(spec: str, sizes: list[int], options: dict[str, float], seed: int) -> tuple[int, Pairs]:
    (n,) = _sizes(spec, sizes, 1, 1)
    if n > MAX_WAXMAN:
        raise _refused(spec, f"A waxman topology may have at most {MAX_WAXMAN} slivers, not {n}.")
    alpha, beta = options.get("alpha", 0.4), options.get("beta", 0.2)
    if not (0 < alpha <= 1 and 0 < beta <= 1):
        raise _refused(spec, "alpha and beta must be above 0 and at most 1.")
    return n, waxman(n, alpha, beta, seed)


_GENERATORS: dict[str, _Build] = {
    "line": _one(_line, 1, lambda n: n),
    "ring": _one(_ring, 3, lambda n: n),
    "star": _one(_star, 2, lambda n: n),
    "full": _one(_full, 1, lambda n: n * (n - 1) // 2),
    "grid": _two(_grid, 1),
    "torus": _two(_torus, 3),  # a ring of two would be two parallel links
    "tree": _build_tree,
    "waxman": _build_waxman,
}
_OPTIONS = {"waxman": ("alpha", "beta")}
EXAMPLES = (
    "line:100",
    "ring:1000",
    "star:10",
    "full:5",
    "grid:4x5",
    "torus:4x4",
    "tree:3x2",
    "waxman:50,alpha=0.4,beta=0.2",
)


def _sizes(spec: str, sizes: list[int], want: int, least: int) -> list[int]:
    if len(sizes) != want:
        form = "one size, as in ring:10" if want == 1 else "two sizes, as in grid:4x5"
        raise _refused(spec, f'"{spec[:80]}" needs {form}.')
    if min(sizes) < least:
        raise _refused(spec, f'Each size in "{spec[:80]}" must be at least {least}.')
    return sizes


def _check_size(spec: str, slivers: int, links: int) -> None:
    if slivers > MAX_SLIVERS or links > MAX_LINKS:
        raise _refused(
            spec, f'"{spec[:80]}" is too large: at most {MAX_SLIVERS} slivers and {MAX_LINKS} links can be generated.'
        )


def _options(spec: str, word: str, text: str) -> dict[str, float]:
    known = _OPTIONS.get(word, ())
    options: dict[str, float] = {}
    for item in text.split(",")[1:]:
        key, _, value = item.partition("=")
        if key not in known:
            what = f"has the options {_words(known)}" if known else "has no options"
            raise _refused(spec, f'The generator "{word}" {what}; it does not know "{key}".')
        if not re.fullmatch(r"\d{0,9}\.?\d{1,9}", value):
            raise _refused(spec, f'The value of {key} in "{spec[:80]}" must be a decimal number.')
        options[key] = float(value)
    return options


def _words(words: Iterable[str]) -> str:
    return " and ".join(words)


def _refused(spec: str, what: str) -> TopologyError:
    return TopologyError([Mistake(0, 0, what, "generators: " + ", ".join(EXAMPLES))], source=f"--generate {spec[:80]}")
