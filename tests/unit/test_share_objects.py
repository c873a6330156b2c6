"""What slivers may send: from a wish in a file to classes, who is refused, and how bytes of a day are counted."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vini.embed import embed
from vini.model import (
    CapacityError,
    End,
    Link,
    Node,
    Share,
    Sliver,
    Topology,
    TopologyError,
    Traffic,
    Unsupported,
)
from vini.node.shares import record, tree
from vini.node.shares.record import Held, Sent
from vini.node.shares.settings import UplinkSettings
from vini.placement import Use, check_own_rates, place
from vini.topology import dump, parse

ABLE = frozenset({"root", "cgroup2", "vxlan", "vxlan-xdp", "gretap", "wireguard", "shares", "shares-wireguard"})
KEY = "A" * 43 + "="
ONE = Node("one", ABLE, address="192.0.2.1", wireguard=KEY, rate_mbit=100.0)
TWO = Node("two", ABLE, address="192.0.2.2", wireguard=KEY, rate_mbit=50.0)
PLACED = {"a": "one", "b": "one", "x": "two"}
TEXT = """\
name: s
slivers:
  a: {network: {min: 5mbit, max: 100mbit, weight: 20, daily: 10GB}}
  b: {network: {max: unlimited}}
links: [a -- b]
"""


def joined(a: Traffic, tunnel: str = "") -> Topology:
    """a -- x leads from node to node, b -- a does not."""
    slivers = {"a": Sliver("a", network=a), "b": Sliver("b"), "x": Sliver("x")}
    return Topology("s", slivers, (Link((End("a"), End("x"))), Link((End("b"), End("a")))), tunnel=tunnel)


def shares(topology: Topology, one: Node = ONE, two: Node = TWO) -> dict[str, Share]:
    specs = embed(topology, [one, two], placed=PLACED, vnis={"a--x": 7}, port=20_001)
    return {o.ns: o for spec in specs.values() for o in spec.objects if isinstance(o, Share)}


# --- wishes -------------------------------------------------------------------------------------------------


def test_a_file_says_it_and_is_written_back_as_it_was():
    made = parse(TEXT)
    assert made.slivers["a"].network == Traffic(5.0, 100.0, 20, 10_000)
    assert made.slivers["b"].network == Traffic()
    assert parse(dump(made)) == made


def test_more_of_its_own_than_it_may_have_is_a_mistake():
    with pytest.raises(TopologyError, match="write 'max: 5mbit'"):
        parse(TEXT.replace("max: 100mbit", "max: 1mbit"))


def test_who_leaves_a_node_that_has_said_its_rate_has_a_share_and_elsewhere_who_asks():
    wish = Traffic(5.0, 20.0, 20, 1000)
    made = shares(joined(wish))
    assert made == {
        "s.a": Share("s.a", 5000, 20_000, 20, 1000, ((4789, 7),)),
        "s.x": Share("s.x", tunnels=((4789, 7),)),
    }
    assert shares(joined(wish, "gretap"))["s.a"].tunnels == ((0, 7),)
    unsaid = [replace(n, rate_mbit=0.0) for n in (ONE, TWO)]
    assert set(shares(joined(replace(wish, min_mbit=0.0)), *unsaid)) == {"s.a"}
    assert shares(joined(Traffic()), *unsaid) == {}


def test_a_container_whose_tunnels_are_beyond_its_reach_has_the_same():
    wish, able = Traffic(max_mbit=5), [replace(n, capabilities=n.capabilities | {"containers"}) for n in (ONE, TWO)]
    for tunnel in ("", "gretap"):
        light = joined(wish, tunnel)
        contained = replace(light, slivers={n: replace(s, runtime="container") for n, s in light.slivers.items()})
        assert shares(contained, *able) == shares(light, *able)


def test_what_can_not_be_kept_is_refused_with_what_would_do():
    with pytest.raises(Unsupported, match="`vini node uplink --rate 1gbit`"):
        shares(joined(Traffic(min_mbit=5)), replace(ONE, rate_mbit=0.0))
    with pytest.raises(Unsupported, match="modprobe"):
        shares(joined(Traffic(max_mbit=5)), replace(ONE, capabilities=ABLE - {"shares"}))
    with pytest.raises(Unsupported, match="sliver. Choose `tunnel: vxlan`"):
        shares(joined(Traffic(max_mbit=5), "vxlan-xdp"))
    with pytest.raises(Unsupported, match="line `shares-wireguard`.*choose `tunnel: vxlan`"):
        shares(joined(Traffic(max_mbit=5), "wireguard"), replace(ONE, capabilities=ABLE - {"shares-wireguard"}))


def test_who_sends_by_his_slices_encrypted_way_has_a_share_there():
    wish, through = Traffic(5.0, 20.0, 20, 1000), "s._wireguard"
    assert shares(joined(wish, "wireguard")) == {
        "s.a": Share("s.a", 5000, 20_000, 20, 1000, ((4789, 7),), through=through),
        "s.x": Share("s.x", tunnels=((4789, 7),), through=through),
    }
    lacking = [replace(n, capabilities=ABLE - {"shares-wireguard"}) for n in (ONE, TWO)]
    assert shares(joined(Traffic(), "wireguard"), *lacking) == {}


def test_a_wish_gives_all_that_go_by_the_same_encrypted_way_a_share_and_nobody_else():
    """What passes there without one is none of them, and is dropped."""
    slivers = {"a": Sliver("a", network=Traffic(max_mbit=5)), **{n: Sliver(n) for n in "bcx"}}
    links = tuple(Link((End(a), End(b))) for a, b in ("ax", "bx", "ca"))
    placed, vnis = {"a": "one", "b": "one", "c": "one", "x": "two"}, {"a--x": 7, "b--x": 8}
    nodes = [replace(n, rate_mbit=0.0) for n in (ONE, TWO)]
    for tunnel, those in (("wireguard", {"s.a", "s.b"}), ("vxlan", {"s.a"})):
        specs = embed(Topology("s", slivers, links, tunnel=tunnel), nodes, placed=placed, vnis=vnis, port=20_001)
        assert {o.ns for spec in specs.values() for o in spec.objects if isinstance(o, Share)} == those


# --- admission ----------------------------------------------------------------------------------------------


def wishing(*mbit: float) -> Topology:
    return Topology("s", {f"s{i}": Sliver(f"s{i}", network=Traffic(min_mbit=m)) for i, m in enumerate(mbit)})


def test_slivers_go_where_what_they_ask_for_is_left_and_no_node_promises_more_than_it_has():
    assert place(wishing(60, 50), [ONE, TWO], {}, {}) == {"s0": "one", "s1": "two"}
    assert place(wishing(30, 60), [ONE, TWO], {"one": Use(mbit=20.0)}, {})["s1"] == "one"
    assert set(place(wishing(30), [replace(ONE, rate_mbit=0.0), TWO], {}, {}).values()) == {"two"}
    with pytest.raises(CapacityError, match=r"'one'.* has 10 Mbit/s of the uplink too little free"):
        place(wishing(110), [ONE, TWO], {}, {})
    pinned = replace(wishing(60, 30), slivers={n: replace(s, node="two") for n, s in wishing(30, 30).slivers.items()})
    with pytest.raises(CapacityError, match=r"Node 'two' is full: sliver 's1'.* 10 Mbit/s of the uplink more"):
        place(pinned, [ONE, TWO], {}, {})


def test_a_node_of_which_nobody_said_what_it_carries_is_named_with_what_to_do():
    with pytest.raises(CapacityError, match="nobody has said what its uplink carries: `vini node uplink"):
        place(wishing(1), [replace(ONE, rate_mbit=0.0)], {}, {})


def test_one_machine_counts_all_of_its_slices():
    check_own_rates(wishing(30), lambda: [wishing(40)], 100)
    with pytest.raises(CapacityError, match=r"of which other slices have 80 .* asks for 30: 10 too much"):
        check_own_rates(wishing(30), lambda: [wishing(40), wishing(40)], 100)


# --- classes ------------------------------------------------------------------------------------------------

HELD = {
    "s.a": Held(Share("s.a", min_kbit=5000, max_kbit=20_000, weight=50, daily_mb=864), 20),
    "s.b": Held(Share("s.b"), 21),
}


def test_each_has_its_own_its_most_and_its_part_of_the_rest():
    made = tree.classes(HELD, {}, UplinkSettings(100.0))
    a, b = made[tree.MAJOR | 20], made[tree.MAJOR | 21]
    assert (a.parent, a.wish.rate, a.wish.ceil, a.wish.quantum) == (tree.ROOT, 625_000, 2_500_000, 30_000)
    assert (b.wish.rate, b.wish.ceil, b.wish.quantum) == (8000, 12_500_000, 60_000)
    assert made[tree.ROOT].wish.ceil == 12_500_000
    assert len(made) == 3


def test_who_used_a_days_bytes_has_their_average_and_what_is_exempt_is_as_before():
    used = {"s.a": Sent(1, 864_000_000)}
    made = tree.classes(HELD, used, UplinkSettings(100.0, ("192.0.2.0/24",), 40.0))
    assert made[tree.MAJOR | 20].wish.ceil == made[tree.MAJOR | 20].wish.rate == 10_000
    free = made[tree.MAJOR | 0x8000 | 20]
    assert (free.parent, free.wish.ceil) == (tree.FREE, 5_000_000)
    assert made[tree.FREE].wish.ceil == 5_000_000


# --- bytes of a day -----------------------------------------------------------------------------------------


def test_counters_are_added_up_whoever_looks_and_however_often_they_begin_anew():
    sent = record.advanced(Sent(), (100, 10), "boot 5", 1)
    sent = record.advanced(sent, (150, 10), "boot 5", 1)
    assert (sent.counted, sent.exempt) == (150, 10)
    sent = record.advanced(sent, (30, 0), "boot 5", 1)  # its class was made again
    assert sent.counted == 180
    sent = record.advanced(sent, (500, 0), "next boot 5", 1)
    assert sent.counted == 680


def test_a_new_day_begins_with_nothing_and_the_last_one_is_remembered():
    sent = record.advanced(record.advanced(Sent(), (100, 0), "e", 1), (170, 0), "e", 2)
    assert (sent.day, sent.counted, sent.before) == (2, 70, (1, 100))
    assert record.advanced(sent, (170, 0), "e", 3).counted == 0
