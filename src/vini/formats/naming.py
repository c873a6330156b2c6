"""Other people's names made valid and unique: slivers, links, vifs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

import msgspec

from vini import names
from vini.layout import link_name
from vini.model import End, Link

_LONGEST = 40  # of names.SLIVER_NAME


def sliver_names(labels: Sequence[str], fallbacks: Sequence[str]) -> list[str]:
    """A valid, unique sliver name for each label, in order.

    The first bearer of a name keeps it, later ones get -2, -3, ...; a label of which nothing
    valid is left (another script, empty) is named after its fallback.
    """
    wanted = [names.slug(label) or names.slug(f"n-{f}") for label, f in zip(labels, fallbacks, strict=True)]
    taken = set(wanted)  # nobody's own name is given to another's double
    seen: set[str] = set()
    last: dict[str, int] = {}
    out = []
    for name in wanted:
        if name in seen:
            n = next(n for n in count(last.get(name, 1) + 1) if _numbered(name, n) not in taken)
            last[name] = n
            name = _numbered(name, n)
            taken.add(name)
        seen.add(name)
        out.append(name)
    return out


def _numbered(name: str, n: int) -> str:
    return f"{name[: _LONGEST - len(str(n)) - 1].rstrip('-')}-{n}"


def renamed(original: Mapping[str, str]) -> list[str]:
    """`"New York" is now new-york` for each new name -> original where the two differ in more than case and spaces."""
    return [f'"{old}" is now {new}' for new, old in original.items() if old and new != _plain(old)]


def _plain(label: str) -> str:
    return "-".join(label.lower().split())


def label(text: str) -> str:
    """The text as a label can hold it: one printable line of at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:200].strip()


def settle(links: Iterable[Link]) -> tuple[Link, ...]:
    """The links with names and vifs given to those whose defaults (`a--b`, `to-b`) would not be unique.

    The first link of a pair keeps the defaults, whatever else the file holds; parallel ones are
    called `a--b-2`, `a--b-3`, ... with vifs `to-b-2`, ...  Vifs already given stay.
    """
    links = list(links)
    first, parallel = _by_pair(links)
    link_names = _Taken({link_name(links[i]) for i in first})
    vifs: dict[str, _Taken] = defaultdict(lambda: _Taken(set()))
    for link in links:
        for end in link.ends:
            if end.vif:
                vifs[end.sliver].names.add(end.vif)
    for i in first:
        links[i] = _with_vifs(links[i], vifs, parallel=False)
    for i, of in parallel:
        name = link_names.numbered(link_name(links[of]), _short)
        links[i] = msgspec.structs.replace(_with_vifs(links[i], vifs, parallel=True), name=name)
    return tuple(links)


def _by_pair(links: Sequence[Link]) -> tuple[list[int], list[tuple[int, int]]]:
    """Ordinals of each pair's first link, and of the others, each with its pair's first."""
    first: dict[frozenset[str], int] = {}
    parallel = []
    for i, link in enumerate(links):
        of = first.setdefault(frozenset(end.sliver for end in link.ends), i)
        if of != i:
            parallel.append((i, of))
    return list(first.values()), parallel


def _short(name: str) -> str:
    """A link's name of at most 40 characters; a longer one is cut and closed with a hash, so that it stays stable."""
    return name if len(name) <= _LONGEST else f"{name[:35].rstrip('-')}-{names.digest('link', name) % 16**4:04x}"


class _Taken:
    """Names in use; remembers its last number for each, so that many doubles take linear time."""

    def __init__(self, names_: set[str]):
        self.names = names_
        self._last: dict[str, int] = {}

    def numbered(self, name: str, form: Callable[[str], str] = str) -> str:
        """The next free one of form(name-2), form(name-3), ..., which is then in use."""
        for n in count(self._last.get(name, 1) + 1):
            self._last[name] = n
            if (new := form(f"{name}-{n}")) not in self.names:
                self.names.add(new)
                return new
        raise AssertionError  # count() does not end


def _with_vifs(link: Link, taken: dict[str, _Taken], parallel: bool) -> Link:
    a, b = link.ends
    ends = (_with_vif(a, b.sliver, taken[a.sliver], parallel), _with_vif(b, a.sliver, taken[b.sliver], parallel))
    return link if ends == link.ends else msgspec.structs.replace(link, ends=ends)


def _with_vif(end: End, peer: str, taken: _Taken, parallel: bool) -> End:
    if end.vif:
        return end
    default = names.vif(peer)
    if not parallel and default not in taken.names:
        taken.names.add(default)
        return end
    return msgspec.structs.replace(end, vif=taken.numbered(peer, names.vif))
