"""Which node each sliver is on.  Pure and deterministic.

A slice is on as few nodes as it fits on, beginning with the emptiest, so that few of its links lead from node to node:
the parts grow along links (Karypis and Kumar 1998, greedy graph growing), then slivers move or change places as long
as that leaves fewer such links (Fiduccia and Mattheyses 1982, without its hill climbing).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import inf

from vini import bandwidth, names
from vini.layout import link_name
from vini.model import (
    CapacityError,
    Link,
    Netns,
    Node,
    Resources,
    SliceSpec,
    Sliver,
    Topology,
    Traffic,
    Unsupported,
    Value,
    is_sliver,
)
from vini.plugins import router_plugin
from vini.plugins.shaping import shape
from vini.plugins.tunnels import VERSIONS, TunnelKind, apart, kind_of, reach, within

_PASSES = 8  # of improvement at most; nearly always fewer than three change anything
_CENTRES = 20  # nodes, near which all is tried to be placed where delays forbid to be anywhere
_NEGLIGIBLE = 1e-9  # what sums of decimal fractions are wrong by


class Use(Value, frozen=True):
    """What slivers take of a node."""

    cores: float = 0.0
    memory_mib: float = 0.0
    disk_mb: float = 0.0  # 10**6 bytes that are set apart
    mbit: float = 0.0  # 10**6 bit/s of its uplink that are a sliver's own

    def __add__(self, other: Use) -> Use:
        return Use(
            self.cores + other.cores, self.memory_mib + other.memory_mib, self.disk_mb + other.disk_mb,
            self.mbit + other.mbit,
        )  # fmt: skip

    def __mul__(self, times: float) -> Use:
        return Use(self.cores * times, self.memory_mib * times, self.disk_mb * times, self.mbit * times)

    def __str__(self) -> str:
        own = f"{self.mbit:g} Mbit/s of the uplink, " if self.mbit else ""
        disk = f", {self.disk_mb:g} MB of disk" if self.disk_mb else ""
        return f"{own}{self.memory_mib:g} MiB of memory{disk} and {self.cores:g} cores"


# What a sliver takes: the memory as measured, rounded up; of cores what its daemons take while routes change.
_BARE = Use(0.01, 1.0)  # a network namespace, or a container's first process
_FRR_DAEMON = Use(0.01, 6.0)  # zebra and ospfd 11.5 MiB, with bgpd and staticd 25
_DAEMON = Use(0.01, 2.0)  # BIRD 0.9 MiB
_COMMAND = Use(0.01, 4.0)  # while it runs
_PROGRAMS = {
    "elements": Use(0.05, 2.0),
    "c": Use(0.05, 2.0),
    "object": Use(0.05, 2.0),
    "process": Use(0.5, 8.0),  # packets pass through a process, which is busy with them
    "python": Use(0.5, 24.0),
}
_SOCKETS = Use(0.0, 30.0)  # who keeps them, and the memory of packets of two vifs


def cost(sliver: Sliver) -> Use:
    """What a sliver takes of its node, as far as the topology tells."""
    taken = _BARE
    for _ in sliver.commands:
        taken += _COMMAND
    if sliver.program is not None:
        taken += _PROGRAMS[sliver.program.kind]
        if sliver.program.af_xdp:
            taken += _SOCKETS
    routing = sliver.routing
    if routing is not None and (routing.raw or set(routing.protocols) - {"static"}):
        several = len(set(routing.protocols) - {"static"}) + 1 + routing.bfd if routing.daemon == "frr" else 0
        for _ in range(several):
            taken += _FRR_DAEMON
        if not several:
            taken += _DAEMON
    # What is reserved is taken whole, whether it is used or not.
    own = sliver.resources
    disk_mb = own.disk_mb + sum(bound.mb for bound in sliver.bounds.values())
    memory_mib = max(taken.memory_mib, round(own.memory_reserve_mb * 10**6 / 2**20, 6))
    return Use(max(taken.cores, own.reserve), memory_mib, disk_mb, sliver.network.min_mbit)


def check_reserved(topology: Topology, others: Callable[[], Iterable[Topology]], cores: int) -> None:
    """Raises CapacityError where slices together reserve more cores than one machine has; says by how much.

    The others are only asked for where the slice reserves any.
    """
    asked = _reserved(topology)
    has = sum(map(_reserved, others())) if asked else 0.0
    if asked and asked + has > cores + _NEGLIGIBLE:
        raise CapacityError(
            f"This machine has {cores} cores, of which other slices have {has:g} reserved, and slice {topology.name!r} "
            f"reserves {asked:g}: {round(asked + has - cores, 6):g} too many; reserve less, or take another slice down."
        )


def check_own_rates(topology: Topology, others: Callable[[], Iterable[Topology]], rate_mbit: float) -> None:
    """The same of what slivers have of their own of one machine's uplink, which carries so much (0: nobody said)."""
    asked = _own_rates(topology)
    has = sum(map(_own_rates, others())) if asked and rate_mbit else 0.0
    if asked and rate_mbit and asked + has > rate_mbit + _NEGLIGIBLE:
        raise CapacityError(
            f"This machine's uplink carries {rate_mbit:g} Mbit/s for slivers, of which other slices have {has:g} of "
            f"their own, and slice {topology.name!r} asks for {asked:g}: {round(asked + has - rate_mbit, 6):g} too "
            "much; write a smaller `min`, or take another slice down."
        )


