"""Topology x substrate -> one SliceSpec per node.  Pure and deterministic: afterwards nobody has a choice left."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import PurePosixPath

from msgspec import structs

from vini import initscript, names
from vini.lans import has_loop
from vini.layout import Layout, Vif, alive, carried, forwards, layout
from vini.model import (
    BRIDGE,
    OUTSIDE,
    Address,
    AnyObject,
    BgpPeer,
    Bridge,
    CapacityError,
    Container,
    Disk,
    File,
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
    Resources,
    Ride,
    Root,
    Route,
    Router,
    RouterVif,
    Routing,
    SliceSpec,
    Sliver,
    Sysctl,
    Topology,
    TopologyError,
    Unsupported,
    Volume,
    Way,
)
from vini.plugins import process_program, router_plugin, sockets
from vini.plugins.programs import Prepared, prepare, socket_vifs
from vini.plugins.programs import objects as hooked
from vini.plugins.shape_files import files as shape_files
from vini.plugins.shaping import shape
from vini.plugins.tunnels import kind_of
from vini.plugins.wires import Wire, underlays, wires
from vini.reach import hosts
from vini.shares import exits, share
from vini.static import static_routes

IGPS = frozenset({"ospf", "ospf6", "isis", "rip", "ripng", "babel"})
_MOUNTABLE = re.compile(r"[\w./+@-]+")  # what needs no escaping in a mount option
_HOSTS = "/etc/hosts"
_LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
_UNCHANGEABLE = ("/proc", "/sys", "/dev", "/run")


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
) -> dict[str, SliceSpec]:
    """Everything each node must hold.  Raises Unsupported or CapacityError where a wish can't be met.

    `placed` has each sliver's node (None: all are on the first one); `vnis` has the tunnel's number of each link that
    leads from one to another (`placement.crossing`); `port` is the slice's, for WireGuard; `underlay` has what of its
    delay a link's path takes by itself, in ms; without a `grant` no sliver has a way to the world, whether or not it
    asks for one.
    """
    where = _where(topology, nodes, placed)
    made = layout(topology)
    below = underlay or {}
    wired = wires(topology.name, made, where, vnis or {}, kind_of(topology))
    programs = dict(_programs(topology, made, where, wired))
    holders = {node.name for node in where.values()} if placed is not None else {nodes[0].name}
    known = hosts(topology) if any(s.runtime == "container" for s in topology.slivers.values()) else ""
    objects: dict[str, set[AnyObject]] = {name: set() for name in sorted(holders)}
    for name, sliver in topology.slivers.items():
        own = objects[where[name].name]
        ready = programs.get(name)
        adds = ready.adds_to_own if ready else 0
        own.update(_living(sliver, _sliver(topology, made, where[name], sliver, wired, adds)))
        if sliver.runtime == "container":
            own.update(_living(sliver, _container(topology.name, where[name], sliver, known)))
        if sliver.state != "running":
            own.add(Halt(f"{topology.name}.{name}", sliver.state))
        if sliver.outside and grant:
            own.add(_outside(topology.name, made, where[name], sliver, grant, nodes))
        if ready and sliver.program:
            own.update(hooked(topology.name, name, sliver.program, ready, made.vifs[name]))
    for link, wire in wired.items():
        for vif in made.ends[link]:
            own = objects[where[vif.sliver].name]
            own.update(_end(topology.name, made, where, vif, wire, programs, below.get(link, 0.0)))
    for node, o in underlays(topology.name, made, where, wired, port):
        objects[node].add(o)
    ways_out = {node: exits(own) for node, own in objects.items()}
    for name, sliver in topology.slivers.items():
        mine = ways_out[where[name].name].get(f"{topology.name}.{name}", ())
        objects[where[name].name].update(share(topology.name, where[name], sliver, mine))
    rides = _rides(topology, made, where, wired)
    spares = _spares(topology, made, where, wired, programs)
    return {
        name: SliceSpec(
            topology.name, name, generation, frozenset(own),
            rides=tuple(sorted(rides.get(name, ()), key=lambda r: (r.ns, r.dev))), spares=tuple(spares.get(name, ())),
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
    return where


# --- slivers ----------------------------------------------------------------------------------


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
        yield from _inside(
            sliver,
            process_program.objects(
                ns,
                program.kind,
                program.text,
                name=program.name,
                image=bool(sliver.image),
                rooted=bool(sliver.files),
                sockets=sockets,
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
    yield from _routes(made, sliver, ns, wired, added)
    yield from _inside(sliver, _contents(sliver, ns))
    if sliver.routing:
        yield from _inside(sliver, _daemons(topology, made, node, sliver))


def _living(sliver: Sliver, objects: Iterable[AnyObject]) -> Iterator[AnyObject]:
    """The same as its state lets them be: what is stopped has no processes, and what was started anew other ones."""
    for o in objects:
        if isinstance(o, Process | Container) and sliver.state == "stopped":
            continue
        if isinstance(o, Process) and not o.contained and sliver.restarts:
            yield structs.replace(o, restarts=sliver.restarts)
        else:
            yield o


def _container(slice_: str, node: Node, sliver: Sliver, known: str) -> Iterator[AnyObject]:
    """What its processes can't get out of, and the names of the slice's slivers as they know them."""
    if "containers" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} is a container, which node {node.name!r} can't run; `apt-get install crun` there "
            "(and Linux 5.19 or newer), look at `vini doctor`, or write `runtime: light`."
        )
    if sliver.program is not None and sliver.program.kind == "python":
        raise Unsupported(
            f"Sliver {sliver.name!r} is a container, inside which the node's Python, with vini.packets, is not seen; "
            "write `program: {process: COMMAND}`, or `runtime: light`."
        )
    ns, own = f"{slice_}.{sliver.name}", sliver.resources
    _check_volumes(sliver)
    if own.memory_reserve_mb and "memory-reserve" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} has memory reserved, which node {node.name!r} can't keep for it: only version 2 "
            "of cgroups guarantees memory; boot it with systemd.unified_cgroup_hierarchy=1, or leave it out."
        )
    if own.io_weight != Resources().io_weight and "io-weight" not in node.capabilities:
        raise Unsupported(
            f"Sliver {sliver.name!r} has an I/O weight, which the disk of node {node.name!r} does not heed: that takes "
            "version 2 of cgroups, and `echo bfq > /sys/block/DISK/queue/scheduler`; or leave `io_weight` out."
        )
    yield Container(
        ns, sliver.image, cpu_weight=own.cpu_weight, cpu_percent=math.ceil((own.reserve or own.cores) * 100),
        memory_mb=own.memory_mb, memory_high_mb=own.memory_high_mb, pids=own.pids, cpu_reserved=own.reserve > 0,
        disk=own.disk_mb > 0, restarts=sliver.restarts, resets=sliver.resets,
        volumes=tuple(sorted(sliver.volumes.items(), key=lambda v: v[1])),
        bounded=tuple(sorted(sliver.bounds)), memory_reserved_mb=own.memory_reserve_mb, io_weight=own.io_weight,
    )  # fmt: skip
    if (own.disk_mb or sliver.bounds) and "disks" not in node.capabilities:
        what, key = ("a disk", "`disk`") if own.disk_mb else ("volumes of a size", "`size`")
        raise Unsupported(
            f"Sliver {sliver.name!r} has {what}, and node {node.name!r} can't bound what a sliver writes: "
            f"`modprobe loop` and `apt-get install e2fsprogs` there, or leave {key} out."
        )
    if own.disk_mb:
        yield Disk(ns, own.disk_mb, own.inodes, own.disk_read_mb, own.disk_write_mb)
    for name, bound in sliver.bounds.items():
        yield Volume(ns, name, bound.mb, bound.inodes, own.disk_read_mb, own.disk_write_mb)
    if not sliver.image and _HOSTS not in sliver.files:
        yield File(ns, f"root{_HOSTS}", _LOCALHOST + known)


def _outside(
    slice_: str, made: Layout, node: Node, sliver: Sliver, grant: OutsideGrant, nodes: Iterable[Node]
) -> Outside:
    """A sliver's vif to the world; other nodes are not of the world."""
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
    never = {n.address for n in nodes if n.address and (":" not in n.address or 6 in grant.versions)}
    mac = names.mac(slice_, sliver.name, OUTSIDE)
    return Outside(f"{slice_}.{sliver.name}", mac, at[OUTSIDE], grant, tuple(sorted(never)))


