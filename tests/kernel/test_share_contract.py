"""The contract of drivers for shares of the uplink: of the machine in a dict, and of one that a namespace plays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec.structs import replace
from own_place import run
from world import World

from vini.model import AnyObject, Interface, Netns, Share, Sysctl
from vini.node.netlink import Socket
from vini.plan import plan

A, B = "t.a", "t.b"
FORWARDING = (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))
OF_A = Share(A, 5000, 100_000, 20, 10_000, ((0, 9), (4789, 7)))
OF_B = Share(B, tunnels=((4789, 8),), outside=True)
WHOLE: frozenset[AnyObject] = frozenset(
    {*(o for ns in (A, B) for o in (Netns(ns), Sysctl(ns, FORWARDING), Interface(ns, "lo", ("netns", ns), mtu=65536)))}
) | {OF_A, OF_B}
CHANGES = [
    replace(OF_A, min_kbit=0),
    replace(OF_A, max_kbit=0),
    replace(OF_A, max_kbit=20_000_000, weight=1000, daily_mb=0),
    replace(OF_A, tunnels=()),
    replace(OF_B, outside=False, tunnels=((4789, 9), (4790, 9))),
]
REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2", "shares")])


class Crash(BaseException):
    """The agent is gone at this step."""


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With everything of WHOLE in it; the real one is in a namespace that plays the machine."""
    with ExitStack() as stack:
        own = request.getfixturevalue("own") if request.param == "real" else None
        if own:
            stack.enter_context(own.played_machine())
            run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
        world = World(own, {A, B})
        assert world.one_pass(WHOLE) == {}
        yield world
        assert world.one_pass(frozenset()) == {}
        assert world.see_anew() == frozenset()
        if own:
            assert "vini" not in run("ip", "link") + run("tc", "filter", "show", "dev", "eth0", "egress")
            assert "clsact" not in run("tc", "qdisc", "show", "dev", "eth0")


def test_shares_keep_the_contract_of_drivers(world: World) -> None:
    assert world.see() == world.see_anew() == WHOLE
    assert world.ensure(OF_A, OF_B) == {}
    assert world.see() == WHOLE
    for new in CHANGES:
        old = next(o for o in (OF_A, OF_B) if o.key == new.key)
        assert world.one_pass(WHOLE - {old} | {new}) == {}
        assert world.see_anew() == WHOLE - {old} | {new}
        assert world.one_pass(WHOLE) == {}
        assert world.see_anew() == WHOLE
    for _ in range(2):  # what is gone already is no error
        assert world.remove(OF_A) == {}
        assert world.see() == WHOLE - {OF_A}
    assert world.one_pass(WHOLE) == {}
    assert world.see_anew() == WHOLE


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_whatever_step_is_the_agents_last_the_next_one_goes_on_from_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are what it tells the kernel: the n-th of them is never made."""
    transact, without = Socket.transact, WHOLE - {OF_A, OF_B}
    for want in (WHOLE - {OF_A} | {CHANGES[2]}, without, WHOLE, without | {OF_B}, WHOLE):
        for step in range(100):
            begin = WHOLE if want != WHOLE else without
            assert world.one_pass(begin) == {}
            made = 0

            def counted(self: Socket, requests: list[bytes], last: int = step) -> list[int]:
                nonlocal made
                if made + len(requests) > last:
                    transact(self, requests[: last - made])
                    raise Crash
                made += len(requests)
                return transact(self, requests)

            monkeypatch.setattr(Socket, "transact", counted)
            machine = world.own.machine()
            try:
                machine.apply(plan(want, machine.observe({A, B}).objects))
            except Crash:
                over = False
            else:
                over = True
            monkeypatch.setattr(Socket, "transact", transact)
            machine = world.own.machine()
            assert machine.apply(plan(want, machine.observe({A, B}).objects)) == {}
            assert world.see_anew() == want, step
            if over:
                break
        else:
            raise AssertionError("it never comes to an end")
