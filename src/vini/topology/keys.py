"""The topology file's format: every key, what it takes and what it means.

The parser, the JSON Schema and the check of `docs/reference/topology.md` all read this table.
"""

from __future__ import annotations

from vini.model import PROTOCOLS
from vini.text.schema import BOOLEAN, Either, Headed, Key, ListOf, MapOf, Section, integer, real, words
from vini.topology.scalars import (
    ADDRESS,
    APART,
    AREA,
    COMMAND,
    DAEMON,
    DELAY,
    DESTINATION,
    DISK_RATE,
    DISTRIBUTIONS,
    END,
    ENDS,
    EVERYONE,
    FILE_NAME,
    FILE_TEXT,
    GATEWAY,
    GROUP_NAME,
    HELLO,
    IMAGE,
    INITSCRIPT,
    LABEL,
    LINK_NAME,
    LOOPBACK,
    LOSS,
    MEMORY,
    NO_ROUTING,
    NODE_NAME,
    NOTHING,
    OBJECT,
    PACKETS,
    PATH,
    PREFIX,
    PROTOCOL,
    QUEUE,
    RATE,
    REFERENCE,
    SHARE,
    SITE_NAME,
    SLICE_NAME,
    SLIVER_NAME,
    TRACE,
    VARIABLE,
    VARIABLE_TEXT,
    VIF_NAME,
    VOLUME_NAME,
    VOLUME_PATH,
    WITHIN,
)

ROUTING = Section(
    "a routing section",
    {
        "protocols": Key(
            ListOf(PROTOCOL, lone=True), f"Routing protocols that the sliver speaks: {', '.join(PROTOCOLS)}."
        ),
        "daemon": Key(DAEMON, "Which routing daemon speaks them: frr (default), bird, or one that you installed."),
        "hello": Key(HELLO, "Hello interval of OSPF, IS-IS and Babel; 50ms..65535s, default 1s."),
        "dead": Key(HELLO, "A neighbour is dead after this silence; longer than hello, default 4s."),
        "area": Key(AREA, "OSPF area, as number or dotted quad; default 0."),
        "asn": Key(integer(1, 4294967295), "BGP autonomous system number; needed with bgp."),
        "bfd": Key(BOOLEAN, "Watch neighbours by BFD (RFC 5880); default false."),
        "announce": Key(ListOf(PREFIX, lone=True), "Prefixes that BGP originates besides the loopbacks."),
        "raw": Key(MapOf(FILE_NAME, FILE_TEXT), "Daemon configuration files, by name; they win over generated ones."),
    },
    short="protocols",
    none=NO_ROUTING,
)

ROUTE = Section(
    "a route",
    {
        "to": Key(DESTINATION, "The destination: a prefix, an address, or `default`.", required=True),
        "via": Key(GATEWAY, "The next hop: a neighbouring sliver's name, or an address.", required=True),
    },
)

COMMANDS = Section(
    "a command",
    {
        "run": Key(COMMAND, "A shell command line.", required=True),
        "service": Key(BOOLEAN, "Restart it when it ends; default false."),
    },
    short="run",
)

PROGRAM = Section(
    "a program",
    {
        "file": Key(TRACE, "The file that it is in: NAME.elements, NAME.c, NAME.o or NAME.py."),
        "elements": Key(FILE_TEXT, "A graph of elements."),
        "c": Key(FILE_TEXT, "eBPF in C."),
        "object": Key(OBJECT, "eBPF, compiled: an object file, in base64."),
        "python": Key(FILE_TEXT, "A Python program that handles raw packets (`vini.packets`)."),
        "process": Key(COMMAND, "A shell command line: a process that handles raw packets."),
        "af_xdp": Key(BOOLEAN, "Its vifs come to the process as AF_XDP sockets; default false."),
        "name": Key(LABEL, "What it is called in messages; default: its file's name."),
        "hook": Key(
            words("auto", "tc", "xdp"), "Where it runs (of elements, c and object): auto (default), tc or xdp."
        ),
        "vifs": Key(ListOf(VIF_NAME, lone=True), "The vifs at which it runs; default: all."),
        "budget": Key(integer(1, 100_000), "At most so many 1000 packets per second; default 20000."),
    },
    short="file",
    none="none",
)