def _check_volumes(sliver: Sliver) -> None:
    """They become paths on the node, and not all come from a file that was checked."""
    for name, path in sliver.volumes.items():
        parts = PurePosixPath(path).parts
        if not names.SLIVER_NAME.fullmatch(name) or parts[:1] != ("/",) or len(parts) < 2 or ".." in parts:
            what = f"{sliver.name}: a volume can't be called {name!r} and be at {path!r}; write it like data: /data."
            raise TopologyError([Mistake(0, 0, what)])
    if unknown := sorted(sliver.bounds.keys() - sliver.volumes.keys()):
        raise TopologyError([Mistake(0, 0, f"{sliver.name}: there is no volume {unknown[0]!r} to bound.")])


def _inside(sliver: Sliver, objects: Iterable[AnyObject]) -> Iterator[AnyObject]:
    """The same as a container has them: it sees of the sliver's files only those in its root."""
    for o in objects:
        if sliver.runtime != "container":
            yield o
        elif isinstance(o, Process):
            yield structs.replace(o, rooted=False, contained=True)
        elif isinstance(o, File) and not o.path.startswith("root/"):
            yield structs.replace(o, path=f"root/run/{o.path}")
        elif not isinstance(o, Root):
            yield o


def _routes(made: Layout, sliver: Sliver, ns: str, wired: Mapping[str, Wire], added: int) -> Iterator[Route]:
    for to, (via, vif) in _given(made, sliver).items():
        if alive(made, vif):
            yield _route(ns, to, via, vif, wired, added)