def check_reserved_memory(topology: Topology, others: Callable[[], Iterable[Topology]], memory_mb: int) -> None:
    """The same of memory that slivers have of their own, 10**6 bytes."""
    asked = _reserved_mb(topology)
    has = sum(map(_reserved_mb, others())) if asked else 0
    if asked and asked + has > memory_mb:
        raise CapacityError(
            f"This machine has {memory_mb} MB of memory, of which other slices have {has} reserved, and slice "
            f"{topology.name!r} reserves {asked}: {asked + has - memory_mb} too many; write a smaller "
            "`memory_reserve`, or take another slice down."
        )


def _reserved_mb(topology: Topology) -> int:
    return sum(sliver.resources.memory_reserve_mb for sliver in topology.slivers.values())


def _own_rates(topology: Topology) -> float:
    return sum(sliver.network.min_mbit for sliver in topology.slivers.values())


def _reserved(topology: Topology) -> float:
    return sum(sliver.resources.reserve for sliver in topology.slivers.values())


def use(topology: Topology, placed: Mapping[str, str]) -> dict[str, Use]:
    """What a slice takes of each node that it is on."""
    taken: dict[str, Use] = {}
    for name, node in placed.items():
        taken[node] = taken.get(node, Use()) + cost(topology.slivers[name])
    return taken


def places(specs: Mapping[str, SliceSpec]) -> dict[str, str]:
    """Sliver -> the node that it is on, of one slice's specs by node."""
    spaces = ((node, o.ns) for node, spec in specs.items() for o in spec.objects if isinstance(o, Netns))
    return {ns.partition(".")[2]: node for node, ns in spaces if is_sliver(ns)}


def crossing(topology: Topology, placed: Mapping[str, str]) -> tuple[str, ...]:
    """The links that lead from one node to another, by name; each needs a tunnel's number."""
    return tuple(bandwidth.between(topology, placed))


def asked_delay(link: Link) -> float:
    """The longest that the network below may take in ms, one way, for the link to be as it is asked for; infinite where
    it asks for no delay: then it takes what it takes."""
    delays = ((end.impairment or link.impairment).delay_ms for end in link.ends)
    return min((delay for delay in delays if delay), default=inf)


def as_before(before: Topology, now: Topology) -> frozenset[str]:
    """The links that ask for no shorter delay than they did.

    Where their slivers stay they are not judged by how far the nodes are: what was accepted is neither moved nor
    refused because the network takes longer now.
    """
    was = {link_name(link): asked_delay(link) for link in before.links}
    return frozenset(n for link in now.links if asked_delay(link) >= was.get(n := link_name(link), inf))


