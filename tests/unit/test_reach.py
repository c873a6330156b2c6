"""Reachability told from forwarding tables agrees with a packet walked by hand."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import spec_of, topologies

from vini.layout import Layout, layout
from vini.model import Address, End, Expect, Impairment, Link, Route, Routing, Sliver, Topology
from vini.reach import FibEntry, NextHop, Walker, Ways, families, hosts, is_renamed, lost_path, unreached

STATIC = Routing(("static",))


def fibs_of(topology: Topology) -> dict[str, list[FibEntry]]:
    """What the kernels' tables would be: connected prefixes of vifs that are up, and static routes."""
    made, out = layout(topology), {s: [] for s in topology.slivers}
    for o in spec_of(topology).objects:
        if isinstance(o, Route):
            out[o.ns.partition(".")[2]].append(FibEntry(o.to, o.via, o.dev))
        if isinstance(o, Address) and o.dev != "lo":
            sliver = o.ns.partition(".")[2]
            vif = next(v for v in made.vifs[sliver] if v.dev == o.dev)
            if made.links[vif.link].fault != "carrier":
                network = ip_network(o.cidr, strict=False)
                out[sliver].append(FibEntry(str(network), "", o.dev))
    return out


def arrives(topology: Topology, made: Layout, fibs: dict[str, list[FibEntry]], source: str, destination: str) -> bool:
    """Whether a packet arrives however the dice fall, hop by hop, in the plainest way there is.

    As many hops as there are slivers, each to all places where the packet may be; it is lost where one
    of them has nowhere to send it, and loops where it is still under way after that.
    """
    ip = ip_address(destination)
    places = {source}
    for _ in range(len(topology.slivers) + 1):
        places = {p for p in places if destination not in _addresses(made, p)}
        if not places:
            return True
        if any(p != source and p not in made.forwarding for p in places):
            return False
        nexts = [_sends_to(made, fibs[p], p, ip) for p in places]
        if any(not n or "" in n for n in nexts):
            return False
        places = set().union(*nexts)
    return False


def _sends_to(made: Layout, fib: list[FibEntry], at: str, ip: IPv4Address | IPv6Address) -> set[str]:
    fits = [e for e in fib if ip_network(e.to).version == ip.version and ip in ip_network(e.to)]
    if not fits:
        return set()
    best = max(fits, key=lambda e: ip_network(e.to).prefixlen)
    peers = {v.dev: v.peer for v in made.vifs[at] if made.links[v.link].fault == "none"}
    return {peers.get(hop.dev, "") for hop in best.hops}


@given(topologies(), st.data())
def test_the_walk_agrees_with_a_packet_walked_by_hand(topology, data):
    """Also where tables are nonsense: some routes are sent other ways, or several, which makes loops and dead ends."""
    made, fibs = layout(topology), fibs_of(topology)
    for _ in range(data.draw(st.integers(0, 5))):
        sliver = data.draw(st.sampled_from(sorted(fibs)))
        if fibs[sliver] and made.vifs[sliver]:
            i = data.draw(st.integers(0, len(fibs[sliver]) - 1))
            devs = st.sampled_from([v.dev for v in made.vifs[sliver]] * 3 + ["gone"])
            if data.draw(st.booleans()):
                fibs[sliver][i] = replace(fibs[sliver][i], dev=data.draw(devs))
            more = tuple(NextHop("", dev) for dev in data.draw(st.lists(devs, max_size=2)))
            fibs[sliver][i] = replace(fibs[sliver][i], others=more)
    walker = Walker(made, fibs)
    owned = [a.partition("/")[0] for all_ in made.loopbacks.values() for a in all_]
    owned += [a.partition("/")[0] for vs in made.vifs.values() for v in vs for a in v.addresses]
    for destination in owned:
        reached = {s for s in topology.slivers if arrives(topology, made, fibs, s, destination)}
        assert walker.reaches(destination) == reached, destination
        for source in topology.slivers:
            agree(walker.ways(source, destination), made, destination, source in reached)