RESOURCES = Section(
    "the resources",
    {
        "weight": Key(integer(1, 1000), "Its share where a processor is short, against other slivers'; default 100."),
        "cores": Key(real(0.01, 1024), "At most so many cores, such as 0.5; default: all."),
        "memory": Key(MEMORY, "At most so much memory, such as 256MB; what takes more is ended; default 512MB."),
        "memory_high": Key(MEMORY, "Beyond so much it is slowed down; default: never."),
        "pids": Key(integer(16, 100_000), "At most so many processes and threads; default 512."),
        "reserve": Key(
            real(0.01, 1024), "So many cores are its own: it gets them at once, and no more; default: none are."
        ),
        "disk": Key(MEMORY, "Room for all that it writes, such as 1GB, set apart; default: no bound."),
        "inodes": Key(integer(100, 10**9), "At most so many files on its disk; default: one for each 16 KiB."),
        "disk_read": Key(DISK_RATE, "At most so much is read from its disk, such as 10MB/s; default: no bound."),
        "disk_write": Key(DISK_RATE, "The same for what is written."),
        "memory_reserve": Key(
            MEMORY, "So much memory is its own: it keeps that while others want it; default: none is."
        ),
        "io_weight": Key(
            integer(1, 1000), "Its share of the node's disk where that is busy, against other slivers'; default 100."
        ),
    },
)

VOLUME = Section(
    "a volume",
    {
        "at": Key(VOLUME_PATH, "The directory that it is inside.", required=True),
        "size": Key(MEMORY, "Room for its files, such as 1GB, set apart on the node; default: no bound."),
        "inodes": Key(integer(100, 10**9), "At most so many files in it; default: one for each 16 KiB of its size."),
    },
    short="at",
)

NETWORK = Section(
    "a sliver's network",
    {
        "min": Key(RATE, "So much is its own, however much others send, such as 5mbit; default: nothing."),
        "max": Key(RATE, "At most so much, such as 100mbit; default: what the node's uplink carries."),
        "weight": Key(integer(1, 1000), "Its part of what is left, against other slivers'; default 100."),
        "daily": Key(MEMORY, "Beyond so much in a day (UTC) it is slowed to that day's average; default: no bound."),
    },
)

SLIVER_PROPERTIES = {
    "runtime": Key(
        words("light", "container"),
        "`container`: its processes see nothing of the node or of others; `light`: its network is its own. "
        "Default: light, and container on a testbed of strangers.",
    ),
    "resources": Key(RESOURCES, "What it may take of its node, where it is a container."),
    "network": Key(NETWORK, "What it may send out of its node, to other nodes and to the world."),
    "volumes": Key(MapOf(VOLUME_NAME, VOLUME), "Of a container: name to a directory in it, whose files are kept."),
    "state": Key(words("running", "stopped", "frozen"), "Whether its processes run; default running."),
    "restarts": Key(integer(0, 2**31), "A higher number than before starts its processes anew; default 0."),
    "resets": Key(integer(0, 2**31), "And throws away what a container wrote, but for volumes; default 0."),
    "routing": Key(ROUTING, "Routing intent: `none` (a host), a protocol, a list of them, or a mapping."),
    "routes": Key(ListOf(ROUTE), "Static routes that you give."),
    "image": Key(
        IMAGE,
        "The sliver's own root file system: a directory, an archive, a name in the node's store, or docker://...; "
        "default: the node's root.",
    ),
    "files": Key(MapOf(PATH, FILE_TEXT), "Files to place in the sliver: absolute path to text."),
    "environment": Key(
        MapOf(VARIABLE, VARIABLE_TEXT), "Variables of its commands, and of what people run in it: name to text."
    ),
    "mode": Key(words("kernel", "switch"), "`switch`: an Ethernet switch, whose links are all ports; default kernel."),
    "program": Key(PROGRAM, "Its own data plane, in place of the kernel's forwarding: a file, or a mapping."),
    "commands": Key(ListOf(COMMANDS, lone=True), "Commands that run once the sliver is up, in this order."),
    "initscript": Key(
        INITSCRIPT,
        "A script that runs at each boot of the sliver, before its commands; or the name of one.",
    ),
    "forward": Key(BOOLEAN, "Forward packets; default: routers do, hosts do not."),
    "outside": Key(BOOLEAN, "A vif `outside` to the world, for what an operator grants the slice; default false."),
    "node": Key(NODE_NAME, "The physical node to run on; default: anywhere."),
    "site": Key(SITE_NAME, "Run on a node of this site; default: of any."),
    "apart": Key(APART, "A word of your own: slivers with the same one are on different nodes; default: none."),
    "expected": Key(BOOLEAN, "`false`: nothing is expected of it, nor of ways through it; default true."),
    "place": Key(ListOf(real(-180, 180)), "Where it is on the map: [latitude, longitude] in degrees (WGS 84)."),
}

