"""Specs: what each node must hold for each slice, and what it said of it last.

A spec that asks for the slice's end on a node stays until the node reported that it is so: also when the slice, or the
whole topology, is long gone.  Each write has a number (`seq`), by which others learn what changed since they looked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, LargeBinary, and_, bindparam, delete, func, select, tuple_, union_all, update
from sqlalchemy.dialects import postgresql, sqlite

from vini.model import SliceSpec, ViniError
from vini.placement import Use
from vini.store import counters, nodes
from vini.store.database import Tx
from vini.store.tables import ended, slices, specs
from vini.store.tables import nodes as nodes_table
from vini.store.tables import uses as uses_table

COUNTER = "specs"
log = logging.getLogger("vini.store")
_JOINED = specs.join(nodes_table)
_FOREIGN = "stored by another version of VINI, which this one can't read"
_AT_ONCE = 1000  # names that the database is asked for: how many it takes has a limit
_USES = Use.__struct_fields__  # columns of the same names
_OF_SPECS = [specs.c[c] for c in _USES]
_OF_SLICE, _ON_NODES = specs.c.slice == bindparam("of"), nodes_table.c.name.in_(bindparam("nodes", expanding=True))
_BEFORE = select(nodes_table.c.name, specs.c.node_id, *_OF_SPECS).select_from(_JOINED).where(_OF_SLICE)
_USED = (
    select(nodes_table.c.name, *(uses_table.c[c] - func.coalesce(specs.c[c], 0.0) for c in _USES))
    .select_from(uses_table.join(nodes_table).outerjoin(specs, and_(specs.c.node_id == nodes_table.c.id, _OF_SLICE)))
)  # fmt: skip
_USED_OF = _USED.where(_ON_NODES)
_BODIES = select(nodes_table.c.name, specs.c.body).select_from(_JOINED).where(_OF_SLICE).order_by(nodes_table.c.name)
_AFTER = specs.c.seq > bindparam("after")
_SINCE = select(nodes_table.c.name, specs.c.slice, specs.c.body).select_from(_JOINED).where(_AFTER, _ON_NODES)
_TOUCHED = (
    select(nodes_table.c.name, specs.c.slice, specs.c.ends, slices.c.generation)
    .select_from(_JOINED.outerjoin(slices, slices.c.name == specs.c.slice))
    .where(_AFTER, _ON_NODES)
)
_NUMBERS = select(nodes_table.c.name, nodes_table.c.id).where(_ON_NODES)
_MINE = (specs.c.slice == bindparam("of")) & (specs.c.node_id == bindparam("node"))
_DONE = bindparam("done", type_=BigInteger)
_ACKNOWLEDGE = (
    update(specs)
    .where(_MINE, specs.c.acked <= _DONE, specs.c.generation >= _DONE)
    .values(acked=_DONE, report=bindparam("said", type_=LargeBinary), reported_at=bindparam("at"))
)
_FORGET = delete(specs).where(_MINE, specs.c.ends, specs.c.generation == _DONE)
_LAST = select(specs.c.slice, specs.c.node_id, specs.c.report)
_LAST = _LAST.where(tuple_(specs.c.node_id, specs.c.slice).in_(bindparam("of", expanding=True)))
_REPORTS = select(nodes_table.c.name, specs.c.acked, specs.c.report, specs.c.reported_at).select_from(_JOINED)
_REPORTS = _REPORTS.where(_OF_SLICE, specs.c.acked > 0)
_ANSWERS = select(nodes_table.c.name, specs.c.body, specs.c.acked, specs.c.generation, specs.c.report)
_ANSWERS = _ANSWERS.select_from(_JOINED).where(_OF_SLICE).order_by(nodes_table.c.name)
_BEHIND = select(nodes_table.c.name, specs.c.generation, specs.c.acked).select_from(_JOINED)
_BEHIND = _BEHIND.where(_OF_SLICE, specs.c.acked < specs.c.generation)


def put(
    tx: Tx, slice_: str, generation: int, wanted: Mapping[str, SliceSpec], uses: Mapping[str, Use] | None = None,
    held: Mapping[str, SliceSpec] | None = None, renamed: bool = False,
) -> frozenset[str]:  # fmt: skip
    """These specs are what the slice is, and take that of their nodes, or without `uses` what they took before; on
    every other node that may hold something of it, it ends.

    With `held`, what is stored of the slice, nothing is written of nodes where that is wanted still, or the end is
    asked for already: they stay at the generation that they are at.  `renamed`: those are to look all the same, since
    the names are others that those know who log in there.  Returns the nodes of which something was written.
    """
    found = {name: (number, Use(*taken)) for name, number, *taken in tx.execute(_BEFORE, {"of": slice_})}
    before = {name: taken for name, (_, taken) in found.items()}
    leaves = {name: SliceSpec(slice_, name, generation) for name in before if name not in wanted}
    every = {**wanted, **leaves}
    if not every:
        return frozenset()
    now = {name: (before if uses is None else uses).get(name, Use()) if name in wanted else Use() for name in every}
    stay = {n for n, old in (held or {}).items() if n in before and _is_same(old, every[n]) and now[n] == before[n]}
    seq = counters.add(tx, COUNTER)
    moved = {n: s for n, s in sorted(every.items()) if n not in stay}
    if moved:
        new = moved.keys() - found.keys()
        numbers = {n: found[n][0] for n in moved if n in found} | (nodes.numbers(tx, new) if new else {})
        rows = [{"node_id": numbers[n], "seq": seq, **_columns(spec, now[n])} for n, spec in moved.items()]
        tx.execute(_putting(tx.dialect.name), rows)
        _take(tx, {numbers[n]: now[n] + before[n] * -1 if n in before else now[n] for n in moved})
    if renamed and stay:
        tx.execute(update(specs).where(specs.c.slice == slice_).values(seq=seq))
    return frozenset(moved)


def _is_same(old: SliceSpec, new: SliceSpec) -> bool:
    """But for its generation.  What is for a later moment is told to all nodes: who asked for it counts who acted."""
    if not new.objects:
        return not old.objects
    timed = old.not_before or new.not_before
    return old == new or (not timed and replace(new, generation=old.generation) == old)


def is_below(tx: Tx, slice_: str, generation: int) -> bool:
    """Whether any node is asked for that generation of the slice, or an older one."""
    query = select(specs.c.node_id).where(specs.c.slice == slice_, specs.c.generation <= generation)
    return tx.execute(query.limit(1)).first() is not None


def _take(tx: Tx, more: Mapping[int, Use]) -> None:
    """By so much more are these nodes used."""
    rows = [{"node_id": n, **msgspec.structs.asdict(u)} for n, u in more.items() if u != Use()]
    if rows:
        tx.execute(_taking(tx.dialect.name), rows)


def used(tx: Tx, but: str, of: Collection[str] | None = None) -> dict[str, Use]:
    """Node -> what all slices together take of it, but for that one; at least of these nodes, or of all."""
    few = of is not None and nodes.are_few(of)
    rows = tx.execute(_USED_OF, {"of": but, "nodes": list(of or ())}) if few else tx.execute(_USED, {"of": but})
    return {name: Use(*(round(n, 6) for n in taken)) for name, *taken in rows}


@cache
def _putting(dialect: str) -> Any:
    made = (sqlite if dialect == "sqlite" else postgresql).insert(specs)
    changed = {c: made.excluded[c] for c in ("generation", "body", "ends", "seq", *_USES)}
    return made.on_conflict_do_update(index_elements=["node_id", "slice"], set_=changed)


@cache
def _taking(dialect: str) -> Any:
    made = (sqlite if dialect == "sqlite" else postgresql).insert(uses_table)
    sums = {c: uses_table.c[c] + made.excluded[c] for c in _USES}
    return made.on_conflict_do_update(index_elements=["node_id"], set_=sums)


def end(tx: Tx, slice_: str, generation: int) -> None:
    """The slice ends on every node that may hold something of it."""
    put(tx, slice_, generation, {})


def renumber(tx: Tx, slice_: str, generation: int) -> None:
    """The same objects until the same time, as a new generation; what another version stored ends: nobody can be sent
    that."""
    found = known(tx, slice_)[0].items()
    put(tx, slice_, generation, {n: replace(s, generation=generation) for n, s in found if s.objects})


def amend(tx: Tx, slice_: str, generation: int, change: Callable[[SliceSpec], SliceSpec]) -> bool:
    """What each node holds is changed so, as a new generation of those for which that is something else; False, and
    nothing is written, where nothing changes, or where another version stored some of it."""
    held, lost = known(tx, slice_)
    if lost:  # whoever changes many slices goes on with the others
        log.warning("slice %s stays as it is: what %s holds of it was %s", slice_, ", ".join(sorted(lost)), _FOREIGN)
        return False
    before = {n: s for n, s in held.items() if s.objects}
    after = {n: change(s) for n, s in before.items()}
    if before != after:
        now = {n: s if s == before[n] else replace(s, generation=generation) for n, s in after.items()}
        put(tx, slice_, generation, now, held=held)
    return before != after


def of_slice(tx: Tx, slice_: str) -> dict[str, SliceSpec]:
    """Node -> its newest spec, also one that asks for the end and is not acknowledged.  Raises ViniError where another
    version stored one of them."""
    held, lost = known(tx, slice_)
    if lost:
        raise _unreadable(slice_, min(lost))
    return held


def _unreadable(slice_: str, node: str) -> ViniError:
    return ViniError(
        f"What node {node} holds of slice {slice_!r} was {_FOREIGN}. "
        "Bring the slice up anew from its file; that changes it in place."
    )


def known(tx: Tx, slice_: str) -> tuple[dict[str, SliceSpec], frozenset[str]]:
    """The same of those that can be read, and the nodes whose spec can't: another version stored it."""
    found = {name: _spec(body) for name, body in tx.execute(_BODIES, {"of": slice_})}
    return {n: s for n, s in found.items() if s}, frozenset(n for n, s in found.items() if s is None)


