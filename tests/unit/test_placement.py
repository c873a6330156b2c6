"""Where slivers go: each once, where it is pinned, where it can be, with few links between nodes, and as before."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import ABLE, topologies

from vini import placement
from vini.embed import embed
from vini.model import (
    Bound,
    CapacityError,
    Command,
    End,
    Impairment,
    Link,
    Node,
    Program,
    Resources,
    Routing,
    Sliver,
    Topology,
    Unsupported,
)
from vini.placement import Use, check_reserved, check_reserved_memory, cost, crossing, for_slivers, place, staying, use

FRR, BIRD = Routing(("ospf",), daemon="frr"), Routing(("ospf",), daemon="bird")


def node(name: str, cores: float = 0.0, memory_mib: int = 0, capabilities: frozenset[str] = ABLE, **more) -> Node:
    given_ = {"address": f"192.0.2.{1 + int(name[1:])}", "wireguard": f"{name:k<43}=", **more}
    return Node(name, capabilities, cores=cores, memory_mib=memory_mib, **given_)


def ring(count: int, routing: Routing | None = BIRD) -> Topology:
    slivers = {f"r{i}": Sliver(f"r{i}", routing=routing) for i in range(count)}
    return Topology("s", slivers, tuple(Link((End(f"r{i}"), End(f"r{(i + 1) % count}"))) for i in range(count)))


# --- properties -----------------------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> tuple[Topology, list[Node], dict[str, Use], dict[str, str]]:
    """A topology with some wishes, nodes of which some are nearly full, and an earlier placement."""
    topology = draw(topologies())
    nodes = [
        node(
            f"n{i}",
            draw(st.sampled_from([0.0, 0.05, 1.0])),
            draw(st.sampled_from([0, 10, 30])),
            mtu=9000,
            site=draw(st.sampled_from(["home", "away"])),
        )  # fmt: skip
        for i in range(draw(st.integers(1, 4)))
    ]
    somewhere = st.sampled_from([n.name for n in nodes])
    pinned = draw(st.dictionaries(st.sampled_from(sorted(topology.slivers)), somewhere, max_size=2))
    at, apart = st.sampled_from(["", "", "home"]), st.sampled_from(["", "", "x"])
    slivers = {
        name: replace(s, node=pinned.get(name, ""), site=draw(at), apart=draw(apart))
        for name, s in topology.slivers.items()
    }
    used = draw(st.dictionaries(somewhere, st.builds(Use, st.sampled_from([0.0, 0.03]), st.sampled_from([0.0, 8.0]))))
    keep = draw(
        st.dictionaries(st.sampled_from([*slivers, "gone"]), st.sampled_from([*(n.name for n in nodes), "away"]))
    )
    return replace(topology, slivers=slivers), nodes, used, keep


def full(node: Node, used: Use) -> bool:
    return bool(node.cores and used.cores > node.cores + 1e-6) or bool(
        node.memory_mib and used.memory_mib > node.memory_mib + 1e-6
    )


@given(requests())
def test_each_sliver_has_one_node_where_it_is_pinned_and_no_node_has_too_much(request):
    topology, nodes, used, keep = request
    try:
        placed = place(topology, nodes, used, keep)
    except CapacityError as e:
        assert str(e).endswith(".") and any(repr(name) in str(e) for name in topology.slivers)
        return
    assert list(placed) == list(topology.slivers)
    assert all(s.node in ("", placed[name]) for name, s in topology.slivers.items())
    sites = {n.name: n.site for n in nodes}
    assert all(s.site in ("", sites[placed[name]]) for name, s in topology.slivers.items())
    words = [(s.apart, placed[name]) for name, s in topology.slivers.items() if s.apart]
    assert len(words) == len(set(words))
    taken = use(topology, placed)
    assert not [n.name for n in nodes if n.name in taken and full(n, used.get(n.name, Use()) + taken[n.name])]
    vnis = {link: 1 + i for i, link in enumerate(crossing(topology, placed))}
    embed(topology, nodes, placed=placed, vnis=vnis, port=20_001)
    assert place(topology, nodes, used, keep) == placed
    assert place(topology, nodes[::-1], used, keep) == placed


@given(requests())
def test_nobody_moves_when_an_unrelated_sliver_joins_or_nothing_changes(request):
    topology, nodes, used, keep = request
    try:
        placed = place(topology, nodes, used, keep)
        grown = replace(topology, slivers={"new": Sliver("new"), **topology.slivers})
        again = place(grown, nodes, used, placed)
    except CapacityError:
        return
    assert place(topology, nodes, used, placed) == placed
    assert {name: again[name] for name in placed} == placed


@given(requests())
def test_where_all_can_stay_the_other_nodes_need_not_be_looked_at(request):
    """A central then asks its database for the slice's own nodes only."""
    topology, nodes, used, keep = request
    stay = staying(topology, keep)
    if stay is None:
        assert any(keep.get(n) is None or s.node not in ("", keep[n]) for n, s in topology.slivers.items())
        return
    few = [n for n in nodes if n.name in stay.values()]
    try:
        if place(topology, few, {n.name: used.get(n.name, Use()) for n in few}, keep) != stay:
            return
    except (CapacityError, Unsupported):
        return
    assert place(topology, nodes, used, keep) == stay


