"""The topology file's format: every key, what it takes and what it means.

The parser, the JSON Schema and the check of `docs/reference/topology.md` all read this table.
"""

from __future__ import annotations

import re
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from vini import daemons, names
from vini.initscript import is_name
from vini.model import DAEMONS, PROTOCOLS
from vini.text import objects, units
from vini.text.mistakes import Wrong, quote
from vini.text.schema import BOOLEAN, Either, Headed, Json, Key, ListOf, MapOf, Section, Text, integer, real, words

NO_ROUTING = "none"
NOTHING = "none"  # takes back what a link would inherit
DISTRIBUTIONS = ("normal", "uniform", "pareto")
LINE = r"^\S+\s+--\s+\S+$"
RESERVED_VIFS = ("lo", "all", "default")  # the loopback; and /proc/sys/net has directories of these names
CLOSED_DIRECTORIES = ("proc", "sys", "dev")  # the kernel's own, in every sliver

_NAME_RULE = "use a-z, 0-9 and '-' inside, at most 40 characters"


# --- scalars ----------------------------------------------------------------------------------

MEMORY = Text(units.read_memory_mb, {"type": "string", "pattern": units.MEMORY})
DISK_RATE = Text(units.read_disk_mb, {"type": "string", "pattern": units.DISK_RATE})


def _pattern(regex: re.Pattern[str] | str) -> str:
    text = regex if isinstance(regex, str) else regex.pattern
    return "^" + text.removesuffix(r"\Z").removeprefix("^").removesuffix("$") + "$"


def _matching(regex: re.Pattern[str], what: str, rule: str, keep: bool = False) -> Text:
    def read(text: str) -> str:
        if not regex.match(text):
            raise Wrong(f"{quote(text)} can't be {what}.", _suggest(regex, text, rule))
        return text

    return Text(read, {"type": ["string", "integer"], "pattern": _pattern(regex)}, keep)


def _suggest(regex: re.Pattern[str], text: str, rule: str) -> str:
    slug = names.slug(text)
    return f"{rule}; for example '{slug}'" if slug and regex.match(slug) else rule


def _text(read: Any, pattern: str, keep: bool = False) -> Text:
    return Text(read, {"type": "string", "pattern": pattern}, keep)


def _read_address(text: str) -> str:
    """An interface address with prefix length, canonical."""
    if "/" not in text or "%" in text:
        raise Wrong(f"{quote(text)} is not an address with prefix length.", "write it like 10.0.0.1/31 or fd00::1/127")
    try:
        address = names.canonical(text)
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not an address with prefix length.", "is a part of it too large?") from e
    _check_unicast(address.split("/")[0])
    network = ip_network(address, strict=False)
    if network.version == 4 and network.prefixlen < 31:
        own = {str(network[0]): "the network's own", str(network[-1]): "the broadcast"}
        if role := own.get(address.split("/")[0]):
            raise Wrong(f"The address {address} is {role} address.", f"take one between: {network[1]}..{network[-2]}")
    return address


