"""The rules: who may do what, for how long, and which of several tags holds."""

from __future__ import annotations

import math
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini import bandwidth, placement
from vini.model import CapacityError, Denied, End, Impairment, Link, NotFound, Sliver, Topology
from vini.rules import (
    ACTIONS,
    EVERYWHERE,
    Caller,
    Invalid,
    Target,
    allows,
    expiry,
    may,
    of_person,
    of_slice,
    quota,
    seen,
)
from vini.rules import leases as lease_rules
from vini.rules.access import may_at_all_sites
from vini.rules.nouns import ConfFile, Held, NodeGroup, Person, Site, Slice, Tag
from vini.rules.tags import conf_files_of, effective, nodegroups_of
from vini.rules.words import SLICE, Email, SliceName, SshKey, site_of

ME = "me@x.example"
HERE, THERE = "princeton", "mit"
OF_HERE = Target("thing", "x", frozenset({HERE}), frozenset({"member@x.example"}), "self@x.example",
                 {"guest@x.example": 0.0})  # fmt: skip
DAY = 86_400.0
HOUR = 3600


def caller(role: str = "", site: str = HERE, email: str = ME, scopes: tuple[str, ...] = ("read", "write", "admin")):
    return Caller(email, frozenset({(role, site)} if role else ()), frozenset(scopes))


