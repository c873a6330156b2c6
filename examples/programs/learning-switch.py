"""A learning Ethernet switch (IEEE 802.1D without its spanning tree): it sends to where an address was last heard."""

import time

from vini.packets import Router, run

AGEING_S = 300


class Switch(Router):
    heard = {}  # MAC address -> vif, and when it was last heard there

    def packets(self, batch):
        now = time.monotonic()
        for packet in batch:
            self.heard[packet.source_mac] = packet.vif, now
            vif, at = self.heard.get(packet.destination_mac, ("", 0))
            if vif in self.vifs and now - at < AGEING_S:
                if vif != packet.vif:
                    yield vif, packet
            else:
                for other in self.vifs:
                    if other != packet.vif:
                        yield other, packet


run(Switch())