def too_far(
    link: str, asked: float, takes: float, nodes: tuple[str, str], near: tuple[str, float] | None, verb: str = "are"
) -> str:
    """Why a link's delay can't be had; `near` is the nearest node to the first of both that would do, and its delay."""
    one, other = nodes
    fits = f"from {one!r} the nearest that fits is {near[0]!r}, {_ms(near[1])}" if near else f"none is near {one!r}"
    return (
        f"Link {link!r} asks for a delay of {_ms(asked)}, but between nodes {one!r} and {other!r}, where its slivers "
        f"{verb}, the network takes {_ms(takes)}, {_ms(takes - asked)} more; ask for as much, or pin them to nearer "
        f"nodes ({fits})."
    )


def _ms(delay: float) -> str:
    return f"{round(delay, 3):g} ms"


def place(
    topology: Topology,
    nodes: Sequence[Node],
    used: Mapping[str, Use],
    keep: Mapping[str, str],
    distances: Mapping[tuple[str, str], float] | None = None,
    settled: Collection[str] = (),
) -> dict[str, str]:
    """Each sliver's node: the one that it is pinned to, else that in `keep` if it can stay, else the best.

    `used` is what other slices take of nodes; `distances` are delays between nodes in ms, in either order; `settled`
    are links that these don't matter for while their slivers stay (`as_before`).
    CapacityError names what is full, by how much, and what would fit; Unsupported what no node can do.
    """
    if not nodes:
        raise CapacityError("There is no node to place this slice on; join one with `vini node join`.")
    refusal: CapacityError | Unsupported | None = None
    for among in (*_choices(nodes, kind_of(topology)), *_near(topology, nodes, distances or {})):
        for order in (_grown, _largest_first):
            board = _Board(topology, nodes, among, used, distances or {}, keep, settled)
            try:
                fixed = board.fix(keep)
                for name in order(board):
                    board.put(name, board.best(name))
            except (CapacityError, Unsupported) as e:  # the first says the most
                refusal = refusal or e
                continue
            board.improve(topology.slivers.keys() - fixed)
            return {name: board.at[name] for name in topology.slivers}
    assert refusal is not None
    raise refusal


def staying(topology: Topology, keep: Mapping[str, str]) -> dict[str, str] | None:
    """Each sliver's node if all stay where they are, as they do if they can (`place`); None where some can't: they are
    new, or pinned to another node."""
    found = {name: keep.get(name, "") for name in topology.slivers}
    stays = all(found[name] and sliver.node in ("", found[name]) for name, sliver in topology.slivers.items())
    return found if stays else None


def _choices(nodes: Sequence[Node], kind: TunnelKind) -> Iterator[frozenset[str]]:
    """Where slivers may go that are not bound to a node: anywhere; else only where tunnels over one IP version lead."""
    yield frozenset(node.name for node in nodes)
    for version in VERSIONS:
        some = frozenset(node.name for node in nodes if reach(node, kind) == version)
        if some and len(some) < len(nodes):
            yield some


def _near(
    topology: Topology, nodes: Sequence[Node], distances: Mapping[tuple[str, str], float]
) -> Iterator[frozenset[str]]:
    """Only where every delay that a link asks for can be had from one of the nodes: else the first sliver may be where
    none of its neighbours can join it."""
    least = min((asked_delay(link) for link in topology.links), default=inf)
    if not distances or least == inf:
        return
    seen: set[frozenset[str]] = set()
    for centre in nodes[:_CENTRES]:
        far = (distances.get((centre.name, n.name), distances.get((n.name, centre.name), 0.0)) for n in nodes)
        some = frozenset(n.name for n, delay in zip(nodes, far, strict=True) if delay <= least)
        if len(some) < len(nodes) and some not in seen:
            seen.add(some)
            yield some


