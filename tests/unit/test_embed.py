"""From what a person wrote to what a node must hold: stable, complete, and reviewed as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from ipaddress import ip_interface
from pathlib import Path
from types import FrameType

import msgspec
import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import CAPABLE, OTHER, impairments, placed_topologies, spec_of, specs, specs_of, topologies

from vini import nearby
from vini.embed import embed, prepared, router
from vini.formats import generate
from vini.layout import address, forwards, layout, link_name
from vini.model import (
    STACK,
    TWIN,
    Address,
    CapacityError,
    Command,
    End,
    File,
    Gate,
    Gretap,
    Hook,
    Impairment,
    Interface,
    Link,
    Netns,
    Node,
    NotFound,
    Process,
    Program,
    Root,
    Route,
    Routing,
    Shape,
    Share,
    SliceSpec,
    Sliver,
    StaticRoute,
    Sysctl,
    Topology,
    TopologyError,
    Tunnel,
    Unsupported,
    Veth,
    VethEnd,
    Vxlan,
    VxlanXdp,
    Wireguard,
    is_sliver,
)
from vini.node import bpf
from vini.placement import crossing
from vini.plan import in_order, plan
from vini.plugins.intent import originated
from vini.topology import parse

EXAMPLES = Path(__file__).parents[2] / "examples"
OSPF = Routing(("ospf",), daemon="bird")


def line(*slivers: str, routing: Routing | None = OSPF, **more: Sliver) -> Topology:
    everyone = {n: more.get(n) or Sliver(n, routing=routing) for n in slivers}
    return Topology("s", everyone, tuple(Link((End(a), End(b))) for a, b in zip(slivers, slivers[1:], strict=False)))


def of(kind: type, topology: Topology, sliver: str = "") -> list:
    objects = [o for o in in_order(spec_of(topology).objects) if type(o) is kind]
    return [o for o in objects if not sliver or f"s.{sliver}" in o.slivers]


def routes(topology: Topology, sliver: str) -> dict[str, tuple[str, str]]:
    return {r.to: (r.via, r.dev) for r in of(Route, topology, sliver)}


# --- stable ---------------------------------------------------------------------------------------


@given(topologies())
def test_the_same_file_gives_the_same_spec(topology):
    assert spec_of(topology) == spec_of(topology)


@given(topologies(), st.randoms())
def test_the_order_in_a_file_means_nothing_but_for_a_hosts_default_route(topology, random_):
    slivers, links = list(topology.slivers.items()), list(topology.links)
    random_.shuffle(slivers)
    random_.shuffle(links)
    shuffled = replace(topology, slivers=dict(slivers), links=tuple(links))
    assert _numbers(shuffled) == _numbers(topology)


@given(topologies(), st.data())
def test_nobody_is_renumbered_when_an_unrelated_sliver_and_link_join(topology, data):
    peer = data.draw(st.sampled_from(sorted(topology.slivers)))
    grown = replace(
        topology,
        slivers={"new": Sliver("new", routing=OSPF), **topology.slivers},
        links=(Link((End("new"), End(peer))), *topology.links),
    )
    assert _numbers(topology) <= _numbers(grown)


def _numbers(topology: Topology) -> set[object]:
    """Names, addresses, MACs, interface indexes."""
    return {o for o in spec_of(topology).objects if isinstance(o, Veth | Interface | Address | Sysctl)}


@given(specs())
def test_nothing_is_there_twice(spec):
    assert len({o.key for o in spec.objects}) == len(spec.objects)
    for found in (
        [(o.ns, o.cidr.partition("/")[0]) for o in spec.objects if isinstance(o, Address)],
        [(e.ns, e.dev) for o in spec.objects if isinstance(o, Veth) for e in o.ends],
        [(e.ns, e.index) for o in spec.objects if isinstance(o, Veth) for e in o.ends],
        [e.mac for o in spec.objects if isinstance(o, Veth) for e in o.ends],
    ):
        assert len(found) == len(set(found))


@given(topologies())
def test_no_two_vifs_of_a_slice_have_one_address(topology):
    made = layout(topology)
    flat = [a.partition("/")[0] for vs in made.vifs.values() for v in vs for a in v.addresses]
    flat += [a.partition("/")[0] for all_ in made.loopbacks.values() for a in all_]
    assert len(flat) == len(set(flat))
    assert len(set(made.router_ids.values())) == len(made.router_ids)


def test_slices_of_the_same_names_share_no_object_and_no_mac():
    one, two = spec_of(line("a", "b")).objects, spec_of(replace(line("a", "b"), name="t")).objects
    assert not {o.key for o in one} & {o.key for o in two}
    assert not {e.mac for o in one if isinstance(o, Veth) for e in o.ends} & {
        e.mac for o in two if isinstance(o, Veth) for e in o.ends
    }


# --- complete -----------------------------------------------------------------------------------


@given(topologies())
def test_every_vif_has_a_pair_an_interface_and_its_addresses_on_both_ends(topology):
    objects = spec_of(topology).objects
    keys = {o.key for o in objects}
    for vifs in layout(topology).vifs.values():
        for vif in vifs:
            ns = f"s.{vif.sliver}"
            assert ("interface", ns, vif.dev) in keys
            assert {("address", ns, vif.dev, a) for a in vif.addresses} <= keys


@given(topologies())
def test_a_sliver_forwards_when_it_is_a_router_and_only_then(topology):
    for o in of(Sysctl, topology):
        on = "1" if forwards(topology.slivers[o.ns.partition(".")[2]]) else "0"
        assert {value for _, value in o.settings} == {on}


def test_a_link_without_carrier_is_down_at_both_ends_and_a_silent_one_is_up():
    for fault, up in (("none", True), ("carrier", False), ("silent", True)):
        topology = replace(line("a", "b"), links=(Link((End("a"), End("b")), fault=fault),))
        assert {o.up for o in of(Interface, topology) if o.dev != "lo"} == {up}
        assert {o.up for o in of(Interface, topology) if o.dev == "lo"} == {True}


def test_a_silent_fault_drops_in_both_directions():
    topology = replace(line("a", "b"), links=(Link((End("a"), End("b")), fault="silent"),))
    assert [(o.ns, o.drop) for o in of(Shape, topology)] == [("s.a", True), ("s.b", True)]


def test_each_direction_may_be_impaired_by_itself():
    slow = Impairment(delay_ms=30.0)
    topology = replace(line("a", "b"), links=(Link((End("a", impairment=slow), End("b"))),))
    assert [(o.ns, o.delay_us) for o in of(Shape, topology)] == [("s.a", 30_000)]


@given(impairments)
def test_an_impairment_comes_out_as_it_was_asked_for_in_whole_numbers(wish):
    topology = replace(line("a", "b"), links=(Link((End("a"), End("b")), impairment=wish),))
    for o in of(Shape, topology):
        assert (o.delay_us, o.jitter_us) == (round(wish.delay_ms * 1e3), round(wish.jitter_ms * 1e3))
        assert (o.loss_ppm, o.rate_kbit) == (round(wish.loss * 1e6), round(wish.rate_mbit * 1e3))
    assert bool(of(Shape, topology)) == (wish != Impairment())


# --- routes -------------------------------------------------------------------------------------


def test_a_host_sends_all_by_its_first_router():
    topology = line("h", "r1", "r2", h=Sliver("h"))
    made = layout(topology)
    v4, v6 = (a.partition("/")[0] for a in made.vifs["r1"][0].addresses)
    assert routes(topology, "h") == {"0.0.0.0/0": (v4, "to-r1"), "::/0": (v6, "to-r1")}
    assert routes(topology, "r1") == {}


def test_a_host_with_two_routers_takes_the_next_when_the_first_link_has_no_carrier():
    both = (Link((End("h"), End("r1"))), Link((End("h"), End("r2"))))
    topology = Topology("s", {"h": Sliver("h"), "r1": Sliver("r1", OSPF), "r2": Sliver("r2", OSPF)}, both)
    assert {dev for _, dev in routes(topology, "h").values()} == {"to-r1"}
    cut = replace(topology, links=(replace(both[0], fault="carrier"), both[1]))
    assert {dev for _, dev in routes(cut, "h").values()} == {"to-r2"}
    silent = replace(topology, links=(replace(both[0], fault="silent"), both[1]))
    assert {dev for _, dev in routes(silent, "h").values()} == {"to-r1"}  # a silent fault is one that nobody notices


def test_two_hosts_alone_have_no_default_route():
    assert of(Route, line("h", "g", routing=None)) == []


def test_a_route_of_the_users_own_wins_over_the_default():
    host = Sliver("h", routes=(StaticRoute("192.0.2.0/24", "r"),))
    topology = line("h", "r", h=host)
    via = layout(topology).vifs["r"][0].addresses[0].partition("/")[0]
    assert routes(topology, "h") == {"192.0.2.0/24": (via, "to-r")}


def test_a_route_via_a_stranger_is_refused_with_the_slivers_name():
    with pytest.raises(TopologyError, match="a: the route to 192.0.2.0/24 goes via 'c', which is no neighbour"):
        spec_of(line("a", "b", "c", a=Sliver("a", routes=(StaticRoute("192.0.2.0/24", "c"),))))


@given(st.integers(2, 9), st.integers(0, 10_000))
def test_static_routing_takes_the_shortest_paths_that_networkx_finds(n, seed):
    graph = networkx.gnm_random_graph(n, 2 * n, seed=seed)
    costs = {tuple(sorted(e)): 1 + (seed * 31 + e[0] * 7 + e[1] * 13) % 9 for e in graph.edges}
    topology = Topology(
        "s",
        {f"r{i}": Sliver(f"r{i}", routing=Routing(("static",))) for i in graph},
        tuple(Link((End(f"r{a}"), End(f"r{b}")), cost=costs[tuple(sorted((a, b)))]) for a, b in graph.edges),
    )
    for a, b in graph.edges:
        graph.edges[a, b]["weight"] = costs[tuple(sorted((a, b)))]
    distances = dict(networkx.all_pairs_dijkstra_path_length(graph))
    made = layout(topology)
    for a in graph:
        found = routes(topology, f"r{a}")
        for b in graph:
            for loopback in made.loopbacks[f"r{b}"] if a != b else ():
                assert (loopback in found) == (b in distances[a])
                if b in distances[a]:
                    vif = next(v for v in made.vifs[f"r{a}"] if v.dev == found[loopback][1])
                    assert vif.cost + distances[int(vif.peer[1:])][b] == distances[a][b]
                    assert found[loopback][0] in {x.partition("/")[0] for n in made.neighbors(vif) for x in n.addresses}


def test_static_routes_lead_to_hosts_too_but_never_through_one():
    """r1 - h - r2 is short, r1 - r3 - r2 is long: h doesn't forward."""
    static = Routing(("static",))
    links = tuple(
        Link((End(a), End(b)), cost=c)
        for a, b, c in [("r1", "h", 1), ("h", "r2", 1), ("r1", "r3", 50), ("r3", "r2", 50)]
    )
    topology = Topology("s", {n: Sliver(n, routing=static) for n in ("r1", "r2", "r3")} | {"h": Sliver("h")}, links)
    found = routes(topology, "r1")
    assert found[layout(topology).loopbacks["r2"][0]][1] == "to-r3"
    behind = str(ip_interface(layout(topology).ends["h--r2"][0].addresses[0]).network)
    assert found[behind][1] == "to-r3"


