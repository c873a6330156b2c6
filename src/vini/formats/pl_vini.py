"""The experiment file of PL-VINI (2006): Ruby by its syntax, read here as text and never run.

    $s = Slice.new(7, 21, 'iias', true, 'XORP')
    $a = Node.new('planetlab1.example.org', $s, 'ny1')
    $l = Link.new($a, $b, 700)
    $a.add_nat_dests(['192.0.2.0/24'])
    $a.openvpn(true)

Only such statements are taken, and comments; anything else is a mistake with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from vini.formats.imported import MOST_COMPARED, Imported, several
from vini.formats.naming import label, renamed, settle, sliver_names
from vini.model import End, Link, Routing, Sliver, Topology, Value
from vini.names import slug
from vini.text.mistakes import Mark, Mistakes, quote

_TOKEN = re.compile(
    r"(?P<skip>[ \t\r]+|\#[^\n]*)|(?P<end>[\n;])|(?P<variable>\$\w+)|(?P<word>[A-Za-z_]\w*)|(?P<number>-?\d+)"
    r"|'(?P<single>[^'\n]*)'|\"(?P<double>[^\"\n]*)\"|(?P<sign>[=.()\[\],])",
    re.ASCII,
)
_FORMS = {
    "Slice": "$s = Slice.new(plc_id, id, 'name', true, 'XORP')",
    "Node": "$n = Node.new('host.name', $s, 'nick')",
    "Link": "$l = Link.new($a, $b, igp_cost)",
}
_ANY_FORM = "a statement is $x = Class.new(...) or $x.method(...)"


class _Token(Value, frozen=True):
    kind: str
    text: str
    at: Mark


class _Variable(Value, frozen=True):
    name: str


_Argument = str | int | bool | _Variable | list["_Argument"]


class _Statement(Value, frozen=True):
    """`$target = of.method(arguments)`; without target, `of` is a variable."""

    target: str
    of: str
    method: str
    arguments: tuple[_Argument, ...]
    at: Mark


class _Node(Value, frozen=True):
    machine: str
    nick: str


class _Experiment:
    """What the statements have made so far."""

    def __init__(self, mistakes: Mistakes):
        self.mistakes = mistakes
        self.slices: dict[str, tuple[str, str]] = {}  # variable -> name, routing software
        self.nodes: dict[str, _Node] = {}
        self.links: list[tuple[str, str, int]] = []
        self.notes: list[str] = []


def read_pl_vini(text: str, name: str, routing: Routing | None) -> Imported:
    """The one slice of a PL-VINI experiment file; `name` is used where the file has none."""
    mistakes = Mistakes()
    experiment = _Experiment(mistakes)
    for tokens in _statements(text, mistakes):
        if (statement := _statement(tokens, mistakes)) is not None:
            _take(statement, experiment)
    if not experiment.nodes:
        mistakes.add((0, 0), "There is no node in this file.", _FORMS["Node"])
    if mistakes.found:
        raise mistakes.error()
    return _imported(experiment, name, routing)


# --- what a statement means ---------------------------------------------------------------------------


def _take(statement: _Statement, experiment: _Experiment) -> None:
    if not statement.target:
        _take_call(statement, experiment)
    elif statement.of == "Slice":
        _take_slice(statement, experiment)
    elif statement.of == "Node":
        _take_node(statement, experiment)
    else:
        _take_link(statement, experiment)


def _take_slice(statement: _Statement, experiment: _Experiment) -> None:
    match statement.arguments:
        case (int(), int(), str(name), bool(), str(software)):
            if experiment.slices:
                experiment.mistakes.add(statement.at, "A second slice.", "put each slice in a file of its own")
            experiment.slices[statement.target] = (name, software)
        case _:
            experiment.mistakes.add(statement.at, "A Slice takes other arguments.", _FORMS["Slice"])


def _take_node(statement: _Statement, experiment: _Experiment) -> None:
    match statement.arguments:
        case (str(machine), _Variable(name=slice_), str(nick)):
            if slice_ not in experiment.slices:
                _unknown(statement, f"{slice_} is no slice.", slice_, experiment.slices, experiment)
            if statement.target in experiment.nodes:
                experiment.mistakes.add(statement.at, f"{statement.target} is already a node.", "use another variable")
            experiment.nodes[statement.target] = _Node(machine, nick)
        case _:
            experiment.mistakes.add(statement.at, "A Node takes other arguments.", _FORMS["Node"])


def _take_link(statement: _Statement, experiment: _Experiment) -> None:
    match statement.arguments:
        case (_Variable(name=a), _Variable(name=b), int(cost)):
            for end in (a, b):
                if end not in experiment.nodes:
                    _unknown(statement, f"{end} is no node.", end, experiment.nodes, experiment)
            if not 1 <= cost <= 65535:
                experiment.mistakes.add(statement.at, f"The cost {cost} is not possible.", "OSPF costs are 1 to 65535")
            experiment.links.append((a, b, cost))
        case _:
            experiment.mistakes.add(statement.at, "A Link takes other arguments.", _FORMS["Link"])


def _take_call(statement: _Statement, experiment: _Experiment) -> None:
    node = experiment.nodes.get(statement.of)
    if node is None:
        _unknown(statement, f"{statement.of} is no node.", statement.of, experiment.nodes, experiment)
        return
    match statement.method, statement.arguments:
        case "add_nat_dests", (list(prefixes),):
            what = ", ".join(p for p in prefixes if isinstance(p, str))
            how = "`outside: true` in the sliver, and `vini outside grant`, give a way out"
            experiment.notes.append(f"{node.nick}: NAT to {what} not carried over; {how}.")
        case "openvpn", (bool(wanted),):
            if wanted:
                experiment.notes.append(f"{node.nick}: OpenVPN access of end users not carried over.")
        case method, _:
            place = f"line {statement.at[0]}"
            experiment.notes.append(f"{node.nick}: {method}(...) on {place} not carried over; it is not known.")


def _unknown(statement: _Statement, what: str, word: str, known: Iterable[str], experiment: _Experiment) -> None:
    experiment.mistakes.unknown(statement.at, what, word, islice(known, MOST_COMPARED))


def _imported(experiment: _Experiment, name: str, routing: Routing | None) -> Imported:
    nodes = list(experiment.nodes.values())
    names = sliver_names([n.nick for n in nodes], [n.machine for n in nodes])
    name_of = dict(zip(experiment.nodes, names, strict=True))
    slivers = {s: Sliver(s, routing=routing, label=label(n.machine)) for s, n in zip(names, nodes, strict=True)}
    notes = [f"The machine of {several(len(nodes), 'node')} is kept as a label only; placing is up to VINI."]
    if changed := renamed(dict(zip(names, (n.nick for n in nodes), strict=True))):
        notes.append(f"Names changed: {', '.join(changed)}.")
    for slice_name, software in experiment.slices.values():
        name = slice_name
        if routing is not None:
            how = f"{' and '.join(routing.protocols) or 'no protocol'} by {routing.daemon}"
            notes.append(f"The routing software {quote(software)} was replaced: routers speak {how}.")
    kept = [(a, b, cost) for a, b, cost in experiment.links if a != b]
    if loops := len(experiment.links) - len(kept):
        notes.append(f"{several(loops, 'self-loop')} dropped: a link joins two different slivers.")
    links = settle(Link((End(name_of[a]), End(name_of[b])), cost=cost) for a, b, cost in kept)
    topology = Topology(slug(name) or "imported", slivers, links)
    return Imported(topology, (*notes, *experiment.notes))


# --- from text to statements ------------------------------------------------------------------------------


def _statements(text: str, mistakes: Mistakes) -> Iterator[list[_Token]]:
    """The tokens of each statement; one ends with its line unless a parenthesis is open."""
    tokens: list[_Token] = []
    depth = 0
    for token in _tokens(text, mistakes):
        if token.kind == "end" and (depth <= 0 or token.text == ";"):
            if tokens:
                yield tokens
            tokens, depth = [], 0
        elif token.kind != "end":
            depth += (token.text in "([") - (token.text in ")]") if token.kind == "sign" else 0
            tokens.append(token)
    if tokens:
        yield tokens


def _tokens(text: str, mistakes: Mistakes) -> Iterator[_Token]:
    line, start, at = 1, 0, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        place = (line, at - start + 1)
        if match is None:
            mistakes.add(place, f"{quote(text[at])} has no meaning here.", _ANY_FORM)
            newline = text.find("\n", at)
            at = newline if newline >= 0 else len(text)
            continue
        kind = match.lastgroup or ""
        at = match.end()
        if match[0] == "\n":
            line, start = line + 1, at
        if kind != "skip":
            yield _Token("text" if kind in ("single", "double") else kind, match[kind], place)


def _statement(tokens: Sequence[_Token], mistakes: Mistakes) -> _Statement | None:
    """The statement, or None where it was noted as a mistake, or only loads Ruby code."""
    if tokens[0].kind == "word" and tokens[0].text in ("require", "load"):
        return None  # the library that the file was run with
    shape = [t.text if t.kind == "sign" else t.kind for t in tokens]
    at = tokens[0].at
    if shape[:6] == ["variable", "=", "word", ".", "word", "("] and tokens[4].text == "new":
        target, of, rest = tokens[0].text, tokens[2].text, tokens[6:]
        if of not in _FORMS:
            mistakes.unknown(tokens[2].at, f"{quote(of)} is not known.", of, _FORMS)
            return None
        method = "new"
    elif shape[:4] == ["variable", ".", "word", "("]:
        target, of, method, rest = "", tokens[0].text, tokens[2].text, tokens[4:]
    else:
        mistakes.add(at, "This is no statement that an experiment file can hold.", _ANY_FORM)
        return None
    arguments = _arguments(rest)
    if arguments is None:
        mistakes.add(at, f"The arguments of {method} can't be read.", _FORMS.get(of, _ANY_FORM))
        return None
    return _Statement(target, of, method, arguments, at)


def _arguments(tokens: Sequence[_Token]) -> tuple[_Argument, ...] | None:
    """Values with commas between, up to a closing parenthesis that ends the statement; None where it is not so."""
    found: list[_Argument] = []
    inner: list[_Argument] | None = None
    awaited = True  # a value may come
    for i, token in enumerate(tokens):
        into = found if inner is None else inner
        if token.kind != "sign":
            value = _value(token)
            if not awaited or value is None:
                return None
            into.append(value)
            awaited = False
        elif token.text == ",":
            if awaited:
                return None
            awaited = True
        elif token.text == "[" and inner is None and awaited:
            inner = []
        elif token.text == "]" and inner is not None:
            found.append(inner)
            inner, awaited = None, False
        elif token.text == ")" and inner is None and i == len(tokens) - 1 and not (awaited and found):
            return tuple(found)
        else:
            return None
    return None


def _value(token: _Token) -> _Argument | None:
    if token.kind == "text":
        return token.text
    if token.kind == "number":
        return int(token.text[:18])
    if token.kind == "variable":
        return _Variable(token.text)
    return {"true": True, "false": False}.get(token.text)
