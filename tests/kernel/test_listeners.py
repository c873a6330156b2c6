"""A new vif gets no address before those who listen know of it; who never listens holds up nobody."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from own_place import OwnPlace, eventually, run
from strategies import spec_of

from vini.model import End, Link, Sliver, Topology
from vini.node import listeners, netns
from vini.node.machine import Machine
from vini.plan import plan

pytestmark = pytest.mark.root

PAIR = spec_of(Topology("v", {n: Sliver(n) for n in "ab"}, (Link((End("a"), End("b"))),))).objects
ROUTE, LINKS, ADDRESSES = 0, 0x1, 0x10  # NETLINK_ROUTE, RTMGRP_LINK, RTMGRP_IPV4_IFADDR


@contextmanager
def up(own: OwnPlace) -> Iterator[Machine]:
    machine = own.machine()
    assert machine.apply(plan(PAIR, frozenset())) == {}
    try:
        yield machine
    finally:
        assert machine.apply(plan(frozenset(), own.observe())) == {}


@contextmanager
def listening(own: OwnPlace, groups: int = LINKS) -> Iterator[socket.socket]:
    """In sliver a."""
    with netns.inside(own.place.pin("v.a")):
        ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, ROUTE)
        ear.bind((0, groups))
    with ear:
        yield ear


def read(ear: socket.socket) -> bool:
    """All that it was told; whether that was anything."""
    found = False
    try:
        while ear.recv(1 << 16):
            found = True
    except BlockingIOError:
        return found
    return found


def ip(own: OwnPlace, *words: str) -> str:
    return run("nsenter", f"--net={own.place.netns('v.a')}", "--", "ip", *words)


def lost_and_made_again(own: OwnPlace, machine: Machine) -> dict:
    ip(own, "link", "delete", "to-b")
    return machine.apply(plan(PAIR, own.observe()))


def patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for name in ("_OF_ALL_S", "_OF_EACH_S"):
        monkeypatch.setattr(listeners, name, seconds)


def test_a_new_vif_has_no_address_until_those_who_listen_know_of_it(
    own: OwnPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 60.0)
    with up(own) as machine, ThreadPoolExecutor() as elsewhere:
        ip(own, "link", "delete", "to-b")
        with listening(own) as ear:
            made = elsewhere.submit(machine.apply, plan(PAIR, own.observe()))
            eventually(lambda: "to-b" in ip(own, "-o", "link"))
            for _ in range(10):
                assert "to-b" not in ip(own, "-o", "address")
            while not made.done():
                read(ear)
        assert made.result() == {}
        eventually(lambda: own.observe() == PAIR)


def test_who_never_reads_holds_up_nobody(own: OwnPlace) -> None:
    with up(own) as machine, listening(own) as ear:
        assert lost_and_made_again(own, machine) == {}
        eventually(lambda: own.observe() == PAIR)
        assert read(ear)


def test_who_listens_to_something_else_is_not_waited_for(own: OwnPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, 1000.0)  # longer than a test may take
    with up(own) as machine, listening(own, ADDRESSES) as ear:
        assert lost_and_made_again(own, machine) == {}
        eventually(lambda: own.observe() == PAIR)
        assert read(ear)


def test_nobody_is_waited_for_where_no_vif_is_new(own: OwnPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, 1000.0)
    with up(own) as machine, listening(own) as ear:
        ip(own, "link", "set", "to-b", "down")
        assert machine.apply(plan(PAIR, own.observe())) == {}
        eventually(lambda: own.observe() == PAIR)
        assert read(ear)


def test_who_never_reads_is_waited_for_once_and_anew_after_it_has_read(
    own: OwnPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(listeners, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    with up(own) as machine, listening(own) as ear:

        def waits() -> bool:
            pauses.clear()
            assert lost_and_made_again(own, machine) == {}
            return bool(pauses)

        assert waits()
        assert not waits()
        assert not waits()
        read(ear)
        assert waits()
        machine.observe(own.namespaces())
        assert not waits(), "a look in between changes nothing"
        read(ear)
        machine.observe(own.namespaces())
        for _ in range(3):  # more than it had to read before
            ip(own, "link", "set", "lo", "down")
            ip(own, "link", "set", "lo", "up")
        assert waits()