# --- contents -----------------------------------------------------------------------------------


def test_files_make_a_private_root_of_their_directories_and_commands_run_in_it():
    sliver = Sliver(
        "a", files={"/etc/motd": "hi", "/srv/x/y": ""}, commands=(Command("true"), Command("sleep 9", True))
    )
    topology = Topology("s", {"a": sliver})
    assert [o.path for o in of(File, topology)] == ["root/etc/motd", "root/srv/x/y"]
    assert [o.dirs for o in of(Root, topology)] == [("/etc", "/srv")]
    first, second = of(Process, topology)
    assert (first.argv, first.once, first.after) == (("sh", "-c", "true"), True, ())
    assert (second.argv, second.once, second.after) == (("sh", "-c", "sleep 9"), False, (first.name,))
    assert first.rooted
    assert second.rooted


@pytest.mark.parametrize("path", ["/proc/x/y", "/sys/a/b", "/dev/x/y", "/run/x/y", "/motd", "/etc/../proc/x", "/"])
def test_a_file_that_would_hide_the_machines_own_is_refused(path):
    with pytest.raises(TopologyError, match="can't be placed"):
        spec_of(Topology("s", {"a": Sliver("a", files={path: ""})}))


def test_a_commands_own_text_may_be_anything():
    topology = Topology("s", {"a": Sliver("a", commands=(Command("echo {run} \"ü\" '$x'"),))})
    assert of(Process, topology)[0].argv[-1] == "echo {run} \"ü\" '$x'"


