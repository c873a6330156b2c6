"""LANs: who is on one, how they are addressed, and who reaches whom over switches, against frames followed by hand."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import spec_of
from test_embed import as_text
from test_reach import fibs_of

from vini import lans, names
from vini.embed import router
from vini.experiment.paths import delays_ms
from vini.layout import address, layout, link_name
from vini.model import (
    Address,
    AnyObject,
    Bridge,
    End,
    Expect,
    Impairment,
    Interface,
    Link,
    Netns,
    NotFound,
    Route,
    Routing,
    Shape,
    Sliver,
    StaticRoute,
    Topology,
    TopologyError,
    Veth,
)
from vini.node.fake import FakeDriver
from vini.node.machine import Machine
from vini.plan import outcome, plan
from vini.plugins import expected_adjacencies
from vini.reach import FibEntry, Walker, Ways, unreached
from vini.topology import dump, parse

STATIC, OSPF = Routing(("static",)), Routing(("ospf",))
SWITCHES, OTHERS = ("s1", "s2", "s3", "zz"), ("a", "b", "c", "d", "e")


@st.composite
def networks(draw: st.DrawFn) -> Topology:
    """Switches, hosts and static routers, linked as it comes, some twice; with faults."""
    switches = draw(st.lists(st.sampled_from(SWITCHES), min_size=1, unique=True))
    others = draw(st.lists(st.sampled_from(OTHERS), min_size=1, unique=True))
    slivers = {s: Sliver(s, mode="switch") for s in switches}
    slivers |= {n: Sliver(n, routing=draw(st.sampled_from([None, STATIC]))) for n in others}
    pairs = [(a, b) for i, a in enumerate(slivers) for b in list(slivers)[i + 1 :]]
    links = []
    for i, (a, b) in enumerate(draw(st.lists(st.sampled_from(pairs), max_size=9, unique=True)) if pairs else []):
        fault = draw(st.sampled_from(["none", "none", "none", "carrier", "silent"]))
        links.append(Link((End(a), End(b)), name=f"link{i}", cost=draw(st.integers(1, 3)), fault=fault))
    return Topology("s", slivers, tuple(links))


def cidrs(topology: Topology) -> dict[tuple[str, str], set[str]]:
    return {(v.sliver, v.dev): set(v.addresses) for vs in layout(topology).vifs.values() for v in vs}


def lan_of(n: int, **given_: tuple[str, ...]) -> Topology:
    """Hosts on one switch."""
    slivers = {"sw": Sliver("sw", mode="switch")} | {f"h{i}": Sliver(f"h{i}") for i in range(n)}
    links = tuple(Link((End(h, addresses=given_.get(h, ())), End("sw"))) for h in slivers if h != "sw")
    return Topology("s", slivers, links)


# --- addresses ------------------------------------------------------------------------------------


@given(networks())
def test_all_on_a_lan_share_a_network_that_nobody_else_has_and_ports_have_none(topology):
    made = layout(topology)
    seen: list = []
    for lan, vifs in made.on_lan.items():
        shared = {str(ip_interface(a).network) for v in vifs for a in v.addresses}
        assert len(shared) == (2 if vifs else 0), lan
        seen += shared
    alone = [v for vs in made.vifs.values() for v in vs if not v.lan and v.sliver not in made.switches]
    seen += {str(ip_interface(a).network) for v in alone for a in v.addresses}
    loopbacks = [a for all_ in made.loopbacks.values() for a in all_]
    blocks = [ip_network(n) for n in (*seen, *loopbacks)]
    assert not any(a.overlaps(b) for i, a in enumerate(blocks) for b in blocks[:i] if a.version == b.version)
    assert not any(v.addresses for s in made.switches for v in made.vifs[s])
    assert not made.switches & made.loopbacks.keys()
    flat = [a for vs in made.vifs.values() for v in vs for a in v.addresses]
    assert len(flat) == len(set(flat))


@given(networks(), st.randoms())
def test_the_order_in_a_file_means_nothing_to_addresses(topology, random_):
    links, slivers = list(topology.links), list(topology.slivers.items())
    random_.shuffle(links)
    random_.shuffle(slivers)
    assert cidrs(replace(topology, links=tuple(links), slivers=dict(slivers))) == cidrs(topology)


@given(networks(), st.data())
def test_nobody_is_renumbered_when_a_sliver_joins_that_is_not_on_a_lan(topology, data):
    peer = data.draw(st.sampled_from(sorted(topology.slivers.keys() - layout(topology).switches)))
    links = (Link((End("new"), End(peer))), *topology.links)
    grown = replace(topology, slivers={"new": Sliver("new"), **topology.slivers}, links=links)
    assert cidrs(topology).items() <= cidrs(grown).items()


@given(st.integers(1, 60), st.text("abcxyz", min_size=1, max_size=5))
def test_who_joins_a_lan_renumbers_nobody_unless_two_names_collide(n, newcomer):
    before = lan_of(n)
    link = Link((End(newcomer), End("sw")))
    after = replace(before, slivers={**before.slivers, newcomer: Sliver(newcomer)}, links=(*before.links, link))
    numbers = {int(ip_interface(a).ip) % 256 for all_ in cidrs(before).values() for a in all_ if ":" not in a}
    wish = 1 + names.digest("on a LAN", f"{newcomer} to-sw") % 254
    assert wish in numbers or cidrs(before).items() <= cidrs(after).items()


@pytest.mark.parametrize(("n", "length"), [(1, 24), (126, 24), (127, 23), (300, 22), (2000, 20)])
def test_a_lan_has_twice_the_room_that_it_needs(n, length):
    networks_ = {str(ip_interface(a).network) for all_ in cidrs(lan_of(n)).values() for a in all_}
    (v4,) = (ip_network(x) for x in networks_ if ":" not in x)
    assert v4.prefixlen == length and v4.subnet_of(ip_network("10.128.0.0/10"))


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 3000), max_size=60))
def test_lans_of_all_sizes_never_overlap(members):
    found = names.lan_networks(members)
    assert found.keys() == members.keys()
    v4s = [ip_network(a) for a, _ in found.values()]
    assert not any(a.overlaps(b) for i, a in enumerate(v4s) for b in v4s[:i])
    assert all(ip_network(v4).num_addresses > members[lan] + 2 for lan, (v4, _) in found.items())
    assert len({v6 for _, v6 in found.values()}) == len(found)


def test_lans_that_find_no_room_are_told_of_and_the_others_fill_all_of_it():
    members = {f"l{i}": 100 for i in range(names.LAN_BLOCKS - 3)} | {"large": 1000}
    found = names.lan_networks(members)
    assert len(found) == names.LAN_BLOCKS - 7 and "large" in found  # eight blocks are the large one's


def test_addresses_that_are_given_win_and_the_others_join_their_network():
    found = cidrs(lan_of(3, h0=("192.168.7.1/28",)))
    assert found["h0", "to-sw"] == {"192.168.7.1/28"}
    assert {str(ip_interface(a).network) for all_ in found.values() for a in all_} == {"192.168.7.0/28"}
    assert len({a for all_ in found.values() for a in all_}) == 3


def test_switches_that_are_linked_are_one_lan_named_after_the_first():
    slivers = {s: Sliver(s, mode="switch") for s in ("s2", "s1", "other")} | {h: Sliver(h) for h in "abc"}
    pairs = [("s1", "s2"), ("a", "s2"), ("b", "s1"), ("c", "other")]
    made = layout(Topology("s", slivers, tuple(Link((End(a), End(b))) for a, b in pairs)))
    assert {n: [v.sliver for v in vs] for n, vs in made.on_lan.items()} == {"s1": ["a", "b"], "other": ["c"]}
    with pytest.raises(NotFound, match="'s1' is a switch, which has no address"):
        address(made, "s1")


# --- what a node holds ----------------------------------------------------------------------------


def test_golden_hosts_and_a_router_on_a_switch(golden):
    slivers = {"sw": Sliver("sw", mode="switch"), "r": Sliver("r", STATIC), "a": Sliver("a"), "b": Sliver("b")}
    golden("lan-hosts", as_text(Topology("s", slivers, tuple(Link((End(n), End("sw"))) for n in ("a", "b", "r")))))


def test_golden_four_routers_on_a_lan(golden):
    slivers = {"sw": Sliver("sw", mode="switch"), **{n: Sliver(n, OSPF) for n in ("r1", "r2", "r3", "r4")}}
    links = tuple(Link((End(n), End("sw"))) for n in slivers if n != "sw")
    golden("lan-routers", as_text(Topology("s", slivers, links)))


@given(networks())
def test_the_spanning_tree_protocol_runs_where_there_is_a_loop(topology):
    made = layout(topology)
    for o in spec_of(topology).objects:
        if isinstance(o, Bridge):
            lan = next(x for x in made.lans.values() if o.ns.removeprefix("s.") in x.switches)
            inside = [x for x in topology.links if all(e.sliver in lan.switches for e in x.ends)]
            parts = lans.Parts()
            closes = [not _joins(parts, *(e.sliver for e in x.ends)) for x in inside]
            assert o.stp == any(closes)


def _joins(parts: lans.Parts, a: str, b: str) -> bool:
    new = parts.part(a) != parts.part(b)
    parts.join(a, b)
    return new


def test_a_host_on_a_lan_sends_all_by_the_first_router_there():
    topology = lan_of(3)
    topology = replace(topology, slivers={**topology.slivers, "h1": Sliver("h1", STATIC), "h2": Sliver("h2", STATIC)})
    vias = {o.via for o in spec_of(topology).objects if isinstance(o, Route) and o.ns == "s.h0" and o.to.endswith("/0")}
    assert vias == {a.partition("/")[0] for a in cidrs(topology)["h1", "to-sw"]}


def test_a_given_route_may_go_by_a_neighbour_on_the_lan():
    topology = lan_of(2)
    route = StaticRoute("198.51.100.0/24", "h1")
    topology = replace(topology, slivers={**topology.slivers, "h0": Sliver("h0", routes=(route,))})
    (found,) = (o for o in spec_of(topology).objects if isinstance(o, Route))
    assert f"{found.via}/24" in cidrs(topology)["h1", "to-sw"]


def test_routers_know_how_many_they_meet_in_each_protocol():
    speak = {"r1": ("ospf", "rip"), "r2": ("ospf",), "r3": ("ospf", "rip"), "h": ()}
    slivers = {n: Sliver(n, Routing(p) if p else None) for n, p in speak.items()} | {"sw": Sliver("sw", mode="switch")}
    topology = Topology("s", slivers, tuple(Link((End(n), End("sw"))) for n in speak))
    asked = router(topology, layout(topology), "r1")
    assert asked.vifs[0].neighbors == {"ospf": 2, "rip": 1}
    assert expected_adjacencies(asked) == 3


def test_an_igp_ends_at_a_lan_where_autonomous_systems_meet_and_bgp_is_spoken_there():
    routing = {"a": 65001, "b": 65001, "c": 65002}
    slivers = {n: Sliver(n, Routing(("ospf", "bgp"), asn=asn)) for n, asn in routing.items()}
    slivers["sw"] = Sliver("sw", mode="switch")
    topology = Topology("s", slivers, tuple(Link((End(n), End("sw"))) for n in routing))
    asked = router(topology, layout(topology), "a")
    assert asked.vifs[0].protocols == ("bgp",) and asked.vifs[0].passive == ("ospf",)
    external = [p.name for p in asked.peers if not p.internal]
    assert external == ["c", "c"] and {p.name for p in asked.peers if p.internal} == {"b"}


# --- who reaches whom -----------------------------------------------------------------------------


def hears(objects: frozenset[AnyObject], ns: str, dev: str) -> set[tuple[str, str]]:
    """The vifs that a broadcast frame sent by this one arrives at, flooded from bridge to bridge by hand."""
    interfaces = {(o.ns, o.dev): o for o in objects if isinstance(o, Interface)}
    silent = {(o.ns, o.dev) for o in objects if isinstance(o, Shape) and o.drop}
    other = {}
    for o in objects:
        if isinstance(o, Veth):
            a, b = ((e.ns, e.dev) for e in o.ends)
            other |= {a: b, b: a}
    heard: set[tuple[str, str]] = set()
    queue = [(ns, dev)]
    for leaves in queue:
        to = other[leaves]
        if leaves in silent or not interfaces[leaves].up or not interfaces[to].up or to in heard:
            continue
        heard.add(to)
        if interfaces[to].master:
            queue += [at for at, i in interfaces.items() if at[0] == to[0] and i.master and at != to]
    return {at for at in heard if not interfaces[at].master}


@given(networks())
def test_a_walk_over_lans_agrees_with_frames_followed_by_hand(topology):
    """Of a sliver that is on a network twice, the kernel's first route counts, and this test leaves it out."""
    objects, fibs = spec_of(topology).objects, fibs_of(topology)
    walker = Walker(layout(topology), fibs)
    owners: dict[tuple[str, str], set[str]] = {}
    for o in objects:
        if isinstance(o, Address) and o.dev != "lo":
            owners.setdefault((o.ns, o.dev), set()).add(o.cidr.partition("/")[0])
    for ns, dev in owners:
        sliver = ns.removeprefix("s.")
        reached = {ip: at[0] for at in hears(objects, ns, dev) for ip in owners.get(at, ())}
        for ip in {ip for at, ips in owners.items() for ip in ips if at[0] != ns}:
            direct = [e.dev for e in fibs[sliver] if not e.via and ip_interface(ip).ip in ip_network(e.to)]
            if direct == [dev]:
                expected = reached[ip].removeprefix("s.") if ip in reached else ""
                assert walker.next(sliver, ip) == (expected,), (ns, dev, ip)


