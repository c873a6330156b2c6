"""`vini bench embed`: how good and how fast placement is, beside what is the best there can be where that is known.

It needs no root and touches nothing: nodes are values.  Times are of the processor, since the rest of the machine is
nobody's business here.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vini.bench import setup
from vini.bench.result import Found, row
from vini.embed import embed
from vini.model import CapacityError, End, Impairment, Link, Node, Routing, Sliver, Topology, Value
from vini.placement import cost, crossing, place
from vini.rules.nouns import SubstrateLink
from vini.rules.substrate import SITE, Substrate

Say = Callable[[str], None]
_TARGET_S = 5.0
_BIRD = Routing(("ospf",), daemon="bird")
_ONE = math.ceil(cost(Sliver("x", routing=_BIRD)).memory_mib)  # MiB that a router takes
_CAN = frozenset({"root", "vxlan", "bird", "netem", "element"})
_Pairs = set[tuple[int, int]]


class Sizes(Value, frozen=True):
    """Of the testbed, of the slices, and how many of those that are made by chance."""

    nodes: int
    rows: int  # of routers, in a grid that is 5 n wide; the slices by chance have as many
    columns: int
    requests: int


FULL = Sizes(nodes=1000, rows=20, columns=25, requests=5)
QUICK = Sizes(nodes=200, rows=10, columns=10, requests=2)


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as `setup.measure` gives them."""
    chosen = sizes or (QUICK if quick else FULL)
    return setup.told(chosen, lambda: [each for some in _all(chosen, say) for each in some])


def _all(sizes: Sizes, say: Say) -> Iterator[Found]:
    count = sizes.rows * sizes.columns
    say("shapes whose best placement is known ...")
    yield _known("ring", sizes, {(i, (i + 1) % count) for i in range(count)}, count // 25)
    tiles = count // 25
    # 25 of a grid have at most 40 links among themselves (Harary and Harborth 1976), as squares of 5 by 5 do.
    grid = _grid(sizes.rows, sizes.columns)
    yield _known(f"grid {sizes.rows} by {sizes.columns}", sizes, grid, len(grid) - 40 * tiles)
    say("random slices ...")
    yield _random(sizes)
    say("delays and rates that can be had ...")
    yield _delays(sizes)
    yield _rates(sizes)
    say("what can't be had ...")
    yield _refused(sizes)


# --- testbeds and slices ----------------------------------------------------------------------------


def _nodes(count: int, routers: int, site: Callable[[int], str] = lambda _: "") -> list[Node]:
    """Each with room for so many routers."""
    return [
        Node(f"n{i:04}", _CAN, site(i), f"10.0.{i >> 8}.{i & 255}", memory_mib=_ONE * routers) for i in range(count)
    ]


def _slice(count: int, links: Iterable[tuple[int, int, Impairment]], apart: str = "") -> Topology:
    slivers = {f"r{i}": Sliver(f"r{i}", routing=_BIRD, apart=apart) for i in range(count)}
    made = (Link((End(f"r{a}"), End(f"r{b}")), impairment=how) for a, b, how in links)
    return Topology("s", slivers, tuple(made))


def _plain(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int, Impairment]]:
    return [(a, b, Impairment()) for a, b in sorted(pairs)]


def _grid(rows: int, columns: int) -> _Pairs:
    across = {(r * columns + c, r * columns + c + 1) for r in range(rows) for c in range(columns - 1)}
    return across | {(r * columns + c, (r + 1) * columns + c) for r in range(rows - 1) for c in range(columns)}


def _by_chance(chance: random.Random, count: int) -> _Pairs:
    """A connected graph of so many, with half as many links more than that."""
    pairs = {(chance.randrange(i), i) for i in range(1, count)}
    while len(pairs) < count * 3 // 2:
        a, b = sorted(chance.sample(range(count), 2))
        pairs.add((a, b))
    return pairs


# --- what is measured --------------------------------------------------------------------------------


def _placed(topology: Topology, nodes: list[Node], **more: Any) -> tuple[dict[str, str], float]:
    """And how long it took."""
    began = time.process_time()
    placed = place(topology, nodes, {}, {}, **more)
    return placed, time.process_time() - began


def _known(what: str, sizes: Sizes, pairs: _Pairs, least: int) -> Found:
    """On nodes with room for 25 each."""
    topology = _slice(sizes.rows * sizes.columns, _plain(pairs))
    placed, took = _placed(topology, _nodes(sizes.nodes, 25))
    found = len(crossing(topology, placed))
    return [
        row(f"{what}: time", [took], "s", _TARGET_S),
        row(f"{what}: links between nodes, of the least there can be", [found / least], "x",
            note=f"{found} of {len(pairs)}; the least is {least}"),
    ]  # fmt: skip