def test_the_same_command_twice_runs_twice():
    topology = Topology("s", {"a": Sliver("a", commands=(Command("date >> /tmp/x"), Command("date >> /tmp/x")))})
    first, second = sorted(of(Process, topology), key=lambda p: len(p.after))
    assert first.name != second.name
    assert (first.after, second.after) == ((), (first.name,))


# --- routing ------------------------------------------------------------------------------------


def test_a_protocol_is_spoken_only_where_both_ends_speak_it_and_the_link_allows_it():
    slivers = {"a": Sliver("a", Routing(("ospf", "rip"))), "b": Sliver("b", Routing(("ospf",))), "h": Sliver("h")}
    links = (
        Link((End("a"), End("b"))),
        Link((End("a"), End("h"))),
        Link(
            (
                End("a"),
                End("b", vif="x"),
            ),
            name="second",
            protocols=(),
        ),
    )
    links = (*links[:2], replace(links[2], ends=(End("a", vif="y"), End("b", vif="x"))))
    topology = Topology("s", slivers, links)
    found = {v.dev: (v.protocols, v.passive) for v in router(topology, layout(topology), "a").vifs}
    assert found == {"to-b": (("ospf",), ("rip",)), "to-h": ((), ("ospf", "rip")), "y": ((), ("ospf", "rip"))}


def test_an_igp_ends_at_the_border_of_its_autonomous_system():
    def speaks(asn: int) -> Routing:
        return Routing(("ospf", "bgp"), asn=asn)

    slivers = {"a": Sliver("a", speaks(1)), "b": Sliver("b", speaks(1)), "c": Sliver("c", speaks(2))}
    topology = Topology("s", slivers, (Link((End("a"), End("b"))), Link((End("b"), End("c")))))
    made = router(topology, layout(topology), "b")
    assert {v.peer: v.protocols for v in made.vifs} == {"a": ("ospf", "bgp"), "c": ("bgp",)}
    assert {v.peer: v.passive for v in made.vifs} == {"a": (), "c": ("ospf",)}
    assert not [p for p in originated(made, 4) if p.endswith("/31")]  # of links between systems nobody needs to know
    assert {(p.name, p.internal, p.asn) for p in made.peers} == {("a", True, 1), ("c", False, 2)}