CALLERS = {
    "anyone": caller(),
    "self": caller(email="self@x.example"),
    "member": caller(email="member@x.example"),
    "guest": caller(email="guest@x.example"),
    "pi": caller("pi"),
    "tech": caller("tech"),
    "user": caller("user"),
    "admin": caller("admin", EVERYWHERE),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_for_those_whom_the_table_names(action):
    who = set(ACTIONS[action].who)
    for relation, one in CALLERS.items():
        expected = relation in who or "anyone" in who
        assert allows(one, action, OF_HERE) is expected, relation


@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_at_another_site_is_worth_nothing(action):
    for role in ("pi", "tech", "user"):
        assert allows(caller(role, THERE), action, OF_HERE) is ("anyone" in ACTIONS[action].who)


@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_needs_the_scope_too_and_is_told_so(action):
    scope = ACTIONS[action].scope
    one = caller("admin", EVERYWHERE, scopes=tuple({"read", "write", "admin"} - {scope}))
    with pytest.raises(Denied, match=f"lacks the scope '{scope}'"):
        may(one, action, OF_HERE)


@pytest.mark.parametrize("action", [a for a in ACTIONS if "anyone" not in ACTIONS[a].who])
def test_a_refusal_says_who_may(action):
    with pytest.raises(Denied) as told:
        may(CALLERS["anyone"], action, OF_HERE)
    assert re.fullmatch(r"me@x.example may not .*'x'.*; .*an admin may\.", str(told.value)), told.value


def test_what_no_rule_names_nobody_may():
    with pytest.raises(Denied, match="Nobody may fly to the moon"):
        may(CALLERS["admin"], "fly to the moon", OF_HERE)
    assert not allows(CALLERS["admin"], "fly to the moon", OF_HERE)


@given(st.sampled_from(sorted(ACTIONS)), st.sampled_from(["", "pi", "tech", "user"]), st.sampled_from([HERE, THERE]))
def test_more_roles_never_take_anything_away(action, role, site):
    less = caller(role, site)
    more = Caller(ME, less.roles | {("user", HERE)}, less.scopes)
    assert allows(more, action, OF_HERE) or not allows(less, action, OF_HERE)


def test_who_may_not_see_is_told_that_there_is_nothing():
    row = Slice(1, "mit_x", THERE, "", "", "", 0.0, 0.0, 0, 0.0, 0, (ME,))
    seen(caller(), of_slice(row))
    with pytest.raises(NotFound, match="no slice 'mit_x'"):
        seen(caller("pi", email="you@x.example"), of_slice(row))


def test_a_pi_has_no_say_over_an_admin_of_his_site():
    both = Person(1, "boss@x.example", "", True, (Held("admin", ""), Held("user", HERE)))
    assert not allows(caller("pi"), "enable person", of_person(both))
    assert allows(caller("pi"), "enable person", of_person(msgspec.structs.replace(both, roles=both.roles[1:])))


def test_who_makes_somebody_a_user_of_his_own_site_can_not_keep_him_out():
    other = Person(1, "you@x.example", "", True, (Held("pi", THERE), Held("user", HERE)))
    with pytest.raises(Denied, match=f"may not disable 'you@x.example', who also has a role at {THERE}; an admin may"):
        may_at_all_sites(caller("pi"), "enable person", other, "disable")
    may_at_all_sites(Caller(ME, frozenset({("pi", HERE), ("pi", THERE)})), "enable person", other, "disable")
    may_at_all_sites(caller("admin", EVERYWHERE), "enable person", other, "disable")
    at_one = msgspec.structs.replace(other, roles=other.roles[1:])
    may_at_all_sites(caller("pi"), "enable person", at_one, "disable")


class TestExpiry:
    def renewed(
        self, until, now=100 * DAY, expires=110 * DAY, description="x", url="https://x", max_slices=1, enabled=True
    ):
        return expiry.renewed(
            "s", now, expires, until, description=description, url=url, max_slices=max_slices, enabled=enabled
        )

    def test_a_new_one_lives_two_weeks(self):
        assert expiry.first(100 * DAY) == 114 * DAY

    def test_up_to_eight_weeks_ahead(self):
        assert self.renewed(156 * DAY) == 156 * DAY
        with pytest.raises(Invalid, match="56 days ahead"):
            self.renewed(156 * DAY + 1)

    def test_not_earlier_and_not_into_the_past(self):
        for until in (109 * DAY, 50 * DAY):
            with pytest.raises(Invalid, match="later"):
                self.renewed(until)

    @pytest.mark.parametrize("missing, says", [({"url": ""}, "needs a URL"), ({"description": ""}, "needs a descrip")])
    def test_only_with_a_reason(self, missing, says):
        with pytest.raises(Invalid, match=says):
            self.renewed(120 * DAY, **missing)

    def test_a_site_that_is_disabled_is_blocked(self):
        with pytest.raises(Denied, match="its site is disabled"):
            self.renewed(120 * DAY, enabled=False)

    def test_a_site_with_no_slices_is_blocked(self):
        with pytest.raises(Denied, match="max_slices is 0"):
            self.renewed(120 * DAY, max_slices=0)
        with pytest.raises(Denied, match="max_slices is 0"):
            expiry.may_add("princeton", 0, 0)

    def test_a_site_has_as_many_as_it_may(self):
        expiry.may_add("princeton", 9, 10)
        with pytest.raises(Denied, match="may have 10 slices, and has 10"):
            expiry.may_add("princeton", 10, 10)

    def test_reminders(self):
        due = [expiry.reminder(now * DAY, 100 * DAY) for now in (90, 93, 97.9, 98, 99.9, 100)]
        assert due == [0.0, 7 * DAY, 7 * DAY, 2 * DAY, 2 * DAY, 0.0]


class TestLeases:
    @given(st.floats(0, 1e7), st.floats(0, 1e7))
    def test_whatever_is_had_is_whole_hours_within_what_was_asked(self, start, end):
        try:
            first, last = lease_rules.rounded(start, end, now=0.0)
        except Invalid:
            return
        assert start <= first < last <= end
        assert first % 3600 == last % 3600 == 0
        assert first - start <= 3600 and end - last <= 3600

    def test_however_little_after_the_hour_is_the_next_hour(self):
        assert lease_rules.rounded(5e-324, 7200.0, now=0.0) == (3600, 7200)

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=20), st.integers(0, 40))
    def test_the_nearest_time_is_free_and_none_before_it_is(self, asked, start):
        busy = [lease_rules.Busy(a * HOUR, (a + h) * HOUR) for a, h in asked]
        found = lease_rules.nearest(start * HOUR, (start + 2) * HOUR, busy)
        assert found >= start * HOUR and found % HOUR == 0
        assert lease_rules.clash(found, found + 2 * HOUR, busy) is None
        assert all(lease_rules.clash(t, t + 2 * HOUR, busy) for t in range(start * HOUR, found, HOUR))

    def test_one_may_begin_as_another_ends(self):
        busy = [lease_rules.Busy(0, HOUR), lease_rules.Busy(2 * HOUR, 3 * HOUR)]
        assert lease_rules.clash(HOUR, 2 * HOUR, busy) is None
        assert lease_rules.clash(HOUR, 2 * HOUR + 1, busy) == busy[1]

    def test_a_time_that_is_taken_says_by_whom_and_when_there_is_one(self):
        busy = [lease_rules.Busy(2 * HOUR, 4 * HOUR, "is leased by slice 'x_y'"), lease_rules.Busy(5 * HOUR, 9 * HOUR)]
        said = str(lease_rules.refused("n1", 3 * HOUR, 5 * HOUR, busy, "n2"))
        assert "Node 'n1' is leased by slice 'x_y' from 1970-01-01 02:00 UTC to 1970-01-01 04:00 UTC." in said
        assert "begins at 1970-01-01 09:00 UTC; ask for that, or ask for node 'n2', which is free then." in said

    def test_until_when_a_slice_may_be_on_a_node_that_others_lease(self):
        later = [lease_rules.Busy(5 * HOUR, 6 * HOUR)]
        for now, expires, staying, end in (
            (0.0, 4.0 * HOUR, False, 4.0 * HOUR),  # it ends before
            (0.0, 9.0 * HOUR, False, 0.0),  # nobody new comes, since he could not stay
            (0.0, 9.0 * HOUR, True, 5.0 * HOUR),
            (5.0 * HOUR, 9.0 * HOUR, True, 0.0),
            (6.0 * HOUR, 9.0 * HOUR, False, 9.0 * HOUR),  # it is over
        ):
            assert lease_rules.until(now, expires, later, staying) == end

    def test_not_in_the_past_nor_in_two_years(self):
        for start, end in ((0.0, 3600.0), (700 * DAY, 701 * DAY)):
            with pytest.raises(Invalid):
                lease_rules.rounded(start, end, now=7200.0)


