"""Names and numbers made of names alone: stable, unique, and what the kernel and the RFCs allow."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

import pytest
import strategies  # noqa: F401  (its hypothesis profile)
from hypothesis import given
from hypothesis import strategies as st

from vini import names

words = st.text("abcdefghij-0", min_size=1, max_size=12)
some = st.lists(words, unique=True, max_size=30)


@given(some, some, st.randoms())
def test_a_name_keeps_its_addresses_whatever_joins_and_in_whatever_order(old, more, random_):
    before = names.loopbacks(old), names.link_addresses(old)
    everything = [*old, *more]
    random_.shuffle(everything)
    after = names.loopbacks(everything), names.link_addresses(everything)
    for was, now in zip(before, after, strict=True):
        assert {n: now[n] for n in old} == was


@given(some)
def test_every_loopback_is_another_and_in_its_range(slivers):
    found = names.loopbacks(slivers)
    flat = [a for pair in found.values() for a in pair]
    assert len(set(flat)) == 2 * len(slivers)
    for v4, v6 in found.values():
        assert ip_network(v4).subnet_of(IPv4Network("10.192.0.0/10"))
        assert ip_network(v6).subnet_of(IPv6Network("fd56:494e:4900::/64"))


@given(some)
def test_the_two_ends_of_a_link_share_a_prefix_that_no_other_link_has(links):
    prefixes = set()
    for a, b in names.link_addresses(links).values():
        for left, right in zip(a, b, strict=True):
            assert left != right
            assert ip_interface(left).network == ip_interface(right).network
            prefixes.add(ip_interface(left).network)
    assert len(prefixes) == 2 * len(links)
    assert not any(p.overlaps(ip_network("10.192.0.0/10")) for p in prefixes if p.version == 4)


def test_collisions_are_settled_without_losing_anyone():
    everybody = [f"r{i}" for i in range(64)]
    placed = names.place(everybody, 64, lambda n: names.digest(n), first=0)
    assert sorted(placed.values()) == list(range(64))
    assert names.place(reversed(everybody), 64, lambda n: names.digest(n)) == placed


def test_two_with_one_hash_get_two_places():
    placed = names.place(["x", "y"], 8, lambda _: 13, first=1)
    assert placed["x"] != placed["y"]
    assert {*placed.values()} <= set(range(1, 8))


def test_digest_depends_on_the_borders_between_words():
    assert names.digest("ab", "c") != names.digest("a", "bc")
    assert names.digest("ab") == names.digest("ab")


def test_ten_thousand_slivers_all_have_addresses_of_their_own():
    many = [f"r{i}" for i in range(10_000)]
    assert len({a for pair in names.loopbacks(many).values() for a in pair}) == 20_000


# --- interface names, MACs, indexes -----------------------------------------------------------------


@given(st.lists(st.from_regex(names.SLIVER_NAME, fullmatch=True), unique=True, max_size=20))
def test_a_vif_name_is_one_that_linux_takes_and_differs_for_each_neighbour(peers):
    found = [names.vif(p) for p in peers]
    assert all(names.VIF_NAME.match(v) and len(v.encode()) <= 15 for v in found)
    assert len(set(found)) == len(peers)


def test_a_short_neighbour_is_named_in_full_and_a_long_one_stays_recognisable():
    assert names.vif("denver") == "to-denver"
    assert names.vif("indianapolis") == "to-indianapolis"
    assert names.vif("indianapolis-2").startswith("to-indiana.")


@given(words, words, words)
def test_a_mac_is_unicast_and_locally_administered(slice_, sliver, dev):
    first = int(names.mac(slice_, sliver, dev).split(":")[0], 16)
    assert first & 1 == 0
    assert first & 2 == 2


def test_macs_of_slices_slivers_and_vifs_differ():
    assert len({names.mac(*w) for w in [("s", "a", "x"), ("t", "a", "x"), ("s", "b", "x"), ("s", "a", "y")]}) == 4


@given(some, some)
def test_an_interface_index_stays_and_leaves_the_small_ones_free(old, more):
    before, after = names.indexes(old, "s", "a"), names.indexes({*old, *more}, "s", "a")
    assert {n: after[n] for n in old} == before
    assert all(1 << 16 <= i < 1 << 24 for i in after.values())
    assert len(set(after.values())) == len(after)


# --- what a person writes -----------------------------------------------------------------------------


@given(st.text())
def test_a_slug_is_a_valid_sliver_name_or_nothing(text):
    found = names.slug(text)
    assert found == "" or names.SLIVER_NAME.match(found)


@pytest.mark.parametrize(
    ("text", "slug"),
    [("São Paulo (GRU)", "sao-paulo-gru"), ("  Zürich  ", "zurich"), ("東京", ""), ("-a-", "a"), ("x" * 200, "x" * 40)],
)
def test_slugs_that_people_expect(text, slug):
    assert names.slug(text) == slug


def test_addresses_are_written_as_the_kernel_prints_them():
    assert names.canonical("FD00:0::1/64") == "fd00::1/64"
    assert names.canonical("10.0.0.1") == "10.0.0.1/32"
    for wrong in ("10.0.0.256/24", "10.0.0.1/33", "fd00::g/64", "denver"):
        with pytest.raises(ValueError):
            names.canonical(wrong)


def test_collisions_move_a_name_only_within_its_own_run():
    """In a nearly full space, a joiner moves nobody but those whose hashes lie behind its own without a gap."""
    chosen = random.Random(1)
    before = [f"n{i}" for i in range(40)]
    old = names.place(before, 1 << 10, lambda n: names.digest(n))
    for _ in range(20):
        joiner = f"j{chosen.random()}"
        new = names.place([*before, joiner], 1 << 10, lambda n: names.digest(n))
        moved = [n for n in before if new[n] != old[n]]
        assert len(moved) <= 1