class _Room:
    """What is left of a node; not bounded where the node says 0."""

    def __init__(self, node: Node, used: Use, kind: TunnelKind):
        self.node, self.reach = node, reach(node, kind)
        self.within = within(node, kind)
        self._cores, self._memory = node.cores or inf, float(node.memory_mib) or inf
        self._disk = float(node.disk_mb) or inf
        self._used = used

    def take(self, cost: Use, times: int = 1) -> None:
        """A sliver comes, or (-1) goes."""
        self._used += cost * times

    def holds(self, cost: Use) -> bool:
        """Whether that has room."""
        used = self._used
        return (
            used.cores + cost.cores <= self._cores + _NEGLIGIBLE
            and used.memory_mib + cost.memory_mib <= self._memory + _NEGLIGIBLE
            and (not cost.disk_mb or used.disk_mb + cost.disk_mb <= self._disk + _NEGLIGIBLE)
            and (not cost.mbit or used.mbit + cost.mbit <= self.node.rate_mbit + _NEGLIGIBLE)
        )

    def lacks(self, cost: Use) -> Use:
        """By how much that is too much.  Of an uplink whose rate nobody said there is none to have."""
        after = self._used + cost
        disk = after.disk_mb - self._disk if cost.disk_mb else 0.0
        mbit = after.mbit - self.node.rate_mbit if cost.mbit else 0.0
        lacking = (after.cores - self._cores, after.memory_mib - self._memory, disk, mbit)
        return Use(*(round(x, 6) if x > _NEGLIGIBLE else 0.0 for x in lacking))

    @property
    def load(self) -> float:
        """The share that is taken; of an unbounded node, how much."""
        cores, memory = self._used.cores, self._used.memory_mib
        return max(
            cores / (self._cores if self._cores < inf else 1000.0),
            memory / (self._memory if self._memory < inf else 1e6),
        )


