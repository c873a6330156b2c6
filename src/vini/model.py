"""The nouns: what a person writes, what a node must hold, and the error tree.

Frozen values without I/O; this module imports nothing of ours.  A person writes a `Topology`;
`embed` turns it into one `SliceSpec` per node: a set of `Object`s drawn from a closed list of
kinds.  That list is the narrow waist: link backends and routing daemons compile down to it, and
a node understands nothing else.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

Key = tuple[str, ...]


class Value(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An immutable value, compared by its contents, that survives the wire (JSON) unchanged."""


# --- what a person writes -------------------------------------------------------------------

Fault = Literal["none", "carrier", "silent"]
DAEMONS = ("frr", "bird")
PROTOCOLS = ("ospf", "ospf6", "isis", "rip", "ripng", "bgp", "babel", "static")
# What each built-in daemon speaks. FRR has a Babel daemon too, but that of 8.4 forgets links that are up at its start.
SPEAKS = {"frr": frozenset(PROTOCOLS) - {"babel"}, "bird": frozenset(PROTOCOLS) - {"isis"}}


class BurstLoss(Value, frozen=True):
    """Loss in bursts (Gilbert 1960, Elliott 1963): two states, good at first, that may change at each packet."""

    enter: float  # probability, per packet, that the good state turns bad
    leave: float  # that the bad one turns good again
    bad: float = 1.0  # probability of losing a packet in the bad state
    good: float = 0.0  # and in the good one


class Impairment(Value, frozen=True):
    """What one direction of a link does to packets.  The default does nothing."""

    delay_ms: float = 0.0  # one way
    jitter_ms: float = 0.0  # around the delay, cut at 0; what it measures is the distribution's
    loss: float = 0.0  # probability, 0..1, independent per packet
    rate_mbit: float = 0.0  # 10**6 bits of Ethernet frame per second; 0: unlimited
    queue_packets: int = 1000  # waiting for their turn at the rate; 0: bounded by one of the next two
    queue_bytes: int = 0  # of Ethernet frames that wait; 0: not bounded by it
    queue_ms: float = 0.0  # the longest that a packet may have to wait; 0: not bounded by it
    aqm: Literal["", "codel"] = ""  # who drops from the queue besides its end
    distribution: Literal["normal", "uniform", "pareto"] = "normal"  # of the jitter: standard deviation, half-width, sd
    jitter_table_ms: tuple[float, ...] = ()  # quantiles of an extra delay, ascending; linear between them
    keeps_order: bool = True  # no packet departs before the one ahead of it, though its delay is shorter
    reorder: float = 0.0  # probability that a packet departs without its delay, and so overtakes
    burst_loss: BurstLoss | None = None
    lose: tuple[tuple[int, int], ...] = ()  # numbers of packets that are lost, from 1; ranges, both ends included
    duplicate: float = 0.0  # probability that a packet comes twice
    corrupt: float = 0.0  # probability that one of its bits is flipped
    trace: str = ""  # what the link gives over time, as `vini.text.trace` writes it

    @property
    def does_nothing(self) -> bool:
        """Whether packets are as they would be without it; how long a queue may be matters only at a rate."""
        chances = (self.loss, self.reorder, self.duplicate, self.corrupt, self.burst_loss, self.lose)
        times = (self.delay_ms, self.jitter_ms, self.jitter_table_ms, self.rate_mbit, self.trace)
        return not any(chances) and not any(times)


class Routing(Value, frozen=True):
    """Routing intent of one sliver: which protocols, spoken by which daemon."""

    protocols: tuple[str, ...] = ()  # of PROTOCOLS; () with `raw`: only the user's own configuration
    daemon: str = "frr"  # of DAEMONS, or one that another distribution brings
    hello_s: float = 1.0  # hello interval of OSPF, IS-IS, Babel
    dead_s: float = 4.0  # a neighbour is dead after this silence (OSPF dead interval, IS-IS holding time)
    area: str = "0.0.0.0"  # OSPF area; IS-IS area is derived from it
    asn: int = 0  # BGP autonomous system number; 0: none
    bfd: bool = False
    announce: tuple[str, ...] = ()  # prefixes originated by BGP besides the loopbacks
    raw: dict[str, str] = {}  # daemon configuration file name -> text; wins over what we generate


class StaticRoute(Value, frozen=True):
    """A route that the user gives; `via` is an address or the name of a neighbouring sliver."""

    to: str
    via: str


class Command(Value, frozen=True):
    """A command that runs in a sliver once it is up; `service` ones are restarted when they end."""

    run: str  # a shell command line
    service: bool = False