@pytest.mark.parametrize(
    ("protocols", "versions"),
    [(("ospf", "bgp"), {4}), (("bgp", "ospf6"), {6}), (("isis", "bgp"), {4, 6}), (("bgp",), {4, 6})],
)
def test_inner_bgp_sessions_are_in_the_ip_versions_that_have_a_way(protocols, versions):
    slivers = {n: Sliver(n, Routing(protocols, asn=1)) for n in "ab"}
    topology = Topology("s", slivers, (Link((End("a"), End("b"))),))
    found = router(topology, layout(topology), "a").peers
    assert {6 if ":" in p.address else 4 for p in found} == versions
    assert all(p.internal and (":" in p.source) == (":" in p.address) for p in found)


def test_a_daemon_that_the_node_lacks_is_refused_with_the_command_that_installs_it():
    with pytest.raises(Unsupported, match="apt-get install bird2"):
        embed(line("a", "b"), [Node("local", frozenset({"frr"}))])


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_a_link_that_comes_or_goes_reloads_a_daemon_and_never_restarts_it(daemon):
    """A restart would take its routes out of the kernel, and packets on other links with them."""
    whole = triangle(Routing(("ospf",), daemon=daemon))
    fewer = replace(whole, links=whole.links[1:])
    for before, after in ((whole, fewer), (fewer, whole)):
        ops = plan(spec_of(after).objects, spec_of(before).objects)
        assert [op for op in ops if isinstance(op.object, Process) and op.verb == "remove"] == []


# --- refusals -----------------------------------------------------------------------------------


def test_a_pin_to_an_unknown_node_is_refused_not_ignored():
    with pytest.raises(CapacityError, match="pinned to node 'mars'.*it has: local"):
        spec_of(Topology("s", {"a": Sliver("a", node="mars")}))


def test_without_a_node_there_is_no_place():
    with pytest.raises(CapacityError):
        embed(line("a"), [])


def test_one_address_for_two_is_refused_and_both_are_named():
    twice = Sliver("b", routing=OSPF, addresses=("192.0.2.1/32",))
    with pytest.raises(
        TopologyError, match="the loopback of b and the loopback of a would both have the address 192.0.2.1"
    ):
        layout(line("a", "b", a=replace(twice, name="a"), b=twice))


def test_the_address_that_stands_for_a_sliver():
    made = layout(line("h", "r", h=Sliver("h")))
    assert address(made, "r") == made.loopbacks["r"][0].partition("/")[0]
    assert address(made, "h", 6) == made.vifs["h"][0].addresses[1].partition("/")[0]
    with pytest.raises(NotFound):
        address(made, "x")
    with pytest.raises(NotFound, match="has no IPv6 address"):
        given_ = Link((End("h", addresses=("192.0.2.1/24",)), End("r", addresses=("192.0.2.2/24",))))
        address(layout(replace(line("h", "r", h=Sliver("h")), links=(given_,))), "h", 6)


# --- golden: topology -> spec -> plan, as text that people review -----------------------------------


def as_text(topology: Topology, before: Topology | None = None) -> str:
    """Every object of the spec with its settings, then the plan: from nothing, or from `before`."""
    spec = spec_of(topology)
    old = spec_of(before).objects if before else frozenset()
    out = [f"slice {spec.slice}, node {spec.node}, generation {spec.generation}", ""]
    for o in in_order(spec.objects) if before is None else ():
        settings = {f: getattr(o, f) for f in o.__struct_fields__}
        out.append(" ".join(o.key))
        for field, value in settings.items():
            if isinstance(value, str) and "\n" in value:
                out += [f"  {field}:", *(f"    | {text}".rstrip() for text in value.splitlines())]
            elif str(value) not in o.key:
                out.append(f"  {field}: {_plain(value)}")
    out += ["", "plan, from nothing:" if before is None else "plan, from the slice before the change:"]
    out += [str(op) for op in plan(spec.objects, old)]
    return "\n".join(out) + "\n"


def _plain(value: object) -> str:
    return msgspec.json.encode(value).decode()


def test_golden_two_routers(golden):
    golden("two-routers-bird", as_text(line("a", "b")))


def test_golden_two_routers_frr(golden):
    golden("two-routers-frr", as_text(line("a", "b", routing=Routing(("ospf",), daemon="frr"))))


def test_golden_hosts_with_files_commands_and_static_routing(golden):
    web = Sliver("web", files={"/srv/www/index.html": "hello\n"}, commands=(Command("sleep 1000", service=True),))
    topology = line("web", "r1", "r2", "me", routing=Routing(("static",)), web=web, me=Sliver("me"))
    golden("hosts-static", as_text(topology))


