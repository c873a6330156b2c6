"""The Python API: build or load a topology, bring it up, run things in it, change it, measure it.

    from vini import Network

    net = Network("triangle", routing="ospf", daemon="bird")
    a, b, c = net.routers("a", "b", "c")
    net.link(a, b, delay="10ms"); net.link(b, c); net.link(a, c, cost=50)
    with net:
        print(net.ping(a, c))

`Network` is for scripts, notebooks and tests; `AsyncNetwork` has the same methods for asyncio.
"""

from __future__ import annotations

from vini.api.inside import AsyncProcess, CommandFailed, Completed
from vini.api.live import AsyncNetwork, AsyncSliver
from vini.api.measurement import Measurement
from vini.api.network import Network, Process, Sliver
from vini.api.results import IperfResult, PingResult, table

__all__ = [
    "AsyncNetwork", "AsyncProcess", "AsyncSliver", "CommandFailed", "Completed", "IperfResult", "Measurement",
    "Network", "PingResult", "Process", "Sliver", "table",
]  # fmt: skip