class TestTags:
    ALL = (
        Tag(1, "cpu", "slice", "s"),
        Tag(2, "cpu", "group b", "s", nodegroup="b"),
        Tag(3, "cpu", "group a", "s", nodegroup="a"),
        Tag(4, "cpu", "sliver", "s", "n"),
        Tag(5, "cpu", "other slice", "t", "n"),
        Tag(6, "mem", "slice", "s"),
    )

    @pytest.mark.parametrize(
        "node, groups, holds",
        [("n", ["a", "b"], "sliver"), ("m", ["b", "a"], "group a"), ("m", ["b"], "group b"), ("m", [], "slice")],
    )
    def test_sliver_before_nodegroup_before_slice(self, node, groups, holds):
        for tags in (self.ALL, self.ALL[::-1]):
            assert effective(tags, "s", node, groups) == {"cpu": holds, "mem": "slice"}

    def test_a_nodegroup_has_the_nodes_whose_tag_says_so(self):
        groups = [NodeGroup(1, "arm", "arch", "arm"), NodeGroup(2, "none", "arch", ""), NodeGroup(3, "x", "y", "z")]
        assert nodegroups_of({"arch": "arm", "y": "z"}, groups) == ["arm", "x"]
        assert nodegroups_of({}, groups) == []

    def test_conf_files_node_before_nodegroup_before_global(self):
        def file(i, enabled=True, **of):
            return ConfFile(i, "/etc/motd", str(i), 0o644, "root", enabled, **of)

        files = [file(1), file(2, nodegroup="g"), file(3, node="n"), file(4, enabled=False, node="n")]
        got = [conf_files_of(files, n, g)["/etc/motd"].id for n, g in (("n", ["g"]), ("m", ["g"]), ("m", []))]
        assert got == [3, 2, 1]


@pytest.mark.parametrize(
    "type_, good, bad",
    [
        (
            SliceName,
            ["princeton_iias", "a_b", "mit_x-y_z"],
            ["", "iias", "_x", "x_", "Mit_x", "mit_" + "x" * 40, "a_b\n"],
        ),
        (Email, ["a@b.c", "a+b@b.example"], ["", "a", "a b@c.d", "a@", "@b", "a@b\n", "a\x00@b.c"]),
        (SshKey, ["ssh-ed25519 " + "A" * 68, "ssh-rsa " + "A" * 300 + "== me@here"], ["ssh-dss " + "A" * 68, "x", ""]),
    ],
)
def test_names(type_, good, bad):
    for word in good:
        assert msgspec.json.decode(msgspec.json.encode(word), type=type_) == word
    for word in bad:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(word), type=type_)


