"""The grant: what makes one, and the rules that follow from it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vini.model import Denied, OutsideGrant, Sliver, Topology
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
        ({"to": ("10.0.0.1/8",)}, "'10.0.0.1/8' is no IPv4 prefix"),
        ({"to": ("::/0",)}, "'::/0' is no IPv4 prefix"),
        ({"to": ("0.0.0.0/0 } accept",)}, "is no IPv4 prefix"),
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


def test_bytes_of_the_day_that_were_spent_stay_spent():
    assert "over 1000000000 bytes used 77 bytes" in rules.tables("m", "s", [PORT], ALL, [], 77)
    assert "quota" not in rules.tables("m", "s", [PORT], replace(ALL, daily_mb=0), [], 77)


def test_names_are_short_enough_for_interfaces_and_differ_by_mark():
    a, b = (rules.dev_name(mark, "slice.sliver") for mark in ("vini", "h7"))
    assert len(a) == 15 and a != b