@given(networks())
def test_two_who_are_on_one_whole_lan_and_nowhere_else_reach_each_other(topology):
    whole = replace(topology, links=tuple(replace(x, fault="none") for x in topology.links), expect=(Expect("a", "b"),))
    made = layout(whole)
    alone = all(len(made.vifs.get(n, ())) == 1 for n in "ab")
    if alone and made.vifs["a"][0].lan == made.vifs["b"][0].lan != "":
        assert list(unreached(whole, fibs_of(whole))) == []


def test_a_cut_between_switches_parts_a_lan_and_a_second_way_mends_it():
    slivers = {s: Sliver(s, mode="switch") for s in ("x", "y", "z")} | {h: Sliver(h) for h in ("a", "b")}
    pairs = [("x", "y"), ("y", "z"), ("z", "x"), ("a", "x"), ("b", "y")]

    def cut(*faults: str) -> Topology:
        links = [Link((End(a), End(b)), fault="silent" if f"{a}{b}" in faults else "none") for a, b in pairs]
        return Topology("s", slivers, tuple(links), (Expect("a", "b"),))

    assert list(unreached(cut(), fibs_of(cut()))) == []
    assert list(unreached(cut("xy"), fibs_of(cut("xy")))) == []
    assert list(unreached(cut("xy", "zx"), fibs_of(cut("xy", "zx")))) == [("a", "b")]


