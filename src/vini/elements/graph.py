"""An element program as it is written: instances of elements, and what follows what."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from vini.elements.words import Word, words
from vini.text.mistakes import Mark, Mistakes, quote

ENTRIES = ("input", "output")
ENDS = ("out", "kernel", "drop")
LONGEST_TEXT = 1 << 20  # characters; a table of 16384 prefixes has room
MOST_INSTANCES = 256
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}")


@dataclass(frozen=True)
class Row:
    """One line of a table: `key = values`; in a list, the key is the line's number."""

    key: str
    values: tuple[str, ...]
    at: Mark


@dataclass(frozen=True)
class Argument:
    """`name=text`, or only a text; a table's is `name={key = values, ...}` or `name=[values, ...]`."""

    name: str
    text: str
    at: Mark
    rows: tuple[Row, ...] | None = None


@dataclass(frozen=True)
class Instance:
    """One element of a program."""

    name: str
    kind: str
    arguments: tuple[Argument, ...]
    at: Mark


@dataclass(frozen=True)
class Connection:
    """What leaves `source` by `port` ("": the first, or only, one) goes to `target`."""

    source: str
    port: str
    target: str
    at: Mark


@dataclass
class Graph:
    """All instances by name, and all connections, in the order of the text."""

    instances: dict[str, Instance] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)

    def leaving(self) -> dict[str, list[Connection]]:
        """The connections that leave each instance."""
        found: dict[str, list[Connection]] = {name: [] for name in self.instances}
        for c in self.connections:
            found[c.source].append(c)
        return found


def read_graph(text: str, mistakes: Mistakes) -> Graph:
    """What the text says; what can't be understood is a mistake, and the rest is read on."""
    if len(text) > LONGEST_TEXT:
        mistakes.add(
            (0, 0), f"The program is longer than {LONGEST_TEXT} characters.", "write large tables when it runs"
        )
        return Graph()
    return _Reader(list(words(text, mistakes)), mistakes).read()


def _declared(stream: Sequence[Word]) -> frozenset[str]:
    """The names that some line declares, so that lines before it can use them."""
    divided = [word.text.partition("::") for word in stream]
    before = ["", *(word.text for word in stream)]
    return frozenset(name or last for last, (name, declares, _) in zip(before, divided, strict=False) if declares)


class _Unreadable(Exception):
    """The rest of this statement can't be understood; the mistake is noted."""


class _TooMany(Exception):
    """There are more instances than a program may have; the mistake is noted."""


