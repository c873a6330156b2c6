"""An Ethernet hub: what comes by one vif leaves by all others.  No loops, please: a hub repeats for ever."""

from vini.packets import Router, run


class Hub(Router):
    def packets(self, batch):
        for packet in batch:
            for vif in self.vifs:
                if vif != packet.vif:
                    yield vif, packet


run(Hub())
