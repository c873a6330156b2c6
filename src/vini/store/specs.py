"""Specs: what each node must hold for each slice, and what it said of it last.

A spec that asks for the slice's end on a node stays until the node reported that it is so: also when the slice, or the
whole topology, is long gone.  Each write has a number (`seq`), by which others learn what changed since they looked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, LargeBinary, Table, bindparam, delete, select, true, tuple_, union_all, update
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


def put(
    tx: Tx, slice_: str, generation: int, wanted: Mapping[str, SliceSpec], uses: Mapping[str, Use] | None = None,
    held: Mapping[str, SliceSpec] | None = None, renamed: bool = False,
) -> None:  # fmt: skip
    """These specs are what the slice is, and take that of their nodes, or without `uses` what they took before; on
    every other node that may hold something of it, it ends.

    With `held`, what is stored of the slice, nothing is written of nodes where that is wanted still: they stay at the
    generation that they are at.  `renamed`: those are to look all the same, since the names are others that those know
    who log in there.
    """
    query = select(nodes_table.c.name, *_OF_SPECS).select_from(_JOINED)
    before = {name: Use(*taken) for name, *taken in tx.execute(query.where(specs.c.slice == slice_))}
    leaves = {name: SliceSpec(slice_, name, generation) for name in before if name not in wanted}
    every = {**wanted, **leaves}
    if not every:
        return
    now = {name: (before if uses is None else uses).get(name, Use()) if name in wanted else Use() for name in every}
    stay = {n for n, old in (held or {}).items() if n in wanted and _is_same(old, wanted[n]) and now[n] == before[n]}
    numbers = nodes.numbers(tx, every.keys())
    seq = counters.add(tx, COUNTER)
    moved = {n: s for n, s in sorted(every.items()) if n not in stay}
    if moved:
        rows = [{"node_id": numbers[n], "seq": seq, **_columns(spec, now[n])} for n, spec in moved.items()]
        made = _insert(tx, specs)
        changed = {c: made.excluded[c] for c in ("generation", "body", "ends", "seq", *_USES)}
        tx.execute(made.on_conflict_do_update(index_elements=["node_id", "slice"], set_=changed), rows)
        _take(tx, {numbers[n]: now[n] + before[n] * -1 if n in before else now[n] for n in moved})
    if renamed and stay:
        tx.execute(update(specs).where(specs.c.slice == slice_).values(seq=seq))


def _is_same(old: SliceSpec, new: SliceSpec) -> bool:
    """But for its generation.  What is for a later moment is told to all nodes: who asked for it counts who acted."""
    timed = old.not_before or new.not_before
    return not timed and replace(new, generation=old.generation) == old


def written(tx: Tx, slice_: str, generation: int) -> frozenset[str]:
    """The nodes for which something is at that generation of the slice."""
    query = select(nodes_table.c.name).select_from(_JOINED)
    return frozenset(tx.scalars(query.where(specs.c.slice == slice_, specs.c.generation == generation)))


def is_below(tx: Tx, slice_: str, generation: int) -> bool:
    """Whether any node is asked for that generation of the slice, or an older one."""
    query = select(specs.c.node_id).where(specs.c.slice == slice_, specs.c.generation <= generation)
    return tx.execute(query.limit(1)).first() is not None


def _take(tx: Tx, more: Mapping[int, Use]) -> None:
    """By so much more are these nodes used."""
    rows = [{"node_id": n, **msgspec.structs.asdict(u)} for n, u in more.items() if u != Use()]
    made = _insert(tx, uses_table)
    sums = {c: uses_table.c[c] + made.excluded[c] for c in _USES}
    if rows:
        tx.execute(made.on_conflict_do_update(index_elements=["node_id"], set_=sums), rows)


def used(tx: Tx, but: str, of: Collection[str] | None = None) -> dict[str, Use]:
    """Node -> what all slices together take of it, but for that one; at least of these nodes, or of all."""
    wanted = true() if of is None else nodes.are(of)
    query = select(nodes_table.c.name, *(uses_table.c[c] for c in _USES)).where(wanted)
    every = {name: Use(*taken) for name, *taken in tx.execute(query.select_from(uses_table.join(nodes_table)))}
    mine = select(nodes_table.c.name, *_OF_SPECS).select_from(_JOINED).where(wanted)
    for name, *taken in tx.execute(mine.where(specs.c.slice == but)):
        every[name] = every.get(name, Use()) + Use(*taken) * -1
    return {name: Use(*(round(n, 6) for n in msgspec.structs.astuple(use))) for name, use in every.items()}


def _insert(tx: Tx, table: Table) -> Any:
    return (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(table)


def end(tx: Tx, slice_: str, generation: int) -> None:
    """The slice ends on every node that may hold something of it."""
    put(tx, slice_, generation, {})


def renumber(tx: Tx, slice_: str, generation: int) -> None:
    """The same objects until the same time, as a new generation; what another version stored ends: nobody can be sent
    that."""
    _again(tx, slice_, {n: s for n, s in known(tx, slice_)[0].items() if s.objects}, generation)


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
        _again(tx, slice_, after, generation, before)
    return before != after


def _again(
    tx: Tx, slice_: str, found: Mapping[str, SliceSpec], generation: int, held: Mapping[str, SliceSpec] | None = None
) -> None:
    put(tx, slice_, generation, {n: replace(s, generation=generation) for n, s in found.items()}, held=held)


def of_slice(tx: Tx, slice_: str) -> dict[str, SliceSpec]:
    """Node -> its newest spec, also one that asks for the end and is not acknowledged.  Raises ViniError where another
    version stored one of them."""
    held, lost = known(tx, slice_)
    if lost:
        raise ViniError(
            f"What node {min(lost)} holds of slice {slice_!r} was {_FOREIGN}. "
            "Bring the slice up anew from its file; that changes it in place."
        )
    return held


def known(tx: Tx, slice_: str) -> tuple[dict[str, SliceSpec], frozenset[str]]:
    """The same of those that can be read, and the nodes whose spec can't: another version stored it."""
    query = select(nodes_table.c.name, specs.c.body).select_from(_JOINED).where(specs.c.slice == slice_)
    found = {name: _spec(body) for name, body in tx.execute(query.order_by(nodes_table.c.name))}
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
    """The node has made a pass at this generation; what it said of an older one, or of what isn't its, is dropped."""
    acknowledge_all(tx, [(slice_, node, generation, report)], at)