class _Board:
    """Who is where so far, and what is left of each node."""

    def __init__(
        self,
        topology: Topology,
        nodes: Sequence[Node],
        among: Collection[str],
        used: Mapping[str, Use],
        distances: Mapping[tuple[str, str], float],
        keep: Mapping[str, str],
        settled: Collection[str],
    ):
        self.at: dict[str, str] = {}
        self.slivers = topology.slivers
        self.links: dict[str, list[tuple[str, Link]]] = {name: [] for name in topology.slivers}
        for link in topology.links:
            a, b = (end.sliver for end in link.ends)
            self.links[a].append((b, link))
            self.links[b].append((a, link))
        self._kind = kind_of(topology)
        self._rooms = {node.name: _Room(node, used.get(node.name, Use()), self._kind) for node in nodes}
        self._among = [name for name in sorted(self._rooms) if name in among]
        self._costs = {name: cost(sliver) for name, sliver in topology.slivers.items()}
        self._rest = Use()
        for each in self._costs.values():
            self._rest += each
        self._able: dict[tuple[str, frozenset[str]], frozenset[str]] = {}
        self._distances, self._keep, self._settled = distances, keep, settled
        self._farthest = max(distances.values(), default=0.0)

    # --- what is possible -------------------------------------------------------------------------

    def lacking(self, name: str, node: str) -> frozenset[str]:
        """What a sliver needs and a node can't do, as words of `vini doctor`."""
        capabilities = self._rooms[node].node.capabilities
        found = self._able.get((name, capabilities))
        if found is None:
            found = self._able[name, capabilities] = frozenset(
                _lacking(self.slivers[name], self.links[name], capabilities)
            )
        return found

    def joins(self, name: str, node: str) -> bool:
        """Whether all links of a sliver to those that are placed could be made from there."""
        here = self._rooms[node]
        for neighbour, link in self.links[name]:
            other = self.at.get(neighbour, node)
            if other != node:
                there = self._rooms[other]
                if not here.reach or here.reach != there.reach or (link.mtu or 0) > min(here.within, there.within):
                    return False
                if self._distances and self._is_too_far(name, node, neighbour, link):
                    return False
        return True

    def _is_too_far(self, name: str, node: str, neighbour: str, link: Link) -> bool:
        other = self.at[neighbour]
        if self._known(node, other) <= asked_delay(link):
            return False
        stay = self._keep.get(name) == node and self._keep.get(neighbour) == other
        return not (stay and link_name(link) in self._settled)

    def fits(self, name: str, node: str) -> bool:
        """Whether a sliver can be there."""
        able = self._rooms[node].holds(self._costs[name]) and not self.lacking(name, node)
        return able and self.joins(name, node)

    # --- changes ------------------------------------------------------------------------------------

    def put(self, name: str, node: str) -> None:
        """A sliver comes to a node, from another or from nowhere."""
        old = self.at.get(name)
        if old is not None:
            self._rooms[old].take(self._costs[name], -1)
        else:
            self._rest += self._costs[name] * -1
        self.at[name] = node
        self._rooms[node].take(self._costs[name])

    def fix(self, keep: Mapping[str, str]) -> frozenset[str]:
        """Those that are pinned are where they must be, and those that can stay stay."""
        for name, sliver in sorted(self.slivers.items()):
            if sliver.node:
                self._check_pin(name, sliver.node)
                self.put(name, sliver.node)
        for name in sorted(self.slivers.keys() & keep.keys() - self.at.keys()):
            if keep[name] in self._rooms and self.fits(name, keep[name]):
                self.put(name, keep[name])
        return frozenset(self.at)

    def _check_pin(self, name: str, node: str) -> None:
        if node not in self._rooms:
            some = ", ".join(sorted(self._rooms)[:10]) + (", ..." if len(self._rooms) > 10 else "")
            raise CapacityError(
                f"Sliver {name!r} is pinned to node {node!r}, which is not there or takes no slices; "
                f"remove `node:` or name another (there are: {some})."
            )
        if lacking := self.lacking(name, node):
            raise Unsupported(
                f"Sliver {name!r} is pinned to node {node!r}, which lacks {_listed(lacking)}; look at `vini doctor` "
                "there, or remove `node:`."
            )
        taken = self._costs[name]
        if (short := self._rooms[node].lacks(taken)) != Use():
            other = next((n for n in self._emptiest() if self.fits(name, n)), None)
            remedy = (
                f"pin it to node {other!r}, which has room, or remove `node:`" if other else "leave some slivers out"
            )
            raise CapacityError(
                f"Node {node!r} is full: sliver {name!r}, which is pinned to it, takes {taken}, which is "
                f"{_short(short)} more than is free there{self._unsaid(node, short)}; {remedy}."
            )

    # --- the best place -------------------------------------------------------------------------------

    def best(self, name: str) -> str:
        """Where a sliver has the most neighbours; else on the nearest, then the emptiest node that has room."""
        beside = Counter(self.at[n] for n, _ in self.links[name] if n in self.at)
        near = [node for node in beside if self.fits(name, node)]
        if near:
            return min(near, key=lambda n: (-beside[n], self._far(n, beside), self._rooms[n].load, n))
        able = [node for node in self._among if self.fits(name, node)]
        if not able:
            raise self._refusal(name)
        return min(able, key=lambda n: (self._far(n, beside), *self._short_of_rest(n), self._rooms[n].load, n))

    def _far(self, node: str, beside: Mapping[str, int]) -> float:
        """How far it is from there to all neighbours; as far as anything where nobody knows."""
        if not self._distances:
            return 0.0
        return sum(links * self._distance(node, other) for other, links in beside.items())

    def _distance(self, a: str, b: str) -> float:
        if a == b:
            return 0.0
        return self._distances.get((a, b), self._distances.get((b, a), self._farthest))

    def _known(self, a: str, b: str) -> float:
        """How far it is; 0 where nobody knows."""
        return self._distances.get((a, b), self._distances.get((b, a), 0.0))

    def _short_of_rest(self, node: str) -> tuple[float, ...]:
        """How much there is no room for of all that is not placed yet."""
        short = self._rooms[node].lacks(self._rest)
        return short.memory_mib, short.cores, short.disk_mb, short.mbit

    def _emptiest(self) -> list[str]:
        return sorted(self._rooms, key=lambda n: (self._rooms[n].load, n))

    # --- fewer links between nodes --------------------------------------------------------------------

    def improve(self, free: Collection[str]) -> None:
        """Move slivers, or let two change places, as long as fewer links lead from node to node."""
        for _ in range(_PASSES):
            if not sum(self._move(name, free) for name in sorted(free)):
                break

    def _move(self, name: str, free: Collection[str]) -> bool:
        here, beside = self.at[name], Counter(self.at[n] for n, _ in self.links[name])
        for node, links in sorted(beside.items(), key=lambda item: (-item[1], item[0])):
            if links <= beside[here]:
                break
            if self.fits(name, node):
                self.put(name, node)
                return True
            if self.joins(name, node) and self._change_places(name, node, links - beside[here], free):
                return True
        return False

    def _change_places(self, name: str, node: str, gain: int, free: Collection[str]) -> bool:
        here = self.at[name]
        for other in sorted(n for n in free if self.at[n] == node):
            beside = Counter(self.at[n] for n, _ in self.links[other])
            between = sum(n == name for n, _ in self.links[other])
            if gain + beside[here] - beside[node] - 2 * between <= 0:
                continue
            self._rooms[node].take(self._costs[other], -1)
            self._rooms[here].take(self._costs[name], -1)
            self.at[name], self.at[other] = node, here
            fit = self.fits(name, node) and self.fits(other, here)
            if not fit:
                self.at[name], self.at[other] = here, node
            self._rooms[self.at[name]].take(self._costs[name])
            self._rooms[self.at[other]].take(self._costs[other])
            if fit:
                return True
        return False

    # --- refusals ---------------------------------------------------------------------------------------

    def _refusal(self, name: str) -> CapacityError | Unsupported:
        """Which node comes nearest, what it lacks, and what would fit.  Unsupported where none has what is needed."""
        able = [node for node in self._among if not self.lacking(name, node)]
        if not able:
            least = min(self._among, key=lambda n: (len(self.lacking(name, n)), n))
            return Unsupported(
                f"No node can hold sliver {name!r}: the nearest, node {least!r}, lacks "
                f"{_listed(self.lacking(name, least))}; look at `vini doctor` there, or change the sliver."
            )
        taken, fitting = self._costs[name], f"{len(self.at)} of the {len(self.slivers)} slivers fit"
        lacks = {n: self._rooms[n].lacks(taken) for n in able}
        nearest = min(able, key=lambda n: (lacks[n].mbit, lacks[n].memory_mib, lacks[n].cores, lacks[n].disk_mb, n))
        short = self._rooms[nearest].lacks(taken)
        if short == Use():
            if why := self._apart(name, nearest):
                return Unsupported(why)
            if why := self._far_apart(name, able):
                return CapacityError(f"{why[:-1]}; {fitting}.")
            return CapacityError(
                f"Node {nearest!r} has room for sliver {name!r}, but no links can be made from there to the nodes of "
                f"its neighbours; {fitting}; pin neighbours to one node, or leave some slivers out."
            )
        lighter = self._lighter(name, able)
        return CapacityError(
            f"No node has room for sliver {name!r}, which takes {taken}: the nearest, node {nearest!r}, has "
            f"{_short(short)} too little free{self._unsaid(nearest, short)}; {fitting}; "
            + (lighter or "leave some slivers out, or join a node.")
        )

    def _unsaid(self, node: str, short: Use) -> str:
        """What its operator can do where he has not said what the uplink carries."""
        unsaid = short.mbit and not self._rooms[node].node.rate_mbit
        return " (nobody has said what its uplink carries: `vini node uplink --rate 1gbit` there)" if unsaid else ""

    def _apart(self, name: str, node: str) -> str:
        """Why a tunnel that a sliver there would need can't be made; "" where all can."""
        here = self._rooms[node].node
        for neighbour, link in self.links[name]:
            there = self._rooms[self.at.get(neighbour, node)].node
            if there.name != node:
                for why in apart(link_name(link), here, there, self._kind):
                    return why
        return ""

    def _far_apart(self, name: str, able: Collection[str]) -> str:
        """Which link's delay could not be had, if the sliver were where that lacks the least; "" where all could."""
        room = [n for n in able if self._rooms[n].holds(self._costs[name])]
        worst = {node: max(self._too_far(name, node), default=None) for node in room}
        found = [(excess, node) for node, excess in worst.items() if excess is not None]
        if not found or len(found) < len(room):
            return ""
        (excess, link, other, asked), node = min(found)
        near = ((n, self._distance(other, n)) for n in room if n != other and self._distance(other, n) <= asked)
        fits = min(near, key=lambda n: (n[1], n[0]), default=None)
        return too_far(link, asked, asked + excess, (other, node), fits, "would be")

    def _too_far(self, name: str, node: str) -> Iterator[tuple[float, str, str, float]]:
        """By how much (ms), which link, to which node, and what it asks for."""
        for neighbour, link in self.links[name]:
            other = self.at.get(neighbour, node)
            if other != node and self._is_too_far(name, node, neighbour, link):
                asked = asked_delay(link)
                yield self._known(node, other) - asked, link_name(link), other, asked

    def _lighter(self, name: str, able: Sequence[str]) -> str:
        """A change of the sliver with which it would fit."""
        routing = self.slivers[name].routing
        bird = router_plugin("bird")
        if routing is None or routing.daemon != "frr" or not set(routing.protocols) <= bird.speaks or routing.raw:
            return ""
        node = next((n for n in able if self._rooms[n].holds(_BARE + _DAEMON) and self.joins(name, n)), None)
        can = node and bird.needs in self._rooms[node].node.capabilities
        return f"with `daemon: bird` it would fit on node {node!r}." if can else ""


