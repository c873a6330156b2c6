"""Storm control, frame by frame: what it lets pass, and what it counts."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from own_place import NETNS, run

from vini.node import libbpf, netns, storm

pytestmark = [pytest.mark.root, pytest.mark.needs("programs")]  # for libbpf, by which frames are tried

ANN, BEN, CAT = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
ALL, GROUP = b"\xff" * 6, bytes.fromhex("01005e000005")
BRIDGES = bytes.fromhex("0180c2000000")
PASSES, DROPPED = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT
FLOOD = 3000  # more than a bucket of 1 kpps holds, which is 100


class Switch:
    """A switch with the ports x and y, of which only storm control is there."""

    def __init__(self, storm_kpps: int):
        self.program = storm.load(storm_kpps)

    def __call__(self, port: str, destination: bytes, source: bytes, times: int = 1) -> int:
        """What becomes of the last of so many frames."""
        frame = destination + source + struct.pack("!H", 0x88B5) + bytes(46)
        context = struct.pack("=40xI148x", socket.if_nametoindex(port))  # struct __sk_buff with its ifindex
        return libbpf.test_run(self.program, frame, times, context).returned


@pytest.fixture
def switch() -> Iterator[Callable[[int], Switch]]:
    """Makes switches."""
    name = f"vts{os.getpid()}"
    run("ip", "netns", "add", name)
    made: list[Switch] = []

    def make(storm_kpps: int = 1) -> Switch:
        made.append(Switch(storm_kpps))
        return made[-1]

    try:
        run("ip", "-n", name, "link", "add", "x", "type", "veth", "peer", "name", "y")
        with netns.inside(NETNS / name):
            yield make
    finally:
        for one in made:
            os.close(one.program)
        run("ip", "netns", "del", name)


@pytest.fixture
def send(switch: Callable[[], Switch]) -> Switch:
    """`send(port, destination, source, times)` at a switch of 1 kpps."""
    return switch()


@pytest.mark.parametrize("destination", [ALL, GROUP, CAT], ids=["to all", "to a group", "to one that nobody heard"])
def test_what_a_loop_multiplies_is_held_to_the_rate(send, destination):
    assert send("x", destination, ANN) == PASSES
    assert send("x", destination, ANN, FLOOD) == DROPPED
    assert send("y", destination, BEN) == PASSES, "each port has a bucket of its own"


def test_frames_between_stations_that_were_heard_pass_at_any_rate(send):
    send("x", ALL, ANN)
    send("y", ALL, BEN)
    assert send("x", BEN, ANN, 100 * FLOOD) == PASSES
    assert send("y", ANN, BEN, 100 * FLOOD) == PASSES


def test_frames_between_bridges_always_pass_so_that_they_can_end_a_storm(send):
    assert send("x", ALL, ANN, FLOOD) == DROPPED
    assert send("x", BRIDGES, CAT, FLOOD) == PASSES
    assert send("x", BRIDGES[:5] + b"\x0e", CAT) == PASSES
    assert send("x", BRIDGES[:5] + b"\x14", CAT, FLOOD) == DROPPED, "IS-IS's groups are groups"


def test_a_station_that_another_port_heard_just_now_is_held_to_the_rate(send):
    """Its frames come round: to a station that is known, so that nothing else would stop them."""
    send("x", ALL, ANN)
    send("y", ALL, BEN)
    assert send("y", BEN, ANN, FLOOD) == DROPPED
    assert send("x", BEN, ANN) == PASSES, "where it is it may send"


def test_a_station_that_has_moved_may_send_at_any_rate_a_second_later(switch, monkeypatch):
    """The time is the kernel's; a switch for which a second is nothing stands for one that waited."""
    monkeypatch.setattr(storm, "_MOVE_NS", 0)
    send = switch()
    send("x", ALL, ANN)
    send("y", ALL, BEN)
    assert send("y", BEN, ANN, FLOOD) == PASSES


def test_another_rate_is_another_program(switch):
    assert switch(100)("x", ALL, ANN, FLOOD) == PASSES  # its bucket holds 10,000
    assert switch(1)("x", ALL, ANN, FLOOD) == DROPPED
