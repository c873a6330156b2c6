"""Topology x substrate -> one SliceSpec per node.  Pure and deterministic: afterwards nobody has a choice left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from msgspec import structs

from vini import names
from vini.embed.containers import container, inside
from vini.embed.contents import contents
from vini.embed.routers import daemons, router
from vini.embed.ways import routes, spares
from vini.lans import has_loop
from vini.layout import Layout, Vif, forwards, layout
from vini.model import (
    BRIDGE,
    OUTSIDE,
    Address,
    AnyObject,
    Bridge,
    CapacityError,
    Container,
    Gate,
    Halt,
    Impairment,
    Interface,
    Link,
    Mistake,
    Netns,
    Node,
    Outside,
    OutsideGrant,
    Process,
    Program,
    Ride,
    SliceSpec,
    Sliver,
    Sysctl,
    Topology,
    TopologyError,
    Unsupported,
    Way,
)
from vini.plugins import beyond, process_program, sockets
from vini.plugins.programs import Prepared, prepare, socket_vifs
from vini.plugins.programs import objects as hooked
from vini.plugins.shape_files import files as shape_files
from vini.plugins.shaping import shape
from vini.plugins.tunnels import kind_of
from vini.plugins.wires import Wire, underlays, wires
from vini.reach import hosts
from vini.shares import Exit, shares

__all__ = ["embed", "prepared", "router"]


def embed(
    topology: Topology,
    nodes: Sequence[Node],
    generation: int = 1,
    *,
    placed: Mapping[str, str] | None = None,
    vnis: Mapping[str, int] | None = None,
    port: int = 0,
    underlay: Mapping[str, float] | None = None,
    grant: OutsideGrant | None = None,
    never: Collection[str] = (),
) -> dict[str, SliceSpec]:
    """Everything each node must hold.  Raises Unsupported or CapacityError where a wish can't be met.

    `placed` has each sliver's node (None: all are on the first one); `vnis` has the tunnel's number of each link that
    leads from one to another (`placement.crossing`); `port` is the slice's, for WireGuard; `underlay` has what of its
    delay a link's path takes by itself, in ms; without a `grant` no sliver has a way to the world, whether or not it
    asks for one, and never one to `never`, the addresses of all nodes that there are, or to those of `nodes`.
    """
    where = _where(topology, nodes, placed)
    made = layout(topology)
    below = underlay or {}
    contained = {name for name, sliver in topology.slivers.items() if sliver.runtime == "container"}
    wired = wires(topology.name, made, where, vnis or {}, kind_of(topology), contained)
    programs = dict(_programs(topology, made, where, wired))
    holders = {node.name for node in where.values()} if placed is not None else {nodes[0].name}
    known = hosts(topology) if contained else ""
    objects: dict[str, set[AnyObject]] = {name: set() for name in sorted(holders)}
    ways_out: dict[str, list[Exit]] = {name: [] for name in topology.slivers}  # by which each one's packets leave
    for name, sliver in topology.slivers.items():
        own = objects[where[name].name]
        own.update(_inside(topology, made, where[name], sliver, wired, programs.get(name), known))
        if sliver.outside and grant:
            world = _outside(topology.name, made, where[name], sliver, grant, {*never, *(n.address for n in nodes)})
            own.add(world)
            ways_out[name].append(world)
    for link, wire in wired.items():
        for vif in made.ends[link]:
            own = objects[where[vif.sliver].name]
            own.update(_end(topology.name, made, where, vif, wire, programs, below.get(link, 0.0)))
            if tunnel := wire.tunnel(vif.end):
                ways_out[vif.sliver].append(tunnel)
    for node, o in underlays(topology.name, made, where, wired, port):
        objects[node].add(o)
    for node, made_share in shares(topology, where, ways_out):
        objects[node].add(made_share)
    rides = _rides(topology, made, where, wired)
    others = spares(topology, made, where, wired, programs)
    return {
        name: SliceSpec(
            topology.name, name, generation, frozenset(own),
            rides=tuple(sorted(rides.get(name, ()), key=lambda r: (r.ns, r.dev))), spares=tuple(others.get(name, ())),
            underlay_ms={k: ms for k, ms in below.items() if name in {where[v.sliver].name for v in made.ends[k]}},
        )
        for name, own in objects.items()
    }  # fmt: skip


def _where(topology: Topology, nodes: Sequence[Node], placed: Mapping[str, str] | None) -> dict[str, Node]:
    """Each sliver's node.  A pin to another is refused, not ignored."""
    if not nodes:
        raise CapacityError("There is no node to place this slice on; start an agent with `vini agent`.")
    by_name = {node.name: node for node in nodes}
    where = {}
    for name, sliver in topology.slivers.items():
        chosen = placed[name] if placed is not None else nodes[0].name
        if chosen not in by_name or (sliver.node and sliver.node != chosen):
            known = ", ".join(by_name)
            raise CapacityError(
                f"Sliver {name!r} is pinned to node {sliver.node or chosen!r}, which this central does not have "
                f"(it has: {known}); remove `node:` or name one of these."
            )
        where[name] = by_name[chosen]
    _check_wishes(topology, where)
    return where


