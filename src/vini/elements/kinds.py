"""What the library's elements are: each one C file, whose head comment is its manual page and its declaration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from vini.elements.values import TYPES
from vini.model import Value

HookName = Literal["xdp", "tc"]
HOOKS: tuple[HookName, ...] = ("xdp", "tc")
SHAPES = ("lpm", "hash", "lru", "array")


class Parameter(Value, frozen=True):
    """A setting of an element, fixed when the program is compiled; `many`: it takes all arguments without a name."""

    name: str
    type: str
    default: str | None  # None: it must be given
    what: str
    many: bool = False


class Output(Value, frozen=True):
    """Where packets leave an element."""

    name: str
    what: str


class Counter(Value, frozen=True):
    """Packets and bytes that an element counts."""

    name: str
    what: str


class Field(Value, frozen=True):
    """One part of what a table holds; with a default it may be left out at the end of a row."""

    name: str
    type: str
    default: str | None = None


class Table(Value, frozen=True):
    """A table of an element: an eBPF map.  `written`: the element itself writes it while it runs."""

    name: str
    shape: str  # of SHAPES
    entries: int
    key: str  # of TYPES
    fields: tuple[Field, ...]
    what: str
    written: bool = False


class Kind(Value, frozen=True):
    """A kind of element, as its file declares it."""

    name: str
    summary: str
    manual: str  # the whole head comment, without its stars
    outputs: tuple[Output, ...]
    outputs_of: str  # the `many` parameter whose arguments are the first outputs; "": none
    parameters: tuple[Parameter, ...]
    counters: tuple[Counter, ...]
    tables: tuple[Table, ...]
    hooks: tuple[HookName, ...]
    inserts: int  # bytes by which packets get longer, in a way that the kernel can't cut: it must cut before
    example: str
    body: str  # C

    @property
    def function(self) -> str:
        """The C function that handles a packet."""
        return self.name.replace("-", "_")


@cache
def library() -> Mapping[str, Kind]:
    """All elements, by name."""
    folder = files("vini.elements").joinpath("library")
    sources = sorted((f.name, f.read_text("utf-8")) for f in folder.iterdir() if f.name.endswith(".c"))
    return {kind.name: kind for kind in (read_kind(text) for _, text in sources)}


def read_kind(text: str) -> Kind:
    """The declaration in an element's file.  ValueError with a sentence where it isn't one."""
    comment = re.match(r"/\*(.*?)\*/\n?", text, re.DOTALL)
    manual = _manual(comment[1]) if comment else ""
    head = re.match(r"([a-z][a-z0-9-]*): (.+)\n", manual)
    if not comment or not head:
        raise ValueError("An element's file begins with a comment, its manual page: `name: what it does`.")
    said = _sections(manual)
    outputs = said.get("outputs", ["out"])
    written = {w for line in said.get("writes", []) for w in line.split()}
    return Kind(
        name=head[1],
        summary=head[2],
        manual=manual,
        outputs=tuple(Output(*_two(o)) for o in outputs if not o.startswith(_EACH)),
        outputs_of=next((_two(o.removeprefix(_EACH))[0] for o in outputs if o.startswith(_EACH)), ""),
        parameters=tuple(map(_parameter, said.get("parameters", []))),
        counters=tuple(Counter(*_two(c)) for c in said.get("counters", [])),
        tables=tuple(_table(t, written) for t in said.get("tables", [])),
        hooks=tuple(h for h in HOOKS if h in " ".join(said.get("hooks", HOOKS)).split()),
        inserts=int(said.get("inserts", ["0"])[0].split()[0]),
        example="\n".join(said.get("example", [])),
        body=text[comment.end() :].strip() + "\n",
    )


_EACH = "each of "
_SECTIONS = ("outputs", "parameters", "counters", "tables", "writes", "hooks", "inserts", "example")


def _manual(comment: str) -> str:
    lines = [line.strip().removeprefix("*").removeprefix(" ").rstrip() for line in comment.splitlines()]
    return "\n".join(lines).strip() + "\n"


def _sections(manual: str) -> dict[str, list[str]]:
    """`word: item` and, indented below it, more items of the same word."""
    found: dict[str, list[str]] = {}
    at: list[str] | None = None
    for line in manual.splitlines()[1:]:
        word, colon, rest = line.partition(":")
        if colon and word in _SECTIONS:
            at = found[word] = [rest.strip()] if rest.strip() and rest.strip() != "none" else []
        elif at is not None and line.startswith("  "):
            at.append(line.strip())
        elif line.strip():
            at = None
    return found


def _two(text: str) -> tuple[str, str]:
    name, _, what = text.partition(" ")
    return name, what.strip()


_PARAMETER = re.compile(r"([a-z_]+): ([a-z0-9]+)(\.\.\.)?(?: = (\S+))?(?:  +(.*))?")


def _parameter(text: str) -> Parameter:
    found = _PARAMETER.fullmatch(text)
    if not found or found[2] not in TYPES:
        raise ValueError(f"{text!r} is not a parameter: write `name: type = default  what it means`.")
    return Parameter(found[1], found[2], found[4], found[5] or "", bool(found[3]))


_TABLE = re.compile(
    r"([a-z_]+): (lpm|hash|lru|array)\[(\d+)\] ([a-z0-9]+) -> ([a-z0-9_:=]+(?:, [a-z0-9_:=]+)*)(?:  +(.*))?"
)


def _table(text: str, written: set[str]) -> Table:
    found = _TABLE.fullmatch(text)
    if not found or found[4] not in TYPES:
        raise ValueError(f"{text!r} is not a table: write `name: lpm[1024] ip4 -> field:type  what it means`.")
    fields = tuple(map(_field, found[5].split(", ")))
    return Table(found[1], found[2], int(found[3]), found[4], fields, found[6] or "", found[1] in written)


def _field(text: str) -> Field:
    name, _, rest = text.partition(":")
    kind, equals, default = rest.partition("=")
    if kind not in TYPES:
        raise ValueError(f"{text!r} is not a field: the types are {', '.join(TYPES)}.")
    return Field(name, kind, default if equals else None)
