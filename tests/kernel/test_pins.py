"""Pins and names of namespaces: whatever an earlier version, a crash or a hand left there."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from own_place import NETNS, OwnPlace, eventually, forked, run
from test_crash import STATIC, die_before, line

from vini.model import Command, Sliver
from vini.node import cgroup, netns
from vini.node.pins import Pins

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]


@pytest.fixture
def pins(own: OwnPlace) -> Iterator[Pins]:
    """Two slices of two slivers."""
    pins = Pins(own.place)
    for ns in ("v.a", "v.b", "w.a", "w.b"):
        make(pins, ns)
    yield pins
    pins.remove(pins.names())
    assert own.leftovers() == []


def make(pins: Pins, ns: str) -> None:
    pins.prepare([ns])
    with netns.back_home():
        pins.make(ns)


def inodes(own: OwnPlace) -> dict[str, int]:
    """Of what can be entered by a name."""
    names = [p for p in NETNS.glob(f"{own.place.mark}.*") if netns.is_pinned(p.resolve())]
    return {p.name.partition(".")[2]: p.stat().st_ino for p in names}


def as_of_an_earlier_version(own: OwnPlace, ns: str) -> None:
    """Pinned at the name itself, and nowhere else."""
    name = own.place.netns(ns)
    name.unlink()
    netns.pin(own.place.pin(ns), name)
    netns.delete(own.place.pin(ns))


def test_ip_netns_finds_enters_and_deletes_by_the_name(own, pins):
    name = own.place.netns("v.a").name
    assert name in run("ip", "netns", "list")
    assert "lo" in run("ip", "netns", "exec", name, "ip", "link")
    run("ip", "netns", "delete", name)
    assert inodes(own).keys() == {"v.b", "w.a", "w.b"}
    assert "v.a" in pins.names()  # the empty file: a trace, which is swept or used again
    make(pins, "v.a")
    assert "lo" in run("ip", "netns", "exec", name, "ip", "link")


def test_one_of_a_slice_goes_and_the_others_stay(own, pins):
    before = inodes(own)
    pins.remove(["v.a"])
    assert inodes(own) == {ns: i for ns, i in before.items() if ns != "v.a"}
    assert pins.names() == {"v.b", "w.a", "w.b"}


def test_a_slice_goes_and_the_others_stay(own, pins):
    before = inodes(own)
    pins.remove(["v.a", "v.b"])
    assert inodes(own) == {ns: i for ns, i in before.items() if ns.startswith("w")}
    assert not own.place.pin("v.").exists()


@pytest.mark.parametrize("odd", ["v", "v.", "v..", "v...", ".", ".v", "v.a.b", ".."])
def test_a_name_that_is_no_slivers_takes_nothing_along(own, pins, odd):
    before = inodes(own)
    run("ip", "netns", "add", f"{own.place.mark}.{odd}")
    pins.adopt()
    pins.remove([odd])
    assert inodes(own) == before


def test_a_namespace_is_entered_by_its_pin_whatever_its_name_is(own, pins):
    before = inodes(own)
    for ns, spoil in {
        "v.a": lambda _: None,
        "v.b": lambda name: name.touch(),
        "w.a": lambda name: name.symlink_to("/nowhere"),
        "w.b": lambda name: run("ip", "netns", "add", name.name),  # somebody else's
    }.items():
        own.place.netns(ns).unlink()
        spoil(own.place.netns(ns))
        assert not pins.is_named(ns)
        make(pins, ns)
        assert pins.is_named(ns)
    assert inodes(own) == before


def test_what_is_unmounted_is_made_anew(own, pins):
    before = inodes(own)
    run("umount", "-l", own.place.pin("v."))
    assert inodes(own).keys() == {"w.a", "w.b"}
    assert pins.names() == set(before)
    make(pins, "v.a")
    make(pins, "v.b")
    assert inodes(own).keys() == before.keys()
    assert [inodes(own)[ns] for ns in ("w.a", "w.b")] == [before[ns] for ns in ("w.a", "w.b")]


def test_a_pin_vanishes_from_other_mount_namespaces_too(own, pins):
    """As `ip netns exec` makes one: else it would keep a sliver's network alive after `down`."""
    other = subprocess.Popen(
        ["ip", "netns", "exec", own.place.netns("w.a").name, "sh", "-c", "echo in; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        mounts = f"/proc/{other.pid}/mountinfo"
        assert str(own.place.pin("v.a")) in run("cat", mounts)
        pins.remove(["v.a"])
        pins.remove(["v.b"])
        assert str(own.place.pin("v.")) not in run("cat", mounts)
    finally:
        other.kill()
        other.communicate()


# --- those of an earlier version ---------------------------------------------------------------------


def test_pins_of_an_earlier_version_move_with_what_lives_in_them(own, pins):
    before = inodes(own)
    for ns in ("v.a", "v.b"):
        as_of_an_earlier_version(own, ns)
    assert inodes(own) == before
    pins.adopt()
    assert inodes(own) == before
    assert all(pins.is_named(ns) for ns in before)
    pins.adopt()
    assert inodes(own) == before


def test_pins_of_an_earlier_version_that_nobody_wants_are_removed(own, pins):
    as_of_an_earlier_version(own, "v.a")
    pins.remove(["v.a", "v.b"])
    assert inodes(own).keys() == {"w.a", "w.b"}


def test_killed_at_every_step_of_moving_them_the_next_agent_goes_on(own, pins):
    before = inodes(own)
    step, survived = 0, False
    while not survived:
        as_of_an_earlier_version(own, "v.a")
        survived = forked(lambda n=step: (die_before(n), pins.adopt()))
        pins.adopt()
        make(pins, "v.a")  # as a pass does where it sees no name
        assert inodes(own) == before, step
        assert pins.is_named("v.a")
        assert not list(NETNS.glob(f".{own.place.mark}.*"))
        step += 1
    assert step > 5, "it was never killed"


def test_an_upgrade_loses_no_packet_and_no_process(own):
    small = line("a", "b")
    served = Sliver("a", STATIC, commands=(Command("sleep 1000", service=True),))
    topology = replace(small, slivers={**small.slivers, "a": served})
    asyncio.run(own.client().up(topology, timeout_s=60))
    own.kill_agent()
    for ns in ("v.a", "v.b"):
        as_of_an_earlier_version(own, ns)
    client = own.client()
    argv = client.enter("v", "a", ["ping", "-q", "-i", "0.005", "-w", "3", client.address(topology, "b")])
    ping = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    pids = _pids(own)
    asyncio.run(own.client().greeting())  # the agent of the new version starts
    eventually(lambda: own.is_as_asked("v"))
    out, _ = ping.communicate(timeout=30)
    assert " 0% packet loss" in out, out
    assert any(pids)
    assert _pids(own) == pids


def _pids(own: OwnPlace) -> list[list[int]]:
    return [cgroup.pids(group) for group in cgroup.of(own.place, "v.a").glob("cmd-*")]
