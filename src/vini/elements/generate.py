"""From a checked graph to C: one program per entry, in which an element is a label and a connection is a jump.

So an element that several connections lead to is there once, and the compiler sees the whole way of a packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from sys import byteorder
from typing import Literal

from vini.elements.addresses import Vifs
from vini.elements.cells import Cell
from vini.elements.check import owner_of, ports, reached
from vini.elements.graph import ENTRIES, Graph, Instance
from vini.elements.kinds import HOOKS, HookName, Kind, Parameter, Table
from vini.elements.settle import MOST_OF_MANY, Settled, vif_of
from vini.elements.values import TYPES
from vini.model import Value

_MAPS = {"lpm": "LPM_TRIE", "hash": "HASH", "lru": "LRU_HASH", "array": "ARRAY"}
_COMPILED_FOR = {"xdp": "#if defined(VINI_XDP)", "tc": "#if !defined(VINI_XDP)"}


Direction = Literal["input", "output"]


class Entry(Value, frozen=True):
    """Where packets come in: the C function for a direction and a vif ("": every other vif)."""

    direction: Direction
    vif: str
    function: str


def cells(settled: Mapping[str, Settled]) -> tuple[Cell, ...]:
    """All counters and tables, in the order of the program; a shared table is its owner's only."""
    found, numbered, counters = list[Cell](), 0, _counters_map(settled)
    for s in settled.values():
        name = s.instance.name
        for c in s.kind.counters:
            found.append(Cell(f"{name}.{c.name}", counters, numbered))
            numbered += 1
        found += [Cell(f"{name}.{t.name}", _map(s, t), table=t) for t in s.kind.tables if t.name not in s.shared]
    return tuple(found)


def _counters_map(settled: Mapping[str, Settled]) -> str:
    """The counters' map has its name from theirs: the next program takes it over only if it has the same ones, in the
    same order; else old numbers would stand under other names.  15 characters, all that the kernel shows of a name."""
    names = [f"{s.instance.name}.{c.name}" for s in settled.values() for c in s.kind.counters]
    return f"counters_{blake2b(' '.join(names).encode(), digest_size=3).hexdigest()}"


def entries(graph: Graph) -> tuple[Entry, ...]:
    """The programs to be attached."""
    found = [i for i in graph.instances.values() if i.kind in ENTRIES]
    return tuple(Entry(_direction(i), vif_of(i), f"{i.kind}_{n}") for n, i in enumerate(found))


def _direction(entry: Instance) -> Direction:
    return "input" if entry.kind == "input" else "output"


def hooks(graph: Graph, settled: Mapping[str, Settled]) -> tuple[HookName, ...]:
    """Where all inputs can run; outputs run at tc, XDP has none."""
    inputs = [i.name for i in graph.instances.values() if i.kind == "input"]
    kinds = {
        settled[name].kind.name: settled[name].kind for i in inputs for name in reached(graph, i) if name in settled
    }
    return tuple(h for h in HOOKS if all(h in k.hooks for k in kinds.values()))


def source(graph: Graph, settled: Mapping[str, Settled], vifs: Vifs) -> str:
    """The whole program in C: with -DVINI_XDP its inputs for XDP, else all for tc."""
    counters = sum(len(s.kind.counters) for s in settled.values())
    head = [f"#define COUNTERS {max(1, counters)}", f"#define COUNTERS_MAP {_counters_map(settled)}"]
    parts = [*head, '#include "runtime.h"', ""]
    for kind in {s.kind.name: s.kind for s in settled.values()}.values():
        parts += [*_kind(kind)]
    base = 0
    for s in settled.values():
        parts += [*_instance(s, base)]
        base += len(s.kind.counters)
    for entry in entries(graph):
        parts += [*_program(entry, graph, settled, vifs)]
    return "\n".join([*parts, 'char _license[] SEC("license") = "GPL";', ""])


# --- elements ---------------------------------------------------------------------------------


def _kind(kind: Kind) -> Iterator[str]:
    """Its structures and its function, for the hooks that it can run at."""
    many = [p for p in kind.parameters if p.many]
    fields = [f"\t{TYPES[p.type].c.format(p.name)};" for p in kind.parameters if not p.many]
    fields += [f"\t{TYPES[p.type].c.format(f'{p.name}[{MOST_OF_MANY}]')};\n\t__u32 {p.name}_count;" for p in many]
    yield _structure(f"{kind.function}_parameters", fields or ["\t__u8 none;"])
    for t in kind.tables:
        yield _structure(f"{kind.function}_{t.name}", [f"\t{TYPES[f.type].c.format(f.name)};" for f in t.fields])
    if not kind.outputs_of:
        yield _numbered([f"{kind.function}_{o.name}".upper().replace("-", "_") for o in kind.outputs])
    if kind.counters:
        yield _numbered([f"{kind.function}_{c.name}" for c in kind.counters])
    only = _COMPILED_FOR[kind.hooks[0]] if len(kind.hooks) == 1 else ""
    yield f"{only}\n{kind.body}#endif\n" if only else kind.body


