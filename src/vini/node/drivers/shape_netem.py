"""Shapes by the kernel's netem (tc-netem(8)).

Two netem qdiscs, one in the other, because one limit can't bound both: the outer one is the wire
(loss, delay, jitter) and its limit only bounds memory; the inner one is the sender (rate, queue).
A single one would count the packets on the wire as queued, and drop them: the trap of netem's
default limit of 1000.

Where packets are duplicated, which it can't with another netem in it (Linux 6.17, and stable ones since 2025), there
is no rate either, and the wire is alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from vini.model import Shape
from vini.node import bpf, netem, tc
from vini.node.drivers import Failures, silence
from vini.node.drivers.silence import Silence
from vini.node.drivers.there import There
from vini.node.netem import WIRE, Netem
from vini.node.place import Place

SENDER = 0x564A0000
FAULT = 0x564B0000  # takes all packets that a wire without a sender hands over
_INSIDE = WIRE | 1  # a parent
# netem keeps order, under jitter or when a delay is lowered, only at a rate (it starts a packet when the last
# one is through); so the wire gets one at which a frame takes no nanosecond, with the notes for its overhead.
_KEEPS_ORDER = 1 << 62  # bytes/s
# Without a rate nothing waits, but packets that become due together are in the inner qdisc together.
_NO_LIMIT = 1 << 30
_Distribution = Literal["normal", "uniform", "pareto", "table"]
_DISTRIBUTIONS: tuple[_Distribution, ...] = ("normal", "uniform", "pareto", "table")  # by number in the first note


class NetemShapes:
    """Holds the loaded program that marks for the Gates what goes into netem."""

    def __init__(self, place: Place, silent: Silence):
        self._place = place
        self._silence = silent
        self._program = -1

    def observe(self, there: There, qdiscs: Sequence[tc.SeenQdisc]) -> Iterator[Shape]:
        """Our netem pairs, exactly as they were asked for; half a pair as what it does."""
        inner = {q.index: q for q in qdiscs if q.parent == _INSIDE and q.handle in (SENDER, FAULT)}
        hooked = {q.index for q in qdiscs if q.kind == "clsact"}
        for q in qdiscs:
            if _is_wire(q):
                outer = netem.seen_netem(q.options)
                seen = _shape(there.ns, there.links[q.index].dev, outer, inner.get(q.index))
                silent = q.index in hooked and silence.is_at(there, q.index)
                whole = seen.drop == silent and q.index in hooked and _releases(there, q.index)
                yield seen if whole else Shape(there.ns, seen.dev, "netem")
        for index in hooked - {q.index for q in qdiscs if _is_wire(q)}:
            if _releases(there, index):  # without a delay
                yield Shape(there.ns, there.links[index].dev, "netem")

    def ensure(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Make or change them; netem keeps what it holds."""
        if not shapes:
            return {}
        failures = there.missing(shapes)
        requests, unneeded = [], []
        for o in shapes:
            if o.key in failures:
                continue
            index = there.indexes[o.dev]
            requests += [(o, tc.add_clsact(index)), (o, tc.set_filter(index, self._releasing(), bpf.RELEASED))]
            try:
                whole = netem.set_netem(index, WIRE, tc.ROOT, wire(o, self._table_us(o)))
            except (OSError, ValueError) as e:
                failures[o.key] = f"The table of delays of {o.ns} {o.dev} can't be read: {e}."
                continue
            if o.duplicate_ppm:
                unneeded.append((o, tc.delete_qdisc(index, SENDER, _INSIDE)))
                requests.append((o, whole))
                if o.drop:
                    requests.append((o, tc.set_qdisc(index, FAULT, _INSIDE, "blackhole")))
                else:
                    unneeded.append((o, tc.delete_qdisc(index, FAULT, _INSIDE)))
            else:
                requests += [(o, whole), (o, netem.set_netem(index, SENDER, _INSIDE, sender(o)))]
        failures |= there.apply(unneeded, silence.GONE)
        failures |= there.apply(requests)
        return failures | self._silence.ensure(there, [o for o in shapes if o.key not in failures])

    def remove(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Give the vifs back their default queue."""
        if not shapes:
            return {}
        here = [(o, there.indexes[o.dev]) for o in shapes if o.dev in there.indexes]
        requests = [(o, r) for o, i in here for r in (tc.delete_qdisc(i, WIRE), tc.delete_filter(i))]
        failures = there.apply(requests, silence.GONE)  # EINVAL: another root qdisc took its place
        return failures | silence.end(there, shapes) | silence.without_hooks(there, shapes)

    def _releasing(self) -> int:
        if self._program < 0:
            self._program = bpf.load(bpf.RELEASED)
        return self._program

    def __del__(self) -> None:
        if self._program >= 0:
            os.close(self._program)

    def _table_us(self, o: Shape) -> tuple[float, ...]:
        if not o.table:
            return ()
        path: Path = self._place.sliver(o.ns) / o.table
        return tuple(float(line) for line in path.read_text().splitlines())


def _is_wire(q: tc.SeenQdisc) -> bool:
    return q.handle == WIRE and q.parent == tc.ROOT and q.kind == "netem"


def _releases(there: There, index: int) -> bool:
    """Whether what leaves by that vif is marked for the Gate at the other end, after all users' programs."""
    found = tc.filters(there.socket, index)
    return any(f.priority == tc.SHAPE_PRIORITY and f.name == bpf.RELEASED for f in found)


def wire(o: Shape, table_us: tuple[float, ...] = ()) -> Netem:
    """The outer qdisc.  Its limit has room for a packet per microsecond of delay, which no sender here exceeds."""
    if table_us:
        jitter_ns, table = netem.empirical(table_us)
    else:
        jitter_ns = o.jitter_us * 1000 * netem.WIDTHS[o.distribution]
        table = netem.table(o.distribution) if jitter_ns else ()
    return Netem(
        limit=o.queue_packets + _room(o.delay_us * 1000, jitter_ns),
        delay_ns=o.delay_us * 1000,
        jitter_ns=jitter_ns,
        table=table,
        loss=netem.probability(o.loss_ppm),
        bursts=_bursts(o),
        duplicate=netem.probability(o.duplicate_ppm),
        corrupt=netem.probability(o.corrupt_ppm),
        reorder=netem.probability(o.reorder_ppm),
        gap=1 if o.reorder_ppm and not o.drop else 0,  # who overtakes would pass the fault by
        rate=_KEEPS_ORDER if o.keeps_order else 0,
        notes=_notes(o),
    )


def _room(delay_ns: int, jitter_ns: int) -> int:
    return (delay_ns + 4 * jitter_ns) // 1000 + 1000


def sender(o: Shape) -> Netem:
    """The inner qdisc.  The silent fault is here, so that what was on the wire when it began is lost too."""
    loss = netem.ALWAYS if o.drop else 0
    limit = o.queue_packets | (0 if o.rate_kbit else _NO_LIMIT)
    return Netem(limit=limit, loss=loss, rate=o.rate_kbit * 125)


def _shape(ns: str, dev: str, outer: Netem, inside: tc.SeenQdisc | None) -> Shape:
    inner = netem.seen_netem(inside.options) if inside and inside.kind == "netem" else None
    code, digest = outer.notes[0] & 3, (outer.notes[0] >> 8) << 32 | outer.notes[1]
    distribution = _DISTRIBUTIONS[code]
    if inner:
        queue_packets = inner.limit & ~_NO_LIMIT
    else:
        queue_packets = max(0, outer.limit - _room(outer.delay_ns, outer.jitter_ns)) if outer.duplicate else 0
    return Shape(
        ns,
        dev,
        "netem",
        delay_us=outer.delay_ns // 1000,
        jitter_us=0 if code == 3 else outer.jitter_ns // 1000 // netem.WIDTHS[distribution],
        loss_ppm=netem.parts_per_million(outer.loss),
        rate_kbit=inner.rate // 125 if inner else 0,
        queue_packets=queue_packets,
        drop=inner.loss != 0 if inner else inside is not None,
        distribution=distribution,
        keeps_order=outer.rate != 0,
        reorder_ppm=netem.parts_per_million(outer.reorder),
        duplicate_ppm=netem.parts_per_million(outer.duplicate),
        corrupt_ppm=netem.parts_per_million(outer.corrupt),
        table=f"shape/{digest:012x}.table" if code == 3 else "",
        **_seen_bursts(outer),
    )


# --- bursts of loss -----------------------------------------------------------------------------
#
# With states, netem has no loss that is independent of them, so the states' own hold both; the independent one is told
# as well, which the kernel keeps and doesn't use.


def _bursts(o: Shape) -> tuple[int, int, int, int] | None:
    if not o.enter_ppm:
        return None
    p, r = netem.probability(o.enter_ppm), netem.probability(o.leave_ppm)
    passes_bad, passes_good = (_passes(ppm, o.loss_ppm) for ppm in (o.bad_ppm, o.good_ppm))
    return p, r, passes_bad, netem.ALWAYS - passes_good


def _passes(bad_ppm: int, loss_ppm: int) -> int:
    return round((1_000_000 - bad_ppm) * (1_000_000 - loss_ppm) * netem.ALWAYS / 10**12)


def _seen_bursts(outer: Netem) -> dict[str, Any]:
    if outer.bursts is None:
        return {}
    p, r, passes_bad, lost_good = outer.bursts
    passes = 1_000_000 - netem.parts_per_million(outer.loss)
    bad, good = (
        1_000_000 - round(n * 10**12 / netem.ALWAYS / passes) if passes else 0
        for n in (passes_bad, netem.ALWAYS - lost_good)
    )
    to_bad, to_good = (netem.parts_per_million(n) for n in (p, r))
    return {"enter_ppm": to_bad, "leave_ppm": to_good, "bad_ppm": bad, "good_ppm": good}


def _notes(o: Shape) -> tuple[int, int]:
    """The distribution, and the 48 bits by which its table's file is named."""
    digest = int(Path(o.table).stem, 16) if o.table else 0
    return _DISTRIBUTIONS.index(o.distribution) | digest >> 32 << 8, digest & 0xFFFFFFFF