class Place(Value, frozen=True):
    """Where something is, in degrees (WGS 84)."""

    latitude: float
    longitude: float


class Program(Value, frozen=True):
    """A sliver's own data plane, in place of the kernel's forwarding."""

    kind: Literal["elements", "c", "process", "python"]
    text: str  # of the program; of "process" the shell command line
    name: str = ""  # of the file it came from, for messages
    hook: Literal["auto", "tc", "xdp"] = "auto"  # of "elements" and "c"
    vifs: tuple[str, ...] = ()  # where it runs; (): at every vif
    budget_kpps: int = 0  # 10**3 packets per second that it may handle; 0: BUDGET_KPPS


BUDGET_KPPS = 20_000  # more than one core forwards, so that only a runaway meets it


class Sliver(Value, frozen=True):
    """A virtual machine, router or host.  A sliver without routing is a host and does not forward."""

    name: str
    routing: Routing | None = None
    addresses: tuple[str, ...] = ()  # loopback, "a/32", "a/128"; () : chosen by `names`
    routes: tuple[StaticRoute, ...] = ()
    image: str = ""  # directory on the node that is the sliver's root file system; "": the node's own root
    files: dict[str, str] = {}  # absolute path inside the sliver -> text
    commands: tuple[Command, ...] = ()
    forward: bool | None = None  # None: as routing says
    node: str = ""  # pin to a node; "": anywhere
    place: Place | None = None
    label: str = ""  # for people: the name in another tool's file, a city
    mode: Literal["kernel", "switch"] = "kernel"  # "switch": its vifs are ports of one bridge
    program: Program | None = None


class End(Value, frozen=True):
    """One end of a link: a vif inside a sliver, and what happens to packets that leave by it."""

    sliver: str
    vif: str = ""  # "": `to-<peer>`, shortened to 15 characters
    addresses: tuple[str, ...] = ()  # with prefix length; (): chosen by `names`
    cost: int | None = None  # None: the link's
    impairment: Impairment | None = None  # packets that leave by this end; None: the link's


class Link(Value, frozen=True):
    """A virtual Ethernet link between two slivers."""

    ends: tuple[End, End]
    name: str = ""  # "": `a--b`; needed for parallel links only
    cost: int = 10  # metric in both directions unless an end says otherwise
    impairment: Impairment = Impairment()  # each direction, unless an end says otherwise
    mtu: int = 1500
    fault: Fault = "none"
    protocols: tuple[str, ...] | None = None  # routing protocols spoken over it; None: all that its ends speak
    area: str = ""  # OSPF area; "": the sliver's


class Expect(Value, frozen=True):
    """`source` must reach `destination`; "*" stands for every sliver."""

    source: str = "*"
    destination: str = "*"
    within_s: float = 60.0


class Topology(Value, frozen=True):
    """What a person asks for; every default is already resolved into the slivers and links."""

    name: str
    slivers: dict[str, Sliver] = {}
    links: tuple[Link, ...] = ()
    expect: tuple[Expect, ...] = ()


# --- what a routing daemon plugin is given -----------------------------------------------------


class RouterVif(Value, frozen=True):
    """One vif of a router as its routing daemon sees it; addresses with prefix length."""

    dev: str
    peer: str  # the sliver at the other end; on a LAN a switch
    addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]  # on a LAN those of all its others
    cost: int
    protocols: tuple[str, ...]  # spoken over this vif: we and another speak them and the link allows them
    area: str
    passive: tuple[str, ...] = ()  # IGPs that announce its prefix though they are not spoken over it (to a host)
    neighbors: dict[str, int] = {}  # on a LAN: how many others speak each of the protocols there; else one


class BgpPeer(Value, frozen=True):
    """A BGP session, derived from the topology: eBGP over a link, iBGP between loopbacks."""

    name: str
    address: str  # without prefix length
    asn: int
    internal: bool = False
    source: str = ""  # our address of an iBGP session


class Router(Value, frozen=True):
    """All that a routing daemon plugin may know of one sliver."""

    ns: str
    name: str
    router_id: str  # dotted quad
    loopbacks: tuple[str, ...]  # "a/32", "a/128"
    routing: Routing
    vifs: tuple[RouterVif, ...]
    peers: tuple[BgpPeer, ...] = ()


class Adjacency(Value, frozen=True):
    """A routing neighbour as a daemon reports it."""

    protocol: str
    neighbor: str  # router id or address
    dev: str
    state: str
    up: bool


# --- the substrate --------------------------------------------------------------------------

