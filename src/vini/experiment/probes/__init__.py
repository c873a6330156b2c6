"""The kinds of probes, by the word that a file uses for them."""

from __future__ import annotations

from vini.experiment.probes.capture import Capture
from vini.experiment.probes.counters import Counters
from vini.experiment.probes.iperf3 import Iperf3
from vini.experiment.probes.path import Path
from vini.experiment.probes.ping import Ping
from vini.experiment.probes.routes import Routes
from vini.experiment.probes.traceroute import Traceroute
from vini.experiment.probes.udp import Udp

AnyProbe = Ping | Iperf3 | Udp | Traceroute | Path | Routes | Capture | Counters
__all__ = ["AnyProbe", "Capture", "Counters", "Iperf3", "Path", "Ping", "Routes", "Traceroute", "Udp"]
