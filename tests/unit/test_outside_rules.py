"""The grant: what makes one, and the rules that follow from it."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from msgspec.structs import replace

from vini.cli import audit
from vini.embed import embed
from vini.model import Denied, Node, Outside, OutsideGrant, Sliver, Topology, Unsupported, ViniError
from vini.node.outside import rules
from vini.rules import outside
from vini.rules.errors import Invalid

ALL = OutsideGrant(("0.0.0.0/0",))
PORT = rules.Port("s.a", "vinio1", "02:00:00:00:00:01", "06:00:00:00:00:01", "198.18.0.1", "198.18.0.0")
ASKS, ASKS_NOT = (Topology("s", {"a": Sliver("a", outside=o)}) for o in (True, False))


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"to": ()}, "1 to 1000 prefixes"),
        ({"to": ("10.0.0.1/8",)}, "'10.0.0.1/8' is no prefix"),
        ({"to": ("0::/0",)}, "'0::/0' is no prefix"),
        ({"to": ("2A00::/16",)}, "'2A00::/16' is no prefix"),
        ({"to": ("0.0.0.0/0 } accept",)}, "is no prefix"),
        ({"to": ("2a00::%} accept #/64",)}, "is no prefix"),
        ({"to": ("64:ff9b::/96",)}, "'64:ff9b::/96' has IPv4 addresses in it"),
        ({"to": ("0.0.0.0/0", "2002:a00::/24")}, "'2002:a00::/24' has IPv4 addresses in it"),
        ({"to": ("::ffff:0.0.0.0/96",)}, "is no prefix"),
        ({"to": ("::ffff:0:0/96",)}, "'::ffff:0:0/96' has IPv4 addresses in it"),
        ({"allow": ()}, "some of tcp, udp and icmp"),
        ({"allow": ("tcp/0",)}, "'tcp/0' is no protocol"),
        ({"allow": ("tcp/9-8",)}, "'tcp/9-8' is no protocol"),
        ({"allow": ("tcp/65536",)}, "'tcp/65536' is no protocol"),
        ({"allow": ("sctp",)}, "'sctp' is no protocol"),
        ({"allow": ("tcp\naccept",)}, "is no protocol"),
        ({"rate_kbit": 0}, "rate_kbit is from 1"),
        ({"daily_mb": -1}, "daily_mb is from 0"),
    ],
)
def test_what_is_no_grant_is_refused_before_anybody_makes_rules_of_it(wrong, says):
    with pytest.raises(Invalid, match=says):
        outside.check(replace(ALL, **wrong))


def test_a_grant_of_ipv6_is_accepted_and_says_so():
    grant = OutsideGrant(("0.0.0.0/0", "::/0", "fd00:1::/48", "2a00:1:2:3::5/128"))
    outside.check(grant)
    assert grant.versions == {4, 6} and ALL.versions == {4}


def test_ipv6_has_no_rules_where_it_is_not_granted():
    text = rules.tables("m", "s", [PORT], replace(ALL, to=("10.0.0.0/8",)), ["192.0.2.7"], near=["2a00:1::/64"])
    assert "ip6" not in text and "::" not in text


def test_networks_that_the_node_is_in_are_reached_only_where_they_are_named():
    grant = OutsideGrant(("::/0", "fd00::/8", "2a00:1::7/128"))
    text = rules.tables("m", "s", [PORT], grant, ["2a00:6::6", "fe80::1%} accept"], near=["2a00:1::/64"])
    parts = ("{ 2a00:1::7/128, fd00::/8 } goto", "2a00:1::/64, 3fff::/20,", "{ ::/0 } goto")
    named, private, public = (text.index(part) for part in parts)
    assert named < private < public
    assert "2a00:6::6/128" in text and "%" not in text, "a node's address with a zone is the address"


def test_each_ipv4_address_of_a_vif_has_an_ipv6_one_of_its_own():
    made = {IPv6Address(rules.ip6(str(rules.RANGE[i]))) for i in (0, 1, 2, -2, -1)}
    assert len(made) == 5 and all(six in rules.RANGE6 for six in made)


def embedded(grant: OutsideGrant, *more: str) -> Outside:
    node = Node("n", frozenset({"root", "cgroup2", "outside", *more}))
    others = [Node("four", address="192.0.2.7"), Node("six", address="2a00:6::6")]
    spec = embed(ASKS, [node, *others], placed={"a": "n"}, grant=grant)["n"]
    (made,) = (o for o in spec.objects if isinstance(o, Outside))
    return made


def test_a_node_that_can_not_do_ipv6_is_asked_for_none_and_that_is_said():
    with pytest.raises(Unsupported, match="granted IPv6 there, too, which node 'n' can't do: `vini doctor`"):
        embedded(OutsideGrant(("0.0.0.0/0", "::/0")))
    assert embedded(ALL).never == ("192.0.2.7",), "as a node of an older version expects it"
    assert embedded(OutsideGrant(("::/0",)), "outside-ipv6").never == ("192.0.2.7", "2a00:6::6")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("192.0.2.1:443", ("192.0.2.1", 443)),
        ("192.0.2.1", ("192.0.2.1", -1)),
        ("[2001:DB8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", -1)),
        ("2001:db8:0::1", ("2001:db8::1", -1)),
    ],
)
def test_an_address_with_its_port_is_read_in_both_ways(text, means):
    assert audit._endpoint(text) == means


@pytest.mark.parametrize("text", ["192.0.2.1:x", "[2001:db8::1", "[2001:db8::1]:65536", "1:2", "[::1]443x"])
def test_what_is_no_address_with_a_port_is_told(text):
    with pytest.raises(ViniError, match=r"write it like 192\.0\.2\.1:443 or \[2001:db8::1\]:443"):
        audit._endpoint(text)


def test_a_grant_is_accepted():
    outside.check(OutsideGrant(("0.0.0.0/0", "10.1.0.0/16"), ("tcp/443", "udp/1-65535", "icmp", "tcp")))


def test_who_asks_anew_without_a_grant_is_refused_and_what_was_asked_before_may_stay():
    with pytest.raises(Denied, match="vini outside grant s --to"):
        outside.refuse(ASKS, None, None)
    with pytest.raises(Denied):
        outside.refuse(ASKS, ASKS_NOT, None)
    outside.refuse(ASKS, None, ALL)
    outside.refuse(ASKS, ASKS, None)
    outside.refuse(ASKS_NOT, None, None)


def test_private_networks_are_reached_only_where_they_are_named():
    text = rules.tables("m", "s", [PORT], OutsideGrant(("0.0.0.0/0", "10.1.0.0/16", "10.0.0.0/15")), [])
    named, private, public = (text.index(t) for t in ("{ 10.0.0.0/15 } goto", "{ 10.0.0.0/8,", "{ 0.0.0.0/0 } goto"))
    assert named < private < public


def test_prefixes_that_overlap_are_one_set_as_nft_wants_it():
    text = rules.tables("m", "s", [PORT], ALL, ["127.0.0.1", "192.0.2.7", "192.0.2.7"])
    assert "127.0.0.1" not in text and text.count("192.0.2.7") == 1


def test_a_slivers_address_comes_by_its_own_vif_only():
    text = rules.tables("m", "s", [PORT], replace(ALL, to=("0.0.0.0/0", "::/0")), [])
    for own in ("ip saddr { 198.18.0.1 }", f"ip6 saddr {{ {rules.ip6('198.18.0.1')} }}"):
        assert text.count(f'{own} iifname != "vinio*" counter name unasked drop') == 2, "to the node, and through it"


def test_bytes_of_the_day_that_were_spent_stay_spent():
    assert "over 1000000000 bytes used 77 bytes" in rules.tables("m", "s", [PORT], ALL, [], 77)
    assert "quota" not in rules.tables("m", "s", [PORT], replace(ALL, daily_mb=0), [], 77)


def test_names_are_short_enough_for_interfaces_and_differ_by_mark():
    a, b = (rules.dev_name(mark, "slice.sliver") for mark in ("vini", "h7"))
    assert len(a) == 15 and a != b