Capabilities = frozenset[str]  # words of node/probe.py: "netem", "element", "cgroup2", "frr", "bird", ...


class Node(Value, frozen=True):
    """A physical machine (or a test host), run by one agent."""

    name: str
    capabilities: Capabilities = frozenset()


# --- what a node must hold: the closed list of objects ---------------------------------------


class Object(Value, frozen=True, tag_field="kind", tag=str.lower):
    """One thing in a kernel or a process table.

    `key` says which one, `on` names the keys it stands on, `in_place` the fields that may change
    under a living object; another difference means that it is rebuilt.  An object that `falls`
    vanishes by itself when all that it stands on is removed.
    """

    in_place: ClassVar[frozenset[str]] = frozenset()
    falls: ClassVar[bool] = True

    @property
    def key(self) -> Key:
        raise NotImplementedError

    @property
    def on(self) -> tuple[Key, ...]:
        return ()

    @property
    def changeable(self) -> frozenset[str]:
        """The fields that may differ without a rebuild; by default the kind's `in_place`."""
        return self.in_place

    @property
    def slivers(self) -> tuple[str, ...]:
        """The namespaces (`slice.sliver`) whose users notice when this object is unwell."""
        return (self.ns,)  # type: ignore[attr-defined]


class Netns(Object, frozen=True):
    """A network namespace: `slice.sliver`; on the machine `<mark>.slice.sliver` in /run/netns."""

    in_place: ClassVar[frozenset[str]] = frozenset({"named"})
    falls: ClassVar[bool] = False
    ns: str
    named: bool = True  # whether that name leads to it; always wanted so

    @property
    def key(self) -> Key:
        return ("netns", self.ns)


