"""Shapes by the kernel's netem (tc-netem(8)).

Two netem qdiscs, one in the other, because one limit can't bound both: the outer one is the wire
(loss, delay, jitter) and its limit only bounds memory; the inner one is the sender (rate, queue).
A single one would count the packets on the wire as queued, and drop them: the trap of netem's
default limit of 1000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from errno import EINVAL, ENODEV, ENOENT

from vini.model import Shape
from vini.node import tc
from vini.node.drivers import Failures
from vini.node.drivers.there import There

WIRE = 0x56490000  # handle "VI": how we know our own
SENDER = 0x564A0000
_SENDER_PARENT = WIRE | 1
# netem keeps order, under jitter or when a delay is lowered, only at a rate (it starts a packet when the last
# one is through); so the wire gets one at which a frame takes no nanosecond.
_KEEPS_ORDER = 1 << 50  # bytes/s
# Without a rate nothing waits, but packets that become due together are in the inner qdisc together.
_NO_LIMIT = 1 << 30
_GONE = frozenset({ENOENT, ENODEV, EINVAL})  # EINVAL: another root qdisc took its place


class NetemShapes:
    """Stateless."""

    def observe(self, there: There, qdiscs: Sequence[tc.SeenQdisc]) -> Iterator[Shape]:
        """Our netem pairs, exactly as they were asked for; half a pair as what it does."""
        inner = {q.index: tc.seen_netem(q.options) for q in qdiscs if q.handle == SENDER and q.kind == "netem"}
        for q in qdiscs:
            if q.handle == WIRE and q.parent == tc.ROOT and q.kind == "netem":
                yield _shape(there.ns, there.links[q.index].dev, tc.seen_netem(q.options), inner.get(q.index))

    def ensure(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Make or change them; netem keeps what it holds."""
        if not shapes:
            return {}
        failures = there.missing(shapes)
        requests = []
        for o in shapes:
            if o.key not in failures:
                index = there.indexes[o.dev]
                requests.append((o, tc.set_netem(index, WIRE, tc.ROOT, wire(o))))
                requests.append((o, tc.set_netem(index, SENDER, _SENDER_PARENT, sender(o))))
        return failures | there.apply(requests)

    def remove(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Give the vifs back their default queue."""
        if not shapes:
            return {}
        requests = [(o, tc.delete_qdisc(there.indexes[o.dev], WIRE)) for o in shapes if o.dev in there.indexes]
        return there.apply(requests, _GONE)


def wire(o: Shape) -> tc.Netem:
    """The outer qdisc.  Its limit has room for a packet per microsecond of delay, which no sender here exceeds."""
    return tc.Netem(
        limit=o.queue_packets + o.delay_us + 4 * o.jitter_us + 1000,
        delay_ns=o.delay_us * 1000,
        jitter_ns=o.jitter_us * 1000,
        loss=tc.probability(o.loss_ppm),
        rate=_KEEPS_ORDER,
    )


def sender(o: Shape) -> tc.Netem:
    """The inner qdisc.  The silent fault is here, so that what was on the wire when it began is lost too."""
    loss = tc.probability(1_000_000) if o.drop else 0
    limit = o.queue_packets | (0 if o.rate_kbit else _NO_LIMIT)
    return tc.Netem(limit=limit, loss=loss, rate=o.rate_kbit * 125)


def _shape(ns: str, dev: str, outer: tc.Netem, inner: tc.Netem | None) -> Shape:
    return Shape(
        ns,
        dev,
        "netem",
        delay_us=outer.delay_ns // 1000,
        jitter_us=outer.jitter_ns // 1000,
        loss_ppm=tc.parts_per_million(outer.loss),
        rate_kbit=inner.rate // 125 if inner else 0,
        queue_packets=inner.limit & ~_NO_LIMIT if inner else 0,
        drop=bool(inner and inner.loss),
    )