GROUPS = Key(ListOf(REFERENCE, lone=True), "Groups whose properties it takes; a later group wins.")

SLIVER = Section(
    "a sliver",
    {
        **SLIVER_PROPERTIES,
        "addresses": Key(ListOf(LOOPBACK, lone=True), "Its own (loopback) addresses; default: chosen for you."),
        "label": Key(LABEL, "A name for people, in any script; at most 200 characters."),
        "groups": GROUPS,
    },
)

BURST_LOSS = Section(
    "a burst loss",
    {
        "enter": Key(SHARE, "Probability, at each packet, that a burst begins.", required=True),
        "leave": Key(SHARE, "Probability, at each packet, that it ends.", required=True),
        "bad": Key(SHARE, "Share of packets lost in a burst; default 100%."),
        "good": Key(SHARE, "Share of packets lost between bursts; default 0%."),
    },
    none=NOTHING,
)

IMPAIRMENTS = {
    "delay": Key(DELAY, "One-way delay, 0ms..100s; default 0ms."),
    "jitter": Key(DELAY, "How far the delay varies, 0ms..100s, by its `distribution`; default 0ms."),
    "distribution": Key(
        words(*DISTRIBUTIONS),
        "Of the jitter: normal (it is the standard deviation; default), uniform (delay +- jitter), or pareto.",
    ),
    "jitter_table": Key(
        ListOf(DELAY, lone=True, none=NOTHING),
        "Measured instead: quantiles of an extra delay, ascending, at equal distances from the least to the largest.",
    ),
    "reordering": Key(BOOLEAN, "Let packets overtake each other by jitter; default false."),
    "reorder": Key(SHARE, "Share of packets that depart without their delay, and so overtake; default 0%."),
    "loss": Key(LOSS, "Share of packets lost at random, 0%..100%; default 0%."),
    "burst_loss": Key(BURST_LOSS, "Loss in bursts (Gilbert-Elliott), or `none`."),
    "lose": Key(
        ListOf(PACKETS, lone=True, none=NOTHING), "Packets to lose, by number from 1: `[3, 7, 100-120]`, or `none`."
    ),
    "duplicate": Key(SHARE, "Share of packets that come twice; default 0%."),
    "corrupt": Key(SHARE, "Share of packets of which one bit is flipped; default 0%."),
    "rate": Key(RATE, "Rate, 1kbit..100gbit, of 10^n bits of Ethernet frame per second; default unlimited."),
    "queue": Key(QUEUE, "What may wait for its turn at `rate`: packets, bytes (`64kB`) or a time; default 1000."),
    "aqm": Key(words("none", "codel"), "Who drops from the queue besides its end: `codel` (RFC 8289); default none."),
    "trace": Key(TRACE, "A file of what the link gives over time: mahimahi's format, or CSV; or `none`."),
}

COST = Key(integer(1, 65535), "Routing metric, 1..65535; default 10.")