@pytest.mark.parametrize(
    ("tunnel", "lacks", "words"),
    [
        (
            "gretap",
            {"gretap"},
            ("can't make tunnels of the kind gretap, since it lacks gretap", "choose `tunnel: vxlan`"),
        ),
        ("wireguard", {"vxlan", "wireguard"}, ("lacks vxlan and wireguard", "`tunnel: gretap`")),
    ],
)
def test_a_slice_that_needs_tunnels_which_a_node_can_not_make_is_refused_with_the_node_and_what_it_lacks(
    tunnel, lacks, words
):
    nodes = [node("n0", memory_mib=60), node("n1", memory_mib=60, capabilities=ABLE - lacks)]
    topology = replace(ring(30), tunnel=tunnel)
    with pytest.raises(Unsupported, match="'n1'") as refused:
        place(topology, nodes, {}, {})
    assert all(word in str(refused.value) for word in words), str(refused.value)
    other = replace(topology, tunnel="vxlan" if tunnel == "gretap" else "gretap")
    assert set(place(other, nodes, {}, {}).values()) == {"n0", "n1"}


# --- few links between nodes, and balance ------------------------------------------------------------------


def test_a_slice_that_fits_on_one_node_is_on_one_and_on_the_emptiest():
    nodes = [node(f"n{i}", memory_mib=1000) for i in range(4)]
    used = {"n0": Use(0, 500), "n1": Use(0, 10), "n3": Use(0, 400)}
    assert set(place(ring(12), nodes, used, {}).values()) == {"n2"}
    assert set(place(ring(12), nodes, {**used, "n2": Use(0, 100)}, {}).values()) == {"n1"}


def test_slices_one_after_another_fill_all_nodes_alike():
    nodes, used = [node(f"n{i}", memory_mib=1000) for i in range(5)], dict[str, Use]()
    for _ in range(20):
        for name, more in use(ring(6), place(ring(6), nodes, used, {})).items():
            used[name] = used.get(name, Use()) + more
    assert {u.memory_mib for u in used.values()} == {4 * 6 * cost(Sliver("x", routing=BIRD)).memory_mib}
    assert len(used) == 5


def test_a_ring_over_nodes_that_hold_four_each_is_cut_into_arcs():
    nodes = [node(f"n{i}", memory_mib=12) for i in range(3)]
    topology = ring(12)
    placed = place(topology, nodes, {}, {})
    assert Counter(placed.values()) == {"n0": 4, "n1": 4, "n2": 4}
    assert len(crossing(topology, placed)) == 3


def test_two_clusters_are_parted_at_the_one_link_between_them():
    """Also when an earlier placement has nothing to say and the names are mixed."""
    names = [f"x{i}" for i in range(12)]
    random.Random(1).shuffle(names)
    halves = names[:6], names[6:]
    links = [Link((End(a), End(b))) for half in halves for i, a in enumerate(half) for b in half[i + 1 :]]
    bridge = Link((End(halves[0][0]), End(halves[1][0])), name="bridge")
    topology = Topology("s", {n: Sliver(n, routing=BIRD) for n in sorted(names)}, (*links, bridge))
    placed = place(topology, [node("n0", memory_mib=18), node("n1", memory_mib=18)], {}, {})
    assert crossing(topology, placed) == ("bridge",)


def test_distances_decide_between_nodes_that_are_equal_otherwise():
    nodes = [node(f"n{i}", memory_mib=3) for i in range(4)]
    chain = Topology("s", {"a": Sliver("a", node="n2"), "b": Sliver("b", routing=BIRD)}, (Link((End("a"), End("b"))),))
    far = {("n2", "n0"): 30.0, ("n1", "n2"): 20.0, ("n2", "n3"): 10.0}
    assert place(chain, nodes, {}, {})["b"] == "n0"
    assert place(chain, nodes, {}, {}, far)["b"] == "n3"


