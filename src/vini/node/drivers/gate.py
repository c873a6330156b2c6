"""Gates at vifs: what comes in must have been released by the Shape at the link's other end.

A Shape works where packets leave, and some ways to send lead past all that is there: a packet socket with
PACKET_QDISC_BYPASS (packet(7)), AF_XDP in copy mode, what XDP redirects.  So the last step of a Shape leaves a mark on
a packet that no sender can make (`bpf.RELEASED`), and the first filter at the other end asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from vini.model import Gate
from vini.node import bpf, tc
from vini.node.drivers import Failures, silence
from vini.node.drivers.there import There


class Gates:
    """Holds the loaded program, which all vifs have in common."""

    def __init__(self) -> None:
        self._program = -1

    def observe(self, there: There, hooked: Collection[int]) -> Iterator[Gate]:
        """Those at vifs with hooks for filters (interface indexes)."""
        for index in hooked:
            for f in tc.filters(there.socket, index, tc.INGRESS):
                peer = bpf.gate_of(f.name) if f.priority == tc.GATE_PRIORITY else None
                if peer and f.program:
                    yield Gate(there.ns, there.links[index].dev, *peer)

    def ensure(self, there: There, gates: Sequence[Gate]) -> Failures:
        """From now on nothing else comes in; of what is on its way now, only what was released already."""
        failures = there.missing(gates)
        here = [(o, there.indexes[o.dev]) for o in gates if o.key not in failures]
        requests = [(o, r) for o, index in here for r in (tc.add_clsact(index), self._filter(index, o))]
        return failures | there.apply(requests)

    def _filter(self, index: int, o: Gate) -> bytes:
        if self._program < 0:
            self._program = bpf.load(bpf.GATE)
        name = bpf.gate_name(o.peer_ns, o.peer_dev)
        return tc.set_filter(index, self._program, name, tc.INGRESS, tc.GATE_PRIORITY)

    def remove(self, there: There, gates: Sequence[Gate]) -> Failures:
        """Let everything in; the hooks go too unless somebody else's filters are there."""
        here = [(o, there.indexes[o.dev]) for o in gates if o.dev in there.indexes]
        requests = [(o, tc.delete_filter(i, tc.INGRESS, tc.GATE_PRIORITY)) for o, i in here]
        return there.apply(requests, silence.GONE) | silence.without_hooks(there, gates)

    def __del__(self) -> None:
        if self._program >= 0:
            os.close(self._program)