def _check_wishes(topology: Topology, where: Mapping[str, Node]) -> None:
    """Raises CapacityError where a sliver is not at its site, or beside one that it is to be apart from."""
    first: dict[tuple[str, str], str] = {}
    for name, sliver in topology.slivers.items():
        node = where[name]
        if sliver.site not in ("", node.site):
            raise CapacityError(
                f"Sliver {name!r} asks for site {sliver.site!r}, and node {node.name!r} is "
                f"{f'at site {node.site!r}' if node.site else 'at no site'}; remove `site:`, or use a testbed."
            )
        other = first.setdefault((sliver.apart, node.name), name)
        if sliver.apart and other != name:
            raise CapacityError(
                f"Slivers {other!r} and {name!r} are to be on different nodes (`apart: {sliver.apart}`), and would "
                f"both be on node {node.name!r}; remove `apart:`, or use a testbed of several nodes."
            )


# --- slivers ----------------------------------------------------------------------------------


def _inside(
    topology: Topology, made: Layout, node: Node, sliver: Sliver, wired: Mapping[str, Wire], ready: Prepared | None,
    known: str,
) -> Iterator[AnyObject]:  # fmt: skip
    """A sliver with what lives in it; `ready`: its program in the kernel, `known`: the names of its slice."""
    name = f"{topology.name}.{sliver.name}"
    adds = ready.adds_to_own if ready else 0
    yield from _living(sliver, _sliver(topology, made, node, sliver, wired, adds))
    if sliver.runtime == "container":
        yield from _living(sliver, container(topology.name, node, sliver, known))
    if sliver.state != "running":
        yield Halt(name, sliver.state)
    if ready and sliver.program:
        yield from hooked(topology.name, sliver.name, sliver.program, ready, made.vifs[sliver.name])


def _sliver(
    topology: Topology, made: Layout, node: Node, sliver: Sliver, wired: Mapping[str, Wire], added: int
) -> Iterator[AnyObject]:
    """`added`: bytes by which the sliver's program may make what it sends longer."""
    ns = f"{topology.name}.{sliver.name}"
    on = "1" if forwards(sliver) else "0"
    yield Netns(ns, tenant=sliver.runtime == "container")
    program = sliver.program
    if program is not None and (program.kind == "process" or program.kind == "python"):
        sockets = socket_vifs(program, [v.dev for v in made.vifs[sliver.name]]) if program.af_xdp else ()
        yield from inside(
            sliver,
            process_program.objects(
                ns,
                program.kind,
                program.text,
                name=program.name,
                image=bool(sliver.image),
                rooted=bool(sliver.files),
                sockets=sockets,
                variables=sliver.environment,
                forward=sliver.forward is True,
            ),  # fmt: skip
        )
    else:
        yield Sysctl(ns, (("ipv4/ip_forward", on), ("ipv6/conf/all/forwarding", on)))
    yield Interface(ns, "lo", ("netns", ns), mtu=65536)
    if sliver.mode == "switch":
        lan = next(lan for lan in made.lans.values() if sliver.name in lan.switches)
        yield Bridge(ns, stp=has_loop(lan, made.links))
    for cidr in made.loopbacks.get(sliver.name, ()):
        yield Address(ns, "lo", cidr)
    yield from routes(made, sliver, ns, wired, added)
    yield from inside(sliver, contents(sliver, ns))
    if sliver.routing:
        yield from inside(sliver, daemons(topology, made, node, sliver))


