"""What a node must hold: the closed list of objects."""

from __future__ import annotations

from typing import ClassVar, Literal

from vini.model.asked import BUDGET_KPPS
from vini.model.value import Key, Value


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
    tenant: bool = False  # a user namespace of the sliver's own owns it, so that a container's root rules it

    @property
    def key(self) -> Key:
        return ("netns", self.ns)


class Sysctl(Object, frozen=True):
    """The settings below /proc/sys/net that we care for, of one namespace."""

    in_place: ClassVar[frozenset[str]] = frozenset({"settings", "as_born"})
    ns: str
    settings: tuple[tuple[str, str], ...]  # sorted; names of SYSCTLS
    as_born: bool = True  # the others are as every sliver is born with (drivers/births.py); always wanted so

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
    over the node's.  With `image` that is the root, and all of it is
    private.  What the slice's files put there lies in `<run>/slivers/<ns>/root/`.
    """

    ns: str
    dirs: tuple[str, ...] = ()  # top-level directories, sorted: "/etc", "/root"
    image: str = ""  # a root file system, as a sliver names it

    @property
    def key(self) -> Key:
        return ("root", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Disk(Object, frozen=True):
    """A file system of the sliver's own, of a fixed size, that holds all that it writes, logs too.

    It is in a file of that size, `<state>/disks/<ns>.img`, so what is promised is there; it is mounted at the sliver's
    directory, `<run>/slivers/<ns>`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"read_mb", "write_mb"})
    ns: str
    mb: int  # 10**6 bytes
    inodes: int = 0  # files at most; 0: one for each 16 KiB
    read_mb: int = 0  # 10**6 bytes per second at most; 0: not bounded
    write_mb: int = 0

    @property
    def key(self) -> Key:
        return ("disk", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Volume(Object, frozen=True):
    """A container's directory that outlives it, as a file system of a fixed size.

    It is in a file of that size, `<state>/volumes/<ns>/<name>.img`, and is mounted beside it, at
    `<state>/volumes/<ns>/<name>`.  To remove it is to unmount it: what it holds stays until it is removed by name.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"read_mb", "write_mb"})
    falls: ClassVar[bool] = False
    ns: str
    name: str
    mb: int  # 10**6 bytes
    inodes: int = 0  # files at most; 0: one for each 16 KiB
    read_mb: int = 0  # 10**6 bytes per second at most; 0: not bounded
    write_mb: int = 0

    @property
    def key(self) -> Key:
        return ("volume", self.ns, self.name)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Container(Object, frozen=True):
    """An OCI container: a sliver whose processes see neither the node nor the other slivers.

    User, pid, mount, uts, ipc and cgroup namespaces of its own, in the sliver's network namespace, which outlives it.
    Its root file system is private: `image`, or what the node's own root has in /usr with an /etc made up for it.
    What the slice's files put there lies in `<run>/slivers/<ns>/root/`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "cpu_weight",
            "cpu_percent",
            "memory_mb",
            "memory_high_mb",
            "pids",
            "cpu_reserved",
            "memory_reserved_mb",
            "io_weight",
        }  # fmt: skip
    )
    ns: str
    image: str = ""  # a root file system, as a sliver names it
    cpu_weight: int = 100  # of its processes together against another sliver's, 1..1000
    cpu_percent: int = 0  # of one core that they may use together; 0: all
    memory_mb: int = 512  # 10**6 bytes; beyond it one of them is ended, and none of another sliver
    memory_high_mb: int = 0  # beyond it they are slowed down; 0: never
    pids: int = 512  # processes and threads at once
    cpu_reserved: bool = False  # `cpu_percent` is its own: it comes before all that have none reserved
    disk: bool = False  # what it writes is on the sliver's Disk
    restarts: int = 0
    volumes: tuple[tuple[str, str], ...] = ()  # name, and where it is inside; by the latter
    resets: int = 0  # with another number than before it begins with an empty upper layer
    bounded: tuple[str, ...] = ()  # names of those of its volumes that are Volumes, sorted; others have no bound
    memory_reserved_mb: int = 0  # 10**6 bytes that are not reclaimed from it while others want them; 0: none
    io_weight: int = 100  # of what it reads and writes against another sliver's, 1..1000

    @property
    def key(self) -> Key:
        return ("container", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        volumes = (("volume", self.ns, name) for name in self.bounded)
        return (("netns", self.ns), *((("disk", self.ns),) if self.disk else ()), *volumes)


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


_UNDERLAY = "_wireguard"  # as no sliver can be called


def underlay(ns: str) -> str:
    """The namespace of a slice, given its name or one of its namespaces, that has its encrypted way to other nodes."""
    return f"{ns.partition('.')[0]}.{_UNDERLAY}"


def is_sliver(ns: str) -> bool:
    """Whether a namespace is a sliver, and not what carries its slice's links."""
    return not ns.endswith(f".{_UNDERLAY}")


class WireguardPeer(Value, frozen=True):
    """Another node that holds some of the slice."""

    public_key: str  # Curve25519, 32 bytes in base64
    address: str  # of its tunnels inside, IPv4
    endpoint: str  # by which other nodes reach it, IPv4 or IPv6


class Wireguard(Object, frozen=True):
    """A slice's encrypted way from this node to others: a WireGuard interface in a namespace where nothing else is.

    Its UDP socket is in the node's own namespace.  Tunnels whose sockets are in its namespace go by it.  The private
    key is the node's own, and nowhere else.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"public_key", "port", "cidr", "mtu", "peers", "whole"})
    ns: str
    dev: str
    public_key: str  # of the node's own key; it takes no other
    port: int  # UDP, at all nodes of the slice; no other slice of the testbed has it
    cidr: str  # address of this node's tunnels inside, with the length of the prefix that all have in common
    mtu: int  # of what is inside
    peers: tuple[WireguardPeer, ...]  # by key
    whole: bool = True  # it is up, and has no other addresses; always wanted so

    @property
    def key(self) -> Key:
        return ("wireguard", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


WIREGUARD = "wg"  # the name of its interface


class Vxlan(Object, frozen=True):
    """One end of a link whose other end is on another node: a VXLAN tunnel that no other link uses (RFC 7348).

    The interface is in the sliver's namespace, the tunnel's UDP socket in the node's own, or in the one that `through`
    names.  All that leaves by it goes to `remote`; it learns nothing, since there is nobody else.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    vni: int  # VXLAN network identifier, 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    port: int = 4789  # UDP, at both
    whole: bool = True  # everything goes to `remote`, and nothing is learned; always wanted so
    through: str = ""  # the namespace of a Wireguard, by which it goes; "": the node's own

    @property
    def key(self) -> Key:
        return ("vxlan", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns), *((("wireguard", self.through, WIREGUARD),) if self.through else ()))


