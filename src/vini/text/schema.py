"""A file format as data: one declaration that is read by, and published as a JSON Schema.

A format is a tree of kinds.  `read` checks a YAML tree against it and notes every mistake;
`json_schema` turns the same tree into JSON Schema (draft 2020-12) for editors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from vini.text.mistakes import Mark, Mistakes, Wrong, nearest, quote
from vini.text.yamlplaces import Mapping, Node, Scalar, Sequence

Json = dict[str, Any]


class Found(Struct, frozen=True):
    """A value that was read, its place, and the place of its key.

    `value` is what a Text made of it, a list of Found, a dict of Found, or None for a Section's `none`.
    """

    value: Any
    at: Mark
    key_at: Mark


Fields = dict[str, Found]


class Text(Struct, frozen=True):
    """A scalar.  `read` turns it into a value or raises `Wrong`; `json` is its JSON Schema.

    With `keep`, a wrong text is noted and kept, so that what refers to it is not called wrong too.
    """

    read: Callable[[str], Any]
    json: Json
    keep: bool = False


class ListOf(Struct, frozen=True):
    """A list.  With `lone`, a scalar is a list of one; with `none`, that word is an empty list."""

    of: Kind
    lone: bool = False
    none: str = ""


class MapOf(Struct, frozen=True):
    """A mapping whose keys the user chooses."""

    key: Text
    of: Kind


class Key(Struct, frozen=True):
    """One key of a section, what it means, and whether it must be there."""

    kind: Kind
    what: str
    required: bool = False


class Section(Struct, frozen=True):
    """A mapping whose keys are known.

    A scalar or list in its place stands for the key `short`; the word `none` for no section at all.
    """

    name: str  # with its article: "a sliver"
    keys: dict[str, Key]
    short: str = ""
    none: str = ""


class Headed(Struct, frozen=True):
    """A section that may be written in one line, `HEAD` or `HEAD: {...}`; `head` reads the key `into`."""

    head: Text
    into: str
    section: Section


class Either(Struct, frozen=True):
    """The first of `kinds` that takes the node's form."""

    kinds: tuple[Kind, ...]


Kind = Text | ListOf | MapOf | Section | Headed | Either


# --- scalars that any format needs ----------------------------------------------------------


def words(*valid: str, keep: bool = False) -> Text:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in valid:
            raise Wrong(f"{quote(text)} is not a valid word here.", nearest(text, valid))
        return text

    return Text(read, {"enum": list(valid)}, keep)