def _living(sliver: Sliver, objects: Iterable[AnyObject]) -> Iterator[AnyObject]:
    """The same as its state lets them be: what is stopped has no processes, and what was started anew other ones."""
    for o in objects:
        if isinstance(o, Process | Container) and sliver.state == "stopped":
            continue
        if isinstance(o, Process) and not o.contained and sliver.restarts:
            yield structs.replace(o, restarts=sliver.restarts)
        else:
            yield o


def _outside(
    slice_: str, made: Layout, node: Node, sliver: Sliver, grant: OutsideGrant, nodes: Iterable[str]
) -> Outside:
    """A sliver's vif to the world; `nodes`, by their addresses, are not of the world."""
    if "outside" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} asks for a way to the world, which node {node.name!r} can't give it; "
            "`apt-get install nftables` there, and look at `vini doctor`."
        )
    if 6 in grant.versions and "outside-ipv6" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} asks for a way to the world, and its slice is granted IPv6 there, too, which "
            f"node {node.name!r} can't do: `vini doctor` there says what is missing.  Place it on another node "
            "(`node:`), or let an admin grant IPv4 prefixes only."
        )
    vifs = {vif.dev: vif.index for vif in made.vifs[sliver.name]}
    if OUTSIDE in vifs:
        what = f"{sliver.name}: a vif of its links is called {OUTSIDE!r}, as its way to the world is; rename that."
        raise TopologyError([Mistake(0, 0, what)])
    at = names.place([OUTSIDE], names.INDEX_SPACE, lambda d: names.digest("index", slice_, sliver.name, d), 1 << 16,
                     vifs.values())  # fmt: skip
    never = {a for a in nodes if a and (":" not in a or 6 in grant.versions)}
    mac = names.mac(slice_, sliver.name, OUTSIDE)
    return Outside(f"{slice_}.{sliver.name}", mac, at[OUTSIDE], grant, tuple(sorted(never)))


# --- links ------------------------------------------------------------------------------------


def _programs(
    topology: Topology, made: Layout, where: Mapping[str, Node], wired: Mapping[str, Wire]
) -> Iterator[tuple[str, Prepared]]:
    """The eBPF programs of those slivers that have one."""
    for name, sliver in topology.slivers.items():
        if sliver.program is None or not sliver.program.in_kernel:
            continue
        if "programs" not in where[name].capabilities:
            raise Unsupported(
                f"Sliver {name!r} has a program, which node {where[name].name!r} can't compile or load; install what "
                "it lacks with `apt-get install clang libbpf-dev libbpf1`, and look at `vini doctor`."
            )
        if sliver.program.af_xdp:
            _refuse_long_frames(name, socket_vifs(sliver.program, [v.dev for v in made.vifs[name]]), made, wired)
        tunnels = [link for link, wire in wired.items() if wire.is_tunnel and not wire.is_at_xdp]
        yield name, prepared(made, name, sliver.program, tunnels)


def _refuse_long_frames(name: str, vifs: Collection[str], made: Layout, wired: Mapping[str, Wire]) -> None:
    """A frame that is longer than an AF_XDP socket takes would be lost without a word."""
    mtus = {v.dev: wired[v.link].mtu for v in made.vifs[name] if v.dev in vifs}
    if long := [f"{dev} has {mtu}" for dev, mtu in mtus.items() if mtu > sockets.MOST_MTU]:
        raise Unsupported(
            f"The process of {name} asks for AF_XDP, whose frames hold an MTU of {sockets.MOST_MTU} at most, and "
            f"{', '.join(long)}; give those links a smaller `mtu`, or leave `af_xdp` out and use packet sockets."
        )


