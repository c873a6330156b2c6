"""What can't be seen at one element alone: ports, cycles, entries, tables of two writers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vini.elements.graph import ENDS, ENTRIES, Connection, Graph, Instance
from vini.elements.kinds import Table
from vini.elements.settle import Settled, vif_of
from vini.text.mistakes import Mistakes, nearest, quote

Owner = tuple[str, str]  # an instance, and a table of it


def check(graph: Graph, settled: Mapping[str, Settled], mistakes: Mistakes) -> None:
    """All of it; mistakes are noted."""
    _check_connections(graph, settled, mistakes)
    _check_cycles(graph, mistakes)
    _check_entries(graph, mistakes)
    _check_tables(settled, mistakes)


def ports(settled: Settled, leaving: Sequence[Connection]) -> dict[int, Connection]:
    """Which connection leaves by which output; a connection without a port leaves by the first one."""
    numbered = ((_port(settled, c.port), c) for c in leaving)
    return {number: c for number, c in numbered if number is not None}


def owner_of(settled: Settled, table: str) -> Owner:
    """Whose table this is: the instance's own, or the one that it shares."""
    shared = settled.shared.get(table)
    name, _, other = shared.text.partition(".") if shared else (settled.instance.name, "", table)
    return name, other


def reached(graph: Graph, entry: str) -> list[str]:
    """The instances that packets of an entry can reach, each behind all that lead to it (a topological order)."""
    leaving, done, order = graph.leaving(), set[str](), list[str]()
    stack: list[tuple[str, Iterator[Connection]]] = [(entry, iter(leaving[entry]))]
    while stack:
        name, rest = stack[-1]
        following = next((c.target for c in rest if c.target not in done), None)
        if following is None:
            stack.pop()
            order.append(name)
        else:
            done.add(following)
            stack.append((following, iter(leaving[following])))
    return order[::-1]


# --- ports ------------------------------------------------------------------------------------


def _port(settled: Settled, port: str) -> int | None:
    if not port:
        return 0
    if port in settled.outputs:
        return settled.outputs.index(port)
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 4 else len(settled.outputs)
    return number if number < len(settled.outputs) else None


def _check_connections(graph: Graph, settled: Mapping[str, Settled], mistakes: Mistakes) -> None:
    leaving, targets = graph.leaving(), {c.target for c in graph.connections}
    for c in graph.connections:
        _check_direction(graph, c, mistakes)
    for name, instance in graph.instances.items():
        if instance.kind in ENTRIES:
            _check_entry(instance, leaving[name], mistakes)
        elif name not in targets:
            mistakes.add(instance.at, f"Nothing leads to {quote(name)}.", "connect it, or remove it")
        if name in settled:
            _check_outputs(settled[name], leaving[name], mistakes)


def _check_direction(graph: Graph, c: Connection, mistakes: Mistakes) -> None:
    source, target = graph.instances[c.source], graph.instances[c.target]
    if source.kind in ENDS:
        mistakes.add(c.at, f"Nothing comes out of {quote(c.source)}: packets end there.")
    if source.kind in ENTRIES and c.port:
        mistakes.add(c.at, f"{quote(c.source)} has one output only, without a name.")
    if target.kind in ENTRIES:
        mistakes.add(c.at, f"Nothing goes into {quote(c.target)}: packets begin there.")


def _check_entry(instance: Instance, leaving: Sequence[Connection], mistakes: Mistakes) -> None:
    if len(leaving) != 1:
        what = f"{quote(instance.name)} leads to {len(leaving)} elements." if leaving else ""
        hint = "one element takes all packets of an entry; `classify` sorts them"
        mistakes.add(instance.at, what or f"{quote(instance.name)} leads nowhere.", hint)


