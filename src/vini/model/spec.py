"""Specs, states, steps and statuses: how objects travel between a slice and its nodes."""

from __future__ import annotations

from typing import Literal

from vini.model.objects import AnyObject
from vini.model.objects.shaping import Shape
from vini.model.objects.vifs import Route
from vini.model.value import Value

Capabilities = frozenset[str]  # words of node/probe.py: "netem", "element", "cgroup2", "frr", "bird", ...


class Node(Value, frozen=True):
    """A physical machine (or a test host), run by one agent."""

    name: str
    capabilities: Capabilities = frozenset()
    site: str = ""  # the `login_base` of its site
    address: str = ""  # by which other nodes reach it: IPv4 or IPv6; "": it has no neighbours
    mtu: int = 1500  # of the network between nodes, bytes of IP packet
    cores: float = 0.0  # that slivers may use; 0: not bounded
    memory_mib: int = 0  # the same; 0: not bounded
    wireguard: str = ""  # its public key, in base64; "": it has none
    disk_mb: int = 0  # 10**6 bytes that disks and volumes may be; 0: not bounded
    rate_mbit: float = 0.0  # 10**6 bit/s that slivers may send by its uplink together; 0: nobody said


Way = tuple[str, str]  # addresses of this node and of another one: the path between them, whatever it leads over


class Ride(Value, frozen=True, forbid_unknown_fields=False):
    """One end, here, of a link that leads to another node, and that fails when the path to that node does."""

    link: str
    ns: str
    dev: str  # its vif; where that is the tunnel itself, its addresses are the path's
    node: str  # the other one
    way: Way | None = None  # the path, where that is another one than its addresses
    down: str = ""  # why an operator took down what it rides on; "": nobody did


class SliceSpec(Value, frozen=True, forbid_unknown_fields=False):
    """Everything that one node must hold for one slice; immutable and complete.

    A node never goes back to a lower generation.  An empty `objects` asks for the slice's end.  A node of an older
    version passes over a field that it does not know: a new one here is only what a slice can do without.  What must
    not be passed over belongs in an object, where what a node does not know is refused.
    """

    slice: str
    node: str
    generation: int
    objects: frozenset[AnyObject] = frozenset()
    not_before: float = 0.0  # Unix time, s: until then the node keeps what it has; 0: at once
    expires: float = 0.0  # Unix time, s: then the node ends the slice by itself; 0: never
    rides: tuple[Ride, ...] = ()  # the links that mirror what they ride on
    spares: tuple[Route, ...] = ()  # the first that stands is wanted where a route to the same stands on a failed one
    underlay_ms: dict[str, float] = {}  # link to another node -> of its delay, what the path takes, one way


class State(Value, frozen=True):
    """What was observed on a node, bearing our mark."""

    objects: frozenset[AnyObject] = frozenset()
    unready: dict[str, str] = {}  # namespace -> why, for what exists but does not work yet
    failed: dict[str, str] = {}  # namespace -> why, for what has failed and won't be tried again


class Op(Value, frozen=True):
    """One step of a plan, and the reason for it."""

    verb: Literal["ensure", "remove"]
    object: AnyObject
    why: str = ""
    in_place: bool = False  # an ensure that changes what is there

    def __str__(self) -> str:
        sign = "-" if self.verb == "remove" else "~" if self.in_place else "+"
        by = f" by {self.object.backend}" if isinstance(self.object, Shape) else ""
        return f"{sign} {' '.join(self.object.key)}{by}" + (f"  ({self.why})" if self.why else "")


class Waiting(str):
    """Why an object is not there yet, though nothing has failed."""


class SliverStatus(Value, frozen=True, forbid_unknown_fields=False):
    """How one sliver is: a view of the plan, and of its readiness probes."""

    sliver: str
    state: Literal["ready", "configuring", "failed"]
    why: str = ""
    faults: dict[str, str] = {}  # link of it -> why that failed, though nobody asked for it
    slowed: str = ""  # why it may send less than it asks for; "": it may send all of that
    falls: dict[str, int] = {}  # link of it -> how often that failed so since the agent started
    leaves: str = ""  # when and why it ends before its slice does; "": it lives as long