def specs_of_node(tx: Tx, node: str) -> list[SliceSpec]:
    """The newest of each slice, also those that ask for its end and are not acknowledged; without those that another
    version stored."""
    query = select(specs.c.slice, specs.c.body).select_from(_JOINED).where(nodes_table.c.name == node)
    rows = tx.execute(query.order_by(specs.c.slice))
    return [s for slice_, body in rows if (s := _told(slice_, node, body))]


class Number(NamedTuple):
    """Of a spec: its generation, and whether it asks for the end."""

    generation: int
    ends: bool


def numbers_of_node(tx: Tx, node: str) -> dict[str, Number]:
    """Slice -> number of the same; without reading the specs."""
    query = select(specs.c.slice, specs.c.generation, specs.c.ends).select_from(_JOINED)
    return {s: Number(g, ends) for s, g, ends in tx.execute(query.where(nodes_table.c.name == node))}


def generations_of_node(tx: Tx, node: str) -> dict[str, int]:
    """Slice -> generation of the same."""
    return {slice_: number.generation for slice_, number in numbers_of_node(tx, node).items()}


def spec(tx: Tx, slice_: str, node: str) -> SliceSpec | None:
    """The newest of a slice for a node; None where it holds nothing of it, or what another version stored."""
    query = select(specs.c.body).select_from(_JOINED)
    body = tx.scalar(query.where(nodes_table.c.name == node, specs.c.slice == slice_))
    return None if body is None else _told(slice_, node, body)