def agree(ways: Ways, made: Layout, destination: str, arrive: bool) -> None:
    """What is told of ways, whether they arrive, and path by path, does not contradict itself."""
    assert ways.arrives == arrive
    paths = list(ways.paths())
    assert len(set(paths)) == len(paths) > 0
    assert all(p.slivers[0] == ways.source and len(set(p.slivers)) == len(p.slivers) for p in paths)
    assert all((destination in _addresses(made, p.slivers[-1])) == (p.end == "arrives") for p in paths)
    assert arrive == all(p.end == "arrives" for p in paths)
    lost = ways.first_lost()
    assert (lost is None) == arrive
    assert lost is None or lost in paths


@st.composite
def graphs(draw: st.DrawFn) -> Ways:
    """Any graph of next hops at all, from `0`; the owner is the highest number."""
    n = draw(st.integers(1, 7))
    to = st.lists(st.sampled_from([str(i) for i in range(n + 1)]), max_size=3, unique=True)
    return Ways("0", {str(i): tuple(sorted(draw(to))) for i in range(n)})


@given(graphs())
def test_a_walk_ends_and_finds_the_loop_in_any_graph(ways):
    """Against a look at the graph as a whole: slivers from which every walk ends are those that are no part of it."""
    safe = {at for at in {h for hops in ways.hops.values() for h in hops} if at not in ways.hops}
    for _ in ways.hops:
        safe |= {at for at, hops in ways.hops.items() if hops and set(hops) <= safe}
    assert ways.arrives == ("0" in safe)
    paths = list(ways.paths())
    assert all(p.end == "arrives" for p in paths) == ("0" in safe)
    for path in paths:
        last = ways.hops.get(path.slivers[-1], ())
        assert (path.end == "loops") <= bool(set(last) & set(path.slivers))
        assert all(b in ways.hops[a] for a, b in pairwise(path.slivers))


def _addresses(made: Layout, sliver: str) -> set[str]:
    own = [*made.loopbacks.get(sliver, ()), *(a for v in made.vifs[sliver] for a in v.addresses)]
    return {a.partition("/")[0] for a in own}


def square(fault: str = "none") -> Topology:
    slivers = {n: Sliver(n, routing=STATIC) for n in ("n", "e", "s", "w")}
    pairs = [("n", "e"), ("e", "s"), ("s", "w"), ("w", "n")]
    links = tuple(Link((End(a), End(b)), fault=fault if (a, b) == ("n", "e") else "none") for a, b in pairs)
    return Topology("t", slivers, links)


def test_a_whole_static_network_reaches_all():
    assert list(unreached(square(), fibs_of(square()))) == []


def test_a_silent_fault_is_seen_where_the_tables_still_lead_over_it():
    cut = square("silent")
    missing = set(unreached(cut, fibs_of(cut)))
    assert ("n", "e") in missing
    assert ("s", "w") not in missing


def test_a_loop_is_no_arrival():
    topology = square()
    made = layout(topology)
    loopback = made.loopbacks["e"][0].partition("/")[0]
    fibs = fibs_of(topology)
    fibs["n"] = [FibEntry(f"{loopback}/32", "", "to-w")]
    fibs["w"] = [FibEntry(f"{loopback}/32", "", "to-n")]
    walker = Walker(made, fibs)
    assert [str(p) for p in walker.ways("n", loopback).paths()] == ["n -> w (loops)"]
    assert not {"n", "w"} & walker.reaches(loopback)


def test_the_longest_prefix_wins_and_a_default_is_the_last():
    topology = square()
    made = layout(topology)
    loopback = made.loopbacks["e"][0].partition("/")[0]
    entries = [FibEntry("0.0.0.0/0", "", "to-w"), FibEntry(f"{loopback}/32", "", "to-e")]
    for order in (entries, entries[::-1]):
        walker = Walker(made, {"n": order})
        assert walker.next("n", loopback) == ("e",)
        assert walker.next("n", "203.0.113.1") == ("w",)


def both_ways(fault: str = "none") -> tuple[Topology, dict[str, list[FibEntry]], str]:
    """A square in which n has two equal next hops to s, its loopback's address the third value."""
    topology = square(fault)
    made, fibs = layout(topology), fibs_of(topology)
    loopback = made.loopbacks["s"][0].partition("/")[0]
    fibs["n"] = [FibEntry(f"{loopback}/32", "", "to-w", others=(NextHop("", "to-e"),))]
    return topology, fibs, loopback