def _route(ns: str, to: str, via: str, vif: Vif, wired: Mapping[str, Wire], added: int) -> Route:
    return Route(ns, to, via, vif.dev, wired[vif.link].mtu - added if added else 0)


def _given(made: Layout, sliver: Sliver) -> dict[str, tuple[str, Vif]]:
    """Destination -> next hop, and the vif that leads there."""
    vifs = made.vifs[sliver.name]
    given = {}
    for route in sliver.routes:
        found = _next_hop(route.via, route.to, made, vifs)
        if found is None:
            what = f"{sliver.name}: the route to {route.to} goes via {route.via!r}, which is no neighbour of it."
            raise TopologyError([Mistake(0, 0, what)])
        to = _destination(route.to, found[0])
        given[to] = found
    if not given and not forwards(sliver):
        for to, via, vif in _default_routes(made, vifs):
            given.setdefault(to, (via, vif))
    if sliver.routing and "static" in sliver.routing.protocols:
        given = {**static_routes(made, sliver.name), **given}
    return given


def _destination(to: str, via: str) -> str:
    if to == "default":
        return "::/0" if ":" in via else "0.0.0.0/0"
    return to


def _next_hop(via: str, to: str, made: Layout, vifs: Iterable[Vif]) -> tuple[str, Vif] | None:
    for vif in vifs:
        for neighbor in made.neighbors(vif):
            for cidr in neighbor.addresses:
                ip = cidr.partition("/")[0]
                if via == ip or (via == neighbor.sliver and (to == "default" or (":" in to) == (":" in ip))):
                    return ip, vif
    return None


