"""The nouns: what a person writes, what a node must hold, and the error tree.

Frozen values without I/O; this package imports nothing of ours.  A person writes a `Topology`;
`embed` turns it into one `SliceSpec` per node: a set of `Object`s drawn from a closed list of
kinds.  That list is the narrow waist: link backends and routing daemons compile down to it, and
a node understands nothing else.
"""

from __future__ import annotations

from vini.model.asked import (
    BUDGET_KPPS,
    DAEMONS,
    IN_KERNEL,
    PROTOCOLS,
    SPEAKS,
    Bound,
    BurstLoss,
    Command,
    End,
    Expect,
    Fault,
    Impairment,
    Link,
    Lives,
    Place,
    Program,
    Resources,
    Routing,
    Sliver,
    StaticRoute,
    Topology,
    Traffic,
)
from vini.model.errors import (
    CapacityError,
    Conflict,
    Denied,
    DriverError,
    Mistake,
    NotFound,
    Stale,
    TopologyError,
    Unsupported,
    ViniError,
)
from vini.model.objects import STACK, AnyObject, Tunnel
from vini.model.objects.base import Object
from vini.model.objects.bpf import Bpf, BpfRow, BpfVif, Hook
from vini.model.objects.container import Container
from vini.model.objects.process import Halt, Process, Ready
from vini.model.objects.shaping import Gate, Shape
from vini.model.objects.space import SYSCTLS, Netns, Sysctl
from vini.model.objects.storage import Disk, File, Root, Volume
from vini.model.objects.tunnels import TWIN, Gretap, Vxlan, VxlanXdp, beyond
from vini.model.objects.uplink import OUTSIDE, Outside, OutsideGrant, Share
from vini.model.objects.veth import Veth, VethEnd
from vini.model.objects.vifs import BRIDGE, Address, Bridge, Interface, Route
from vini.model.objects.wireguard import WIREGUARD, Wireguard, WireguardPeer, is_sliver, underlay
from vini.model.router import Adjacency, BgpPeer, Router, RouterVif
from vini.model.spec import Capabilities, Node, Op, Ride, SliceSpec, SliverStatus, State, Waiting, Way
from vini.model.value import Key, Value

__all__ = [
    "Address", "Adjacency", "AnyObject", "BRIDGE", "BUDGET_KPPS", "BgpPeer", "Bpf", "BpfRow", "BpfVif", "Bound",
    "Bridge", "BurstLoss", "Capabilities", "CapacityError", "Command", "Conflict", "Container", "DAEMONS", "Denied",
    "Disk", "DriverError", "End", "Expect", "Fault", "File", "Gate", "Gretap", "Halt", "Hook", "IN_KERNEL",
    "Impairment", "Interface", "Key", "Link", "Lives", "Mistake", "Netns", "Node", "NotFound", "OUTSIDE",
    "Object", "Op", "Outside", "OutsideGrant", "PROTOCOLS", "Place", "Process", "Program", "Ready",
    "Resources", "Ride", "Root", "Route", "Router", "RouterVif", "Routing",
    "SPEAKS", "STACK", "SYSCTLS", "Shape", "Share", "SliceSpec", "Sliver", "SliverStatus", "Stale", "State",
    "StaticRoute", "Sysctl", "TWIN", "Topology", "TopologyError", "Traffic", "Tunnel", "Unsupported", "Value",
    "Veth", "VethEnd", "ViniError", "Volume", "Vxlan", "VxlanXdp", "WIREGUARD", "Waiting", "Way", "Wireguard",
    "WireguardPeer", "beyond", "is_sliver", "underlay",
]  # fmt: skip