def acknowledge_all(tx: Tx, reports: Iterable[tuple[str, str, int, bytes]], at: float) -> None:
    """The same of many: slice, node, generation and report of each.

    In the order of nodes and slices, in which `put` writes too: else two transactions could wait for each other.
    """
    known = {node for _, node, _, _ in reports}
    numbers = dict(tx.execute(select(nodes_table.c.name, nodes_table.c.id).where(nodes_table.c.name.in_(known))).all())
    rows = [
        {"of": slice_, "node": numbers[node], "done": generation, "said": report}
        for slice_, node, generation, report in sorted(reports, key=lambda r: (r[1], r[0], r[2]))
        if node in numbers and 0 < generation < 1 << 63
    ]
    if not rows:
        return
    mine, done = (
        (specs.c.slice == bindparam("of")) & (specs.c.node_id == bindparam("node")),
        bindparam("done", type_=BigInteger),
    )
    change = update(specs).where(mine, specs.c.acked <= done, specs.c.generation >= done)
    tx.execute(change.values(acked=done, report=bindparam("said", type_=LargeBinary), reported_at=at), rows)
    tx.execute(delete(specs).where(mine, specs.c.ends, specs.c.generation == done), rows)


def last_reports(tx: Tx, of: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """(slice, node) -> what that node last said of the slice, b"": nothing; of those of which it is asked for it."""
    query = select(nodes_table.c.name, nodes_table.c.id).where(nodes_table.c.name.in_({node for _, node in of}))
    numbers = dict(tx.execute(query).all())
    names = {number: node for node, number in numbers.items()}
    asked = [(numbers[node], slice_) for slice_, node in sorted(of) if node in numbers]
    columns = select(specs.c.slice, specs.c.node_id, specs.c.report)
    rows = tx.execute(columns.where(tuple_(specs.c.node_id, specs.c.slice).in_(asked))) if asked else ()
    return {(slice_, names[number]): report for slice_, number, report in rows}


def reports(tx: Tx, slice_: str) -> dict[str, tuple[int, bytes, float]]:
    """Node -> generation, report and time of the last that it said; only of nodes that said something."""
    query = (
        select(nodes_table.c.name, specs.c.acked, specs.c.report, specs.c.reported_at)
        .select_from(_JOINED)
        .where(specs.c.slice == slice_, specs.c.acked > 0)
    )
    return {name: (generation, report, at) for name, generation, report, at in tx.execute(query)}


def behind(tx: Tx, slice_: str) -> dict[str, int]:
    """Node -> the generation that it has not reported of yet."""
    query = select(nodes_table.c.name, specs.c.generation).select_from(_JOINED)
    rows = tx.execute(query.where(specs.c.slice == slice_, specs.c.acked < specs.c.generation))
    return dict(rows.all())


def newest(tx: Tx) -> int:
    """The number of the newest change."""
    return counters.value(tx, COUNTER)


def since(tx: Tx, seq: int, names: Collection[str]) -> dict[str, list[SliceSpec]]:
    """Of these nodes, by name, the specs that were written after `seq`; without those that another version stored."""
    query = select(nodes_table.c.name, specs.c.slice, specs.c.body).select_from(_JOINED)
    out: dict[str, list[SliceSpec]] = {}
    for name, slice_, body in tx.execute(query.where(specs.c.seq > seq, nodes_table.c.name.in_(names))):
        if found := _told(slice_, name, body):
            out.setdefault(name, []).append(found)
    return out


def touched(tx: Tx, seq: int, names: Collection[str]) -> dict[str, dict[str, int | None]]:
    """Of these nodes, by name, the slices of which something was written after `seq`, and the generation that these
    have; None where it is to end there."""
    found = select(nodes_table.c.name, specs.c.slice, specs.c.ends, slices.c.generation)
    found = found.select_from(_JOINED.outerjoin(slices, slices.c.name == specs.c.slice))
    out: dict[str, dict[str, int | None]] = {}
    for name, slice_, ends, number in tx.execute(found.where(specs.c.seq > seq, nodes_table.c.name.in_(names))):
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