SLOW = Impairment(delay_ms=10.0, loss=0.01, rate_mbit=100.0)


def test_golden_impaired_link(golden):
    topology = line("a", "b", routing=None)
    golden("impaired-link", as_text(replace(topology, links=(replace(topology.links[0], impairment=SLOW),))))


def test_a_gate_is_where_packets_arrive_that_a_shape_has_released():
    topology = line("a", "b", routing=None)

    def gates(fault="none", **ends):
        (link,) = topology.links
        made = replace(link, fault=fault, ends=tuple(replace(e, **ends.get(e.sliver, {})) for e in link.ends))
        return {o for o in spec_of(replace(topology, links=(made,))).objects if isinstance(o, Gate)}

    from_a, from_b = Gate("s.b", "to-a", "s.a", "to-b"), Gate("s.a", "to-b", "s.b", "to-a")
    assert gates() == gates("silent") == set()  # a silent fault drops at both ends by itself
    assert gates(a={"impairment": SLOW}) == gates("silent", a={"impairment": SLOW}) == {from_a}
    assert gates(a={"impairment": SLOW}, b={"impairment": Impairment()}) == {from_a}
    assert gates(a={"impairment": SLOW}, b={"impairment": SLOW}) == {from_a, from_b}


@pytest.mark.parametrize("shaped", "ab")
def test_xdp_is_not_chosen_where_a_link_is_shaped_in_either_direction(shaped):
    topology, program = line("a", "b", routing=None), Program("elements", "input -> count -> kernel\n", "p.vini")
    (link,) = topology.links
    ends = tuple(replace(e, impairment=SLOW) if e.sliver == shaped else e for e in link.ends)
    assert prepared(layout(topology), "a", program).hook == "xdp"
    made = layout(replace(topology, links=(replace(link, ends=ends),)))
    assert (prepared(made, "a", program).hook, "to-b" in prepared(made, "a", program).why) == ("tc", True)


def triangle(routing: Routing = OSPF) -> Topology:
    links = tuple(Link((End(a), End(b))) for a, b in ("ab", "bc", "ca"))
    return Topology("s", {n: Sliver(n, routing=routing) for n in "abc"}, links)


def test_golden_change_a_silent_fault(golden):
    before = triangle()
    golden(
        "change-silent-fault",
        as_text(replace(before, links=(replace(before.links[0], fault="silent"), *before.links[1:])), before),
    )


def test_golden_change_no_carrier(golden):
    before = triangle()
    golden(
        "change-no-carrier",
        as_text(replace(before, links=(replace(before.links[0], fault="carrier"), *before.links[1:])), before),
    )


def test_golden_change_cost(golden):
    before = triangle()
    golden(
        "change-cost", as_text(replace(before, links=(replace(before.links[0], cost=99), *before.links[1:])), before)
    )


def test_golden_change_a_sliver_joins(golden):
    before = triangle()
    after = replace(
        before, slivers=before.slivers | {"d": Sliver("d")}, links=(*before.links, Link((End("c"), End("d"))))
    )
    golden("change-sliver-joins", as_text(after, before))


def test_golden_change_a_link_goes(golden):
    before = triangle()
    golden("change-link-goes", as_text(replace(before, links=before.links[1:]), before))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_can_be_embedded(path):
    try:
        topology = parse(path.read_text(), str(path), read_file=nearby.reader(path.parent))
    except TopologyError as e:
        if "This is an experiment" in str(e):
            pytest.skip("an experiment; its topology is another file, or part of it")
        raise
    spec = spec_of(topology)
    assert {o.ns for o in spec.objects if o.key[0] == "netns"} == {f"{topology.name}.{s}" for s in topology.slivers}
    assert {link_name(x) for x in topology.links} == set(layout(topology).links)
    assert CAPABLE.name == spec.node


# --- over several nodes ---------------------------------------------------------------------------


@given(placed_topologies())
def test_all_nodes_together_hold_what_one_would_but_for_the_pairs_that_became_tunnels(pair):
    topology, placed = pair
    parts = specs_of(topology, placed)
    assert set(parts) == set(placed.values())
    together = [o for spec in parts.values() for o in spec.objects if all(map(is_sliver, o.slivers))]
    assert len({o.key for o in together}) == len(together)
    whole = spec_of(topology).objects
    ends = [e for spec in parts.values() for o in spec.objects for e in _vifs(o) if is_sliver(e.ns)]
    inside = {(e.ns, e.dev) for o in together if isinstance(o, Veth) for e in o.ends}
    tunnelled = {(e.ns, e.dev) for e in ends} - inside
    gated = {o for o in whole if not isinstance(o, Gate) or (o.ns, o.dev) not in tunnelled}
    assert {_without_wire(o) for o in gated if not isinstance(o, Veth)} == {
        _without_wire(o) for o in together if not isinstance(o, Veth | Tunnel | Share)
    }
    assert {(e.ns, e.dev, e.index, e.mac) for o in whole if isinstance(o, Veth) for e in o.ends} == {
        (e.ns, e.dev, e.index, e.mac) for e in ends
    }