def _default_routes(made: Layout, vifs: Iterable[Vif]) -> Iterator[tuple[str, str, Vif]]:
    """A host sends all by its first neighbour that forwards, over a link that has a carrier; by the next, where that
    link fails."""
    for vif in vifs:
        for neighbor in made.neighbors(vif) if alive(made, vif) else ():
            for cidr in neighbor.addresses if neighbor.sliver in made.forwarding else ():
                ip = cidr.partition("/")[0]
                yield "::/0" if ":" in ip else "0.0.0.0/0", ip, vif


def _contents(sliver: Sliver, ns: str) -> Iterator[File | Root | Process]:
    """What the user places in a sliver: files, and the commands that run there."""
    dirs = set()
    for path, text in sliver.files.items():
        pure = PurePosixPath(path)
        top = "/" + pure.parts[1] if len(pure.parts) > 2 else ""
        if not top or top in _UNCHANGEABLE or ".." in pure.parts or not _MOUNTABLE.fullmatch(top):
            raise TopologyError(
                [Mistake(0, 0, f"{sliver.name}: a file can't be placed at {path!r}; choose a path like /etc/NAME.")]
            )
        dirs.add(top)
        yield File(ns, f"root{pure}", text)
    if sliver.image.startswith("/") and not _MOUNTABLE.fullmatch(sliver.image):
        what = f"{sliver.name}: the image's path {sliver.image!r} can't be mounted; use letters and digits."
        raise TopologyError([Mistake(0, 0, what)])
    if dirs or sliver.image:
        yield Root(ns, () if sliver.image else tuple(sorted(dirs)), sliver.image)
    yield from initscript.objects(sliver, ns, bool(dirs or sliver.image))
    previous: tuple[str, ...] = (initscript.NAME,) if sliver.initscript else ()
    for i, command in enumerate(sliver.commands):
        again = ["again"] * sliver.commands[:i].count(command)
        name = f"cmd-{names.digest('command', command.run, *again) % 16**6:06x}"
        yield Process(
            ns,
            name,
            ("sh", "-c", command.run),
            once=not command.service,
            after=previous,
            rooted=bool(dirs or sliver.image),
        )
        previous = (name,)


# --- routing ----------------------------------------------------------------------------------


def _daemons(topology: Topology, made: Layout, node: Node, sliver: Sliver) -> Iterator[AnyObject]:
    assert sliver.routing is not None
    if not sliver.routing.raw and not set(sliver.routing.protocols) - {"static"}:
        return
    daemon = sliver.routing.daemon
    plugin = router_plugin(daemon)
    if plugin.needs and plugin.needs not in node.capabilities and not sliver.image:
        package = {"frr": "frr", "bird": "bird2"}.get(plugin.needs, plugin.needs)
        raise Unsupported(
            f"Sliver {sliver.name!r} asks for the routing daemon {daemon!r}, which node {node.name!r} lacks; "
            f"install it with `apt-get install {package}`, or choose another `daemon`."
        )
    for o in plugin.objects(router(topology, made, sliver.name)):
        yield structs.replace(o, rooted=True) if isinstance(o, Process) and sliver.image else o


def router(topology: Topology, made: Layout, name: str) -> Router:
    """All that a routing daemon plugin may know of one sliver."""
    sliver = topology.slivers[name]
    assert sliver.routing is not None
    vifs = tuple(_router_vif(topology, made, v) for v in made.vifs[name])
    peers = tuple(_peers(topology, made, name)) if "bgp" in sliver.routing.protocols else ()
    ns = f"{topology.name}.{name}"
    return Router(ns, name, made.router_ids[name], made.loopbacks[name], sliver.routing, vifs, peers)