def strays(tx: Tx, node: str, held: Mapping[str, int]) -> list[SliceSpec]:
    """The ends of slices that a node says it holds (slice -> generation) and that aren't asked of it any more.

    Such is what a node has that comes back from an old disk, or whose slice was ended and forgotten.
    """
    lost = sorted(set(held) - set(generations_of_node(tx, node)))
    known = union_all(select(slices.c.name, slices.c.generation), select(ended.c.name, ended.c.generation)).subquery()
    query, found = select(known.c.name, known.c.generation), dict[str, int]()
    for at in range(0, len(lost), _AT_ONCE):
        found |= dict(tx.execute(query.where(known.c.name.in_(lost[at : at + _AT_ONCE]))).all())
    return [SliceSpec(name, node, max(found.get(name, 0), held[name] + 1)) for name in lost]


def acknowledge(tx: Tx, slice_: str, node: str, generation: int, report: bytes, at: float) -> None:
    """The node has made a pass at this generation (0: none, it says why); what it said of an older one, or of what
    isn't its, is dropped."""
    acknowledge_all(tx, [(slice_, node, generation, report)], at)


def acknowledge_all(tx: Tx, reports: Iterable[tuple[str, str, int, bytes]], at: float) -> None:
    """The same of many: slice, node, generation and report of each.

    In the order of nodes and slices, in which `put` writes too: else two transactions could wait for each other.
    """
    known = {node for _, node, _, _ in reports}
    numbers = dict(tx.execute(_NUMBERS, {"nodes": list(known)}).all())
    rows = [
        {"of": slice_, "node": numbers[node], "done": generation, "said": report, "at": at}
        for slice_, node, generation, report in sorted(reports, key=lambda r: (r[1], r[0], r[2]))
        if node in numbers and 0 <= generation < 1 << 63
    ]
    if not rows:
        return
    tx.execute(_ACKNOWLEDGE, rows)
    tx.execute(_FORGET, [{key: row[key] for key in ("of", "node", "done")} for row in rows])