def _without_wire(o):
    """Nor what only vifs of tunnels at XDP have."""
    return replace(o, wire=(), gro=False, finished=False) if isinstance(o, Interface) else o


def _vifs(o) -> list[VethEnd | Tunnel]:
    return list(o.ends) if isinstance(o, Veth) else [o] if isinstance(o, Tunnel) else []


@given(placed_topologies())
def test_no_container_has_a_tunnel_in_its_network_but_one_that_leads_nowhere_else(pair):
    """And of what comes out of the pair that it has instead, only what a Shape released goes on, where there is one."""
    topology, placed = pair
    for spec in specs_of(topology, placed).values():
        tenants = {o.ns for o in spec.objects if isinstance(o, Netns) and o.tenant}
        assert all(o.through for o in spec.objects if isinstance(o, Vxlan) and o.ns in tenants)
        assert not [o for o in spec.objects if isinstance(o, Gretap) and o.ns in tenants]
        shaped = {(o.ns, o.dev) for o in spec.objects if isinstance(o, Shape)}
        gates = {(o.peer_ns, o.peer_dev) for o in spec.objects if isinstance(o, Gate) and not is_sliver(o.ns)}
        pairs = [o for o in spec.objects if isinstance(o, Veth) and not all(map(is_sliver, o.slivers))]
        assert shaped & {(e.ns, e.dev) for o in pairs for e in o.ends} <= gates
        for o in pairs:
            (end,) = (e for e in o.ends if not is_sliver(e.ns))
            (twin,) = (
                t for t in spec.objects if isinstance(t, Tunnel) and t.ns == end.ns and t.index == end.index ^ TWIN
            )
            assert not (end.index | twin.index) & bpf.TAP_BIT
            crossing = {i.dev for i in spec.objects if isinstance(i, Interface) and i.ns == end.ns and i.crosses}
            assert {end.dev, twin.dev} <= crossing


@given(placed_topologies())
def test_a_node_holds_what_is_of_its_slivers_and_all_that_it_stands_on(pair):
    topology, placed = pair
    for node, spec in specs_of(topology, placed).items():
        assert {placed[ns.partition(".")[2]] for o in spec.objects for ns in o.slivers if is_sliver(ns)} == {node}
        keys = {o.key for o in spec.objects}
        assert all(key in keys for o in spec.objects for key in o.on)
        assert {type(o) for o in spec.objects} <= set(STACK)


@given(placed_topologies())
def test_a_link_that_leads_to_another_node_has_one_tunnel_end_on_each_and_both_agree(pair):
    topology, placed = pair
    ends: dict[int, list[tuple[str, Tunnel]]] = {}
    for node, spec in specs_of(topology, placed).items():
        for o in spec.objects:
            if isinstance(o, Tunnel):
                ends.setdefault(o.gre_key if isinstance(o, Gretap) else o.vni, []).append((node, o))
    assert len(ends) == len(crossing(topology, placed))
    for (one, a), (other, b) in ends.values():
        assert one != other
        assert (
            type(a)
            is type(b)
            is {"": Vxlan, "wireguard": Vxlan, "vxlan-xdp": VxlanXdp, "gretap": Gretap}[topology.tunnel]
        )
        assert (a.local, a.remote) == (b.remote, b.local)


def across(
    link: Link | None = None, a: Node = CAPABLE, b: Node = OTHER, tunnel: str = "", contained: Collection[str] = ()
) -> dict[str, SliceSpec]:
    """r1 on one node, r2 and r3 on another."""
    topology = line("r1", "r2", "r3")
    topology = replace(topology, links=(link or topology.links[0], *topology.links[1:]), tunnel=tunnel)
    slivers = {n: replace(s, runtime="container" if n in contained else "light") for n, s in topology.slivers.items()}
    topology = replace(topology, slivers=slivers)
    placed = {"r1": a.name, "r2": b.name, "r3": b.name}
    return embed(topology, [a, b], placed=placed, vnis={"r1--r2": 4711}, port=20_001)


@pytest.mark.parametrize(
    ("tunnel", "name", "contained"),
    [
        ("", "two-nodes", ()),
        ("gretap", "two-nodes-gretap", ()),
        ("vxlan-xdp", "two-nodes-vxlan-xdp", ()),
        ("wireguard", "two-nodes-wireguard", ()),
        ("", "two-nodes-container", ("r1",)),
    ],
)
def test_what_two_nodes_hold_is_as_it_was_reviewed(golden, tunnel, name, contained):
    parts = across(a=replace(CAPABLE, mtu=1500), tunnel=tunnel, contained=contained)
    text = "\n".join(f"{n}\n" + "".join(f"  {o}\n" for o in plan(s.objects, ())) for n, s in sorted(parts.items()))
    wires = [o for _, s in sorted(parts.items()) for o in in_order(s.objects) if isinstance(o, Tunnel | Wireguard)]
    rides = [ride for _, s in sorted(parts.items()) for ride in s.rides]
    golden(name, text + "\n" + "".join(f"{o}\n" for o in (*wires, *rides)))


