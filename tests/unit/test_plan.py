"""Properties of the pure core against a machine in a dict: no root, no clock, no chance."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import spec_of, specs, specs_of, topologies

from vini.model import (
    STACK,
    Address,
    AnyObject,
    End,
    File,
    Gretap,
    Interface,
    Key,
    Link,
    Netns,
    Op,
    Process,
    Root,
    Route,
    Routing,
    Shape,
    SliceSpec,
    Sliver,
    State,
    Sysctl,
    Topology,
    Tunnel,
    Veth,
    Vxlan,
    Wireguard,
)
from vini.node.drivers import Failures
from vini.node.fake import FakeDriver
from vini.node.machine import Machine
from vini.plan import batches, in_order, plan, status, touched, within

RANK = {kind: i for i, kind in enumerate(STACK)}
PAIR = Topology(
    "s",
    {n: Sliver(n, routing=Routing(("ospf",), daemon="bird"), files={"/etc/motd": "hi"}) for n in "ab"}
    | {"c": Sliver("c")},
    (Link((End("a"), End("b"))), Link((End("b"), End("c")))),
)


def everything(objects: frozenset[AnyObject]) -> set[str]:
    return {ns for o in objects for ns in o.slivers}


def one_pass(driver: FakeDriver, want: frozenset[AnyObject]) -> Failures:
    """As an agent makes one: observe, plan, apply.  Of slivers that nobody wants it sees only that they are there."""
    machine, traces, wanted = Machine([driver]), everything(held(driver)), everything(want)
    have = machine.observe(wanted & traces).objects | {Netns(ns) for ns in traces - wanted}
    return machine.apply(plan(want, have))


def made(objects: Sequence[AnyObject] | frozenset[AnyObject]) -> FakeDriver:
    driver = FakeDriver()
    assert one_pass(driver, frozenset(objects)) == {}
    return driver


def held(driver: FakeDriver) -> frozenset[AnyObject]:
    return frozenset(driver.have.values())


# --- one pass is enough ---------------------------------------------------------------------------


@given(specs(), specs())
def test_one_pass_takes_any_state_to_any_other(old, new):
    driver = made(old.objects)
    assert one_pass(driver, new.objects) == {}
    assert held(driver) == new.objects


@given(specs(), specs())
def test_a_second_pass_does_nothing(old, new):
    driver = made(old.objects)
    one_pass(driver, new.objects)
    assert plan(new.objects, held(driver)) == []


@given(specs(), specs(), st.data())
def test_one_pass_heals_a_crash_after_any_step(old, new, data):
    driver = made(old.objects)
    ops = plan(new.objects, held(driver))
    Machine([driver]).apply(ops[: data.draw(st.integers(0, len(ops)))])
    one_pass(driver, new.objects)
    assert held(driver) == new.objects


@given(specs())
def test_one_pass_ends_a_slice(old):
    driver = made(old.objects)
    one_pass(driver, frozenset())
    assert held(driver) == frozenset()


# --- vandalism --------------------------------------------------------------------------------


def altered(o: AnyObject, data: st.DataObject) -> AnyObject | None:
    """The same object as somebody's hand would leave it; None for kinds that are there or not."""
    match o:
        case Sysctl():
            changes = [{"settings": tuple((name, "7") for name, _ in o.settings)}, {"as_born": False}]
            return replace(o, **data.draw(st.sampled_from(changes)))
        case Veth():
            return replace(o, ends=(replace(o.ends[0], mac="02:00:00:00:00:01"), o.ends[1]))
        case Vxlan():
            changes = [{"remote": "192.0.2.99"}, {"whole": False}, {"vni": 99}, {"mac": "02:00:00:00:00:01"}]
            return replace(o, **data.draw(st.sampled_from(changes)))
        case Wireguard():
            changes = [{"peers": ()}, {"whole": False}, {"mtu": 99}, {"public_key": "other"}, {"port": 1}]
            return replace(o, **data.draw(st.sampled_from(changes)))
        case Gretap():
            changes = [{"remote": "192.0.2.99"}, {"whole": False}, {"gre_key": 99}, {"mac": "02:00:00:00:00:01"}]
            return replace(o, **data.draw(st.sampled_from(changes)))
        case Interface():
            changes = [{"mtu": 1280}, {"up": not o.up}, {"wire": ()}, {"whole": False}, {"as_born": False}]
            return replace(o, **data.draw(st.sampled_from(changes)))
        case Address():
            return replace(o, whole=False)
        case Route():
            return replace(o, via="192.0.2.99")
        case Shape():
            return data.draw(st.sampled_from([replace(o, delay_us=77), replace(o, drop=not o.drop)]))
        case File():
            return data.draw(st.sampled_from([replace(o, text="other"), replace(o, mode=0o600)]))
        case Root():
            return replace(o, dirs=("/opt",))
        case Process():
            return data.draw(st.sampled_from([replace(o, argv=("other",)), replace(o, config="other")]))
    return None