def _short(short: Use) -> str:
    amounts = (
        (short.mbit, "Mbit/s of the uplink"), (short.memory_mib, "MiB of memory"), (short.disk_mb, "MB of disk"),
        (short.cores, "cores"),
    )  # fmt: skip
    return " and ".join(f"{amount:g} {of}" for amount, of in amounts if amount)


def _listed(words: Collection[str]) -> str:
    return " and ".join(sorted(words))


def _lacking(sliver: Sliver, links: Sequence[tuple[str, Link]], capabilities: frozenset[str]) -> Iterator[str]:
    routing, program = sliver.routing, sliver.program
    if routing is not None and not sliver.image and (routing.raw or set(routing.protocols) - {"static"}):
        needed = router_plugin(routing.daemon).needs
        if needed and needed not in capabilities:
            yield needed
    if sliver.runtime == "container" and "containers" not in capabilities:
        yield "containers"
    asked = sliver.resources
    if (asked.disk_mb or sliver.bounds) and "disks" not in capabilities:
        yield "disks"
    if asked.memory_reserve_mb and "memory-reserve" not in capabilities:
        yield "memory-reserve"
    if asked.io_weight != Resources().io_weight and "io-weight" not in capabilities:
        yield "io-weight"
    if sliver.network != Traffic() and "shares" not in capabilities:
        yield "shares"
    if program is not None and program.in_kernel and "programs" not in capabilities:
        yield "programs"
    for _, link in links:
        own = next(end.impairment for end in link.ends if end.sliver == sliver.name)
        try:
            shape(sliver.name, link_name(link), own or link.impairment, link.fault, capabilities)
        except Unsupported:
            yield "element" if "netem" in capabilities else "netem"


