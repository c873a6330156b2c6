"""An IP router with a forwarding table of its own: `static-router.py 10.1.0.0/16=10.0.0.1 fd01::/32=fd00::1 ...`

The longest prefix wins.  The kernel is only asked for the MAC addresses of next hops.
"""

import sys
from ipaddress import ip_address, ip_network

from vini.packets import Router, run


class StaticRouter(Router):
    def __init__(self, routes):
        table = [(ip_network(prefix), via) for prefix, via in (route.split("=") for route in routes)]
        self.table = sorted(table, key=lambda route: -route[0].prefixlen)
        self.next_hops = {}  # destination -> address of its next hop: what was found once

    def next_hop(self, destination):
        if destination not in self.next_hops:
            address = ip_address(destination)
            self.next_hops[destination] = next((via for prefix, via in self.table if address in prefix), None)
        return self.next_hops[destination]

    def packets(self, batch):
        for packet in batch:
            if packet.destination_mac in self.macs and packet.destination:
                via = self.next_hop(packet.destination)
                hop = self.fib.lookup(via) if via else None
                if hop and packet.decrement_ttl():
                    packet.data[:12] = hop.macs
                    yield hop.vif, packet


run(StaticRouter(sys.argv[1:]))