def test_a_sliver_stays_where_it_is_though_another_place_were_better():
    nodes = [node("n0"), node("n1")]
    keep = {"r0": "n0", "r1": "n1", "r2": "n0"}
    placed = place(ring(6), nodes, {}, keep)
    assert {name: placed[name] for name in keep} == keep


def test_slivers_leave_a_node_that_is_not_there_any_more():
    before = {f"r{i}": "n9" for i in range(6)}
    assert set(place(ring(6), [node("n0"), node("n1")], {}, before).values()) == {"n0"}


# --- what a sliver needs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sliver", "impairment", "missing"),
    [
        (Sliver("a", routing=FRR), Impairment(), {"frr"}),
        (Sliver("a", routing=BIRD), Impairment(), {"bird"}),
        (Sliver("a", program=Program("c", "x")), Impairment(), {"programs"}),
        (Sliver("a"), Impairment(delay_ms=1.0), {"netem", "element"}),
        (Sliver("a"), Impairment(lose=((3, 3),)), {"element"}),
    ],
)
def test_a_sliver_goes_where_its_needs_are_met(sliver, impairment, missing):
    poor = node("n0", capabilities=ABLE - missing)
    topology = Topology("s", {"a": sliver, "b": Sliver("b")}, (Link((End("a", impairment=impairment), End("b"))),))
    assert place(topology, [poor, node("n1")], {}, {})["a"] == "n1"
    with pytest.raises(Unsupported, match=rf"'a'.*'n0', lacks .*{sorted(missing)[-1]}"):
        place(topology, [poor], {}, {})
    pinned = replace(topology, slivers={**topology.slivers, "a": replace(sliver, node="n0")})
    with pytest.raises(Unsupported, match="'a' is pinned to node 'n0', which lacks"):
        place(pinned, [poor, node("n1")], {}, {})


def test_a_daemon_inside_an_image_is_not_wanted_of_the_node():
    topology = Topology("s", {"a": Sliver("a", routing=FRR, image="/srv/image")})
    assert place(topology, [node("n0", capabilities=ABLE - {"frr"})], {}, {}) == {"a": "n0"}


@pytest.mark.parametrize("flaw", [{"capabilities": ABLE - {"vxlan"}}, {"address": ""}, {"address": "2001:db8::1"}])
def test_neighbours_are_parted_only_between_nodes_that_tunnels_can_join(flaw):
    """The one that can't be joined is the emptiest, and would be taken first."""
    flawed = replace(node("n0", memory_mib=12), **flaw)
    nodes = [flawed, node("n1", memory_mib=9), node("n2", memory_mib=9)]
    assert set(place(ring(6), nodes, {}, {}).values()) == {"n1", "n2"}


def test_a_link_that_asks_for_a_large_mtu_is_not_led_where_it_does_not_fit():
    chain = Topology(
        "s", {n: Sliver(n, routing=BIRD) for n in "abcd"},
        (Link((End("a"), End("b")), mtu=1500), Link((End("b"), End("c"))), Link((End("c"), End("d")), mtu=1500)),
    )  # fmt: skip
    placed = place(chain, [node("n0", memory_mib=6), node("n1", memory_mib=6)], {}, {})
    assert placed["a"] == placed["b"] != placed["c"] == placed["d"]


# --- refusals ---------------------------------------------------------------------------------------------------


def test_a_slice_that_is_too_large_is_told_which_node_is_nearest_by_how_much_and_what_fits():
    nodes = [node("n0", memory_mib=14), node("n1", memory_mib=16)]
    with pytest.raises(CapacityError) as refused:
        place(ring(3, FRR), nodes, {}, {})
    text = str(refused.value)
    assert "which takes 13 MiB of memory and 0.03 cores" in text
    assert "node 'n1', has 10 MiB of memory too little free" in text
    assert "2 of the 3 slivers fit" in text
    assert "`daemon: bird` it would fit on node 'n1'" in text


def test_a_node_whose_cores_are_taken_is_told():
    with pytest.raises(CapacityError, match=r"'n0', has 0.01 cores too little free; 1 of the 2 slivers fit"):
        place(Topology("s", {n: Sliver(n) for n in "ab"}), [node("n0", cores=0.01)], {}, {})