class _Reader:
    """Reads statements one after the other (recursive descent)."""

    def __init__(self, stream: Sequence[Word], mistakes: Mistakes):
        self._words, self._at, self._mistakes = stream, 0, mistakes
        self._graph = Graph()
        self._unnamed: dict[str, int] = {}
        self._declared = _declared(stream)

    def read(self) -> Graph:
        """The whole program."""
        try:
            while self._next.text or self._next.kind != "end":
                if self._next.kind == "end":
                    self._at += 1
                else:
                    self._try_statement()
        except _TooMany:
            pass
        known = self._graph.instances
        for c in self._graph.connections:
            for name in {c.source, c.target} - known.keys():
                self._mistakes.unknown(c.at, f"There is no element {quote(name)}.", name, known)
        self._graph.connections = [c for c in self._graph.connections if {c.source, c.target} <= known.keys()]
        return self._graph

    @property
    def _next(self) -> Word:
        return self._words[min(self._at, len(self._words) - 1)]

    def _try_statement(self) -> None:
        try:
            self._statement()
        except _Unreadable:
            while self._next.kind != "end":
                self._at += 1

    def _statement(self) -> None:
        """`a -> b[port] -> c`, or only `name :: kind(...)`."""
        source, port = self._element()
        while self._next.kind == "arrow":
            arrow = self._take()
            self._skip_lines()
            if self._next.kind == "end":
                self._fail("an element behind the arrow", arrow.at)
            target, next_port = self._element()
            self._graph.connections.append(Connection(source, port, target, arrow.at))
            source, port = target, next_port
        if self._next.kind != "end":
            self._fail("'->', or the end of the line")

    def _element(self) -> tuple[str, str]:
        """A declared name, or a new instance; then its output in brackets."""
        first = self._expect("word", "the name of an element")
        name, declares, kind = first.text.partition("::")
        if not declares and self._next.kind == "word" and self._next.text.startswith("::"):
            declares, kind = "::", self._take().text[2:]
        if declares and not kind:
            kind = self._expect("word", "the kind of the element").text
        if declares:
            self._declare(name, kind, first.at)
        elif first.text in (*ENTRIES, *ENDS):
            name = self._entry_or_end(first.text, first.at)
        elif not self._is_name(first.text) or self._next.text == "(":
            name = self._nameless(first.text)
            self._declare(name, first.text, first.at)
        return name, self._port()

    def _is_name(self, word: str) -> bool:
        return word in self._graph.instances or word in self._declared

    def _port(self) -> str:
        if self._next.text != "[":
            return ""
        self._take()
        port = self._expect("word", "an output's name or number").text
        self._mark("]")
        return port

    def _nameless(self, kind: str) -> str:
        """An instance without a name has that of its kind, the second one `kind@2`."""
        first = 1 if kind in self._declared else 0
        self._unnamed[kind] = number = self._unnamed.get(kind, first) + 1
        return kind if number == 1 else f"{kind}@{number}"

    def _declare(self, name: str, kind: str, at: Mark) -> None:
        self._check_name(name, kind, at)
        self._add(Instance(name, kind, self._arguments(), at))

    def _entry_or_end(self, kind: str, at: Mark) -> str:
        """One for each vif, wherever it is named: `out` and `out(to-b)` are two, `out(to-b)` is always the same."""
        arguments = self._arguments()
        name = kind + (f"({', '.join(a.text for a in arguments)})" if arguments else "")
        if name not in self._graph.instances:
            self._add(Instance(name, kind, arguments, at))
        return name

    def _add(self, instance: Instance) -> None:
        self._graph.instances[instance.name] = instance
        if len(self._graph.instances) > MOST_INSTANCES:
            what = f"The program has more than {MOST_INSTANCES} elements."
            self._mistakes.add(instance.at, what, "split it between slivers")
            raise _TooMany

    def _check_name(self, name: str, kind: str, at: Mark) -> None:
        if name in self._graph.instances:
            first = self._graph.instances[name].at[0]
            self._mistakes.add(at, f"{quote(name)} is declared twice.", f"first in line {first}")
        elif name in (*ENTRIES, *ENDS) and name != kind:
            self._mistakes.add(at, f"{quote(name)} can't be an element's name: it has a meaning of its own.")
        elif not _NAME.fullmatch(name.partition("@")[0]):
            self._mistakes.add(at, f"{quote(name)} can't be an element's name.", "letters, digits, - and _; at most 60")

    def _arguments(self) -> tuple[Argument, ...]:
        """In parentheses; there may be none."""
        found: list[Argument] = []
        if self._next.text == "(":
            self._enclosed("(", ")", lambda: found.append(self._argument()))
        return tuple(found)

    def _enclosed(self, begin: str, end: str, item: Callable[[], None]) -> None:
        """`(item, item)`; line ends inside don't count, and a comma may follow the last one."""
        self._mark(begin)
        self._skip_lines()
        while self._next.text != end:
            item()
            self._skip_lines()
            if self._next.text != end:
                self._mark(",", f"',' or '{end}'")
                self._skip_lines()
        self._mark(end)

    def _argument(self) -> Argument:
        first = self._expect("word", "an argument")
        if self._next.text != "=":
            return Argument("", first.text, first.at)
        self._take()
        if self._next.text in ("{", "["):
            return Argument(first.text, "", first.at, tuple(self._rows(self._next.text)))
        return Argument(first.text, self._expect("word", f"a value of {quote(first.text)}").text, first.at)

    def _rows(self, begin: str) -> list[Row]:
        """`{10.0.0.0/8 = to-b, default = to-c}`, or a list `[permit tcp, deny any]`; a row may hold several values."""
        found: list[Row] = []

        def row() -> None:
            at = self._next.at
            key = str(len(found))
            if begin == "{":
                key = self._expect("word", "a key of the table").text
                self._mark("=")
            values = [self._expect("word", "what the table holds").text]
            while self._next.kind == "word":
                values.append(self._take().text)
            found.append(Row(key, tuple(values), at))

        self._enclosed(begin, "}" if begin == "{" else "]", row)
        return found

    def _skip_lines(self) -> None:
        while self._next.text == "\n":
            self._at += 1

    def _take(self) -> Word:
        word = self._next
        self._at += 1
        return word

    def _mark(self, text: str, wanted: str = "") -> None:
        if self._next.text != text or self._next.kind != "mark":
            self._fail(wanted or f"'{text}'")
        self._at += 1

    def _expect(self, kind: str, what: str) -> Word:
        if self._next.kind != kind:
            self._fail(what)
        return self._take()

    def _fail(self, wanted: str, at: Mark | None = None) -> NoReturn:
        found = quote(self._next.text) if self._next.text.strip() else "the end of the line"
        self._mistakes.add(at or self._next.at, f"Here should be {wanted}, but there is {found}.")
        raise _Unreadable