def test_a_slice_name_says_its_site():
    assert site_of("princeton_iias") == "princeton"
    assert site_of("lab") == ""
    assert re.match(SLICE, "princeton_iias")


class TestQuota:
    SITE = Site(1, HERE, "", None, None, True, 10, 5, 8.0, 0, 100.0, 12, 8)
    ROW = Slice(1, "princeton_x", HERE, "", "", "", 0.0, 0.0, 0, 0.0, 0)

    def test_a_slice_has_its_own_quota_of_slivers_or_its_sites(self):
        quota.check(self.ROW, self.SITE, quota.Taken(), quota.Taken(5))
        with pytest.raises(
            CapacityError, match="may have 5 slivers, and this asks for 6, 1 too many; leave some out, or ask an admin"
        ):
            quota.check(self.ROW, self.SITE, quota.Taken(), quota.Taken(6))
        more = msgspec.structs.replace(self.ROW, max_slivers=7)
        quota.check(more, self.SITE, quota.Taken(), quota.Taken(7))

    @pytest.mark.parametrize(
        "asked, says",
        [
            ({"cores": 4.5}, "of 8 cores its other slices have 4, and this asks for 4.5, 0.5 too many"),
            ({"link_mbit": 97.0}, "of 100 Mbit/s .* have 4, and this asks for 97, 1 too many"),
            ({"slivers": 3}, "of 12 slivers its other slices have 10, and this asks for 3, 1 too many"),
            ({"vnis": 9, "cores": 5.0}, "cores .* 1 too many; of 8 links between nodes .* have 0, .* 9, 1 too many"),
        ],
    )
    def test_all_slices_of_a_site_together(self, asked, says):
        others = quota.Taken(10, 4.0, 1000.0, 4.0)
        quota.check(self.ROW, self.SITE, others, quota.Taken(2, 4.0, 1e6, 96.0, 8))  # of memory there is no quota
        with pytest.raises(CapacityError, match=says):
            quota.check(self.ROW, self.SITE, others, quota.Taken(**asked))

    def test_where_rates_are_bounded_each_link_between_nodes_says_one(self):
        quota.check_bounded(self.SITE, [])
        quota.check_bounded(msgspec.structs.replace(self.SITE, link_mbit=0.0), ["a--b"])
        with pytest.raises(CapacityError, match=r"link 'a--b' says no rate \(nor do 2 others\); write `rate:`"):
            quota.check_bounded(self.SITE, ["a--b", "b--c", "c--d"])

    def test_what_a_slice_takes(self):
        fast, slow = Impairment(rate_mbit=30.0), Impairment(rate_mbit=1.0)
        links = (
            Link((End("a"), End("b", impairment=fast)), impairment=slow),
            Link((End("b"), End("c")), impairment=fast),
            Link((End("a"), End("c"))),
        )
        topology = Topology("x_y", {n: Sliver(n) for n in "abc"}, links)
        each = placement.cost(Sliver("a"))
        without = quota.Taken(3, 3 * each.cores, 3 * each.memory_mib)
        assert quota.taken(topology, {}) == without
        assert quota.taken(topology, dict.fromkeys("abc", "n")) == without
        assert quota.taken(topology, {"a": "n", "b": "m", "c": "m"}) == without + quota.Taken(link_mbit=30.0, vnis=2)
        assert bandwidth.unbounded(topology, {"a": "n", "b": "m", "c": "m"}) == ["a--c"]

    def test_a_link_that_follows_a_trace_takes_its_largest_rate(self):
        def taken(text: str) -> float:
            return bandwidth.rate(Link((End("a"), End("b")), impairment=Impairment(trace=text)))

        assert taken("time_ms,rate_mbit\n0,10\n50,25\n100,5\n") == 25.0
        assert taken("time_ms,delay_ms\n0,10\n") == math.inf
        assert taken("5\n10\n") == pytest.approx(2.4)