FOUR, SIX = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0::2")


@pytest.mark.parametrize(
    ("tunnel", "addresses", "mtus", "asked", "given_"),
    [
        ("", FOUR, (1500, 1500), None, 1450),
        ("", SIX, (1500, 1500), None, 1430),
        ("", FOUR, (1500, 1400), None, 1350),
        ("", FOUR, (9000, 9000), None, 1500),
        ("", FOUR, (9000, 9000), 8950, 8950),
        ("", FOUR, (1500, 1500), 1450, 1450),
        ("", FOUR, (1500, 1500), 1300, 1300),
        ("vxlan", FOUR, (1500, 1500), None, 1450),
        ("gretap", FOUR, (1500, 1500), None, 1458),
        ("gretap", SIX, (1500, 1500), None, 1438),
        ("gretap", FOUR, (9000, 9000), 8958, 8958),
        ("vxlan-xdp", FOUR, (1500, 1500), None, 1450),
        ("vxlan-xdp", SIX, (1500, 1500), None, 1430),
        ("vxlan-xdp", FOUR, (9000, 9000), 3450, 3450),
        ("wireguard", FOUR, (1500, 1500), None, 1390),
        ("wireguard", SIX, (1500, 1500), None, 1370),
        ("wireguard", FOUR, (9000, 1500), None, 1390),
        ("wireguard", FOUR, (9000, 9000), 8890, 8890),
    ],
)
def test_a_links_mtu_is_what_was_asked_or_what_fits_at_both_ends(tunnel, addresses, mtus, asked, given_):
    a, b = (
        replace(node, address=address, mtu=mtu)
        for node, address, mtu in zip((CAPABLE, OTHER), addresses, mtus, strict=True)
    )
    parts = across(Link((End("r1"), End("r2")), mtu=asked), a, b, tunnel)
    vifs = {(o.ns, o.dev): o.mtu for spec in parts.values() for o in spec.objects if isinstance(o, Interface)}
    assert vifs["s.r1", "to-r2"] == vifs["s.r2", "to-r1"] == given_
    assert vifs["s.r2", "to-r3"] == 1500


@pytest.mark.parametrize(
    ("change", "link", "words"),
    [
        ({"mtu": 1500}, {"mtu": 1500}, ("'r1--r2'", "1500", "1450", "the tunnel takes 50")),
        ({"address": "2001:db8::2"}, {}, ("'r1--r2'", "different IP versions", "`node:`")),
        ({"address": ""}, {}, ("'other'", "no address")),
        ({"capabilities": CAPABLE.capabilities - {"vxlan"}}, {}, ("'other'", "modprobe vxlan")),
        ({"mtu": 1300}, {}, ("IPv6", "1280", "1250")),
    ],
)
def test_a_link_that_cannot_lead_there_is_refused_with_the_reason(change, link, words):
    with pytest.raises(Unsupported) as refused:
        across(Link((End("r1"), End("r2")), **link), b=replace(OTHER, **change))
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ({"gretap"}, ("'r1--r2'", "'other' can't make tunnels of the kind gretap", "lacks gretap", "modprobe ip_gre",
                      "choose `tunnel: vxlan`")),
        ({"gretap", "vxlan", "vxlan-xdp"}, ("'other'", "lacks gretap", "or keep its slivers on one node")),
    ],
)  # fmt: skip
def test_a_tunnel_that_a_node_cannot_make_is_refused_and_never_another_one_made(lacking, words):
    with pytest.raises(Unsupported) as refused:
        across(b=replace(OTHER, capabilities=CAPABLE.capabilities - lacking), tunnel="gretap")
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert ("choose" in str(refused.value)) == ("vxlan" not in lacking)


def test_encrypted_tunnels_are_refused_of_a_node_that_has_told_no_key():
    with pytest.raises(Unsupported, match="'other' has not told the public key"):
        across(b=replace(OTHER, wireguard=""), tunnel="wireguard")


def test_each_node_has_only_those_as_peers_that_it_has_tunnels_to():
    """And a packet that a tunnel carries, padded as WireGuard pads it, is never longer than the way between nodes."""
    nodes = [
        replace(CAPABLE, name=n, address=f"192.0.2.{i}", wireguard=n * 43 + "=", mtu=1407) for i, n in enumerate("xyz")
    ]
    topology = replace(line("a", "b", "c"), tunnel="wireguard")
    vnis = {"a--b": 1, "b--c": 2}
    parts = embed(topology, nodes, placed=dict(zip("abc", "xyz", strict=True)), vnis=vnis, port=20_007)
    ways = {n: next(o for o in s.objects if isinstance(o, Wireguard)) for n, s in parts.items()}
    assert {n: [p.public_key[0] for p in o.peers] for n, o in ways.items()} == {"x": ["y"], "y": ["x", "z"], "z": ["y"]}
    inside = {n: o.cidr.partition("/")[0] for n, o in ways.items()}
    assert all(p.address == inside[p.public_key[0]] for o in ways.values() for p in o.peers)
    for spec in parts.values():
        for o in spec.objects:
            if isinstance(o, Vxlan):
                assert (o.local, o.through) == (inside[spec.node], "s._wireguard")
    assert {o.mtu for o in ways.values()} == {1407 - 60}
    assert {o.port for o in ways.values()} == {20_007}


