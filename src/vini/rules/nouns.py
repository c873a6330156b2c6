"""The nouns of accounts, as the store gives them and the API shows them.  Times are Unix time, s."""

from __future__ import annotations

from typing import Literal

import msgspec

from vini.model import Node, Topology, Value, ViniError

BootState = Literal["boot", "safeboot", "reinstall", "disabled"]


class Row(Value, frozen=True, omit_defaults=False, forbid_unknown_fields=False):
    """What is in the database; all of it is shown.  A client passes over what a newer central shows in addition."""


class Site(Row, frozen=True):
    """A place that hosts nodes and people.  A quota of 0 is none, but for `max_slices`: then it may have no slice."""

    id: int
    login_base: str
    name: str
    latitude: float | None
    longitude: float | None
    enabled: bool
    max_slices: int
    max_slivers: int  # of one slice
    cores: float  # of all its slices together, as all that follow
    memory_mib: int
    link_mbit: float  # of links between nodes
    slivers: int = 0
    vnis: int = 0  # links between nodes
    disk_mb: int = 0  # 10**6 bytes of disks and volumes


class Held(Row, frozen=True):
    """A role that somebody has."""

    role: str
    site: str  # `login_base`; "": everywhere


class Person(Row, frozen=True):
    """Somebody with an account."""

    id: int
    email: str
    name: str
    enabled: bool
    roles: tuple[Held, ...] = ()  # sorted


class Key(Row, frozen=True):
    """A person's public SSH key."""

    id: int
    person: str
    key: str
    comment: str


class NodeSaid(Value, frozen=True):
    """What a node says of itself when it joins, and each time that it is heard."""

    capabilities: frozenset[str] = frozenset()
    address: str = ""
    mtu: int = 1500
    cores: float = 0.0
    memory_mib: int = 0
    version: str = ""
    wireguard: str = ""  # its public key for encrypted tunnels, in base64; "": it has none
    disk_mb: int = 0
    rate_mbit: float = 0.0  # that slivers may send by its uplink together; 0: nobody said
    failing: tuple[str, ...] = ()  # a sentence of each part of its agent that fails, and of each narrow path


class NodeRow(Row, frozen=True):
    """A physical machine that has joined."""

    id: int
    name: str
    site: str
    boot_state: str
    public_key: bytes  # Ed25519, raw
    capabilities: frozenset[str]
    address: str
    mtu: int
    cores: float
    memory_mib: int
    version: str
    joined: float
    last_heard: float
    clock_offset_s: float  # how far its clock is ahead of the central's
    clock_error_s: float = 0.0  # by how much that may be wrong
    wireguard: str = ""  # as in NodeSaid
    disk_mb: int = 0
    rate_mbit: float = 0.0  # as in NodeSaid
    failing: tuple[str, ...] = ()  # as in NodeSaid, as it was when it was last heard
    connected: bool | None = None  # at this moment, to any central; None: not looked up

    @property
    def node(self) -> Node:
        """As `embed` takes it."""
        return Node(
            self.name, self.capabilities, self.site, self.address, self.mtu, self.cores, self.memory_mib,
            self.wireguard, self.disk_mb, self.rate_mbit,
        )  # fmt: skip


class InterfaceRow(Row, frozen=True):
    """A network interface of a node's machine, as that said when it introduced itself last."""

    node: str
    name: str
    mac: str  # "": it has none
    mtu: int  # bytes
    addresses: tuple[str, ...]  # with prefix lengths
    speed_mbit: int  # 0: its kernel does not know it
    primary: bool  # it has the address by which other nodes reach this one

    @property
    def key(self) -> str:
        """By which they are in order."""
        return f"{self.node} {self.name}"


class Holder(Row, frozen=True):
    """What a node has of a slice, and how its clock goes."""

    slivers: tuple[str, ...]  # by name
    clock_offset_s: float  # ahead of the central's
    clock_error_s: float  # by how much that may be wrong
    backends: dict[str, str] = {}  # "sliver:vif" -> who shapes what leaves by it; without those that nobody does
    underlay_ms: dict[str, float] = {}  # link to another node -> of its delay, what the path takes, one way


class Guest(Row, frozen=True):
    """Somebody whom a member of a slice lets into it."""

    email: str
    slivers: tuple[str, ...] = ()  # names; none: all of them
    until: float = 0.0  # Unix time; 0: for as long as the slice lives
    host: str = ""  # who invited him


class Slice(Row, frozen=True):
    """A user's share of the network."""

    id: int
    name: str
    site: str
    description: str
    url: str
    creator: str
    created: float
    expires: float
    max_slivers: int  # 0: as its site's
    updated: float  # when something else was asked for
    generation: int
    members: tuple[str, ...] = ()  # e-mail addresses, sorted
    guests: tuple[Guest, ...] = ()