def integer(low: int, high: int) -> Text:
    """A decimal whole number, low..high."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", text):
            raise Wrong(f"{quote(text)} is not a whole number.", f"write a number in {low}..{high}")
        if not low <= int(text) <= high:
            raise Wrong(f"{quote(text)} is out of range.", f"it must be in {low}..{high}")
        return int(text)

    return Text(read, {"type": "integer", "minimum": low, "maximum": high})


def real(low: float, high: float) -> Text:
    """A decimal number, low..high."""

    def read(text: str) -> float:
        if not re.fullmatch(r"-?[0-9]{1,24}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?", text):
            raise Wrong(f"{quote(text)} is not a number.", f"write a number in {low:g}..{high:g}")
        if not low <= float(text) <= high:
            raise Wrong(f"{quote(text)} is out of range.", f"it must be in {low:g}..{high:g}")
        return float(text)

    return Text(read, {"type": "number", "minimum": low, "maximum": high})


def _read_boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower())
        raise Wrong(f"{quote(text)} is neither true nor false.", f"did you mean '{meant}'?" if meant else "")
    return text.lower() == "true"


BOOLEAN = Text(_read_boolean, {"type": "boolean"})
TEXT = Text(str, {"type": "string"})


# --- reading ----------------------------------------------------------------------------------


def read(kind: Kind, node: Node, mistakes: Mistakes, name: str, key_at: Mark = (0, 0)) -> Found | None:
    """Read `node`, called `name` in messages; None where it is wrong as a whole (the mistake is noted)."""
    return _Reader(mistakes).read(kind, node, name, key_at)


def _meant(kind: Either) -> Kind:
    """By one who wrote a bare text: a list, where that is possible."""
    return next((k for k in kind.kinds if isinstance(k, ListOf)), kind.kinds[-1])


class _Reader:
    def __init__(self, mistakes: Mistakes):
        self.mistakes = mistakes

    def read(self, kind: Kind, node: Node, name: str, key_at: Mark) -> Found | None:
        match kind:
            case Text():
                return self.text(kind, node, name, key_at)
            case ListOf():
                return self.list(kind, node, name, key_at)
            case MapOf():
                return self.map(kind, node, name, key_at)
            case Section():
                return self.section(kind, node, name, key_at)
            case Headed():
                return self.headed(kind, node, name)
            case Either():
                meant = _meant(kind) if isinstance(node, Scalar) and not node.null else kind.kinds[-1]
                chosen = next((k for k in kind.kinds if _takes(k, node)), meant)
                return self.read(chosen, node, name, key_at)

    def text(self, kind: Text, node: Node, name: str, key_at: Mark) -> Found | None:
        if not isinstance(node, Scalar):
            self.mistakes.add(node.at, f"'{name}' takes one value, not {_form(node)}.")
        elif node.null:
            self.mistakes.add(key_at if key_at[0] else node.at, f"'{name}' has no value.", "give it one, or remove it")
        else:
            try:
                return Found(kind.read(node.text), node.at, key_at)
            except Wrong as e:
                self.mistakes.add(node.at, str(e), e.hint)
                if kind.keep:
                    return Found(node.text, node.at, key_at)
        return None

    def list(self, kind: ListOf, node: Node, name: str, key_at: Mark) -> Found | None:
        if isinstance(node, Scalar) and (node.null or (kind.none and node.text == kind.none)):
            return Found([], node.at, key_at)
        if isinstance(node, Scalar) and kind.lone:
            items: tuple[Node, ...] = (node,)
        elif isinstance(node, Sequence):
            items = node.items
        else:
            self.mistakes.add(node.at, f"'{name}' takes a list, not {_form(node)}.", "write '[a, b]', or '- ' lines")
            return None
        found = [self.read(kind.of, item, name, (0, 0)) for item in items]
        return Found([f for f in found if f is not None], node.at, key_at)

    def map(self, kind: MapOf, node: Node, name: str, key_at: Mark) -> Found | None:
        if isinstance(node, Scalar) and node.null:
            return Found({}, node.at, key_at)
        if not isinstance(node, Mapping):
            self.mistakes.add(node.at, f"'{name}' takes a mapping, not {_form(node)}.", "write 'key: value' lines")
            return None
        found: Fields = {}
        for key, value in node.items:
            self.text(kind.key, Scalar(key.at, key.text, plain=False), name, key.at)
            read = self.read(kind.of, value, key.text, key.at)
            # What is wrong is kept, empty, so that what refers to it is not called wrong too.
            found[key.text] = read or Found({}, value.at, key.at)
        return Found(found, node.at, key_at)

    def section(self, kind: Section, node: Node, name: str, key_at: Mark) -> Found | None:
        if isinstance(node, Scalar) and kind.none and node.text == kind.none:
            return Found(None, node.at, key_at)
        if isinstance(node, Scalar) and node.null and not kind.none:
            node = Mapping(node.at, (), 1)
        if isinstance(node, Mapping):
            return Found(self.fields(kind, node), node.at, key_at)
        if kind.short and not (isinstance(node, Scalar) and node.null):
            found = self.read(kind.keys[kind.short].kind, node, name, key_at)
            return found and Found({kind.short: found}, node.at, key_at)
        hint = f"write '{kind.none}', or 'key: value' lines" if kind.none else "write 'key: value' lines"
        self.mistakes.add(node.at, f"{kind.name.capitalize()} takes a mapping, not {_form(node)}.", hint)
        return None

    def fields(self, kind: Section, node: Mapping) -> Fields:
        fields: Fields = {}
        for key, value in node.items:
            known = kind.keys.get(key.text)
            if known is None:
                what = f"{quote(key.text)} is not a key of {kind.name}."
                self.mistakes.unknown(key.at, what, key.text, kind.keys)
            elif found := self.read(known.kind, value, key.text, key.at):
                fields[key.text] = found
        given = {key.text for key, _ in node.items}
        for missing in (name for name, key in kind.keys.items() if key.required and name not in given):
            self.mistakes.add(node.at, f"The key '{missing}' is missing in {kind.name}.", f"add '{missing}: ...'")
        return fields

    def headed(self, kind: Headed, node: Node, name: str) -> Found | None:
        if isinstance(node, Scalar):
            head = self.text(kind.head, node, name, node.at)
            return head and Found({kind.into: head}, node.at, node.at)
        if isinstance(node, Mapping) and (line := _headline(node)):
            key, value = line
            head = self.text(kind.head, key, name, key.at)
            rest = {k: v for k, v in kind.section.keys.items() if k != kind.into}
            found = self.section(Section(kind.section.name, rest), value, name, key.at)
            return found and head and Found({kind.into: head, **found.value}, key.at, key.at)
        return self.section(kind.section, node, name, node.at)


def _headline(node: Mapping) -> tuple[Scalar, Node] | None:
    """The only key of a one-line form and its value; None where it is a plain section."""
    if len(node.items) != 1 or node.items[0][0].text.isidentifier():  # as keys of sections are
        return None
    return node.items[0]


def _takes(kind: Kind, node: Node) -> bool:
    match kind:
        case Text():
            return isinstance(node, Scalar)
        case ListOf():
            return isinstance(node, Sequence) or (isinstance(node, Scalar) and (kind.lone or bool(kind.none)))
        case MapOf():
            return isinstance(node, Mapping)
        case Section():
            return isinstance(node, Mapping) or bool(kind.short or kind.none)
        case Headed():
            return not isinstance(node, Sequence)
        case Either():
            return any(_takes(k, node) for k in kind.kinds)


def _form(node: Node) -> str:
    match node:
        case Scalar():
            return "an empty value" if node.null else f"the text {quote(node.text)}"
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"


# --- publishing -------------------------------------------------------------------------------


def json_schema(kind: Section, title: str, identifier: str) -> Json:
    """`kind` as a JSON Schema (draft 2020-12); each section is one of its $defs.

    `identifier` is the file's own name, a relative `$id`: it stands for wherever the schema was saved.
    """
    definitions: Json = {}
    top = _json(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": title,
        **top,
        "$defs": definitions,
    }


def _json(kind: Kind, definitions: Json) -> Json:
    match kind:
        case Text():
            return dict(kind.json)
        case ListOf():
            item = _json(kind.of, definitions)
            forms: list[Json] = [{"type": ["array", "null"], "items": item}]
            return _any([*forms, *([item] if kind.lone else []), *([{"const": kind.none}] if kind.none else [])])
        case MapOf():
            value, key = _json(kind.of, definitions), _json(kind.key, definitions)
            key.pop("type", None)  # a key is always a string, also where a value may be a number
            return {"type": ["object", "null"], "propertyNames": key, "additionalProperties": value}
        case Section():
            return _json_section(kind, definitions)
        case Headed():
            rest = Section(kind.section.name + " of one line", {**kind.section.keys})
            del rest.keys[kind.into]
            line = {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": {kind.head.json["pattern"]: _json(rest, definitions)},
                "additionalProperties": False,
            }
            return _any([_json(kind.head, definitions), _json(kind.section, definitions), line])
        case Either():
            return _any([_json(k, definitions) for k in kind.kinds])


def _json_section(kind: Section, definitions: Json) -> Json:
    name = kind.name.split(" ", 1)[1].replace(" ", "-")
    if name not in definitions:
        definitions[name] = {}  # holds the place, should a section contain itself
        properties = {k: {"description": key.what, **_json(key.kind, definitions)} for k, key in kind.keys.items()}
        form: Json = {
            "type": "object" if kind.none or kind.short else ["object", "null"],
            "additionalProperties": False,
            "properties": properties,
        }
        if required := [k for k, key in kind.keys.items() if key.required]:
            form["required"] = required
        short = [_json(kind.keys[kind.short].kind, definitions)] if kind.short else []
        none = [{"const": kind.none}] if kind.none else []
        definitions[name] = _any([form, *short, *none])
    return {"$ref": f"#/$defs/{name}"}


def _any(forms: list[Json]) -> Json:
    return forms[0] if len(forms) == 1 else {"anyOf": forms}
