"""What a person writes: a topology, every default resolved."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vini.model.value import Value

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

    kind: Literal["elements", "c", "object", "process", "python"]
    text: str  # of the program; of "object" in base64; of "process" the shell command line
    name: str = ""  # of the file it came from, for messages
    hook: Literal["auto", "tc", "xdp"] = "auto"  # of those IN_KERNEL
    vifs: tuple[str, ...] = ()  # where it runs; (): at every vif
    budget_kpps: int = 0  # 10**3 packets per second that it may handle; 0: BUDGET_KPPS
    af_xdp: bool = False  # of "process": its vifs come to it as AF_XDP sockets

    @property
    def in_kernel(self) -> bool:
        """Whether eBPF runs at its vifs: all of it, or what hands packets to its sockets."""
        return self.kind in IN_KERNEL or self.af_xdp


IN_KERNEL = frozenset({"elements", "c", "object"})  # kinds of programs; the others are processes
BUDGET_KPPS = 20_000  # more than one core forwards, so that only a runaway meets it


class Resources(Value, frozen=True):
    """What all processes of a sliver together may take of its node."""

    cpu_weight: int = 100  # against other slivers' where a processor is short, 1..1000
    cores: float = 0.0  # at most; 0: all
    memory_mb: int = 512  # at most, 10**6 bytes; what takes more is ended
    memory_high_mb: int = 0  # from here on it is slowed down; 0: never
    pids: int = 512  # processes and threads at once
    reserve: float = 0.0  # cores that are its own: it gets them at once, and no more; 0: none
    disk_mb: int = 0  # what it writes, 10**6 bytes; 0: not bounded
    inodes: int = 0  # files at most; 0: one for each 16 KiB of its disk
    disk_read_mb: int = 0  # 10**6 bytes per second; 0: not bounded
    disk_write_mb: int = 0
    memory_reserve_mb: int = 0  # that is its own, 10**6 bytes: it is not reclaimed while others want it; 0: none
    io_weight: int = 100  # against other slivers' where the node's disk is busy, 1..1000


class Bound(Value, frozen=True):
    """What a volume may hold."""

    mb: Annotated[int, Meta(ge=1, le=10**6)]  # 10**6 bytes, set apart on the node
    inodes: Annotated[int, Meta(ge=0, le=10**9)] = 0  # files at most; 0: one for each 16 KiB


class Traffic(Value, frozen=True):
    """What a sliver may send out of its node, to other nodes and to the world; links inside the node are its own."""

    min_mbit: float = 0.0  # 10**6 bits of Ethernet frame per second that are its own, however much others send
    max_mbit: float = 0.0  # at most; 0: what the node's uplink carries
    weight: int = 100  # its part of what is left, against other slivers', 1..1000
    daily_mb: int = 0  # 10**6 bytes in a day of UTC, beyond which it is slowed to their average rate; 0: not bounded


Lives = Literal["running", "stopped", "frozen"]


class Sliver(Value, frozen=True):
    """A virtual machine, router or host.  A sliver without routing is a host and does not forward."""

    name: str
    routing: Routing | None = None
    addresses: tuple[str, ...] = ()  # loopback, "a/32", "a/128"; () : chosen by `names`
    routes: tuple[StaticRoute, ...] = ()
    image: str = ""  # the sliver's root file system (vini.node.images.obtain has the forms); "": the node's own root
    files: dict[str, str] = {}  # absolute path inside the sliver -> text
    environment: dict[str, str] = {}  # of its commands, and of what people run in it: name -> value
    commands: tuple[Command, ...] = ()
    initscript: str = ""  # what it runs at each of its boots, or the name by which the central knows that
    forward: bool | None = None  # None: as routing says
    node: str = ""  # pin to a node; "": anywhere
    site: str = ""  # the `login_base` of the site that its node is at; "": at any
    apart: str = ""  # a word: no two slivers with the same are on one node; "": beside any
    place: Place | None = None
    label: str = ""  # for people: the name in another tool's file, a city
    expected: bool = True  # False: nothing is expected of it, as of one that only stands in for another system
    mode: Literal["kernel", "switch"] = "kernel"  # "switch": its vifs are ports of one bridge
    program: Program | None = None
    # "container": its processes see nothing of the node; "": light, and a container where strangers share nodes
    runtime: Literal["", "light", "container"] = ""
    resources: Resources = Resources()  # of a container
    network: Traffic = Traffic()
    outside: bool = False  # has a vif to the world, as far as its slice is granted that
    volumes: dict[str, str] = {}  # of a container: name -> where it is inside; kept until they are removed by name
    bounds: dict[str, Bound] = {}  # of volumes, by name; those that are not named here may fill their node
    state: Lives = "running"  # "stopped": it has no processes; "frozen": those that it has don't run
    restarts: int = 0  # a higher number than before starts all its processes anew
    resets: int = 0  # and throws away what they wrote, but for volumes; of a container


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
    mtu: int | None = None  # None: 1500, or what fits where it leads to another node
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
    substrate: Literal["mirror", "heal"] = "mirror"  # what becomes of a link when the path that it rides on fails
    tunnel: Literal["", "vxlan", "vxlan-xdp", "gretap", "wireguard"] = (
        ""  # links between nodes; "": the testbed's choice
    )