class Sysctl(Object, frozen=True):
    """The settings below /proc/sys/net that we care for, of one namespace."""

    in_place: ClassVar[frozenset[str]] = frozenset({"settings"})
    ns: str
    settings: tuple[tuple[str, str], ...]  # sorted; names of SYSCTLS

    @property
    def key(self) -> Key:
        return ("sysctl", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


class Root(Object, frozen=True):
    """A pinned mount namespace: the sliver's own view of the file system.

    Without `image`, the node's root, in which `dirs` are private to the sliver: each is an overlay
    over the node's.  With `image`, a directory on the node, that is the root, and all of it is
    private.  What the slice's files put there lies in `<run>/slivers/<ns>/root/`.
    """

    ns: str
    dirs: tuple[str, ...] = ()  # top-level directories, sorted: "/etc", "/root"
    image: str = ""  # absolute path of a root file system

    @property
    def key(self) -> Key:
        return ("root", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class VethEnd(Value, frozen=True):
    """One end of a veth pair; `index` is the interface index, unique inside its namespace."""

    ns: str
    dev: str
    index: int
    mac: str


class Veth(Object, frozen=True):
    """A veth pair.  It is recognised by its two interface indexes, which name-derived hashes choose."""

    ends: tuple[VethEnd, VethEnd]

    @property
    def key(self) -> Key:
        a, b = self.ends
        return ("veth", a.ns, a.dev, b.ns, b.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return tuple(("netns", e.ns) for e in self.ends)

    @property
    def slivers(self) -> tuple[str, ...]:
        return tuple(e.ns for e in self.ends)


class Interface(Object, frozen=True):
    """The settings of one vif, or of "lo"; it comes and goes with what it belongs to.

    The interface alias carries `wire`, so that one end can be judged without seeing the other.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"mtu", "up", "wire", "whole", "master", "gro", "split", "finished"})
    ns: str
    dev: str
    wire: Key  # the key of what it belongs to: its pair, or for "lo" the namespace
    mtu: int = 1500
    up: bool = True
    whole: bool = True  # with what the kernel gave it when it came up: 127.0.0.1 and ::1, or a link-local address
    master: str = ""  # the bridge that it is a port of
    gro: bool = False  # takes frames that XDP redirects to the other end (NAPI; ethtool's generic-receive-offload)
    split: bool = False  # large segments are cut before they leave by it
    finished: bool = False  # checksums are complete before a packet leaves by it: XDP forgets that one isn't

    @property
    def key(self) -> Key:
        return ("interface", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (self.wire, *((("bridge", self.ns, self.master),) if self.master else ()))


class Address(Object, frozen=True):
    """An address of a vif or of "lo", in canonical form with its prefix length."""

    in_place: ClassVar[frozenset[str]] = frozenset({"whole"})
    ns: str
    dev: str
    cidr: str
    whole: bool = True  # with what the kernel gave it: the routes to itself and to its prefix

    @property
    def key(self) -> Key:
        return ("address", self.ns, self.dev, self.cidr)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev),)


class Route(Object, frozen=True):
    """A static route in the main table, with our protocol number.  `to` is a canonical prefix."""

    in_place: ClassVar[frozenset[str]] = frozenset({"via", "dev"})
    ns: str
    to: str
    via: str
    dev: str

    @property
    def key(self) -> Key:
        return ("route", self.ns, self.to)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev),)


class Shape(Object, frozen=True):
    """What happens to packets that leave a namespace by `dev`.

    Whole numbers and words, so that what a kernel gives back compares equal.  `drop` is the silent fault.  The last
    three are paths of Files of the sliver, on which it stands; "": none.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "delay_us", "jitter_us", "loss_ppm", "rate_kbit", "queue_packets", "drop", "queue_bytes", "queue_us", "aqm",
            "distribution", "keeps_order", "reorder_ppm", "enter_ppm", "leave_ppm", "bad_ppm", "good_ppm",
            "duplicate_ppm", "corrupt_ppm", "table", "lose", "trace",
        }
    )  # fmt: skip
    ns: str
    dev: str
    backend: Literal["netem", "element"]
    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    rate_kbit: int = 0  # 0: unlimited
    queue_packets: int = 1000  # 0: not bounded by this
    drop: bool = False
    queue_bytes: int = 0
    queue_us: int = 0
    aqm: Literal["", "codel"] = ""
    distribution: Literal["normal", "uniform", "pareto", "table"] = "normal"
    keeps_order: bool = True
    reorder_ppm: int = 0
    enter_ppm: int = 0  # of the good state into the bad one; 0: there are no states
    leave_ppm: int = 0
    bad_ppm: int = 0
    good_ppm: int = 0
    duplicate_ppm: int = 0
    corrupt_ppm: int = 0
    table: str = ""  # of delays that are added, for the distribution "table"
    lose: str = ""  # numbers of packets
    trace: str = ""  # of rate, delay and loss over time

    @property
    def key(self) -> Key:
        return ("shape", self.ns, self.dev)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files that it stands on."""
        return tuple(path for path in (self.table, self.lose, self.trace) if path)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev), *(("file", self.ns, path) for path in self.files))


class File(Object, frozen=True):
    """A file of a sliver.  `path` is relative to `<run>/slivers/<ns>/`; below `root/` the sliver sees it as its own."""

    in_place: ClassVar[frozenset[str]] = frozenset({"text", "mode", "owner"})
    ns: str
    path: str
    text: str
    mode: int = 0o644
    owner: str = "root"

    @property
    def key(self) -> Key:
        return ("file", self.ns, self.path)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


BRIDGE = "switch"  # the name of the bridge in a sliver that is a switch


class Bridge(Object, frozen=True):
    """An Ethernet switch in a sliver: a bridge whose ports are Interfaces with it as `master`."""

    in_place: ClassVar[frozenset[str]] = frozenset({"stp", "storm_kpps", "whole"})
    ns: str
    dev: str = BRIDGE
    stp: bool = True  # Spanning Tree Protocol (IEEE 802.1D)
    storm_kpps: int = 10  # 10**3 broadcast, multicast and unknown frames per second that a port takes in
    whole: bool = True  # up, with our timers, and with storm control at every port

    @property
    def key(self) -> Key:
        return ("bridge", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class BpfVif(Value, frozen=True):
    """One vif of a sliver as its programs know it, by its place in the list."""

    dev: str
    index: int
    mac: str
    peer: str  # the MAC address of the link's other end


class BpfRow(Value, frozen=True):
    """What a map holds from the start; hexadecimal."""

    map: str
    key: str
    value: str


class Bpf(Object, frozen=True):
    """The eBPF programs and maps of a sliver, compiled on the node from `source`, checked against the policy, loaded.

    Maps of the same name and shape outlive a change of `source`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"source", "vifs", "rows", "budget_kpps"})
    falls: ClassVar[bool] = False
    ns: str
    source: str  # path of a File of the sliver, C
    hook: Literal["tc", "xdp"]  # where its inputs run
    vifs: tuple[BpfVif, ...]
    rows: tuple[BpfRow, ...] = ()
    budget_kpps: int = BUDGET_KPPS  # of all its vifs together

    @property
    def key(self) -> Key:
        return ("bpf", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns), ("file", self.ns, self.source))