def last_reports(tx: Tx, of: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """(slice, node) -> what that node last said of the slice, b"": nothing; of those of which it is asked for it."""
    numbers = dict(tx.execute(_NUMBERS, {"nodes": list({node for _, node in of})}).all())
    names = {number: node for node, number in numbers.items()}
    asked = [(numbers[node], slice_) for slice_, node in sorted(of) if node in numbers]
    rows = tx.execute(_LAST, {"of": asked}) if asked else ()
    return {(slice_, names[number]): report for slice_, number, report in rows}


def reports(tx: Tx, slice_: str) -> dict[str, tuple[int, bytes, float]]:
    """Node -> generation, report and time of the last that it said; only of nodes that said something."""
    return {name: (generation, report, at) for name, generation, report, at in tx.execute(_REPORTS, {"of": slice_})}


class Answer(NamedTuple):
    """What a node said last of a slice."""

    slice: str
    node: str
    body: bytes  # of its newest spec
    is_of_newest: bool  # and not of an older one
    report: bytes  # b"": nothing

    @property
    def spec(self) -> SliceSpec:
        """The newest.  Raises as `of_slice`."""
        if (found := _spec(self.body)) is None:
            raise _unreadable(self.slice, self.node)
        return found


def answers(tx: Tx, slice_: str) -> list[Answer]:
    """Of all nodes that hold something of a slice, by name."""
    return [
        Answer(slice_, node, body, acked >= generation, report)
        for node, body, acked, generation, report in tx.execute(_ANSWERS, {"of": slice_})
    ]


class Behind(NamedTuple):
    """A node that has not reported of what it is asked for."""

    wanted: int  # the generation of that
    has: int  # the one that it reported of last; 0: none


def behind(tx: Tx, slice_: str) -> dict[str, Behind]:
    """Node -> how far, of those of a slice that are."""
    return {name: Behind(*generations) for name, *generations in tx.execute(_BEHIND, {"of": slice_})}


def newest(tx: Tx) -> int:
    """The number of the newest change."""
    return counters.value(tx, COUNTER)


def since(tx: Tx, seq: int, names: Collection[str]) -> dict[str, list[SliceSpec]]:
    """Of these nodes, by name, the specs that were written after `seq`; without those that another version stored."""
    out: dict[str, list[SliceSpec]] = {}
    for name, slice_, body in tx.execute(_SINCE, {"after": seq, "nodes": list(names)}):
        if found := _told(slice_, name, body):
            out.setdefault(name, []).append(found)
    return out


def touched(tx: Tx, seq: int, names: Collection[str]) -> dict[str, dict[str, int | None]]:
    """Of these nodes, by name, the slices of which something was written after `seq`, and the generation that these
    have; None where it is to end there."""
    out: dict[str, dict[str, int | None]] = {}
    for name, slice_, ends, number in tx.execute(_TOUCHED, {"after": seq, "nodes": list(names)}):
        out.setdefault(name, {})[slice_] = None if ends else number
    return out


def changed_since(tx: Tx, seq: int) -> tuple[int, set[str]]:
    """The number of the newest change, and the nodes that changes after `seq` are for."""
    newest = counters.value(tx, COUNTER)
    if newest <= seq:
        return newest, set()
    query = select(nodes_table.c.name).distinct().select_from(_JOINED).where(specs.c.seq > seq, specs.c.seq <= newest)
    return newest, set(tx.scalars(query))


def _columns(spec: SliceSpec, use: Use) -> dict[str, Any]:
    return {
        "slice": spec.slice,
        "generation": spec.generation,
        "body": msgspec.json.encode(spec),
        "ends": not spec.objects,
        "acked": 0,
        "report": b"",
        "reported_at": 0.0,
        **msgspec.structs.asdict(use),
    }


def _spec(body: bytes) -> SliceSpec | None:
    """None where another version stored it so that this one can't read it."""
    try:
        return msgspec.json.decode(body, type=SliceSpec)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _told(slice_: str, node: str, body: bytes) -> SliceSpec | None:
    if (found := _spec(body)) is None:
        log.warning("what node %s holds of slice %s was %s; bring that up anew", node, slice_, _FOREIGN)
    return found