def test_all_equal_paths_are_followed_by_name_whatever_the_order_of_next_hops():
    topology, fibs, loopback = both_ways()
    for order in (fibs["n"][0].hops, fibs["n"][0].hops[::-1]):
        fibs["n"] = [FibEntry(f"{loopback}/32", order[0].via, order[0].dev, others=order[1:])]
        ways = Walker(layout(topology), fibs).ways("n", loopback)
        assert [str(p) for p in ways.paths()] == ["n -> e -> s", "n -> w -> s"]
        assert ways.arrives and ways.hops == {"n": ("e", "w"), "e": ("s",), "w": ("s",)}


def test_one_dead_branch_of_two_is_not_reached_and_told_with_its_path():
    topology, fibs, loopback = both_ways("silent")
    walker = Walker(layout(topology), fibs)
    assert [str(p) for p in walker.ways("n", loopback).paths()] == ["n (ends here)", "n -> w -> s"]
    assert "n" not in walker.reaches(loopback) and "w" in walker.reaches(loopback)
    assert str(lost_path(topology, fibs, "n", "s")) == "n (ends here)"
    assert lost_path(topology, fibs, "w", "s") is None


def test_a_branch_that_comes_back_is_a_loop_and_is_told_as_one():
    topology, fibs, loopback = both_ways()
    fibs["e"] = [FibEntry(f"{loopback}/32", "", "to-n")]
    assert not {"n", "e"} & Walker(layout(topology), fibs).reaches(loopback)
    assert str(lost_path(topology, fibs, "n", "s")) == "n -> e (loops)"


def test_parallel_links_are_one_path_and_both_must_work():
    slivers = {n: Sliver(n, routing=STATIC) for n in ("a", "b")}
    for fault in ("none", "silent"):
        ends = [(End("a", f"a{i}"), End("b", f"b{i}")) for i in range(2)]
        made = layout(Topology("t", slivers, (Link(ends[0], name="x"), Link(ends[1], name="y", fault=fault))))
        loopback = made.loopbacks["b"][0].partition("/")[0]
        fib = [FibEntry(f"{loopback}/32", "", "a0", others=(NextHop("", "a1"),))]
        ways = Walker(made, {"a": fib}).ways("a", loopback)
        want = ["a -> b"] if fault == "none" else ["a (ends here)", "a -> b"]
        assert [str(p) for p in ways.paths()] == want


def test_of_two_routes_to_one_prefix_the_first_counts_as_the_kernel_tells_the_best_first():
    topology = square()
    made = layout(topology)
    loopback = made.loopbacks["e"][0].partition("/")[0]
    entries = [FibEntry(f"{loopback}/32", "", "to-e"), FibEntry(f"{loopback}/32", "", "to-w")]
    assert Walker(made, {"n": entries}).next("n", loopback) == ("e",)


def grid(n: int) -> Ways:
    """Equal-cost next hops from corner to corner of an n x n grid: to the right and down."""
    names = {(x, y): f"{x:02d}-{y:02d}" for x in range(n) for y in range(n)}
    hops = {name: tuple(names[p] for p in ((x, y + 1), (x + 1, y)) if p in names) for (x, y), name in names.items()}
    return Ways("00-00", {at: to for at, to in hops.items() if to})


def test_very_many_equal_paths_are_not_listed_but_still_followed():
    """A grid of 40 by 40 has 2.7e22 of them."""
    assert len(grid(4).listed()) == 0 and len(grid(3).listed()) == 6
    assert grid(40).arrives and grid(40).listed() == ()
    big = grid(40)
    broken = Ways(big.source, big.hops | {"39-38": ("38-38",)})
    assert not broken.arrives and broken.first_lost().end == "loops"


def test_a_sliver_without_a_table_reaches_only_itself():
    made = layout(square())
    ip = made.loopbacks["n"][0].partition("/")[0]
    assert Walker(made, {}).reaches(ip) == {"n"}