def _check_unicast(text: str) -> None:
    address = ip_address(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise Wrong(f"The address {text} can't be an interface's.", "take a unicast address")
    if isinstance(address, IPv6Address) and address.is_link_local:
        raise Wrong(f"The address {text} is link-local.", "each vif has one by itself; take one of fd00::/8")


def _read_loopback(text: str) -> str:
    """A sliver's own address, canonical, as /32 or /128."""
    address = _read_address(text if "/" in text else text + ("/128" if ":" in text else "/32"))
    plain, length = address.split("/")
    if length != ("128" if ":" in plain else "32"):
        raise Wrong(f"A sliver's own address has no subnet, but {quote(text)} has one.", f"write {plain}")
    return address


def _read_gateway(text: str) -> str:
    """An address without prefix length, canonical; or a sliver's name."""
    try:
        address = str(ip_address(text))
    except ValueError as e:
        if names.SLIVER_NAME.match(text):
            return text
        raise Wrong(f"{quote(text)} is neither an address nor a sliver.", "name a neighbouring sliver") from e
    if "%" in address:
        raise Wrong(f"{quote(text)} has a zone.", "name the neighbouring sliver instead")
    _check_unicast(address)
    return address


def _read_prefix(text: str) -> str:
    """A network, canonical; an address alone is a network of one."""
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        network = str(ip_network(text, strict=False))
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not a prefix.", "write it like 10.0.0.0/8 or fd00::/8") from e
    raise Wrong(f"{quote(text)} has bits set behind its prefix length.", f"did you mean {network}?")


def _read_destination(text: str) -> str:
    return text if text == "default" else _read_prefix(text)


def _read_area(text: str) -> str:
    """An OSPF area as dotted quad (RFC 2328, C.2)."""
    try:
        return str(IPv4Address(int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text))
    except ValueError as e:
        raise Wrong(f"{quote(text)} is not an OSPF area.", "write a number such as 0, or 0.0.0.0") from e


def _read_volume_path(text: str) -> str:
    """A directory inside; one in the root is right, too."""
    _read_path(text if text.count("/") != 1 else f"{text}/_")
    return text


_REGISTRY = r"docker://[\w.-]+(:[0-9]+)?(/[\w.-]+)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?"  # as skopeo(1) writes it
_IMAGE_NAME = r"[a-z0-9][a-z0-9._-]{0,79}"


def _read_image(text: str) -> str:
    """A path of the node's, an image of a registry, or a name in the node's store."""
    if text.startswith("/"):
        return _read_path(text)
    if not re.fullmatch(_REGISTRY, text) and not re.fullmatch(_IMAGE_NAME, text):
        raise Wrong(
            f"{quote(text)} is no image.",
            "write a path like /srv/image.tar.zst, a name of `vini image list`, or docker://docker.io/library/debian:12",
        )
    return text


def _read_path(text: str) -> str:
    parts = text.split("/")[1:]
    if not text.startswith("/"):
        raise Wrong(f"The path {quote(text)} is relative.", f"did you mean {quote('/' + text)}?")
    if not text.isprintable() or len(text) > 4000 or any(len(p.encode()) > 255 for p in parts):
        raise Wrong(f"{quote(text)} can't be a path.", "use printable characters, at most 255 in each part")
    if any(part in ("", ".", "..") for part in parts):
        raise Wrong(f"The path {quote(text)} has an empty, '.' or '..' part.", "write it out: /etc/motd")
    if len(parts) < 2:
        raise Wrong(f"The file {quote(text)} lies in '/' itself.", "place it in a directory: /root" + text[:40])
    if parts[0] in CLOSED_DIRECTORIES:
        raise Wrong(f"Files can't be placed in '/{parts[0]}'.", "it is the kernel's; use a command")
    return text


def _read_file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", text):
        raise Wrong(f"{quote(text)} is not the name of a configuration file.", "write it like frr.conf")
    return text


def _read_command(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise Wrong("A command must have a text.", "write a shell command line")
    return text


def _read_initscript(text: str) -> str:
    """A script, or the name of one."""
    if not text.strip() or "\0" in text or len(text) > 100_000:
        raise Wrong("An initscript must have a text, of 100,000 characters at most.", "write a shell script")
    if not is_name(text) and "\n" not in text:
        raise Wrong(
            f"{quote(text)} is neither a script nor the name of one.", "write its lines after '|', or use `commands`"
        )
    return text


def _read_label(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 200:
        raise Wrong(f"{quote(text)} can't be a label.", "use 1 to 200 printable characters on one line")
    return text


def _read_content(text: str) -> str:
    if "\0" in text:
        raise Wrong("A file's text may not hold a NUL character.", "remove it")
    return text


def _read_object(text: str) -> str:
    objects.decoded(text)
    return text


def _read_trace(text: str) -> str:
    """A file's path, `none`, or the trace's own lines; what is in it is looked at where it can be read."""
    if not text or "\0" in text:
        raise Wrong("A trace is a file's path.", "write it like traces/cell.csv, or 'none'")
    return text


def _read_end(text: str) -> tuple[str, str]:
    """`sliver` or `sliver:vif`."""
    sliver, colon, dev = text.partition(":")
    if colon and not dev:
        raise Wrong(f"{quote(text)} has no vif after the ':'.", f"write {sliver}, or {sliver}:eth1")
    return sliver, VIF_NAME.read(dev) if colon else ""


def _read_line(text: str) -> tuple[str, str]:
    parts = re.split(r"\s+--\s+", text.strip())
    if len(parts) == 2 and not any(re.search(r"\s", p) for p in parts):
        return parts[0], parts[1]
    two = re.fullmatch(r"(\S+?)\s*(?:--|->|<->|-|,)\s*(\S+)", text.strip())
    hint = f"did you mean '{two[1]} -- {two[2]}'?" if two and len(text) < 90 else "write 'denver -- seattle'"
    raise Wrong(f"{quote(text)} is not a link.", hint)


def _read_vif(text: str) -> str:
    if not names.VIF_NAME.match(text):
        rule = "use at most 15 of A-Z, a-z, 0-9, '_', '-' and '.'"
        raise Wrong(f"{quote(text)} can't be a vif's name.", rule)
    if text in RESERVED_VIFS:
        raise Wrong(f"The vif name {quote(text)} is the kernel's own.", "take another, such as eth1")
    return text


def _read_daemon(text: str) -> str:
    """A built-in daemon; or one that is installed, which is looked for only where it must be one."""
    return text if text in DAEMONS else words(*daemons.names()).read(text)


def _read_everyone(text: str) -> str:
    if text != "*" and not names.SLIVER_NAME.match(text):
        raise Wrong(f"{quote(text)} can't be a sliver.", 'name a sliver, or write "*" for all of them')
    return text


_ANY_NAME: Json = {"type": ["string", "integer"]}
SLIVER_NAME = _matching(names.SLIVER_NAME, "a sliver's name", _NAME_RULE, keep=True)
SLICE_NAME = _matching(names.SLICE_NAME, "a slice's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
LINK_NAME = _matching(names.SLICE_NAME, "a link's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
GROUP_NAME = _matching(names.SLICE_NAME, "a group's name", "use a-z, 0-9, '_' and '-' inside, at most 40 characters")
NODE_NAME = _matching(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z"), "a node's name", "use letters, digits, '-', '_' and '.'"
)
VIF_NAME = Text(_read_vif, {"type": "string", "pattern": _pattern(names.VIF_NAME)})
REFERENCE = Text(str, _ANY_NAME)  # to a sliver or group: checked where all names are known
ADDRESS = _text(_read_address, r"^[0-9A-Fa-f:.]+/[0-9]+$")
LOOPBACK = _text(_read_loopback, r"^[0-9A-Fa-f:.]+(/32|/128)?$")
PREFIX = _text(_read_prefix, r"^[0-9A-Fa-f:.]+(/[0-9]+)?$")
DESTINATION = _text(_read_destination, r"^(default|[0-9A-Fa-f:.]+(/[0-9]+)?)$")
GATEWAY = Text(_read_gateway, _ANY_NAME)
AREA = Text(_read_area, {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 4294967295}, {"type": "string"}]})
PATH = _text(_read_path, r"^/[^/]+/")
VOLUME_NAME = _matching(names.SLIVER_NAME, "a volume's name", _NAME_RULE)
VOLUME_PATH = _text(_read_volume_path, r"^/[^/]+")
IMAGE = _text(_read_image, rf"^(/[^/]+/|{_REGISTRY}$|{_IMAGE_NAME}$)")
FILE_NAME = _text(_read_file_name, r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")
FILE_TEXT = Text(_read_content, {"type": ["string", "number", "boolean"]})
OBJECT = Text(_read_object, {"type": "string", "pattern": r"^[A-Za-z0-9+/=\s]+$"})
INITSCRIPT = Text(_read_initscript, {"type": "string", "minLength": 1})
COMMAND = Text(_read_command, {"type": "string", "minLength": 1})
LABEL = Text(_read_label, {"type": ["string", "number"], "maxLength": 200})
DAEMON = Text(_read_daemon, {"anyOf": [{"enum": list(DAEMONS)}, {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"}]})
PROTOCOL = words(*PROTOCOLS, keep=True)
DELAY = _text(partial(units.read_ms, high=100_000.0), units.DURATION)
HELLO = _text(partial(units.read_s, low=0.05, high=65_535.0), units.DURATION, keep=True)
WITHIN = _text(partial(units.read_s, low=0.1, high=86_400.0), units.DURATION)
RATE = _text(units.read_mbit, units.RATE)
_SHARE: Json = {"anyOf": [{"type": "string", "pattern": units.LOSS}, {"type": "number"}]}
LOSS = Text(units.read_loss, _SHARE)
SHARE = Text(partial(units.read_loss, what="share"), _SHARE)
QUEUE = Text(
    units.read_queue,
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, {"type": "string", "pattern": units.QUEUE}]},
)
PACKETS = Text(
    units.read_packets, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": units.PACKETS}]}
)
TRACE = Text(_read_trace, {"type": ["string", "integer"], "minLength": 1})
END = Text(_read_end, {"type": ["string", "integer"], "pattern": r"^[a-z0-9-]+(:.+)?$"})


# --- sections ---------------------------------------------------------------------------------

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
        "`container`: its processes see nothing of the node or of others; `light` (default): its network is its own.",
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
LINK_LINE = Headed(Text(_read_line, {"type": "string", "pattern": LINE}), "ends", LINK)

EXPECT = Section(
    "an expectation",
    {
        "from": Key(Text(_read_everyone, _ANY_NAME), 'The sliver that must reach; default "*", every sliver.'),
        "to": Key(Text(_read_everyone, _ANY_NAME), 'The sliver that must be reached; default "*", every sliver.'),
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
