"""The peer: the same line of routers by Mininet's own API.  Run by Debian's python3, which has Mininet:

python3 mininet_line.py COUNT    prints {"up_s": ..., "down_s": ...}

It imports nothing of ours.  Routers are plain nodes with forwarding on, joined by direct links (no
switch, no controller, so no Open vSwitch), with an IPv4 address on each vif by `params`, and the
loopback and IPv6 addresses by one shell command per node, which is the least that its API allows.
"""

from __future__ import annotations

import json
import sys
import time

from mininet.log import setLogLevel  # type: ignore[import-not-found]
from mininet.net import Mininet  # type: ignore[import-not-found]
from mininet.node import Node  # type: ignore[import-not-found]


class Router(Node):  # type: ignore[misc]
    """A node that forwards, and gives itself the addresses that Mininet's API can't."""

    def config(self, addresses: tuple[tuple[str, str], ...] = (), **parameters: object) -> None:
        """Called once by Mininet when its links are there."""
        super().config(**parameters)
        batch = "; ".join(f"ip addr add {cidr} dev {dev} nodad" for cidr, dev in addresses)
        self.cmd(f"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; {batch}")


def _v4(i: int) -> str:
    return f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"


def _net(count: int) -> Mininet:
    net = Mininet(controller=None, switch=None, build=False)
    nodes = []
    for i in range(count):
        addresses = [(f"10.192.{i >> 8}.{i & 255}/32", "lo"), (f"fd56::{i + 1:x}/128", "lo")]
        if i:
            addresses.append((f"fd57::{2 * i - 1:x}/127", f"r{i}-left"))
        if i + 1 < count:
            addresses.append((f"fd57::{2 * i:x}/127", f"r{i}-right"))
        nodes.append(net.addHost(f"r{i}", cls=Router, ip=None, addresses=tuple(addresses)))
    for i in range(count - 1):
        net.addLink(
            nodes[i], nodes[i + 1], intfName1=f"r{i}-right", intfName2=f"r{i + 1}-left",
            params1={"ip": f"{_v4(2 * i)}/31"}, params2={"ip": f"{_v4(2 * i + 1)}/31"},
        )  # fmt: skip
    net.build()
    net.start()
    return net


def main(count: int) -> None:
    """Once up and down."""
    setLogLevel("error")
    Mininet.inited = True  # else it raises kernel limits of the whole machine, for good
    started = time.perf_counter()
    net = _net(count)
    up_s = time.perf_counter() - started
    addresses = net.nameToNode["r1"].cmd("ip addr show")
    if addresses.count("inet ") < 3 or addresses.count("fd57:") < min(2, count - 1):
        sys.exit(f"Mininet did not do what was asked: {addresses}")
    started = time.perf_counter()
    net.stop()
    print(json.dumps({"up_s": up_s, "down_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