def test_next_hops_may_be_link_local_as_ospf_for_ipv6_has_them():
    topology = lan_of(3)
    made = layout(topology)
    via = names.link_local(made.vifs["h2"][0].mac)
    fibs = {s: [] for s in topology.slivers} | {"h0": [FibEntry("2001:db8::/32", via, "to-sw")]}
    assert Walker(made, fibs).next("h0", "2001:db8::1") == ("h2",)


# --- the file -------------------------------------------------------------------------------------


@given(networks())
def test_what_is_written_is_read_back(topology):
    named = [replace(link, name=link_name(link)) for link in topology.links]
    topology = replace(topology, links=tuple(named))
    assert parse(dump(topology)) == topology


HEAD = "name: t\nslivers: {s: {mode: switch}, a: , b: }\n"
MISTAKES = [
    ("slivers: {s: {mode: switch, routing: ospf}}", "'s' is a switch: it forwards frames, has no address, and can't"),
    ("slivers: {s: {mode: switch, addresses: 10.1.1.1}}", "can't have 'addresses'"),
    ("groups: {g: {routing: rip}}\nslivers: {s: {mode: switch, groups: g}}", "can't have 'routing'"),
    ("slivers: {s: {mode: hub}}", "hub"),
    (HEAD + "links: [{ends: [a, {sliver: s, addresses: 10.1.1.1/24}]}]", "whose ports have no addresses"),
    (HEAD + "links: ['a -- s:switch']", "The vif name 'switch' is that of the bridge in 's'"),
    (HEAD + "links: [a -- s]\nexpect: [{from: a, to: s}]", "'s' is a switch, which nothing can reach"),
    (
        HEAD + "links:\n - ends: [{sliver: a, addresses: 172.16.1.1/24}, s]\n"
        " - ends: [{sliver: b, addresses: 172.16.2.1/24}, s]",
        "on the LAN of s have addresses of several networks, 172.16.1.0/24, 172.16.2.0/24",
    ),
    (
        HEAD + "links:\n - ends: [{sliver: a, addresses: 172.16.1.1/24}, s]\n"
        " - ends: [{sliver: b, addresses: 172.16.1.1/24}, s]",
        "The address 172.16.1.1 is already used on line 4",
    ),
    (
        "name: t\nslivers: {s: {mode: switch}, a: , b: , c: }\nlinks:\n"
        " - ends: [{sliver: a, addresses: 172.16.1.0/31}, s]\n - b -- s\n - c -- s",
        "The network 172.16.1.0/31 of the LAN of s is too small for the 3 vifs on it",
    ),
    (
        "name: t\nslivers: {s: {mode: switch}, a: , b: }\nlinks:\n"
        " - ends: [{sliver: a, addresses: 172.16.1.1/24}, s]\n"
        " - ends: [{sliver: a, addresses: 172.16.1.5/30}, {sliver: b, addresses: 172.16.1.6/30}]",
        "overlaps with 172.16.1.0/24 of the LAN of 's'",
    ),
    ("name: t\nslivers: {s: {mode: switch}, a: {routes: [{to: default, via: s}]}}\nlinks: [a -- s]", "no link to 's'"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_what_is_wrong_is_said_at_its_place(text: str, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text, default_name="t")
    assert said in str(caught.value)
    assert all(m.line for m in caught.value.mistakes)


def test_a_switch_has_as_many_ports_as_a_bridge():
    slivers = ", ".join(f"h{i}: " for i in range(1024))
    links = [f"h{i} -- s" for i in range(1024)]
    text = f"name: t\nslivers: {{s: {{mode: switch}}, {slivers}}}\nlinks: "
    assert parse(text + str(links[1:]))
    with pytest.raises(TopologyError, match="'s' has more than 1023 links"):
        parse(text + str(links))


def test_a_switch_inherits_no_routing_from_the_whole_file():
    topology = parse("name: t\nrouting: ospf\nslivers: {s: {mode: switch}, a: }\nlinks: [a -- s]")
    assert topology.slivers["s"] == Sliver("s", mode="switch") and topology.slivers["a"].routing == OSPF


# --- change ---------------------------------------------------------------------------------------


@given(networks(), networks(), st.data())
def test_one_pass_leads_from_any_network_to_any_other_also_after_a_crash(a, b, data):
    """A switch may become a host and the reverse; what is predicted of a plan is what comes of it."""
    driver = FakeDriver()
    machine = Machine([driver])
    everywhere = {o.ns for t in (a, b) for o in spec_of(t).objects if isinstance(o, Netns)}
    want = spec_of(a).objects
    assert machine.apply(plan(want, ())) == {}
    ops = plan(spec_of(b).objects, want)
    machine.apply(ops[: data.draw(st.integers(0, len(ops)))])
    have = driver.observe(everywhere)
    ops = plan(spec_of(b).objects, have)
    assert machine.apply(ops) == {}
    assert driver.observe(everywhere) == spec_of(b).objects == outcome(have, ops, {})


def test_the_delays_over_a_lan_are_those_of_all_links_on_the_way():
    slivers = {s: Sliver(s, mode="switch") for s in ("x", "y", "z")} | {h: Sliver(h) for h in ("a", "b")}
    delays = {("a", "x"): 1.0, ("x", "y"): 2.0, ("y", "z"): 100.0, ("z", "x"): 100.0, ("b", "y"): 4.0}
    links = tuple(Link((End(a), End(b)), impairment=Impairment(delay_ms=ms)) for (a, b), ms in delays.items())
    topology = Topology("s", slivers, links)
    assert delays_ms(topology, Ways("a", {"a": ("b",)})) == (7.0, 7.0)
