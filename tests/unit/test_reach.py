"""Reachability told from forwarding tables agrees with a packet walked by hand."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import spec_of, topologies

from vini.layout import Layout, layout
from vini.model import Address, End, Expect, Link, Route, Routing, Sliver, Topology
from vini.reach import FibEntry, Walker, expectations, families, unreached

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
    """A packet, hop by hop, in the plainest way there is."""
    ip = ip_address(destination)
    at = source
    for _ in range(2 * len(topology.slivers) + 2):
        own = [*made.loopbacks.get(at, ()), *(a for v in made.vifs[at] for a in v.addresses)]
        if destination in {a.partition("/")[0] for a in own}:
            return True
        fits = [e for e in fibs[at] if ip_network(e.to).version == ip.version and ip in ip_network(e.to)]
        if not fits:
            return False
        best = max(fits, key=lambda e: ip_network(e.to).prefixlen)
        vif = next((v for v in made.vifs[at] if v.dev == best.dev), None)
        if vif is None or made.links[vif.link].fault != "none":
            return False
        at = vif.peer
    return False


@given(topologies(), st.data())
def test_the_walk_agrees_with_a_packet_walked_by_hand(topology, data):
    """Also where tables are nonsense: a few routes are sent another way, which makes loops and dead ends."""
    made, fibs = layout(topology), fibs_of(topology)
    for _ in range(data.draw(st.integers(0, 3))):
        sliver = data.draw(st.sampled_from(sorted(fibs)))
        if fibs[sliver] and made.vifs[sliver]:
            i = data.draw(st.integers(0, len(fibs[sliver]) - 1))
            wrong = data.draw(st.sampled_from([v.dev for v in made.vifs[sliver]] + ["gone"]))
            fibs[sliver][i] = replace(fibs[sliver][i], dev=wrong)
    walker = Walker(made, fibs)
    owned = [a.partition("/")[0] for all_ in made.loopbacks.values() for a in all_]
    owned += [a.partition("/")[0] for vs in made.vifs.values() for v in vs for a in v.addresses]
    for destination in owned:
        reached = {s for s in topology.slivers if arrives(topology, made, fibs, s, destination)}
        assert walker.reaches(destination) == reached, destination
        for source in topology.slivers:
            ends_at_owner = destination in _addresses(made, walker.path(source, destination)[-1])
            assert ends_at_owner == (source in reached)


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
    assert walker.path("n", loopback) == ("n", "w")
    assert not {"n", "w"} & walker.reaches(loopback)


def test_the_longest_prefix_wins_and_a_default_is_the_last():
    topology = square()
    made = layout(topology)
    loopback = made.loopbacks["e"][0].partition("/")[0]
    entries = [FibEntry("0.0.0.0/0", "", "to-w"), FibEntry(f"{loopback}/32", "", "to-e")]
    for order in (entries, entries[::-1]):
        walker = Walker(made, {"n": order})
        assert walker.next("n", loopback) == "e"
        assert walker.next("n", "203.0.113.1") == "w"


def test_a_sliver_without_a_table_reaches_only_itself():
    made = layout(square())
    ip = made.loopbacks["n"][0].partition("/")[0]
    assert Walker(made, {}).reaches(ip) == {"n"}


def test_what_is_expected_when_nothing_was_said():
    assert expectations(square()) == (Expect(),)
    assert expectations(Topology("t", {"a": Sliver("a")})) == ()
    only = (Expect("n", "e"),)
    assert expectations(replace(square(), expect=only)) == only


def test_only_what_is_expected_is_missed():
    cut = replace(square("silent"), expect=(Expect("s", "w"),))
    assert list(unreached(cut, fibs_of(cut))) == []
    cut = replace(cut, expect=(Expect("n", "e"),))
    assert set(unreached(cut, fibs_of(cut))) == {("n", "e")}


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
        own = [*made.loopbacks.get(vif.peer, ()), *vif.peer_addresses]
        out["a"] += [FibEntry(f"{a.partition('/')[0]}/{128 if ':' in a else 32}", "x", vif.dev) for a in own]
    return out