def _check_outputs(s: Settled, leaving: Sequence[Connection], mistakes: Mistakes) -> None:
    name, seen = s.instance.name, dict[int, Connection]()
    for c in leaving:
        number = _port(s, c.port)
        if number is None or not s.outputs:
            mistakes.add(c.at, f"{quote(name)} has no output {quote(c.port)}.", nearest(c.port, s.outputs))
        elif number in seen:
            what = f"The output {quote(s.outputs[number])} of {quote(name)} leads to two elements."
            hint = f"first in line {seen[number].at[0]}; a name stands for one element: declare a second one"
            mistakes.add(c.at, what, hint)
        else:
            seen[number] = c
    for number, output in enumerate(s.outputs):
        if number not in seen:
            what = f"The output {quote(output)} of {quote(name)} leads nowhere."
            mistakes.add(s.instance.at, what, f"{name}[{output}] -> drop")


# --- cycles, entries --------------------------------------------------------------------------


def _check_cycles(graph: Graph, mistakes: Mistakes) -> None:
    """Depth first; a connection back to where the path has been closes a cycle."""
    leaving, done = graph.leaving(), set[str]()
    for root in graph.instances:
        path: dict[str, Iterator[Connection]] = {} if root in done else {root: iter(leaving[root])}
        while path:
            name, rest = next(reversed(path.items()))
            c = next(rest, None)
            if c is None:
                path.popitem()
                done.add(name)
            elif c.target in path:
                around = list(path)[list(path).index(c.target) :]
                loop = " -> ".join((*around[:8], *(["..."] if len(around) > 8 else []), c.target))
                mistakes.add(c.at, f"Packets would go round for ever: {loop}.", "a program has no queue to wait in")
            elif c.target not in done:
                path[c.target] = iter(leaving[c.target])


def _check_entries(graph: Graph, mistakes: Mistakes) -> None:
    seen: dict[tuple[str, str], Instance] = {}
    for instance in graph.instances.values():
        if instance.kind not in ENTRIES:
            continue
        vif = vif_of(instance)
        first = seen.setdefault((instance.kind, vif), instance)
        if first is not instance:
            what = f"There are two {quote(instance.kind)}s of {quote(vif) if vif else 'any vif'}."
            mistakes.add(instance.at, what, f"first in line {first.at[0]}")
    if not seen:
        mistakes.add((0, 0), "The program has no entry.", "begin with `input -> ...`")


# --- tables -----------------------------------------------------------------------------------


def _check_tables(settled: Mapping[str, Settled], mistakes: Mistakes) -> None:
    tables = {(s.instance.name, t.name): t for s in settled.values() for t in s.kind.tables}
    writers: dict[Owner, Settled] = {}
    for s in settled.values():
        for t in s.kind.tables:
            if t.name in s.shared:
                _check_shared(s, t, settled, tables, mistakes)
            first = writers.setdefault(owner_of(s, t.name), s) if t.written else s
            if first is not s:
                owner = ".".join(owner_of(s, t.name))
                what = f"{quote(s.instance.name)} and {quote(first.instance.name)} both write the table {quote(owner)}."
                mistakes.add(s.instance.at, what, f"the other one is in line {first.instance.at[0]}")


def _check_shared(
    s: Settled, t: Table, settled: Mapping[str, Settled], tables: Mapping[Owner, Table], mistakes: Mistakes
) -> None:
    at, text, owner = s.shared[t.name].at, s.shared[t.name].text, owner_of(s, t.name)
    other = tables.get(owner)
    if other is None:
        known = [".".join(o) for o in tables]
        mistakes.unknown(at, f"There is no table {quote(text)} to share.", text, known)
    elif owner[1] in settled[owner[0]].shared or owner == (s.instance.name, t.name):
        mistakes.add(at, f"{quote(text)} is no table of its own: it is shared too.", "name the one that it shares")
    elif (other.shape, other.key, [f.type for f in other.fields]) != (t.shape, t.key, [f.type for f in t.fields]):
        mistakes.add(at, f"{quote(text)} holds something else than {quote(t.name)} of {quote(s.kind.name)}.")
