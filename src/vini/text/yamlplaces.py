"""YAML (and JSON, which is YAML) as a tree in which each node knows its line and column.

Every scalar stays text, in the spirit of YAML 1.2: `no`, `1:30` and `0x10` are what was typed,
and the one who reads the tree says what they mean.  The tree is built from events, without
recursion, so that a hostile file meets a limit and not the end of the stack.
"""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import Struct

from vini.text.mistakes import Mark, Mistakes, quote

LONGEST_TEXT = 10_000_000  # characters
DEEPEST = 50
MOST_NODES = 200_000  # with every alias written out ("billion laughs")
NULLS = frozenset({"", "~", "null", "Null", "NULL"})  # YAML 1.2.2, 10.3.2

LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml is ten times faster, but optional


class Scalar(Struct, frozen=True):
    """A text; `plain` when it stands without quotes and is not a block."""

    at: Mark
    text: str
    plain: bool = True
    size: int = 1

    @property
    def null(self) -> bool:
        return self.plain and self.text in NULLS


class Sequence(Struct, frozen=True):
    """A list; `size` counts all nodes in it, and itself."""

    at: Mark
    items: tuple[Node, ...]
    size: int


class Mapping(Struct, frozen=True):
    """Keys and values in the file's order; each key once."""

    at: Mark
    items: tuple[tuple[Scalar, Node], ...]
    size: int


Node = Scalar | Sequence | Mapping


class Unreadable(Exception):
    """Reading cannot go on: the mistake is already noted."""


def load(text: str, mistakes: Mistakes) -> Node | None:
    """The file's one document; None where there is nothing in it, or where reading had to stop.

    Syntax errors and limits stop the reading; duplicate and odd keys are noted and passed over.
    """
    try:
        _check_text(text, mistakes)
        return _Tree(mistakes).build(text)
    except Unreadable:
        return None
    except yaml.reader.ReaderError as e:
        mistakes.add(_mark_of_byte(text, e.position), "This character may not stand in YAML.", f"{e.reason}; remove it")
    except yaml.MarkedYAMLError as e:
        _note_syntax(e, text, mistakes)
    return None


def _check_text(text: str, mistakes: Mistakes) -> None:
    if len(text) > LONGEST_TEXT:
        mistakes.add((0, 0), f"The file has {len(text):,} characters; at most {LONGEST_TEXT:,} are read.", "split it")
        raise Unreadable
    try:
        text.encode()
    except UnicodeEncodeError as e:
        line = text.count("\n", 0, e.start) + 1
        column = e.start - text.rfind("\n", 0, e.start)
        mistakes.add((line, column), "This character is not Unicode text.", "save the file as UTF-8")
        raise Unreadable from e


class _Open:
    """A sequence or mapping whose end has not come yet; a mapping's keys and values alternate."""

    def __init__(self, at: Mark, mapping: bool, anchor: str | None):
        self.at, self.mapping, self.anchor = at, mapping, anchor
        self.items: list[Node] = []