def test_a_pin_to_a_full_node_names_another_that_has_room():
    topology = Topology("s", {"a": Sliver("a", routing=FRR, node="n0")})
    with pytest.raises(
        CapacityError, match=r"'n0' is full.*8 MiB of memory more than is free.*node 'n1', which has room"
    ):
        place(topology, [node("n0", memory_mib=10), node("n1", memory_mib=20)], {"n0": Use(0, 5)}, {})


def test_a_pin_to_a_node_that_is_not_there_names_those_that_are():
    with pytest.raises(CapacityError, match=r"'a' is pinned to node 'nowhere'.*n0"):
        place(Topology("s", {"a": Sliver("a", node="nowhere")}), [node("n0")], {}, {})


def at_sites(**sites: str) -> list[Node]:
    return [node(name, 1.0, site=site) for name, site in sites.items()]


def of(**slivers: dict) -> Topology:
    return Topology("s", {name: Sliver(name, **fields) for name, fields in slivers.items()})


def test_slivers_that_are_to_be_apart_are_on_different_nodes_though_one_could_hold_all():
    topology = replace(ring(6), slivers={n: replace(s, apart="x") for n, s in ring(6).slivers.items()})
    placed = place(topology, [node(f"n{i}") for i in range(6)], {}, {})
    assert sorted(placed.values()) == [f"n{i}" for i in range(6)]


def test_two_words_keep_apart_only_their_own():
    topology = of(a={"apart": "x"}, b={"apart": "x"}, c={"apart": "y"}, d={"apart": "y"})
    placed = place(topology, [node("n0"), node("n1")], {}, {})
    assert placed["a"] != placed["b"] and placed["c"] != placed["d"]


def test_one_more_than_nodes_that_are_to_be_apart_is_refused_with_how_many_fit():
    topology = of(**{f"r{i}": {"apart": "x"} for i in range(4)})
    with pytest.raises(
        CapacityError, match=r"without another sliver of `apart: x`, and each of the 3 nodes .* has one"
    ):
        place(topology, [node(f"n{i}") for i in range(3)], {}, {})


def test_who_is_to_be_apart_from_now_on_leaves_the_other_and_nobody_else_moves():
    before = {"a": "n0", "b": "n0", "c": "n0"}
    placed = place(of(a={"apart": "x"}, b={"apart": "x"}, c={}), [node("n0"), node("n1")], {}, before)
    assert placed == {"a": "n0", "b": "n1", "c": "n0"}


def test_a_sliver_is_at_the_site_that_it_asks_for_whatever_its_neighbours_are():
    topology = ring(4)
    topology = replace(topology, slivers={**topology.slivers, "r2": replace(topology.slivers["r2"], site="away")})
    placed = place(topology, at_sites(n0="home", n1="home", n2="away"), {}, {})
    assert placed["r2"] == "n2"


def test_what_may_be_anywhere_makes_room_for_what_asks_for_a_site():
    """With `i` as the last of both orders the others would fill both nodes in turn, `n0` first."""
    topology = of(**{name: {} for name in ("h2", *"abcdefghi")} | {"i": {"site": "home"}})
    nodes = [node("n0", 0.05, site="home"), node("n1", 0.05, site="away")]
    assert place(topology, nodes, {}, {})["i"] == "n0"


@pytest.mark.parametrize(
    ("slivers", "said"),
    [
        ({"a": {"site": "nowhere"}}, r"asks for site 'nowhere', which has no node .*there are: away, home.*node token"),
        ({"a": {"site": "away", "node": "n0"}}, r"pinned to node 'n0', which is at site 'home'"),
        ({"a": {"apart": "x", "node": "n0"}, "b": {"apart": "x", "node": "n0"}}, r"'a' and 'b' are pinned .*apart: x"),
        ({"a": {"apart": "x", "site": "away"}, "b": {"apart": "x", "site": "away"}}, r"node 'n1', the only one .*away"),
    ],
)
def test_wishes_that_no_node_meets_are_told(slivers, said):
    with pytest.raises(CapacityError, match=said):
        place(of(**slivers), at_sites(n0="home", n1="away"), {}, {})


@pytest.mark.parametrize("wish", [{"site": "home"}, {"apart": "x"}])
def test_one_machine_refuses_a_site_and_being_apart(wish):
    with pytest.raises(CapacityError, match="testbed"):
        embed(of(a=wish, b=wish), [node("n0")])


