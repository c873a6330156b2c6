"""A sliver's own data plane, from what the user wrote to objects: C, and where it is hooked in.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Literal

from vini import names
from vini.elements import Compiled, compile_elements
from vini.elf import Elf
from vini.layout import Vif
from vini.model import (
    BUDGET_KPPS,
    Bpf,
    BpfRow,
    BpfVif,
    File,
    Hook,
    Mistake,
    Program,
    TopologyError,
    Unsupported,
    Value,
)
from vini.plugins import sockets
from vini.sections import entry
from vini.text.objects import BASE64, SUFFIX, decoded

HookName = Literal["tc", "xdp"]
Direction = Literal["input", "output"]
_DIRECTIONS: dict[str, Direction] = {
    "": "input",
    "ingress": "input",
    "input": "input",
    "egress": "output",
    "output": "output",
}
_SECTION = re.compile(
    r'SEC\(\s*"(?P<hook>xdp|tc)(?:/(?P<direction>ingress|egress|input|output))?(?:/(?P<vif>[\w.-]+))?"\s*\)'
    r"\s*(?:static\s+|__noinline\s+)*int\s+(?P<function>\w+)\s*\("
)
_FUNCTION = re.compile(r"\w+", re.ASCII)


class Entrance(Value, frozen=True):
    """A program that handles packets of a direction, of one vif or ("") of every other."""

    direction: Direction
    vif: str
    function: str
    hooks: tuple[HookName, ...]  # where it can run


class Prepared(Value, frozen=True):
    """A program that is ready for a C compiler, and where it goes."""

    source: str
    entrances: tuple[Entrance, ...]
    hook: HookName  # of the inputs
    why: str  # that hook was chosen, for people
    rows: tuple[BpfRow, ...] = ()
    inserts: int = 0  # bytes by which packets may get longer

    @property
    def adds_to_own(self) -> int:
        """Bytes by which packets that the sliver itself sends may get longer."""
        return self.inserts if any(e.direction == "output" for e in self.entrances) else 0


def prepare(
    where: str, program: Program, vifs: Sequence[str], shaped: Collection[str], tunnels: Collection[str] = (),
    own: Sequence[str] = (),
) -> Prepared:  # fmt: skip
    """Raises TopologyError with the program's mistakes, Unsupported where its hook can't be had.

    `shaped` are those vifs whose links delay, lose or limit packets: what XDP redirects would bypass that.
    `tunnels` are those whose links lead to other nodes: a tunnel runs no XDP, and takes nothing from it.
    `own` are the addresses of the sliver, which of a process with sockets the kernel keeps.
    """
    for vif in program.vifs:
        if vif not in vifs:
            what = f"{where} has no vif {vif!r}; its vifs are {', '.join(vifs)}."
            raise TopologyError([Mistake(0, 0, what)], program.name)
    if program.af_xdp:
        return _for_sockets(where, socket_vifs(program, vifs), shaped, tunnels, own)
    if program.kind == "elements":
        compiled = compile_elements(program.text, program.name, vifs)
        source, entrances = compiled.source, _of_elements(compiled)
        rows = tuple(BpfRow(r.map, r.key.hex(), r.value.hex()) for r in compiled.rows)
        inserts = compiled.inserts
    elif program.kind == "object":
        source, entrances, rows, inserts = program.text, _of_object(program), (), 0
    else:
        source, entrances, rows, inserts = program.text, _of_c(program), (), 0
    hook, why = _choose(where, program, entrances, shaped, tunnels)
    return Prepared(source, entrances, hook, why, rows, inserts)


def socket_vifs(program: Program, vifs: Sequence[str]) -> tuple[str, ...]:
    """The vifs that a process has AF_XDP sockets of, in their order."""
    return tuple(v for v in vifs if not program.vifs or v in program.vifs)


def _for_sockets(
    where: str, vifs: Sequence[str], shaped: Collection[str], tunnels: Collection[str], own: Sequence[str]
) -> Prepared:
    """What hands packets to a process."""
    if len(vifs) > sockets.MOST_VIFS:
        raise Unsupported(f"A process has AF_XDP sockets of {sockets.MOST_VIFS} vifs at most; {where} has {len(vifs)}.")
    if leading := [v for v in vifs if v in tunnels]:
        raise Unsupported(
            f"The process of {where} asks for AF_XDP, but {', '.join(leading)} leads to another node, and tunnels "
            "have none; leave `af_xdp` out and use packet sockets, or keep the slivers on one node with `node:`."
        )
    if bypassed := [v for v in vifs if v in shaped]:
        raise Unsupported(
            f"The process of {where} asks for AF_XDP, whose packets would bypass the shaping of {', '.join(bypassed)}; "
            "leave `af_xdp` out and use packet sockets, or take the delay, loss and rate off its links."
        )
    entrances = tuple(Entrance("input", v, f, ("xdp",)) for v, f in sockets.functions(vifs).items())
    return Prepared(sockets.source(vifs), entrances, "xdp", "its process has AF_XDP sockets", sockets.own(own))


def objects(
    slice_: str, sliver: str, program: Program, prepared: Prepared, vifs: Sequence[Vif]
) -> Iterator[File | Bpf | Hook]:
    """The source, the programs and their hooks."""
    ns = f"{slice_}.{sliver}"
    name = PurePosixPath(program.name).name or "program"
    if program.af_xdp:
        name = "sockets.c"
    suffix = SUFFIX + BASE64 if program.kind == "object" else ".c"
    name = name.removesuffix(SUFFIX if program.kind == "object" else ".c") + suffix
    digest = blake2b(prepared.source.encode(), digest_size=8).hexdigest()
    path = f"program/{digest}/{name}"
    yield File(ns, path, prepared.source)
    known = tuple(
        BpfVif(v.dev, v.index, names.mac(slice_, sliver, v.dev), names.mac(slice_, v.peer, v.peer_dev)) for v in vifs
    )
    yield Bpf(ns, path, prepared.hook, known, prepared.rows, program.budget_kpps or BUDGET_KPPS)
    for v in vifs:
        if program.vifs and v.dev not in program.vifs:
            continue
        for entrance in _at(prepared.entrances, v.dev):
            hook: HookName = prepared.hook if entrance.direction == "input" else "tc"
            yield Hook(ns, v.dev, entrance.direction, hook, entrance.function)


def _at(entrances: Sequence[Entrance], dev: str) -> Iterator[Entrance]:
    """For each direction the program of that very vif, else that of every other."""
    for direction in ("input", "output"):
        here = [e for e in entrances if e.direction == direction and e.vif in (dev, "")]
        yield from sorted(here, key=lambda e: e.vif == "")[:1]


def _of_elements(compiled: Compiled) -> tuple[Entrance, ...]:
    return tuple(
        Entrance("input", e.vif, e.function, compiled.hooks)
        if e.direction == "input"
        else Entrance("output", e.vif, e.function, ("tc",))
        for e in compiled.entries
    )


def _of_c(program: Program) -> tuple[Entrance, ...]:
    """Its sections say where its functions go: `SEC("xdp")`, `SEC("tc/egress/to-b")`."""
    found = []
    for m in _SECTION.finditer(program.text):
        direction = _DIRECTIONS[m["direction"] or ""]
        line = program.text.count("\n", 0, m.start()) + 1
        if m["hook"] == "xdp" and direction == "output":
            what = "XDP sees only packets that come in."
            raise TopologyError([Mistake(line, 1, what, 'write SEC("tc/egress")')], program.name)
        hook: HookName = "xdp" if m["hook"] == "xdp" else "tc"
        found.append(Entrance(direction, m["vif"] or "", m["function"], (hook,)))
    if not found:
        hint = 'write SEC("tc") or SEC("xdp") before `int NAME(...)`'
        raise TopologyError([Mistake(0, 0, "There is no function in it that could be hooked in.", hint)], program.name)
    return tuple(found)


def _of_object(program: Program) -> tuple[Entrance, ...]:
    """As its symbols say: functions in sections whose names say where they go.  It may hold others; the node judges."""
    try:
        elf = Elf(decoded(program.text))
    except ValueError as e:
        what = f"It can't be read: {str(e).rstrip('.')}."
        raise TopologyError([Mistake(0, 0, what, "clang -O2 -g -target bpf -c NAME.c makes one")], program.name) from e
    found = []
    for s in elf.symbols:
        place = entry(elf.sections[s.section].name) if s.function and 0 < s.section < len(elf.sections) else None
        if place and _FUNCTION.fullmatch(s.name):
            found.append(Entrance(_DIRECTIONS[place.direction], place.vif, s.name, (place.hook,)))
    if not found:
        what = "There is no function in it that could be hooked in."
        raise TopologyError([Mistake(0, 0, what, 'one must be in a section "tc" or "xdp"')], program.name)
    return tuple(found)


def _choose(
    where: str, program: Program, entrances: Sequence[Entrance], shaped: Collection[str], tunnels: Collection[str]
) -> tuple[HookName, str]:
    """XDP is faster for small packets; tc keeps large segments, and links' delay, loss and rate."""
    inputs = [e for e in entrances if e.direction == "input"]
    if not inputs and program.hook == "auto":
        return "tc", "it handles only what leaves, which XDP doesn't see"
    able: list[HookName] = [h for h in ("xdp", "tc") if all(h in e.hooks for e in inputs)]
    if not able:
        what = "Its inputs are of different hooks: all of them must be xdp, or all tc."
        raise TopologyError([Mistake(0, 0, what, "sliver " + where)], program.name)
    if program.hook != "auto" and program.hook not in able:
        raise Unsupported(f"The program of {where} can't run at {program.hook}; it can at {', '.join(able)}.")
    wish = program.hook if program.hook != "auto" else able[0]
    if wish == "xdp" and tunnels:
        leading = f"links of {where} lead to other nodes ({', '.join(sorted(tunnels))})"
        if program.hook == "auto" and "tc" in able:
            return "tc", f"{leading}, where XDP can't send"
        raise Unsupported(
            f"The program of {where} asks for XDP, but {leading}, and tunnels have none; write it for tc "
            "(`hook: tc`), or keep the slivers on one node with `node:`."
        )
    if wish == "xdp" and shaped:
        if program.hook == "auto" and "tc" in able:
            return "tc", f"links of {where} are shaped ({', '.join(sorted(shaped))}), which XDP would bypass"
        raise Unsupported(
            f"The program of {where} asks for XDP, whose packets would bypass the shaping of "
            f"{', '.join(sorted(shaped))}; write `hook: tc`, or take the delay, loss and rate off its links."
        )
    if program.hook != "auto":
        return program.hook, "as asked"
    if able == ["xdp"]:
        return "xdp", "its sections say so"
    if able[0] == "xdp":
        return "xdp", "fastest for small packets"
    return "tc", "its elements need it" if program.kind == "elements" else "its sections say so"