def stray(o: AnyObject) -> AnyObject | None:
    """Something that bears our mark and that nobody asked for."""
    match o:
        case Netns():
            return Netns("s.stray")
        case Interface():
            return Address(o.ns, o.dev, "203.0.113.7/32")
        case Address():
            return Route(o.ns, "203.0.113.0/24", "192.0.2.9", o.dev)
        case File():
            return File(o.ns, "stray", "text")
        case Process():
            return Process(o.ns, "stray", ("true",))
    return None


def renamed(driver: FakeDriver, o: Veth | Tunnel) -> None:
    """`ip link set to-b name lan`: the pair, the vif and its addresses have another name; the alias stays."""
    ns, dev = (o.ns, o.dev) if isinstance(o, Tunnel) else (o.ends[0].ns, o.ends[0].dev)
    for x in list(driver.have.values()):
        if isinstance(x, Interface | Address | Shape) and (x.ns, x.dev) == (ns, dev):
            del driver.have[x.key]
            new = replace(x, dev="lan")
            driver.have[new.key] = new
    del driver.have[o.key]
    new = replace(o, dev="lan") if isinstance(o, Tunnel) else Veth((replace(o.ends[0], dev="lan"), o.ends[1]))
    driver.have[new.key] = new


def vandalise(driver: FakeDriver, data: st.DataObject) -> None:
    there = in_order(driver.have.values())
    if not there:
        return
    o = data.draw(st.sampled_from(there))
    how = data.draw(st.sampled_from(["remove", "alter", "add", "rename"]))
    other = altered(o, data) if how == "alter" else stray(o) if how == "add" else None
    if how == "rename" and isinstance(o, Veth | Tunnel):
        renamed(driver, o)
    elif other is not None:
        driver.have[other.key] = other
    else:
        driver.remove([o])


@settings(max_examples=100)
@given(specs(), st.data())
def test_one_pass_heals_any_vandalism(spec, data):
    driver = made(spec.objects)
    for _ in range(data.draw(st.integers(1, 4))):
        vandalise(driver, data)
    one_pass(driver, spec.objects)
    assert held(driver) == spec.objects
    assert plan(spec.objects, held(driver)) == []


def test_a_renamed_vif_takes_its_pair_along_and_both_ends_come_back_in_one_pass():
    spec = spec_of(PAIR)
    driver = made(spec.objects)
    renamed(driver, next(o for o in spec.objects if isinstance(o, Veth)))
    one_pass(driver, spec.objects)
    assert held(driver) == spec.objects


def test_a_vif_whose_other_end_was_taken_away_comes_back_with_its_addresses_in_one_pass():
    spec = spec_of(PAIR)
    driver = made(spec.objects)
    veth = next(o for o in spec.objects if isinstance(o, Veth))
    del driver.have[veth.key]  # one end was moved out of sight: of the pair, only the ends' settings are seen
    one_pass(driver, spec.objects)
    assert held(driver) == spec.objects


# --- the shape of a plan --------------------------------------------------------------------------


@given(specs(), specs())
def test_removals_come_first_from_the_top_and_makings_after_from_the_ground(old, new):
    ops = plan(new.objects, old.objects)
    verbs = [op.verb for op in ops]
    assert verbs == sorted(verbs, reverse=True)
    removed = [RANK[type(op.object)] for op in ops if op.verb == "remove"]
    ensured = [RANK[type(op.object)] for op in ops if op.verb == "ensure"]
    assert removed == sorted(removed, reverse=True)
    assert ensured == sorted(ensured)


@given(specs())
def test_whatever_an_object_stands_on_is_in_its_spec_and_made_before_it(spec):
    at = {o.key: i for i, o in enumerate(in_order(spec.objects))}
    for o in spec.objects:
        for key in o.on:
            assert at[key] < at[o.key], f"{o.key} stands on {key}"


@given(specs(), specs())
def test_every_step_says_why(old, new):
    assert all(op.why for op in plan(new.objects, old.objects))


@given(specs(), specs())
def test_what_is_right_already_and_stands_on_nothing_that_goes_is_not_touched(old, new):
    ops = plan(new.objects, old.objects)
    gone = {op.object.key for op in ops if op.verb == "remove"}
    for op in ops:
        if op.verb == "ensure" and op.object in old.objects:
            assert _stands_on(op.object, new.objects) & (gone | _rebuilt(old, new)), op