class Hook(Object, frozen=True):
    """One program of a sliver's Bpf at work on what enters or leaves by a vif."""

    in_place: ClassVar[frozenset[str]] = frozenset({"function"})
    ns: str
    dev: str
    direction: Literal["input", "output"]
    hook: Literal["tc", "xdp"]
    function: str

    @property
    def key(self) -> Key:
        return ("hook", self.ns, self.dev, self.direction)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("bpf", self.ns), ("interface", self.ns, self.dev))


class Ready(Value, frozen=True):
    """A readiness probe: `argv`, run in the sliver, prints `expect` at least `times` times, within its time.

    `expect` is a regular expression in which ^ and $ match at every line.
    """

    argv: tuple[str, ...]
    expect: str = ""
    times: int = 1
    within_s: float = 5.0


class Process(Object, frozen=True):
    """A process of a sliver, kept running; with `once`, run to its end one time.

    In `argv`, `reload` and `ready.argv` the text "{run}" stands for `<run>/slivers/<ns>`, and
    "{python}" for the agent's own Python interpreter, which knows `vini`.  When only
    `config` differs and `reload` is given, the process is told to reload; else it is restarted.
    """

    ns: str
    name: str
    argv: tuple[str, ...]
    config: str = ""  # digest of the files it reads
    reload: tuple[str, ...] = ()
    reload_within_s: float = 30.0
    reload_on: str = ""  # what its log says when it must be told to reload, though nothing else changed; "": nothing
    ready: Ready | None = None
    once: bool = False
    after: tuple[str, ...] = ()  # names of processes of the same sliver that start before it
    along: bool = False  # when one of those ends, this one is started again too
    rooted: bool = False  # runs in the sliver's private Root

    @property
    def key(self) -> Key:
        return ("process", self.ns, self.name)

    @property
    def on(self) -> tuple[Key, ...]:
        root: tuple[Key, ...] = (("root", self.ns),) if self.rooted else ()
        return (("netns", self.ns), *root, *(("process", self.ns, p) for p in self.after))

    @property
    def changeable(self) -> frozenset[str]:
        always = frozenset({"ready", "reload", "reload_within_s", "reload_on"})
        return always | {"config"} if self.reload else always


AnyObject = (
    Netns | Sysctl | Root | Veth | Bridge | Interface | Address | Route | Shape | File | Bpf | Hook | Process
)
# From the ground up: a kind stands only on kinds to its left (and, for processes, on its own).
STACK: tuple[type[Object], ...] = (
    Netns, Sysctl, Veth, Bridge, Interface, Address, Route, File, Shape, Bpf, Hook, Root, Process,
)  # fmt: skip


class SliceSpec(Value, frozen=True):
    """Everything that one node must hold for one slice; immutable and complete.

    A node never goes back to a lower generation.  An empty `objects` asks for the slice's end.
    """

    slice: str
    node: str
    generation: int
    objects: frozenset[AnyObject] = frozenset()


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


class SliverStatus(Value, frozen=True):
    """How one sliver is: a view of the plan, and of its readiness probes."""

    sliver: str
    state: Literal["ready", "configuring", "failed"]
    why: str = ""


# --- errors -----------------------------------------------------------------------------------


class ViniError(Exception):
    """str() is a complete sentence for the person who can act on it."""

    exit_code: ClassVar[int] = 1


class Mistake(Value, frozen=True):
    """One mistake in a file: where (1-based; 0: the whole file), what, and the nearest valid word."""

    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        return place + self.what + (f" ({self.hint})" if self.hint else "")


class TopologyError(ViniError):
    """A file is wrong and its author can mend it; carries all mistakes at once."""

    exit_code: ClassVar[int] = 2

    def __init__(self, mistakes: tuple[Mistake, ...] | list[Mistake], source: str = ""):
        self.mistakes, self.source = tuple(mistakes), source
        super().__init__("\n".join(f"{source}: {m}" if source else str(m) for m in self.mistakes))


class CapacityError(ViniError):
    """A node or a link is full; says which and by how much."""

    exit_code: ClassVar[int] = 3


class Denied(ViniError):
    """The caller may not do this; says who may."""

    exit_code: ClassVar[int] = 4


class NotFound(ViniError):
    """No such thing, or none that the caller may know of."""


class Conflict(ViniError):
    """Another desired state came first."""


class Stale(Conflict):
    """Older than what was already accepted; nothing ever moves backwards."""


class Unsupported(ViniError):
    """This node lacks a feature that the wish needs; says which, and what has it."""

    exit_code: ClassVar[int] = 3


class DriverError(ViniError):
    """The machine refused; says what was being done.  The agent's loop retries."""