def test_no_node_at_all():
    with pytest.raises(CapacityError, match="vini node join"):
        place(ring(3), [], {}, {})


def test_what_a_sliver_takes_is_what_was_measured_rounded_up():
    """FRR 11.5 MiB with zebra and ospfd, 25 with bgpd too; BIRD 0.9; a namespace hardly anything."""
    assert cost(Sliver("a")).memory_mib == 1
    assert cost(Sliver("a", routing=BIRD)).memory_mib == 3
    assert cost(Sliver("a", routing=FRR)).memory_mib == 13
    assert cost(Sliver("a", routing=replace(FRR, protocols=("ospf", "bgp", "static"), bfd=True))).memory_mib == 25
    assert cost(Sliver("a", routing=Routing(("static",)))).memory_mib == 1
    assert cost(Sliver("a", commands=(Command("true"),))).memory_mib == 5
    assert cost(Sliver("a", program=Program("python", "x"))).cores > 0.5


# --- at size ----------------------------------------------------------------------------------------------------


def test_five_hundred_slivers_on_a_thousand_nodes_leave_most_links_inside():
    """Its time is told by the benchmark."""
    slivers = {f"x{i}-{j}": Sliver(f"x{i}-{j}", routing=FRR) for i in range(20) for j in range(25)}
    down = [Link((End(f"x{i}-{j}"), End(f"x{i + 1}-{j}"))) for i in range(19) for j in range(25)]
    right = [Link((End(f"x{i}-{j}"), End(f"x{i}-{j + 1}"))) for i in range(20) for j in range(24)]
    topology = Topology("s", slivers, (*down, *right))
    nodes = [Node(f"n{i}", ABLE, address=f"10.0.{i >> 8}.{i & 255}", cores=8.0, memory_mib=350) for i in range(1000)]
    placed = place(topology, nodes, {}, {})
    assert len(set(placed.values())) <= 25
    assert len(crossing(topology, placed)) < len(topology.links) / 3


@pytest.mark.parametrize(("more", "most", "tries"), [(1 << 60, 1 << 60, 22), (10, 1 << 60, 12), (0, 0, 2)])
def test_what_can_not_be_had_is_refused_after_so_many_looks(monkeypatch, more, most, tries):
    """Others wait for their turn meanwhile."""
    made = []
    board = placement.Board
    monkeypatch.setattr(placement, "Board", lambda *how: made.append(how) or board(*how))
    monkeypatch.setattr(placement, "_LOOKS", more)
    monkeypatch.setattr(placement, "_MOST_LOOKS", most)
    nodes = [Node(f"n{i:02}", ABLE, address=f"10.0.0.{i + 1}") for i in range(10)]
    far = {(a.name, b.name): 5.0 for a in nodes for b in nodes if a.name < b.name}
    slivers = {f"r{i}": Sliver(f"r{i}", apart="x") for i in range(4)}
    links = [Link((End(f"r{i}"), End(f"r{i + 1}")), impairment=Impairment(delay_ms=1.0)) for i in range(3)]
    with pytest.raises(CapacityError, match="asks for a delay of 1 ms") as refused:
        place(Topology("s", slivers, tuple(links)), nodes, {}, {}, far)
    assert len(made) == tries
    assert ("Not all ways were tried" in str(refused.value)) == (tries < 22)


def test_each_order_and_each_cluster_is_tried_however_much_was_looked(monkeypatch):
    monkeypatch.setattr(placement, "_LOOKS", 1)
    nodes = [Node(f"n{i:03}", ABLE, address=f"10.0.0.{i + 1}", cores=2.0) for i in range(100)]
    small = {f"u{i:03}": Sliver(f"u{i:03}", resources=Resources(reserve=0.1)) for i in range(110)}
    large = {f"c{i:02}": Sliver(f"c{i:02}", resources=Resources(reserve=2.0)) for i in range(50)}
    links = tuple(Link((End(f"c{i:02}"), End(f"c{i + 1:02}"))) for i in range(49))
    assert place(Topology("s", {**small, **large}, links), nodes, {}, {}), "only where the largest come first"
    cluster = {n.name: 0 if i < 35 else 1 if i < 70 else 2 for i, n in enumerate(nodes[::-1])}
    delays = {(a, b): 50.0 * (cluster[a] != cluster[b]) for a in cluster for b in cluster if a < b}
    apart = {f"c{i:02}": Sliver(f"c{i:02}", apart="x") for i in range(33)}
    chain = tuple(Link((End(f"c{i:02}"), End(f"c{i + 1:02}")), impairment=Impairment(delay_ms=5.0)) for i in range(32))
    placed = place(Topology("s", apart, chain), nodes, {}, {}, delays)
    assert len({cluster[node] for node in placed.values()}) == 1