def _rebuilt(old: SliceSpec, new: SliceSpec) -> set[Key]:
    before = {o.key: o for o in old.objects}
    return {o.key for o in new.objects if o.key in before and before[o.key] != o}


def _stands_on(o: AnyObject, objects: frozenset[AnyObject]) -> set[Key]:
    """All that is below an object, to the ground."""
    at = {x.key: x for x in objects}
    below: set[Key] = set()
    todo = [*o.on]
    while todo:
        key = todo.pop()
        if key not in below and key in at:
            below.add(key)
            todo.extend(at[key].on)
    return below


@given(specs())
def test_batches_are_the_same_steps_in_the_same_order(spec):
    ops = plan(spec.objects, frozenset())
    parts = list(batches(ops))
    assert [op for part in parts for op in part] == ops
    for part in parts:
        assert len({(op.verb, type(op.object)) for op in part}) == 1
        keys = {op.object.key for op in part}
        assert not any(keys & set(op.object.on) for op in part)


def test_a_change_in_place_is_one_step_and_says_from_what_to_what():
    before = spec_of(PAIR).objects
    links = (replace(PAIR.links[0], mtu=1400), *PAIR.links[1:])
    ops = plan(spec_of(replace(PAIR, links=links)).objects, before)
    assert [(op.verb, op.object.key, op.why) for op in ops] == [
        ("ensure", ("interface", "s.a", "to-b"), "mtu 1500 -> 1400"),
        ("ensure", ("interface", "s.b", "to-a"), "mtu 1500 -> 1400"),
    ]


def test_a_pass_over_some_namespaces_leaves_a_pair_alone_whose_other_end_it_did_not_look_at():
    want = spec_of(PAIR).objects
    driver = made(want)
    assert plan(within(want, {"s.a"}), driver.observe({"s.a"})) == []
    driver.remove([o for o in want if isinstance(o, Address) and (o.ns, o.dev) == ("s.a", "lo")])
    ops = plan(within(want, {"s.a"}), driver.observe({"s.a"}))
    assert {(op.verb, type(op.object)) for op in ops} == {("ensure", Address)}


@given(topologies(), topologies())
def test_a_pass_over_what_a_change_touches_is_as_good_as_one_over_everything(old, new):
    before, after = spec_of(old).objects, spec_of(new, 2).objects
    driver = made(before)
    machine = Machine([driver])
    scope = touched(before, after)
    machine.apply(plan(within(after, scope), machine.observe(scope).objects))
    assert held(driver) == after


# --- failures -----------------------------------------------------------------------------------


class Refusing(FakeDriver):
    """A machine that refuses one object."""

    def __init__(self, key: Key):
        super().__init__()
        self._refused, self.asked = key, []

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        self.asked += [o.key for o in objects]
        failures = super().ensure([o for o in objects if o.key != self._refused])
        return failures | {o.key: "no" for o in objects if o.key == self._refused}


@given(specs(), st.data())
def test_a_failed_step_skips_what_stands_on_it_and_nothing_else(spec, data):
    broken = data.draw(st.sampled_from(in_order(spec.objects)))
    driver = Refusing(broken.key)
    failures = one_pass(driver, spec.objects)
    assert failures == {broken.key: "no"}
    above = {o.key for o in spec.objects if broken.key in _stands_on(o, spec.objects)}
    whole = {o.key for o in spec.objects} - {broken.key} - above
    assert {o.key for o in held(driver) & spec.objects} == whole
    assert not above & set(driver.asked), "what stands on a failed step was tried all the same"


def test_a_failed_removal_does_not_stop_its_neighbours():
    class Sticky(FakeDriver):
        def remove(self, objects: Sequence[AnyObject]) -> Failures:
            sticky = [o for o in objects if o.key == ("netns", "s.a")]
            super().remove([o for o in objects if o not in sticky])
            return {o.key: "busy" for o in sticky}

    driver = Sticky(spec_of(PAIR).objects)
    failures = one_pass(driver, frozenset())
    assert failures == {("netns", "s.a"): "busy"}
    assert not {"s.b", "s.c"} & everything(held(driver))


# --- status ---------------------------------------------------------------------------------------