def _random(sizes: Sizes) -> Found:
    """Three to a node, for which a bound is known; and the whole way to what nodes are sent."""
    count, times, whole, ratios, notes = sizes.rows * sizes.columns, [], [], [], []
    for seed in range(sizes.requests):
        pairs = _by_chance(random.Random(seed), count)
        topology, nodes = _slice(count, _plain(pairs)), _nodes(sizes.nodes, 3)
        placed, took = _placed(topology, nodes)
        began = time.process_time()
        vnis = {link: 1 + i for i, link in enumerate(crossing(topology, placed))}
        embed(topology, nodes, placed=placed, vnis=vnis)
        times.append(took)
        whole.append(took + time.process_time() - began)
        least = len(pairs) - 2 * math.ceil(count / 3) - _triangles(pairs)  # three have two links, or are a triangle
        ratios.append(len(vnis) / least)
        notes.append(f"{len(vnis)} of {len(pairs)}, no fewer than {least}")
    what = f"random, {count} routers, {3 * count // 2} links, three to a node"
    return [
        row(f"{what}: time", times, "s", _TARGET_S),
        row(f"{what}: time with what nodes are sent", whole, "s", _TARGET_S),
        row(f"{what}: links between nodes, of a bound", ratios, "x", note=notes[-1]),
    ]


def _triangles(pairs: _Pairs) -> int:
    beside: dict[int, set[int]] = {}
    for a, b in pairs:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    return sum(len(beside[a] & beside[b]) for a, b in pairs) // 3


def _delays(sizes: Sizes) -> Found:
    """Nodes are on a plane, each sliver is to be apart; links ask for what they had in a placement that nobody tells.
    As many asked delays as half of what the links of a slice are."""
    count, times, met = sizes.rows * sizes.columns // 5, [], 0
    for seed in range(sizes.requests):
        chance = random.Random(seed)
        at = [(chance.random() * 100, chance.random() * 100) for _ in range(sizes.nodes)]
        nodes = _nodes(sizes.nodes, 25)
        far = {
            (nodes[i].name, nodes[j].name): math.dist(at[i], at[j])
            for i in range(sizes.nodes) for j in range(i + 1, sizes.nodes)
        }  # fmt: skip
        hidden = chance.sample(range(sizes.nodes), count)
        links = []
        for i in range(1, count):
            near = min(range(i), key=lambda j, i=i: math.dist(at[hidden[i]], at[hidden[j]]))  # type: ignore[misc]
            links.append((near, i, Impairment(delay_ms=round(math.dist(at[hidden[i]], at[hidden[near]]) * 1.2 + 1, 3))))
        ok, took = _tried(_slice(count, links, apart="all"), nodes, distances=far)
        met += ok
        times.append(took)
    what = f"{count} apart, with delays that can be had"
    return _met(what, times, met, sizes.requests)


def _rates(sizes: Sizes) -> Found:
    """Ten nodes at a site, each site with one link to the middle that a placement which nobody tells fills by nine
    tenths."""
    count, times, met = sizes.rows * sizes.columns, [], 0
    nodes = _nodes(sizes.nodes, 5, lambda i: f"site{i // 10}")
    sites = sorted({n.site for n in nodes})
    for seed in range(sizes.requests):
        chance = random.Random(seed)
        hidden = {f"r{i}": nodes[i % sizes.nodes].site for i in range(count)}
        pairs = _by_chance(chance, count)
        links = [(a, b, Impairment(rate_mbit=float(chance.choice((1, 10, 50))))) for a, b in sorted(pairs)]
        taken = dict.fromkeys(sites, 0.0)
        for a, b, how in links:
            here, there = hidden[f"r{a}"], hidden[f"r{b}"]
            for site in {here, there} if here != there else ():
                taken[site] += how.rate_mbit
        below = [
            SubstrateLink(i, site, max(1.0, taken[site] / 0.9), 0.0, "", 0.0, f"{SITE}{site}", f"{SITE}middle")
            for i, site in enumerate(sites)
        ]
        substrate = Substrate(below, {n.name: n.site for n in nodes})
        ok, took = _tried(_slice(count, links), nodes, carrying=substrate.carrying({}))
        met += ok
        times.append(took)
    return _met(f"{count} routers over {len(sites)} sites, with rates that can be had", times, met, sizes.requests)


def _tried(topology: Topology, nodes: list[Node], **more: Any) -> tuple[bool, float]:
    began = time.process_time()
    try:
        place(topology, nodes, {}, {}, **more)
    except CapacityError:
        return False, time.process_time() - began
    return True, time.process_time() - began


def _met(what: str, times: list[float], met: int, requests: int) -> Found:
    return [
        row(f"{what}: time", times, "s", _TARGET_S, note=f"the slowest of {requests}: {max(times):.1f} s"),
        row(f"{what}: requests met", [float(met)], "", note=f"of {requests}; all can be"),
    ]


def _refused(sizes: Sizes) -> Found:
    """More that are to be apart than there are nodes."""
    count = sizes.rows * sizes.columns
    topology = _slice(count, _plain(_by_chance(random.Random(0), count)), apart="all")
    _, took = _tried(topology, _nodes(count - 1, 25))
    return [
        row(f"{count} that are to be apart, on {count - 1} nodes: time until it is refused", [took], "s", _TARGET_S)
    ]