def test_a_link_without_a_tunnels_number_is_refused():
    with pytest.raises(CapacityError, match="'r1--r2'"):
        embed(line("r1", "r2"), [CAPABLE, OTHER], placed={"r1": "local", "r2": "other"})


def test_all_vifs_of_a_lan_that_spans_nodes_have_the_mtu_of_its_tunnels():
    everyone = {"sw": Sliver("sw", mode="switch"), "g": Sliver("g"), "h": Sliver("h"), "far": Sliver("far")}
    links = (Link((End("g"), End("sw"))), Link((End("h"), End("sw"))), Link((End("g"), End("far"))))
    a, b = (replace(n, mtu=1500) for n in (CAPABLE, OTHER))
    placed = {"sw": "local", "g": "local", "h": "other", "far": "local"}
    parts = embed(Topology("s", everyone, links), [a, b], placed=placed, vnis={"h--sw": 1})
    mtus = {o.key[1:]: o.mtu for spec in parts.values() for o in spec.objects if isinstance(o, Interface)}
    assert {key: mtu for key, mtu in mtus.items() if key[1] != "lo"} == {
        ("s.g", "to-sw"): 1450, ("s.sw", "to-g"): 1450, ("s.h", "to-sw"): 1450, ("s.sw", "to-h"): 1450,
        ("s.g", "to-far"): 1500, ("s.far", "to-g"): 1500,
    }  # fmt: skip


def test_each_end_is_shaped_by_what_its_own_node_has():
    element = replace(OTHER, capabilities=OTHER.capabilities - {"netem"})
    parts = across(Link((End("r1"), End("r2")), impairment=Impairment(delay_ms=3.0)), b=element)
    shapes = {o.ns: o.backend for spec in parts.values() for o in spec.objects if isinstance(o, Shape)}
    assert shapes == {"s.r1": "netem", "s.r2": "element"}


def test_a_daemon_is_wanted_of_the_node_that_its_sliver_is_on():
    lacking = replace(OTHER, capabilities=OTHER.capabilities - {"bird"})
    with pytest.raises(Unsupported, match="'other' lacks"):
        across(b=lacking)
    topology, placed = line("r1", "r2"), {"r1": "local", "r2": "local"}
    assert set(embed(topology, [lacking, CAPABLE], placed=placed)) == {"local"}


XDP = 'SEC("xdp") int all(struct xdp_md *p) { return 2; }'


def test_a_program_whose_links_lead_to_other_nodes_runs_at_tc():
    """A tunnel takes nothing that XDP redirects."""
    sorts = "input -> sort :: classify(ip)\nsort[ip] -> fib :: lookup -> out\n"
    elements = Program("elements", sorts + "fib[kernel] -> kernel\nsort[other] -> kernel")
    topology = line("r1", "r2", "r3", r2=Sliver("r2", routing=OSPF, program=elements))
    hooks = {o.hook for o in of(Hook, topology)}
    assert hooks == {"xdp"}
    placed = {"r1": "local", "r2": "other", "r3": "other"}
    parts = embed(topology, [CAPABLE, OTHER], placed=placed, vnis={"r1--r2": 1})
    assert {o.hook for o in parts["other"].objects if isinstance(o, Hook)} == {"tc"}
    vifs = [o for spec in parts.values() for o in spec.objects if isinstance(o, Interface)]
    assert not any(o.gro or o.finished for o in vifs)
    only_xdp = replace(topology.slivers["r2"], program=Program("c", XDP))
    with pytest.raises(Unsupported, match="to-r1.*other nodes|other nodes.*to-r1"):
        embed(
            replace(topology, slivers={**topology.slivers, "r2": only_xdp}), [CAPABLE, OTHER],
            placed=placed, vnis={"r1--r2": 1},
        )  # fmt: skip


def test_a_sliver_that_is_placed_elsewhere_than_it_is_pinned_is_refused():
    topology = line("r1", "r2", r1=Sliver("r1", node="other"))
    with pytest.raises(CapacityError, match="'other'"):
        embed(topology, [CAPABLE, OTHER], placed={"r1": "local", "r2": "local"})


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, of Python and of its built-ins."""
    count = 0

    def hear(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event.endswith("call")

    sys.setprofile(hear)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("spec", ["line", "ring"])
def test_twice_the_slivers_are_about_twice_the_work(spec: str) -> None:
    small, large = (generate(f"{spec}:{n}") for n in (100, 200))
    assert calls(lambda: embed(large, [CAPABLE])) < 2.4 * calls(lambda: embed(small, [CAPABLE]))
