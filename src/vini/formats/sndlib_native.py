"""SNDlib's native format (http://sndlib.zib.de/html/docu/io-formats/native/network.description.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vini.formats.imported import Imported, refused
from vini.formats.sndlib import SndLink, SndNetwork, SndNode, to_imported
from vini.formats.zoo import to_number
from vini.model import Routing, Value
from vini.text.mistakes import quote

_TITLE = re.compile(r"^#[ \t]*network[ \t]+(\S+)", re.MULTILINE)


class _Item(Value, frozen=True):
    """A line of a section: the words outside of parentheses, and those inside of each pair."""

    words: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    line: int


def read_sndlib_native(text: str, name: str, routing: Routing | None) -> Imported:
    """An SNDlib network file; `name` is used where the file has none."""
    sections = _sections(text)
    title = _TITLE.search(text)
    network = SndNetwork(
        title[1] if title else name,
        tuple(_node(i) for i in sections.get("NODES", ())),
        tuple(_link(i) for i in sections.get("LINKS", ())),
        len(sections.get("DEMANDS", ())),
        len(sections.get("ADMISSIBLE_PATHS", ())),
    )
    return to_imported(network, routing)


def _node(item: _Item) -> SndNode:
    if not item.words:
        raise refused("A node without a name.", "name ( longitude latitude )", item.line)
    if not item.groups:
        return SndNode(item.words[0], line=item.line)
    x, y = _pair(item, "name ( longitude latitude )")
    return SndNode(item.words[0], _number(x, item.line), _number(y, item.line), item.line)


def _link(item: _Item) -> SndLink:
    form = "name ( source target ) capacity cost routing-cost set-up-cost ( {capacity cost}* )"
    source, target = _pair(item, form)
    numbers = [_number(w, item.line) for w in item.words[1:]] + [0.0] * 4
    modules = len(item.groups[1]) // 2 if len(item.groups) > 1 else 0
    return SndLink(item.words[0], source, target, numbers[0], numbers[2], modules, item.line)


def _pair(item: _Item, form: str) -> tuple[str, str]:
    if not item.words or not item.groups or len(item.groups[0]) != 2:
        raise refused("This line is not of the form that its section has.", form, item.line)
    return item.groups[0][0], item.groups[0][1]


def _number(text: str, line: int) -> float:
    number = to_number(text)
    if number is None:
        raise refused(f"{quote(text)} should be a number.", line=line)
    return number


def _sections(text: str) -> dict[str, list[_Item]]:
    """Section name -> its items: what stands one level deep, an item a line."""
    sections: dict[str, list[_Item]] = {}
    items: list[tuple[str, int]] = []
    title, depth, line = "", 0, 0
    for token, line in _tokens(text):
        if token == "(":
            depth += 1
            if depth == 1:
                items = []
            elif depth == 2:
                items.append((token, line))
        elif token == ")":
            depth -= 1
            if depth < 0:
                raise refused('")" without a "(" before it.', line=line)
            if depth == 0:
                sections[title] = _items(items)
            elif depth == 1:
                items.append((token, line))
        elif depth == 0:
            title = token
        elif depth < 3:  # deeper: the links of an admissible path
            items.append((token, line))
    if depth:
        raise refused('The file ends inside of parentheses; a ")" is missing.', "was it cut off?", line)
    return sections


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("?"):  # the header
            for token in re.findall(r"[()]|[^\s()]+", line.partition("#")[0]):
                yield token, number


def _items(tokens: list[tuple[str, int]]) -> list[_Item]:
    """Tokens of one section grouped by the line on which each item begins."""
    items: list[_Item] = []
    words: list[str] = []
    groups: list[tuple[str, ...]] = []
    group: list[str] | None = None
    began = 0
    for token, line in tokens:
        if group is not None:
            if token == ")":
                groups.append(tuple(group))
                group = None
            else:
                group.append(token)
        elif token == "(":
            group = []
        else:
            if line != began and words:
                items.append(_Item(tuple(words), tuple(groups), began))
                words, groups = [], []
            began = line if not words else began
            words.append(token)
    return [*items, _Item(tuple(words), tuple(groups), began)] if words else items
