"""Desired x observed -> the steps from one to the other; and the same comparison as status.

Pure.  The plan depends only on what was observed, never on what was done before: a crash at any
step, or a hand that deletes things, is just another observed state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from vini.model import (
    STACK,
    AnyObject,
    Interface,
    Key,
    Op,
    Process,
    SliverStatus,
    State,
    Veth,
    Vxlan,
    Waiting,
    is_sliver,
)

_RANK = {kind: i for i, kind in enumerate(STACK)}


def plan(want: Collection[AnyObject], have: Collection[AnyObject]) -> list[Op]:
    """The steps, in order: first all removals from the top down, then all makings from the ground up."""
    if want == have:  # as most looks find
        return []
    wanted = {o.key: o for o in want}
    seen = {o.key: o for o in have}
    doomed = _doomed(wanted, seen)
    removals = [
        Op("remove", seen[key], why) for key, why in reversed(doomed.items()) if not _falls_by_itself(seen[key], doomed)
    ]
    return removals + _ensures(wanted, seen, doomed)


def _doomed(wanted: Mapping[Key, AnyObject], seen: Mapping[Key, AnyObject]) -> dict[Key, str]:
    """What must go, from the ground up, and why: it isn't wanted, can't change in place, or stands on such a thing."""
    doomed: dict[Key, str] = {}
    for o in in_order(seen.values()):
        key = o.key
        new = wanted.get(key)
        if new is None:
            doomed[key] = "not wanted"
        elif new != o and (stiff := _differing(o, new) - new.changeable):
            doomed[key] = f"rebuilt for another {', '.join(sorted(stiff))}"
        elif fallen := next((k for k in _carriers(o, new) if k in doomed or _is_lost(k, o, wanted, seen)), None):
            doomed[key] = f"stands on {' '.join(fallen)}"
    return doomed


def _carriers(o: AnyObject, new: AnyObject) -> list[Key]:
    """What takes it along when it goes.  A file doesn't: it was read when what stands on it was made.

    A vif also goes with another pair or tunnel than its own, which is to be its own: the vif is born with that.
    """
    carriers = [key for key in o.on if key[:1] != ("file",)]
    if isinstance(o, Interface) and isinstance(new, Interface) and o.wire != new.wire:
        carriers.append(new.wire)
    return carriers


def _is_lost(key: Key, above: AnyObject, wanted: Mapping[Key, AnyObject], seen: Mapping[Key, AnyObject]) -> bool:
    """It is about to be made anew under what is still there of the old one: the rest of a pair that somebody
    renamed or tore apart.  A process that ended takes along only those that say so."""
    takes_along = key[:1] != ("process",) or (isinstance(above, Process) and above.along)
    return key not in seen and key in wanted and takes_along


def _falls_by_itself(o: AnyObject, doomed: Mapping[Key, str]) -> bool:
    return o.falls and bool(o.on) and all(k in doomed for k in o.on)


def _ensures(wanted: Mapping[Key, AnyObject], seen: Mapping[Key, AnyObject], doomed: Mapping[Key, str]) -> list[Op]:
    out = []
    for o in in_order(wanted.values()):
        key = o.key
        old = seen.get(key)
        if old is None:
            out.append(Op("ensure", o, "missing"))
        elif key in doomed:
            out.append(Op("ensure", o, doomed[key]))
        elif old != o:
            out.append(Op("ensure", o, _changes(old, o), in_place=True))
    return out


def _differing(old: AnyObject, new: AnyObject) -> set[str]:
    return {f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)}


def _changes(old: AnyObject, new: AnyObject) -> str:
    fields = sorted(_differing(old, new))
    told = [(f, _short(getattr(old, f)), _short(getattr(new, f))) for f in fields]
    return ", ".join(f"{f} {a} -> {b}" if a and b else f"another {f}" for f, a, b in told)


def _short(value: object) -> str:
    """A value that a person can take in at a glance; "" for another."""
    text = str(value)
    return text if len(text) <= 30 and "\n" not in text else ""


def in_order(objects: Iterable[AnyObject]) -> list[AnyObject]:
    """From the ground up: by kind, processes after those they wait for, then by key."""
    objects = list(objects)
    depth = _process_depths([o for o in objects if type(o) is Process])
    return sorted(objects, key=lambda o: (_RANK[type(o)], depth.get(o.key, 0) if depth else 0, o.key))


def _process_depths(processes: Iterable[Process]) -> dict[Key, int]:
    on = {p.key: [k for k in p.on if k[0] == "process"] for p in processes}
    depths: dict[Key, int] = {}

    def depth(key: Key, path: frozenset[Key]) -> int:
        if key not in depths:
            below = [k for k in on[key] if k in on and k not in path]
            depths[key] = 1 + max((depth(k, path | {key}) for k in below), default=-1)
        return depths[key]

    for key in on:
        depth(key, frozenset())
    return depths


def batches(ops: Iterable[Op]) -> Iterable[list[Op]]:
    """Neighbouring steps of one verb and kind that don't stand on each other: one call of a driver each."""
    batch: list[Op] = []
    keys: set[Key] = set()
    for op in ops:
        o = op.object
        apart = batch and (op.verb != batch[0].verb or type(o) is not type(batch[0].object))
        if apart or (type(o) is Process and not keys.isdisjoint(o.on)):
            yield batch
            batch, keys = [], set()
        batch.append(op)
        keys.add(o.key)
    if batch:
        yield batch


