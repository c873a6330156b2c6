"""Generators: right counts, connected, the same for the same seed, and clear refusals."""

from __future__ import annotations

import time
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vini.formats import generate
from vini.model import Routing, Topology, TopologyError


def graph_of(topology: Topology) -> nx.Graph:
    """The topology as networkx sees it; no pair of slivers has two links."""
    graph = nx.Graph()
    graph.add_nodes_from(topology.slivers)
    graph.add_edges_from((link.ends[0].sliver, link.ends[1].sliver) for link in topology.links)
    assert graph.number_of_edges() == len(topology.links)
    assert list(topology.slivers) == [f"r{i + 1}" for i in range(len(topology.slivers))]
    return graph


sizes = st.integers(3, 60)
WAXMAN_6 = [("r1", "r3"), ("r2", "r3"), ("r2", "r5"), ("r2", "r6"), ("r3", "r4")]


@given(n=sizes)
@settings(max_examples=30, deadline=None)
def test_shapes_of_one_size(n: int) -> None:
    assert nx.is_isomorphic(graph_of(generate(f"line:{n}")), nx.path_graph(n))
    assert nx.is_isomorphic(graph_of(generate(f"ring:{n}")), nx.cycle_graph(n))
    assert nx.is_isomorphic(graph_of(generate(f"star:{n}")), nx.star_graph(n - 1))
    assert graph_of(generate(f"full:{n}")).number_of_edges() == n * (n - 1) // 2
    assert generate(f"star:{n}").links[0].ends[0].sliver == "r1"


@given(rows=st.integers(1, 7), columns=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_grids_tori_and_trees(rows: int, columns: int) -> None:
    grid = graph_of(generate(f"grid:{rows}x{columns}"))
    assert grid.number_of_nodes() == rows * columns and nx.is_connected(grid)
    assert grid.number_of_edges() == rows * (columns - 1) + columns * (rows - 1)
    torus = graph_of(generate(f"torus:{rows + 2}x{columns + 2}"))
    assert set(dict(torus.degree).values()) == {4} and nx.is_connected(torus)
    depth, fanout = min(rows, 4), min(columns, 4)
    tree = graph_of(generate(f"tree:{depth}x{fanout}"))
    assert nx.is_tree(tree) and tree.number_of_nodes() == sum(fanout**level for level in range(depth + 1))
    assert nx.eccentricity(tree, "r1") == depth


@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 2**64),
    alpha=st.sampled_from(["0.01", "0.4", "1"]),
    beta=st.sampled_from(["0.05", "0.2", "1.0"]),
)
@settings(max_examples=50, deadline=None)
def test_waxman_is_connected_and_the_same_for_the_same_seed(n: int, seed: int, alpha: str, beta: str) -> None:
    spec = f"waxman:{n},alpha={alpha},beta={beta}"
    topology = generate(spec, seed)
    assert nx.is_connected(graph_of(topology)) and len(topology.slivers) == n
    assert generate(spec, seed) == topology


def test_waxman_does_not_change_between_versions() -> None:
    pairs = [tuple(e.sliver for e in link.ends) for link in generate("waxman:6", seed=1).links]
    assert pairs == WAXMAN_6
    assert generate("waxman:50", 1) != generate("waxman:50", 2)
    assert generate("waxman:50").links == generate("waxman:50,alpha=0.4,beta=0.2", 0).links


def test_alpha_and_beta_say_how_many_links_and_how_long() -> None:
    count = {a: len(generate(f"waxman:100,alpha={a}", 3).links) for a in ("0.1", "0.4", "0.9")}
    assert count["0.1"] < count["0.4"] < count["0.9"]
    assert len(generate("waxman:100,beta=0.1", 3).links) < len(generate("waxman:100,beta=0.9", 3).links)


def test_routing_goes_into_every_sliver() -> None:
    ospf = Routing(protocols=("ospf",))
    assert all(s.routing == ospf for s in generate("ring:5", routing=ospf).slivers.values())
    assert all(s.routing is None for s in generate("ring:5").slivers.values())


def test_a_thousand_routers_are_generated_at_once() -> None:
    best = min(_seconds("ring:1000") for _ in range(5))
    assert best < 1
    topology = generate("ring:1000")
    assert topology.name == "ring-1000"
    assert set(Counter(e.sliver for link in topology.links for e in link.ends).values()) == {2}


def _seconds(spec: str) -> float:
    began = time.perf_counter()
    generate(spec)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", '"" is not a generator spec'),
        ("ring", '"ring" is not a generator spec'),
        ("ring:-5", '"ring:-5" is not a generator spec'),
        ("ring:५", "is not a generator spec"),
        ("rings:5", 'There is no generator "rings"; did you mean "ring"?'),
        ("mesh:5", 'There is no generator "mesh".'),
        ("ring:2", 'Each size in "ring:2" must be at least 3'),
        ("ring:3x4", '"ring:3x4" needs one size'),
        ("grid:4", '"grid:4" needs two sizes'),
        ("torus:2x4", "must be at least 3"),
        ("line:0", "must be at least 1"),
        ("line:1000000", "is too large"),
        ("line:99999999999999999999999999", "is too large"),
        ("full:100000", "is too large"),
        ("tree:1000000000x1", "is too large"),
        ("tree:5x1000000000", "is too large"),
        ("waxman:1001", "at most 1000 slivers"),
        ("waxman:5,gamma=1", 'does not know "gamma"'),
        ("waxman:5,alpha=x", "The value of alpha"),
        ("waxman:5,alpha=0", "must be above 0"),
        ("waxman:5,beta=1.5", "at most 1"),
        ("ring:5,alpha=1", 'The generator "ring" has no options'),
    ],
)
def test_a_bad_spec_is_refused_with_the_list_of_generators(spec: str, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        generate(spec)
    assert message in str(caught.value)
    assert "generators: line:100, ring:1000, star:10" in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_generated_or_refused(spec: str) -> None:
    try:
        assert generate(spec[:12]).slivers
    except TopologyError as error:
        assert error.mistakes