@given(specs(), st.data())
def test_status_is_a_view_of_the_plan(spec, data):
    driver = made(spec.objects)
    for _ in range(data.draw(st.integers(0, 2))):
        vandalise(driver, data)
    ops = plan(spec.objects, held(driver))
    unwell = {ns for op in ops for ns in op.object.slivers}
    rows = {r.sliver: r for r in status(spec.objects, State(held(driver)), {})}
    assert {ns for ns, r in rows.items() if r.state != "ready"} == unwell
    assert all(bool(r.why) == (r.state != "ready") for r in rows.values())


def test_a_failure_is_told_with_its_cause_to_both_slivers_of_a_link_and_to_no_other():
    spec = spec_of(PAIR)
    veth = ("veth", "s.a", "to-b", "s.b", "to-a")
    driver = Refusing(veth)
    failures = one_pass(driver, spec.objects)
    rows = {r.sliver: (r.state, r.why) for r in status(spec.objects, State(held(driver)), failures)}
    assert rows == {"s.a": ("failed", "no"), "s.b": ("failed", "no"), "s.c": ("ready", "")}


def test_a_sliver_whose_probe_does_not_answer_is_not_ready():
    spec = spec_of(PAIR)
    rows = status(spec.objects, State(spec.objects, {"s.a": "bird runs but does not answer yet"}), {})
    assert [(r.state, r.why) for r in rows if r.sliver == "s.a"] == [
        ("configuring", "bird runs but does not answer yet")
    ]


def test_an_old_failure_of_what_is_now_right_is_forgotten():
    spec = spec_of(PAIR)
    rows = status(spec.objects, State(spec.objects), {("netns", "s.a"): "no"})
    assert {r.state for r in rows} == {"ready"}


# --- the wire -------------------------------------------------------------------------------------


@given(specs())
@pytest.mark.parametrize("codec", [msgspec.json, msgspec.msgpack])
def test_a_spec_survives_the_wire(codec, spec):
    assert codec.decode(codec.encode(spec), type=SliceSpec) == spec


def test_a_wire_with_an_unknown_kind_or_field_is_refused_not_ignored():
    for text in (
        b'{"slice":"s","node":"n","generation":1,"objects":[{"kind":"magic"}]}',
        b'{"slice":"s","nodes":"n","generation":1}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=SliceSpec)


def test_an_op_reads_as_a_line():
    assert str(Op("ensure", Netns("s.a"), "missing")) == "+ netns s.a  (missing)"
    assert str(Op("remove", Netns("s.a"))) == "- netns s.a"


def test_a_driver_that_breaks_fails_what_it_was_asked_for_and_not_the_pass():
    class Broken(FakeDriver):
        def ensure(self, objects: Sequence[AnyObject]) -> Failures:
            if type(objects[0]) is File:
                raise RuntimeError("a mistake of ours")
            return super().ensure(objects)

    spec = spec_of(PAIR)
    driver = Broken()
    failures = one_pass(driver, spec.objects)
    assert set(failures) == {o.key for o in spec.objects if type(o) is File}
    assert all("a mistake of ours" in why for why in failures.values())
    assert {o for o in spec.objects if type(o) in (Netns, Veth, Address)} <= held(driver)


def test_what_ails_the_way_that_links_go_by_ails_their_slivers_and_is_no_sliver_itself():
    apart = Topology("s", {"a": Sliver("a"), "b": Sliver("b")}, (Link((End("a"), End("b"))),), tunnel="wireguard")
    spec = specs_of(apart, {"a": "local", "b": "other"})["local"]
    way = next(o for o in spec.objects if isinstance(o, Wireguard))
    assert {r.sliver for r in status(spec.objects, State(spec.objects), {})} == {"s.a"}
    for lost, failures, state in ((way, {}, "configuring"), (way, {way.key: "No WireGuard here."}, "failed")):
        (row,) = status(spec.objects, State(spec.objects - {lost}), failures)
        assert (row.sliver, row.state) == ("s.a", state)
    assert row.why == "No WireGuard here."


def test_what_ails_a_containers_tunnel_ails_the_container_and_is_no_sliver_itself():
    slivers = {"a": Sliver("a", runtime="container"), "b": Sliver("b"), "c": Sliver("c")}
    apart = Topology("s", slivers, (Link((End("a"), End("b"))),))
    spec = specs_of(apart, {"a": "local", "b": "other", "c": "local"})["local"]
    tunnel = next(o for o in spec.objects if isinstance(o, Vxlan))
    assert [r.state for r in status(spec.objects, State(spec.objects), {})] == ["ready", "ready"]
    rows = status(spec.objects, State(spec.objects - {tunnel}), {tunnel.key: "No VXLAN here."})
    assert [(r.sliver, r.state, r.why) for r in rows] == [("s.a", "failed", "No VXLAN here."), ("s.c", "ready", "")]
