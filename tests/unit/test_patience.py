"""How long is waited for those who listen, by a clock and a table of sockets of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from vini.node import listeners
from vini.node.listeners import Patience, Unread


class World:
    """In every namespace there is one socket, in which as many bytes wait as `unread` says."""

    def __init__(self) -> None:
        self.now, self.pauses, self.looks, self.ns = 0.0, [], 0, ""
        self.unread: dict[str, int] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def table(self) -> Iterator[tuple[int, tuple[int, int]]]:
        self.looks += 1
        if size := self.unread.get(self.ns, 0):
            yield hash(self.ns), (size, 0)

    def waited(self, patience: Patience, ns: str) -> float:
        self.ns, began = ns, self.now
        patience.wait(ns)
        return self.now - began


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(listeners, "time", made)
    monkeypatch.setattr(listeners, "_unread", made.table)
    return made


def test_one_who_never_reads_takes_little_of_what_others_have(world: World) -> None:
    world.unread = {f"v.{i}": 100 for i in range(30)}
    patience = Patience({})
    took = [world.waited(patience, ns) for ns in world.unread]
    assert took[:9] == [pytest.approx(0.05)] * 9
    assert sum(took) == pytest.approx(0.5)
    assert world.pauses[:4] == [0.001, 0.002, 0.004, 0.008]
    looks = world.looks
    assert world.waited(patience, "v.30") == 0.0
    assert world.looks == looks, "when it is over nobody looks any more"


def test_only_what_is_spent_waiting_counts(world: World) -> None:
    patience = Patience({})
    world.now = 100.0
    world.unread = {"v.a": 100}
    assert world.waited(patience, "v.a") == pytest.approx(0.05)


def test_who_did_not_read_is_waited_for_again_when_it_has(world: World) -> None:
    deaf: dict[str, Unread] = {}
    for size, seconds in ((100, 0.05), (200, 0.0), (300, 0.0), (200, 0.05), (200, 0.05), (300, 0.0), (0, 0.0)):
        world.unread = {"v.a": size}
        assert world.waited(Patience(deaf), "v.a") == pytest.approx(seconds), size
    assert not deaf


def test_who_had_less_than_its_time_is_not_taken_for_deaf(world: World) -> None:
    deaf: dict[str, Unread] = {}
    world.unread = {f"v.{i}": 100 for i in range(30)}
    patience = Patience(deaf)
    for ns in world.unread:
        world.waited(patience, ns)
    assert 9 <= len(deaf) <= 10


def test_where_there_are_too_many_sockets_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as ear:
        ear.bind((0, 1))
        assert listeners._table().count("\n") > 1
        monkeypatch.setattr(listeners, "_TABLE", 150)
        assert listeners._table() == ""