class _Tree:
    """Builds the tree from the parser's events, within the limits."""

    def __init__(self, mistakes: Mistakes):
        self.mistakes = mistakes
        self.anchors: dict[str, Node] = {}
        self.open: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0
        self.nodes = 0

    def build(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=LOADER):
            self.take(event, _mark(event.start_mark))
        return self.root

    def take(self, event: Any, at: Mark) -> None:
        match event:
            case yaml.ScalarEvent():
                self.check_tag(event, at)
                self.count(1, at)
                self.attach(Scalar(at, event.value, not event.style), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.check_tag(event, at)
                self.count(1, at)
                if len(self.open) >= DEEPEST:
                    self.stop(at, *TOO_DEEP)
                self.open.append(_Open(at, isinstance(event, yaml.MappingStartEvent), event.anchor))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.close()
            case yaml.AliasEvent():
                self.alias(event.anchor, at)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self.stop(at, "A second document starts here ('---').", "put each topology in a file of its own")

    def check_tag(self, event: Any, at: Mark) -> None:
        if event.tag not in (None, "!"):
            self.mistakes.add(at, f"The YAML tag {quote(event.tag)} has no meaning here.", "remove it")

    def count(self, more: int, at: Mark) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            what = f"The file has more than {MOST_NODES:,} values, with each alias (*name) written out."
            self.stop(at, what, "use fewer aliases, or split the file")

    def stop(self, at: Mark, what: str, hint: str) -> None:
        self.mistakes.add(at, what, hint)
        raise Unreadable

    def alias(self, anchor: str | None, at: Mark) -> None:
        node = self.anchors.get(anchor or "")
        if node is None:
            if any(o.anchor == anchor for o in self.open):
                self.stop(at, f"The alias '*{anchor}' stands inside of what it names.", "a file cannot contain itself")
            hint = "write the anchor '&name' before the alias; a star that means 'all' needs quotes: \"*\""
            self.stop(at, f"The alias '*{anchor}' names no anchor.", hint)
            return
        self.count(node.size, at)
        self.attach(node, None)

    def close(self) -> None:
        done = self.open.pop()
        size = 1 + sum(n.size for n in done.items)
        if done.mapping:
            self.attach(Mapping(done.at, self.pairs(done.items), size), done.anchor)
        else:
            self.attach(Sequence(done.at, tuple(done.items), size), done.anchor)

    def attach(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if self.open:
            self.open[-1].items.append(node)
        else:
            self.root = node

    def pairs(self, items: list[Node]) -> tuple[tuple[Scalar, Node], ...]:
        """Keys and values, each key once; `<<` merges beneath the mapping's own keys (YAML merge type)."""
        own: dict[str, tuple[Scalar, Node]] = {}
        merged: dict[str, tuple[Scalar, Node]] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.mistakes.add(key.at, "A key must be a text, not a list or a mapping.", "put it in quotes")
            elif key.plain and key.text == "<<":
                for k, v in self.merge(value):
                    merged.setdefault(k.text, (k, v))
            elif key.text in own:
                first = own[key.text][0].at[0]
                what = f"The key {quote(key.text)} is already there on line {first}."
                self.mistakes.add(key.at, what, "keep one of the two")
            else:
                own[key.text] = (key, value)
        return tuple((merged | own).values()) if merged else tuple(own.values())

    def merge(self, value: Node) -> list[tuple[Scalar, Node]]:
        sources = value.items if isinstance(value, Sequence) else (value,)
        pairs: list[tuple[Scalar, Node]] = []
        for source in sources:
            if isinstance(source, Mapping):
                pairs += source.items
            else:
                self.mistakes.add(source.at, "'<<' merges mappings only.", "write '<<: *anchor' or '<<: [*a, *b]'")
        return pairs


# --- the parser's own complaints, as sentences ---------------------------------------------------

CLOSE_QUOTE = "close the quotes"
INDENT = "is the indentation the same as that of the line above, and is each value after 'key: '?"
TOO_DEEP = (f"The file is nested more than {DEEPEST} levels deep.", "make it flatter")
SENTENCES = {
    "exceeded maximum nesting depth": TOO_DEEP,  # libyaml's own limit, where it reads ahead of us
    "mapping values are not allowed in this context": ("A ': ' may not stand here.", INDENT),
    "block sequence entries are not allowed in this context": ("A list item ('- ') may not start here.", INDENT),
    "could not find expected ':'": ("A ':' is missing after this key, or the line is indented wrongly.", INDENT),
    "did not find expected key": ("A key was expected here.", INDENT),
    "did not find expected '-' indicator": ("A list item ('- ') was expected here.", INDENT),
    "did not find expected ',' or ']'": ("A list that '[' began has no ',' or ']' here.", "close it with ']'"),
    "did not find expected ',' or '}'": ("A mapping that '{' began has no ',' or '}' here.", "close it with '}'"),
    "did not find expected node content": ("A value was expected here.", "is a ',' or '-' too many?"),
    "did not find expected <document start>": (
        "The document ended above this.",
        "is a bracket too many, or is this not YAML?",
    ),
    "found unexpected end of stream": ("The file ends inside a quoted text.", CLOSE_QUOTE),
    "found unexpected document indicator": ("A '---' or '...' stands inside a quoted text.", CLOSE_QUOTE),
    "found unknown escape character": ("This is no escape sequence.", "use '...' instead of \"...\", or double the \\"),
    "did not find expected alphabetic or numeric character": ("A '*' or '&' stands alone.", 'quote it: "*"'),
}


def _note_syntax(error: yaml.MarkedYAMLError, text: str, mistakes: Mistakes) -> None:
    mark = error.problem_mark or error.context_mark
    at = _mark(mark) if mark else (0, 0)
    problem = error.problem or "unknown problem"
    here = text[mark.index : mark.index + 1] if mark else ""
    if problem == "found character that cannot start any token":
        if here == "\t":
            mistakes.add(at, "A tab may not indent YAML.", "use spaces")
        else:
            mistakes.add(at, f"A text may not start with {quote(here)}.", "put it in quotes")
        return
    if here and here in "]}" and not problem.startswith("did not find expected ','"):
        mistakes.add(at, f"Nothing is open that this {quote(here)} could close.", "remove it")
        return
    what, hint = SENTENCES.get(problem, (f"This is not valid YAML: {problem}.", "see https://yaml.org/spec/1.2.2"))
    mistakes.add(at, what, hint)


def _mark(mark: Any) -> Mark:
    return (mark.line + 1, mark.column + 1)


def _mark_of_byte(text: str, position: int) -> Mark:
    before = text.encode()[:position].decode(errors="replace")
    return (before.count("\n") + 1, len(before) - before.rfind("\n"))