def prepared(made: Layout, name: str, program: Program, tunnels: Collection[str] = ()) -> Prepared:
    """A sliver's program, for its vifs and as their links are now; `tunnels` are the links that lead from node to
    node and have no XDP."""
    vifs = made.vifs[name]
    own = [*made.loopbacks.get(name, ()), *(a for v in vifs for a in v.addresses)]
    shaped = [v.dev for v in vifs if _is_shaped(made, v)]
    return prepare(name, program, [v.dev for v in vifs], shaped, [v.dev for v in vifs if v.link in tunnels], own)


def _is_shaped(made: Layout, vif: Vif) -> bool:
    """Whether packets are delayed, lost or limited that leave by it, or that come in: XDP comes before its Gate."""
    link = made.links[vif.link]
    return link.fault == "silent" or any(not _impairment(link, end).does_nothing for end in (0, 1))


def _impairment(link: Link, end: int) -> Impairment:
    """Of packets that leave by that end."""
    own = link.ends[end].impairment
    return link.impairment if own is None else own


def _on_top(asked: Impairment, below_ms: float) -> Impairment:
    """What is left to emulate.  Of a trace nothing is taken: it says itself what packets meet, and when."""
    if not below_ms or asked.trace:
        return asked
    return structs.replace(asked, delay_ms=round(max(0.0, asked.delay_ms - below_ms), 3))


def _end(
    slice_: str,
    made: Layout,
    where: Mapping[str, Node],
    vif: Vif,
    wire: Wire,
    programs: Mapping[str, Prepared],
    below_ms: float,
) -> Iterator[AnyObject]:
    """One end of a link: what its vif belongs to, and all that makes up the vif.  Of its delay, `below_ms` are the
    path's."""
    ns, link = f"{slice_}.{vif.sliver}", made.links[vif.link]
    pair, tunnel = wire.pairs[vif.end], wire.tunnel(vif.end)
    below = pair or wire.ends[vif.end]
    yield below
    here, there = programs.get(vif.sliver), programs.get(vif.peer)
    # XDP hands frames to the other end, which takes them in by NAPI: it has that with XDP itself, or with GRO.
    # And it hands on what was sent into it with no more than its bytes: the checksum must be among them.
    # The other end of a tunnel at XDP is the node's own, and has a program always.
    finished = wire.is_at_xdp or (there is not None and there.hook == "xdp")
    gro = finished and not (here is not None and here.hook == "xdp")
    split = any(p is not None and p.inserts for p in (here, there))
    up, master = link.fault != "carrier", BRIDGE if vif.sliver in made.switches else ""
    yield Interface(ns, vif.dev, below.key, wire.mtu, up, master=master, gro=gro, split=split, finished=finished)
    for cidr in vif.addresses:
        yield Address(ns, vif.dev, cidr)
    impairment = _on_top(_impairment(link, vif.end), below_ms)
    shaped = shape(ns, vif.dev, impairment, link.fault, where[vif.sliver].capabilities)
    if shaped:
        yield shaped
        yield from shape_files(ns, impairment).values()
    if pair and tunnel:
        yield from beyond.objects(tunnel, pair, wire.mtu, shaped)
    if not (wire.is_tunnel or _impairment(link, 1 - vif.end).does_nothing):
        yield Gate(ns, vif.dev, f"{slice_}.{vif.peer}", vif.peer_dev)


# --- what links ride on -----------------------------------------------------------------------


def _rides(
    topology: Topology, made: Layout, where: Mapping[str, Node], wired: Mapping[str, Wire]
) -> dict[str, list[Ride]]:
    """Node -> the ends there of links that fail with the path to the node of their other end."""
    out: dict[str, list[Ride]] = {}
    for link, wire in wired.items() if topology.substrate == "mirror" else ():
        for vif in made.ends[link] if wire.is_tunnel else ():
            here, there = where[vif.sliver], where[vif.peer]
            way = _way(here, there) if kind_of(topology) == "wireguard" or wire.pairs[vif.end] else None
            ride = Ride(link, f"{topology.name}.{vif.sliver}", vif.dev, there.name, way)
            out.setdefault(where[vif.sliver].name, []).append(ride)
    return out


def _way(here: Node, there: Node) -> Way:
    return str(ip_address(here.address)), str(ip_address(there.address))