class VxlanXdp(Object, frozen=True):
    """As a Vxlan, and the same on the wire, but made by eBPF programs of the node at XDP; so programs in the sliver run
    at XDP too (docs/explanation/xdp-tunnels.md).

    The interface is one end of a pair; the other end is in the node's own namespace, and the programs are there and at
    the node's interface that has the address `local`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "port", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    vni: int  # VXLAN network identifier, 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    port: int = 4789  # UDP, at both
    whole: bool = True  # the programs are where they belong, and know it as it is here; always wanted so

    @property
    def key(self) -> Key:
        return ("vxlanxdp", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Gretap(Object, frozen=True):
    """As a Vxlan, by Ethernet over GRE with a key (RFC 2784, RFC 2890), as VINI's first links were."""

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    gre_key: int  # 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    whole: bool = True  # all else is as we make it; always wanted so

    @property
    def key(self) -> Key:
        return ("gretap", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


OUTSIDE = "outside"  # the name of a sliver's vif to the world


class OutsideGrant(Value, frozen=True):
    """What an operator lets a slice do in the world; budgets are of all its slivers on one node together.

    `to` has IPv4 and IPv6 prefixes.  One that is in the private ranges, or another that the public Internet does not
    have, is meant as it stands; of any other only what the public Internet has: so "0.0.0.0/0" leads to no site's own
    network, nor does "::/0" to a network that the node is in itself.
    """

    to: tuple[str, ...]
    allow: tuple[str, ...] = ("tcp", "udp", "icmp")  # "tcp", "udp/53", "tcp/8000-8999"; "icmp" is echo requests
    rate_kbit: int = 10_000  # each way, of Ethernet frames
    packets_per_s: int = 2000  # each way
    flows: int = 1000  # at a time
    new_flows_per_s: int = 100
    daily_mb: int = 1000  # 10**6 bytes that leave in a day of UTC; 0: not bounded

    @property
    def versions(self) -> frozenset[int]:
        """The IP versions that it lets out."""
        return frozenset(6 if ":" in prefix else 4 for prefix in self.to)


class Outside(Object, frozen=True):
    """A sliver's vif to the world, by way of its node, which translates addresses and lets out what is granted.

    Its address is the node's to choose.  Nothing else leaves: see `node/outside/rules.py`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"grant", "never", "whole"})
    falls: ClassVar[bool] = False  # what the node has of it stays
    ns: str
    mac: str
    index: int  # interface index, unique inside its namespace
    grant: OutsideGrant
    never: tuple[str, ...] = ()  # addresses of other nodes, to which nothing goes whatever is granted
    whole: bool = True  # both ends, and the rules at the node's, are as we make them; always wanted so

    @property
    def key(self) -> Key:
        return ("outside", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Share(Object, frozen=True):
    """What a sliver may send by its node's uplink, to other nodes and to the world.

    It acts where packets leave the node, so nothing in the sliver changes it (docs/explanation/shares.md).
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {"min_kbit", "max_kbit", "weight", "daily_mb", "tunnels", "outside", "whole"}
    )
    falls: ClassVar[bool] = False  # it is in the node's own namespace
    ns: str
    min_kbit: int = 0  # 10**3 bits of Ethernet frame per second that are its own; 0: none
    max_kbit: int = 0  # at most; 0: what the uplink carries
    weight: int = 100  # its part of what is left
    daily_mb: int = 0  # 10**6 bytes in a day of UTC, beyond which it is slowed to their average rate; 0: not bounded
    tunnels: tuple[tuple[int, int], ...] = ()  # sorted: UDP port and number of a VXLAN one, 0 and key of a GRE one
    outside: bool = False  # whether it has a way to the world
    whole: bool = True  # all that keeps it to this is there, also where packets leave; always wanted so

    @property
    def key(self) -> Key:
        return ("share", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Interface(Object, frozen=True):
    """The settings of one vif, or of "lo"; it comes and goes with what it belongs to.

    The interface alias carries `wire`, so that one end can be judged without seeing the other.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "mtu", "up", "wire", "whole", "master", "gro", "split", "finished", "arp", "multicast", "forwards",
            "as_born",
        }
    )  # fmt: skip
    ns: str
    dev: str
    wire: Key  # the key of what it belongs to: its pair or tunnel, or for "lo" the namespace
    mtu: int = 1500
    up: bool = True
    whole: bool = True  # with what the kernel gave it when it came up: 127.0.0.1 and ::1, or a link-local address
    master: str = ""  # the bridge that it is a port of
    gro: bool = False  # of a pair: takes frames that XDP redirects to the other end (NAPI; ethtool's GRO)
    split: bool = False  # large segments are cut before they leave by it
    finished: bool = False  # checksums are complete before a packet leaves by it: XDP forgets that one isn't
    # What a hand may turn off, and nobody asks to be off.
    arp: bool = True  # finds out neighbours' MAC addresses, also in IPv6
    multicast: bool = True
    forwards: bool = True  # what comes in by it, where its sliver forwards, and only there
    as_born: bool = True  # takes packets back by any way, heeds no redirects, and so on (drivers/births.py)

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

    in_place: ClassVar[frozenset[str]] = frozenset({"via", "dev", "mtu"})
    ns: str
    to: str
    via: str
    dev: str
    mtu: int = 0  # longest packet that is sent by it, where that is less than the interface's; 0: the interface's

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
            "duplicate_ppm", "corrupt_ppm", "table", "lose", "trace", "whole",
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
    whole: bool = True  # nothing leaves the node by a tunnel that has not been through it; always wanted so

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


class Gate(Object, frozen=True):
    """At one end of a pair: lets in what the Shape at the other end has released, and nothing else.

    Whatever passes that Shape by (a packet socket with PACKET_QDISC_BYPASS, AF_XDP, XDP's redirects) ends here.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"peer_ns", "peer_dev"})
    ns: str
    dev: str
    peer_ns: str
    peer_dev: str

    @property
    def key(self) -> Key:
        return ("gate", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev), ("shape", self.peer_ns, self.peer_dev))


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
    """The eBPF programs and maps of a sliver, compiled on the node if need be, checked against the policy, loaded.

    Maps of the same name and shape outlive a change of `source`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"source", "vifs", "rows", "budget_kpps"})
    falls: ClassVar[bool] = False
    ns: str
    source: str  # path of a File of the sliver: C, or an object file in base64
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

    In `argv`, `reload` and `ready.argv` the text "{run}" stands for `<run>/slivers/<ns>`, "{python}" for the agent's
    own Python interpreter, which knows `vini`, "{node}" for the directory of its `vini.node`.  At the word "{root}" of
    `argv` it enters the Root, if it is `rooted`; without that word it does at once.  When only
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
    contained: bool = False  # runs in the sliver's Container, in which "{run}" stands for /run
    restarts: int = 0

    @property
    def key(self) -> Key:
        return ("process", self.ns, self.name)

    @property
    def on(self) -> tuple[Key, ...]:
        root: tuple[Key, ...] = (("root", self.ns),) if self.rooted else ()
        container: tuple[Key, ...] = (("container", self.ns),) if self.contained else ()
        return (("netns", self.ns), *root, *container, *(("process", self.ns, p) for p in self.after))

    @property
    def changeable(self) -> frozenset[str]:
        always = frozenset({"ready", "reload", "reload_within_s", "reload_on"})
        return always | {"config"} if self.reload else always


class Halt(Object, frozen=True):
    """What keeps a sliver's processes from running: there are none, or the kernel doesn't let them (cgroups(7))."""

    in_place: ClassVar[frozenset[str]] = frozenset({"how"})
    ns: str
    how: Literal["stopped", "frozen", "neither"]  # the last only observed: somebody let its processes run

    @property
    def key(self) -> Key:
        return ("halt", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


AnyObject = (
    Netns
    | Sysctl
    | Disk
    | Volume
    | Root
    | Veth
    | Wireguard
    | Vxlan
    | VxlanXdp
    | Gretap
    | Share
    | Outside
    | Bridge
    | Interface
    | Address
    | Route
    | Shape
    | Gate
    | File
    | Bpf
    | Hook
    | Container
    | Process
    | Halt
)
Tunnel = Vxlan | VxlanXdp | Gretap  # what a link to another node can be made of
# From the ground up: a kind stands only on kinds to its left (and, for processes, on its own).
STACK: tuple[type[Object], ...] = (
    Netns, Disk, Volume, Sysctl, Share, Veth, Wireguard, Vxlan, VxlanXdp, Gretap, Outside, Bridge, Interface, Address,
    Route,
    File, Shape, Gate, Bpf, Hook, Root, Container, Process, Halt,
)  # fmt: skip