def status(want: Collection[AnyObject], state: State, failures: Mapping[Key, str]) -> list[SliverStatus]:
    """One row per sliver: ready when nothing is left to do for it and nothing in it is unwell."""
    failed: dict[str, str] = dict(state.failed)
    todo: dict[str, str] = {}
    for op in plan(want, state.objects):
        for ns in op.object.slivers:
            if (why := failures.get(op.object.key)) is not None:
                (todo if isinstance(why, Waiting) else failed)[ns] = str(why)
            todo.setdefault(ns, _told(op))
    carried = list(_carried(want))
    for known in (failed, todo):  # what ails the way that links go by ails their slivers
        for ns, through in carried:
            if through in known:
                known.setdefault(ns, known[through])
    rows = []
    for ns in sorted(filter(is_sliver, {ns for o in want for ns in o.slivers} | todo.keys())):
        why = failed.get(ns) or todo.get(ns) or state.unready.get(ns, "")
        rows.append(SliverStatus(ns, "failed" if ns in failed else "configuring" if why else "ready", why))
    return rows


def _carried(want: Iterable[AnyObject]) -> Iterator[tuple[str, str]]:
    """Slivers, and the namespaces of their slice that their links to other nodes go by."""
    for o in want:
        if isinstance(o, Vxlan) and o.through:
            yield o.ns, o.through
        elif isinstance(o, Veth):
            yield from ((a.ns, b.ns) for a, b in (o.ends, o.ends[::-1]) if not is_sliver(b.ns))


def _told(op: Op) -> str:
    """A step as news for the sliver's user."""
    o = op.object
    if isinstance(o, Process) and op.verb == "ensure":
        return f"{o.name} is being started ({op.why})" if not op.in_place else f"{o.name} is being told of a change"
    what = " ".join(o.key[:1] + o.key[2:]) or "network namespace"
    if op.verb == "remove":
        return f"{what} is being taken away ({op.why})"
    return f"{what} is being {'changed' if op.in_place else 'made'} ({op.why})"


def outcome(have: Collection[AnyObject], ops: Iterable[Op], failures: Mapping[Key, str]) -> frozenset[AnyObject]:
    """What is there after a plan whose every step was acknowledged, but for those in `failures`.

    What stands on something that is gone, or that could not be made, isn't there either.
    """
    now = {o.key: o for o in have}
    ops = list(ops)
    # What a look at some slivers can't see, the pair of a link that leads out of them, is neither there nor gone.
    gone = {op.object.key for op in ops if op.verb == "ensure" and op.object.key not in now}
    for op in ops:
        if op.verb == "remove" and op.object.key not in failures:
            now.pop(op.object.key, None)
            gone.add(op.object.key)
    for o in in_order(now.values()):
        if not gone.isdisjoint(o.on):
            del now[o.key]
            gone.add(o.key)
    for op in ops:
        if op.verb == "ensure" and op.object.key not in failures and gone.isdisjoint(op.object.on):
            now[op.object.key] = op.object
            gone.discard(op.object.key)
    return frozenset(now.values())


def within(objects: Iterable[AnyObject], scope: Collection[str] | None) -> frozenset[AnyObject]:
    """Those that concern only namespaces in `scope` (None: all)."""
    if scope is None:
        return frozenset(objects)
    inside = frozenset(scope).issuperset
    return frozenset(o for o in objects if inside(o.slivers))


def touched(old: frozenset[AnyObject], new: frozenset[AnyObject]) -> set[str]:
    """The namespaces that a change from one desired state to another concerns."""
    return {ns for o in old ^ new for ns in o.slivers}
