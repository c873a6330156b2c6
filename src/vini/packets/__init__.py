"""A data plane of your own in Python: raw packets of a sliver's vifs in, raw packets out.

    from vini.packets import Router, run

    class Hub(Router):
        def packets(self, batch):
            for packet in batch:
                for vif in self.vifs:
                    if vif != packet.vif:
                        yield vif, packet

    run(Hub())

For teaching and prototypes.  It runs in a sliver whose kernel doesn't forward; packets for the sliver itself reach its
kernel as ever, so routing daemons work unchanged.  docs/how-to/write-a-forwarder-in-python.md begins at the beginning.
"""

from __future__ import annotations

from vini.packets.fib import Fib, Hop
from vini.packets.loop import Router, run
from vini.packets.packet import Packet
from vini.packets.vif import Counters, Vif

__all__ = ["Counters", "Fib", "Hop", "Packet", "Router", "Vif", "run"]