class SliceRow(Slice, frozen=True):
    """The same with what is asked of it."""

    blob: bytes = b""  # the topology as JSON; empty: nothing was ever asked for

    @property
    def shown(self) -> Slice:
        """Without."""
        return Slice(*(getattr(self, field) for field in Slice.__struct_fields__))

    @property
    def topology(self) -> Topology:
        """What is asked for; without slivers where nothing is.  Raises ViniError where another version stored it."""
        return asked(self.name, self.blob)


def asked(name: str, blob: bytes) -> Topology:
    """What is asked of a slice, as it was stored.  Raises as `SliceRow.topology`."""
    if not blob:
        return Topology(name)
    try:
        return msgspec.json.decode(blob, type=Topology)
    except msgspec.DecodeError as e:
        raise ViniError(
            f"Slice {name!r} was stored by another version of VINI, which this one can't read ({e}). "
            "Bring it up anew from its file; that changes it in place."
        ) from e


class Lease(Row, frozen=True):
    """A node for one slice, for whole hours."""

    id: int
    slice: str
    node: str
    start: int
    end: int


class SubstrateLink(Row, frozen=True):
    """A link of the network between nodes, as an operator declares it.  An end is a node's name, or "site:" and a
    site's."""

    id: int
    name: str
    rate_mbit: float  # in each direction; 0: not bounded
    delay_ms: float  # one way
    down: str  # why it was taken down; "": it is up
    down_since: float
    a: str
    b: str


class UsageRow(Row, frozen=True):
    """What was used: of a slice, a sliver ("slice/sliver"), a site, a person responsible, or a node.  Bytes of the
    network are as vifs count them."""

    name: str
    day: str  # of UTC, "2026-11-29"; "": all that were asked for
    site: str  # of a slice or sliver; else ""
    person: str
    nodes: int  # on how many it was
    outside_out: int  # bytes to the world
    outside_in: int
    tunnel_out: int  # bytes to other nodes
    tunnel_in: int
    exempt_out: int  # of what was sent, bytes to nodes' exempt networks
    cpu_s: float  # of one processor
    memory_byte_s: int  # bytes times seconds
    memory_most: int  # bytes, of one sliver
    disk_byte_s: int
    disk_most: int
    up_s: int  # seconds of all slivers together


class Way(Row, frozen=True):
    """To another node and back."""

    rtt_ms: float  # the least of several round trips
    at: int  # when that was measured


class NodeWays(Row, frozen=True):
    """How far others are from a node, as one of the two measured."""

    name: str
    ways: dict[str, Way]  # by the other node's name; without those that nobody measured lately


class Tag(Row, frozen=True):
    """A name and a value of a node, of a slice, of a slice in a nodegroup, or of a sliver (a slice on a node)."""

    id: int
    name: str
    value: str
    slice: str = ""
    node: str = ""
    nodegroup: str = ""


class NodeGroup(Row, frozen=True):
    """All nodes whose tag has this value."""

    id: int
    name: str
    tag: str
    value: str
    nodes: tuple[str, ...] = ()  # sorted; computed


class InitScript(Row, frozen=True):
    """What slivers that name it run at each of their boots."""

    id: int
    name: str
    enabled: bool
    script: str


class ConfFile(Row, frozen=True):
    """A file that one node, those of a nodegroup, or all are asked to have."""

    id: int
    path: str
    text: str
    mode: int
    owner: str
    enabled: bool
    node: str = ""
    nodegroup: str = ""
    group: str = "root"
    preinstall_cmd: str = ""  # for /bin/sh on the node, before the file is written; "": none
    postinstall_cmd: str = ""  # after that
    error_cmd: str = ""  # when one of these failed
    ignore_cmd_errors: bool = False
    always_update: bool = False  # also over what somebody else made of the file there


class ConfFileThere(Row, frozen=True):
    """What a node has of a conf file, as it said last."""

    path: str
    state: str  # "written", "unchanged", "kept", "left", "refused", "failed"; "asked": it has not said yet
    why: str = ""  # a sentence, where it is not as asked
    at: float = 0.0  # since when
    number: int = 0  # of the conf file; 0: none is asked for there any more
    node: str = ""  # for which that is
    nodegroup: str = ""


class Event(Row, frozen=True):
    """Something that was asked for: by whom, of what, from where, and with what result."""

    id: int
    at: float
    who: str
    what: str
    kind: str
    target: str
    source: str
    result: str  # "ok", or the kind of the error
    detail: str
    duration_s: float


class Token(Row, frozen=True):
    """What is known of an API token or a session; its secret was shown once."""

    id: int
    kind: str
    person: str
    name: str
    scopes: tuple[str, ...]
    created: float
    expires: float