def _router_vif(topology: Topology, made: Layout, vif: Vif) -> RouterVif:
    ours = topology.slivers[vif.sliver].routing
    assert ours is not None
    neighbors = made.neighbors(vif)
    speak = [_spoken(topology, made, vif, n) for n in neighbors]
    if any(_crosses_border(ours, topology.slivers[n.sliver].routing) for n in neighbors):
        speak = [s - IGPS for s in speak]  # an IGP ends at the border of its autonomous system
    counts = {p: n for p in ours.protocols if (n := sum(p in s for s in speak))}
    return RouterVif(
        vif.dev, vif.peer, vif.addresses, tuple(a for n in neighbors for a in n.addresses), vif.cost, tuple(counts),
        made.links[vif.link].area or ours.area, passive=tuple(p for p in ours.protocols if p in IGPS - counts.keys()),
        neighbors=counts if vif.lan else {},
    )  # fmt: skip


def _spoken(topology: Topology, made: Layout, vif: Vif, neighbor: Vif) -> set[str]:
    """The protocols that both speak, and that the links from here to there allow."""
    ours, theirs = (topology.slivers[v.sliver].routing for v in (vif, neighbor))
    spoken = set(ours.protocols if ours else ()) & set(theirs.protocols if theirs else ())
    for link in (made.links[v.link] for v in (vif, neighbor)):
        if link.protocols is not None:
            spoken &= set(link.protocols)
    return spoken


def _crosses_border(ours: Routing, theirs: Routing | None) -> bool:
    return bool(theirs and ours.asn and theirs.asn and ours.asn != theirs.asn)


def _peers(topology: Topology, made: Layout, name: str) -> Iterator[BgpPeer]:
    ours = topology.slivers[name].routing
    assert ours is not None
    for vif in made.vifs[name]:
        for neighbor in made.neighbors(vif):
            theirs = topology.slivers[neighbor.sliver].routing
            if theirs and theirs.asn != ours.asn and "bgp" in _spoken(topology, made, vif, neighbor):
                for cidr in neighbor.addresses:
                    yield BgpPeer(neighbor.sliver, cidr.partition("/")[0], theirs.asn)
    for peer, sliver in topology.slivers.items():
        if peer != name and sliver.routing and "bgp" in sliver.routing.protocols and sliver.routing.asn == ours.asn:
            yield from _internal(made, name, peer, ours.asn, carried(ours) & carried(sliver.routing))


def _internal(made: Layout, name: str, peer: str, asn: int, versions: frozenset[int]) -> Iterator[BgpPeer]:
    """Sessions between loopbacks, in the IP versions that have a way there."""
    for source in made.loopbacks.get(name, ()):
        for cidr in made.loopbacks.get(peer, ()):
            if (":" in source) == (":" in cidr) and (6 if ":" in cidr else 4) in versions:
                address = cidr.partition("/")[0]
                yield BgpPeer(peer, address, asn, internal=True, source=source.partition("/")[0])


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
    ns, link, below = f"{slice_}.{vif.sliver}", made.links[vif.link], wire.ends[vif.end]
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
            way = _way(here, there) if kind_of(topology) == "wireguard" else None
            ride = Ride(link, f"{topology.name}.{vif.sliver}", vif.dev, there.name, way)
            out.setdefault(where[vif.sliver].name, []).append(ride)
    return out


def _way(here: Node, there: Node) -> Way:
    return str(ip_address(here.address)), str(ip_address(there.address))


def _spares(
    topology: Topology, made: Layout, where: Mapping[str, Node], wired: Mapping[str, Wire],
    programs: Mapping[str, Prepared],
) -> dict[str, list[Route]]:  # fmt: skip
    """Node -> other ways of those hosts that send all by a neighbour on another node."""
    out: dict[str, list[Route]] = {}
    for name, sliver in topology.slivers.items():
        riding = any(wired[vif.link].is_tunnel for vif in made.vifs[name])
        if topology.substrate == "heal" or not riding or sliver.routes or forwards(sliver):
            continue
        added = programs[name].adds_to_own if name in programs else 0
        first: set[str] = set()
        for to, via, vif in _default_routes(made, made.vifs[name]):
            if to in first:
                spare = _route(f"{topology.name}.{name}", to, via, vif, wired, added)
                out.setdefault(where[name].name, []).append(spare)
            first.add(to)
    return out