# --- what is reserved -------------------------------------------------------------------------------------


def reserving(cores: float, pinned: str = "", name: str = "s", count: int = 1) -> Topology:
    resources = Resources(reserve=cores)
    slivers = {f"a{i}": Sliver(f"a{i}", runtime="container", resources=resources, node=pinned) for i in range(count)}
    return Topology(name, slivers)


def test_what_is_reserved_is_taken_of_a_node_and_a_full_one_is_told_with_by_how_much() -> None:
    nodes = [node(f"n{i}", cores=2, capabilities=ABLE | {"containers"}) for i in range(2)]
    assert use(reserving(1.5), {"a0": "n0"})["n0"].cores == 1.5
    used = {"n0": Use(1.0), "n1": Use(0.25)}
    assert place(reserving(1.5), nodes, used, {}) == {"a0": "n1"}
    with pytest.raises(
        CapacityError, match=r"Node 'n0' is full.*0\.5 cores more than is free there.*'n1', which has room"
    ):
        place(reserving(1.5, "n0"), nodes, used, {})
    with pytest.raises(
        CapacityError, match=r"No node has room.*the nearest, node 'n1', has 0\.05 cores too little free"
    ):
        place(reserving(1.8), nodes, used, {})


def test_one_machine_promises_no_more_cores_than_it_has() -> None:
    others = [reserving(0.5, name="t"), reserving(0.25, name="u", count=3)]
    check_reserved(reserving(0.75), lambda: others, 2)
    with pytest.raises(
        CapacityError, match=r"2 cores, of which other slices have 1\.25 reserved.*'s' .*1: 0\.25 too many"
    ):
        check_reserved(reserving(0.5, count=2), lambda: others, 2)
    check_reserved(Topology("s", {"a": Sliver("a")}), lambda: pytest.fail("others were asked for"), 1)


def test_slices_reserve_no_more_memory_than_a_machine_has():
    def reserving(mb: int) -> Topology:
        return Topology("s", {"a": Sliver("a", runtime="container", resources=Resources(memory_reserve_mb=mb))})

    check_reserved_memory(reserving(300), lambda: [reserving(400), reserving(300)], 1256)
    with pytest.raises(
        CapacityError, match=r"1000 MB .* for slivers, .* slices have 700 .* reserves 400: 100 too many"
    ):
        check_reserved_memory(reserving(400), lambda: [reserving(400), reserving(300)], 1256)
    check_reserved_memory(reserving(0), lambda: pytest.fail("others were asked for"), 1)
    with pytest.raises(CapacityError, match="9000 MB of memory for slivers"):
        check_reserved_memory(reserving(9001), list, 10_000)
    check_reserved_memory(reserving(9000), list, 10_000)
    assert [for_slivers(has) for has in (0, 200, 1000, 16_000)] == [0, 0, 744, 14_400]


def test_what_disks_and_volumes_are_set_apart_a_node_must_have() -> None:
    def box(name: str) -> Sliver:
        own = Resources(disk_mb=600)
        return Sliver(name, runtime="container", resources=own, volumes={"v": "/v"}, bounds={"v": Bound(300)})

    able = ABLE | {"containers", "disks"}
    assert cost(box("a")).disk_mb == 900
    two = Topology("t", {n: box(n) for n in "ab"})
    small, large = node("n0", capabilities=able, disk_mb=1000), node("n1", capabilities=able, disk_mb=1900)
    assert list(place(two, [small, large], {}, {}).values()).count("n0") <= 1
    assert sorted(place(two, [small, large], {"n1": Use(disk_mb=500)}, {}).values()) == ["n0", "n1"]
    with pytest.raises(CapacityError, match="900 MB of disk and 0.01 cores.*has 100 MB of disk too little free"):
        place(two, [small, large], {"n0": Use(disk_mb=200), "n1": Use(disk_mb=1100)}, {})
    plain = Topology("t", {"a": Sliver("a")})  # asks for none, so a full one will do
    assert place(plain, [small], {"n0": Use(disk_mb=2000)}, {}) == {"a": "n0"}
