"""An IP router: BIRD or FRR write the kernel's forwarding table, this program forwards by it.

The sliver's kernel takes what is for the sliver itself (pings, routing protocols, ARP) and forwards nothing.
"""

from vini.packets import Router, run


class OspfRouter(Router):
    def packets(self, batch):
        for packet in batch:
            if packet.destination_mac not in self.macs or not packet.destination:
                continue  # for somebody else on the link, for all of them, or not IP
            hop = self.fib.lookup(packet.destination)
            if hop and packet.decrement_ttl():
                packet.data[:12] = hop.macs
                yield hop.vif, packet


run(OspfRouter())