def test_only_what_is_expected_is_missed():
    cut = replace(square("silent"), expect=(Expect("s", "w"),))
    assert list(unreached(cut, fibs_of(cut))) == []
    cut = replace(cut, expect=(Expect("n", "e"),))
    assert set(unreached(cut, fibs_of(cut))) == {("n", "e")}


def test_a_routers_own_configuration_need_not_announce_its_loopback_unless_that_is_asked_for():
    def asked(*expect: Expect) -> set[tuple[str, str]]:
        own = Routing(("ospf",), raw={"frr.conf": "router ospf\n"})
        slivers = {"a": Sliver("a", own), "b": Sliver("b", Routing(("ospf",))), "h": Sliver("h")}
        links = (Link((End("a"), End("b"))), Link((End("a"), End("h"))))
        return set(unreached(Topology("t", slivers, links, expect=expect), {n: [] for n in "abh"}))

    assert asked() == {("a", "b"), ("h", "b"), ("a", "h"), ("b", "h")}
    assert asked(Expect("h", "a")) == {("h", "a")}
    assert asked(Expect()) == {(s, d) for s in "abh" for d in "abh" if s != d}


def test_only_families_that_are_routed_are_expected():
    def spoken(*protocols: str) -> Topology:
        return Topology("t", {"a": Sliver("a", routing=Routing(protocols))})

    assert families(spoken("ospf")) == (4,)
    assert families(spoken("ospf6")) == (6,)
    assert families(spoken("isis")) == (4, 6)
    assert families(Topology("t", {"a": Sliver("a")})) == (4,)


def test_bgp_across_a_system_carries_what_the_inner_protocol_does():
    def slice_(*inner: str) -> Topology:
        slivers = {"a": Sliver("a", Routing(inner, asn=1)), "c": Sliver("c", Routing(("bgp",), asn=2))}
        return Topology("t", slivers, (Link((End("a"), End("c"))),))

    assert families(slice_("bgp")) == (4, 6)
    assert families(slice_("ospf", "bgp")) == (4,)
    assert families(slice_("bgp", "ospf6")) == (6,)
    assert families(slice_("ospf", "bgp", "ospf6")) == (4, 6)
    assert families(slice_("isis", "bgp")) == (4, 6)


def test_ipv6_is_expected_only_between_slivers_that_carry_it():
    def asked(*protocols: str) -> set[tuple[str, str]]:
        both = Routing(("ospf", "ospf6"))
        slivers = {"a": Sliver("a", both), "b": Sliver("b", Routing(protocols)), "h": Sliver("h")}
        links = (Link((End("a"), End("b"))), Link((End("a"), End("h"))))
        topology = Topology("t", slivers, links)
        made = layout(topology)
        four = {s: [e for e in rows if ":" not in e.to] for s, rows in everywhere(made).items()}
        return set(unreached(topology, four))

    assert asked("ospf") == {("a", "h"), ("h", "a")}
    assert asked("ospf", "ospf6") == {(s, d) for s in "abh" for d in "abh" if s != d}


def everywhere(made) -> dict[str, list[FibEntry]]:
    """Tables of a star around a in which everything is reached."""
    out = {}
    for sliver, vifs in made.vifs.items():
        out[sliver] = [FibEntry(f"{net}/0", "x", vifs[0].dev) for net in ("0.0.0.0", "::")]
    for vif in made.vifs["a"]:
        own = [*made.loopbacks.get(vif.peer, ()), *made.neighbors(vif)[0].addresses]
        out["a"] += [FibEntry(f"{a.partition('/')[0]}/{128 if ':' in a else 32}", "x", vif.dev) for a in own]
    return out


@given(topologies(), topologies())
def test_names_are_others_where_their_text_is(before: Topology, now: Topology) -> None:
    """What is not looked at, how links do, changes nothing of them."""
    assert is_renamed(before, now) == (hosts(before) != hosts(now))
    worse = replace(
        now, links=tuple(replace(x, impairment=Impairment(delay_ms=7), fault="silent", cost=77) for x in now.links)
    )
    assert hosts(worse) == hosts(now) and not is_renamed(now, worse)