LINK_PROPERTIES = {
    "cost": COST,
    **IMPAIRMENTS,
    "mtu": Key(
        integer(68, 65535),
        "Largest packet in bytes, 68..65535; with IPv6 1280 at least; default 1500, or what fits between nodes.",
    ),
    "fault": Key(
        words("none", "carrier", "silent"), "`carrier`: both ends are down; `silent`: packets vanish; default none."
    ),
    "protocols": Key(
        ListOf(PROTOCOL, lone=True, none="none"), "Routing protocols spoken over it; default: all of both ends."
    ),
    "area": Key(AREA, "OSPF area of the link; default: the sliver's."),
}

END_SECTION = Section(
    "a link's end",
    {
        "sliver": Key(END, "The sliver at this end, or `sliver:vif`.", required=True),
        "vif": Key(VIF_NAME, "The vif's name inside the sliver; default `to-<peer>`."),
        "addresses": Key(ListOf(ADDRESS, lone=True), "Addresses with prefix length; default: chosen for you."),
        "cost": Key(COST.kind, "Metric of what leaves by this end; default: the link's."),
        **{k: Key(v.kind, f"The same, for what leaves by this end only. {v.what}") for k, v in IMPAIRMENTS.items()},
    },
    short="sliver",
)

LINK = Section(
    "a link",
    {
        "ends": Key(ListOf(END_SECTION), "The two ends.", required=True),
        "name": Key(LINK_NAME, "Its name; default `a--b`; needed for parallel links."),
        **LINK_PROPERTIES,
        "groups": GROUPS,
    },
)
LINK_LINE = Headed(ENDS, "ends", LINK)

EXPECT = Section(
    "an expectation",
    {
        "from": Key(EVERYONE, 'The sliver that must reach; default "*", every sliver.'),
        "to": Key(EVERYONE, 'The sliver that must be reached; default "*", every sliver.'),
        "within": Key(WITHIN, "How long it may take, 100ms..24h; default 60s."),
    },
)

DEFAULTS = Section(
    "a defaults section",
    {
        "sliver": Key(Section("the sliver defaults", SLIVER_PROPERTIES), "Properties of every sliver."),
        "link": Key(Section("the link defaults", LINK_PROPERTIES), "Properties of every link."),
    },
)

GROUP = Section("a group", {**SLIVER_PROPERTIES, **LINK_PROPERTIES})

TOPOLOGY = Section(
    "a topology",
    {
        "name": Key(SLICE_NAME, "The slice's name; default: the file's."),
        "routing": Key(ROUTING, "Routing intent of every sliver that says nothing else."),
        "defaults": Key(DEFAULTS, "Properties of every sliver and of every link."),
        "groups": Key(MapOf(GROUP_NAME, GROUP), "Named sets of properties, for slivers or for links."),
        "slivers": Key(
            Either((ListOf(SLIVER_NAME), MapOf(SLIVER_NAME, SLIVER))),
            "The virtual machines, routers and hosts: by name, or a list of names.",
            required=True,
        ),
        "links": Key(ListOf(LINK_LINE), "The virtual links: `a -- b`, `a -- b: {...}`, or `ends: [a, b]`."),
        "expect": Key(Either((words("all"), ListOf(EXPECT))), "What must be reachable: a list, or `all`."),
        "substrate": Key(
            words("mirror", "heal"),
            "Links between nodes fail with the path that they ride on (mirror, default), or are left alone (heal).",
        ),
        "tunnel": Key(
            words("vxlan", "vxlan-xdp", "gretap", "wireguard"),
            "What links between nodes are made of; default: the testbed's choice.",
        ),
    },
)

SECTIONS = (
    TOPOLOGY,
    DEFAULTS,
    SLIVER,
    ROUTING,
    ROUTE,
    PROGRAM,
    RESOURCES,
    VOLUME,
    NETWORK,
    COMMANDS,
    LINK,
    END_SECTION,
    BURST_LOSS,
    EXPECT,
)