# --- in what order ------------------------------------------------------------------------------------

_Order = Callable[[_Board], Iterator[str]]


def _grown(board: _Board) -> Iterator[str]:
    """Along links: always the sliver that most ties to the part that grows, and fewest to those that are nowhere yet;
    where none is left beside it, the next part begins in a corner."""
    waiting = {name: names.digest("placement", name) for name in board.slivers.keys() - board.at.keys()}
    loose = {name: sum(n in waiting for n, _ in board.links[name]) for name in waiting}
    growing, ties = "", Counter[str]()

    def order(name: str) -> tuple[bool, int, int]:
        return not ties[name], loose[name] - ties[name], waiting[name]

    while waiting:
        name = min(waiting, key=order)
        del waiting[name]
        yield name
        if board.at[name] != growing:
            growing = board.at[name]
            ties = Counter(n for s, node in board.at.items() if node == growing for n, _ in board.links[s])
        else:
            ties.update(n for n, _ in board.links[name])
        for neighbour, _ in board.links[name]:
            if neighbour in waiting:
                loose[neighbour] -= 1


def _largest_first(board: _Board) -> Iterator[str]:
    """What is hard to find room for comes first (first fit decreasing)."""
    waiting = board.slivers.keys() - board.at.keys()

    def size(name: str) -> tuple[float, float, float, float, str]:
        taken = cost(board.slivers[name])
        return -taken.mbit, -taken.memory_mib, -taken.cores, -taken.disk_mb, name

    yield from sorted(waiting, key=size)