def _structure(name: str, fields: list[str]) -> str:
    return "\n".join([f"struct {name} {{", *fields, "};"])


def _numbered(names: list[str]) -> str:
    return f"enum {{ {', '.join(names)} }};"


def _symbol(name: str) -> str:
    """An instance's name as C takes it; no two instances share one."""
    return "".join(c if c.isalnum() else "__" if c == "_" else f"_{ord(c):x}_" for c in name)


def _instance(s: Settled, base: int) -> Iterator[str]:
    me = _symbol(s.instance.name)
    given = [_setting(p, s) for p in s.kind.parameters]
    yield f"/* {s.instance.name}: line {s.instance.at[0]} */"
    yield "\n".join([f"static const struct {s.kind.function}_parameters {me}_parameters UNUSED = {{", *given, "};"])
    yield f"enum {{ {me}_counters = {base} }};"
    for t in s.kind.tables:
        if t.name not in s.shared:
            yield _map_declaration(s, t)


def _setting(p: Parameter, s: Settled) -> str:
    if not p.many:
        return f"\t.{p.name} = {_literal(p.type, s.settings[p.name])},"
    listed = ", ".join(_literal(p.type, raw) for raw in s.many)
    return f"\t.{p.name} = {{{listed}}}, .{p.name}_count = {len(s.many)},"


def _literal(kind: str, raw: bytes) -> str:
    """A constant of C with these bytes; a struct that a parameter can be has a member `bytes`."""
    t = TYPES[kind]
    if t.align == t.size:
        return f"{int.from_bytes(raw, byteorder):#x}" + ("ULL" if t.size == 8 else "")
    listed = f"{{{', '.join(f'{b:#04x}' for b in raw)}}}"
    return f"{{.bytes = {listed}}}" if t.c.startswith("struct") else listed


def _map_declaration(s: Settled, t: Table) -> str:
    key = TYPES[t.key].size + (4 if t.shape == "lpm" else 0)
    lines = [
        "struct {",
        f"\t__uint(type, BPF_MAP_TYPE_{_MAPS[t.shape]});",
        f"\t__uint(max_entries, {t.entries});",
        f"\t__uint(key_size, {key});",
        f"\t__uint(value_size, sizeof(struct {s.kind.function}_{t.name}));",
        *(["\t__uint(map_flags, BPF_F_NO_PREALLOC);"] if t.shape == "lpm" else []),
        f'}} {_map(s, t)} SEC(".maps");',
    ]
    return "\n".join(lines)


def _map(s: Settled, t: Table) -> str:
    instance, table = owner_of(s, t.name)
    return f"{_symbol(instance)}_{table}"


# --- programs ---------------------------------------------------------------------------------


def _program(entry: Entry, graph: Graph, settled: Mapping[str, Settled], vifs: Vifs) -> Iterator[str]:
    start = next(i.name for i in graph.instances.values() if i.kind == entry.direction and vif_of(i) == entry.vif)
    leaving = entry.direction == "output"
    section = '#if !defined(VINI_XDP)\nSEC("tc/egress")' if leaving else "SEC(HOOK)"
    yield f"{section}\nint {entry.function}(context *ctx)\n{{"
    yield f"\tstruct packet packet = packet_begin(ctx, {int(leaving)}), *p UNUSED = &packet;"
    first, *rest = reached(graph, start)
    yield f"\tgoto at_{_symbol(graph.leaving()[first][0].target)};"
    for name in rest:
        lines = _element(settled[name], graph) if name in settled else _end(graph.instances[name], vifs)
        yield f"at_{_symbol(name)}: /* line {graph.instances[name].at[0]} */"
        yield from lines
    yield "}\n#endif\n" if leaving else "}\n"


def _element(s: Settled, graph: Graph) -> Iterator[str]:
    """Its function answers with the number of the output; any other number means that the packet is lost."""
    me = _symbol(s.instance.name)
    tables = "".join(f", &{_map(s, t)}" for t in s.kind.tables)
    yield f"\tswitch ({s.kind.function}(p, &{me}_parameters, {me}_counters{tables})) {{"
    for number, c in sorted(ports(s, graph.leaving()[s.instance.name]).items()):
        yield f"\tcase {number}: goto at_{_symbol(c.target)};"
    yield "\tdefault: return VERDICT_DROP;\n\t}"


def _end(instance: Instance, vifs: Vifs) -> Iterator[str]:
    if instance.kind == "drop":
        yield "\treturn VERDICT_DROP;"
    elif instance.kind == "kernel":
        yield "\treturn VERDICT_KERNEL;"
    elif vif := vif_of(instance):
        yield f"\treturn packet_towards(p, {vifs.index(vif) + 1}) ? packet_leave(p) : VERDICT_DROP;"
    else:
        yield "\treturn packet_leave(p);"
