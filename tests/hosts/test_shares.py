"""What slivers may send from node to node: two test hosts, and slivers on one that share its uplink."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from msgspec.structs import replace
from own_place import eventually, unspoilt
from two_hosts import STATIC, Pair, connected, pair_over

from vini.model import End, Link, Sliver, Topology, Traffic
from vini.node.shares import settings
from vini.node.shares.settings import UplinkSettings

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "shares")]
PLACED = {"a": "one", "b": "one", "x": "two", "y": "two"}
A, B = "v.a", "v.b"


def sharing(a: Traffic, b: Traffic, tunnel: str = "") -> Topology:
    """a -- x and b -- y, both from host to host."""
    own = {"a": a, "b": b}
    slivers = {n: Sliver(n, routing=STATIC, network=own.get(n, Traffic())) for n in PLACED}
    return Topology("v", slivers, (Link((End("a"), End("x"))), Link((End("b"), End("y")))), tunnel=tunnel)


@pytest.fixture(params=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_over(request.param, tmp_path_factory) as made:
        for host in made.hosts.values():
            host.node = replace(host.node, capabilities=host.node.capabilities | {"shares"}, rate_mbit=40.0)
            settings.write(host.own.place.state, UplinkSettings(40.0))
        yield made


def goodput(pair: Pair, *flows: tuple[str, str], seconds: float = 2.0) -> dict[str, float]:
    """Mbit/s that arrived of what each sender sent by TCP, all at once; the first half second is not counted."""
    got: dict[str, int] = dict.fromkeys((source for source, _ in flows), 0)
    over, counting = threading.Event(), threading.Event()
    family = 4

    def send(sender: socket.socket) -> None:
        with suppress(OSError):  # its own end is shut
            while not over.is_set():
                sender.sendall(bytes(1 << 14))

    def receive(source: str, receiver: socket.socket) -> None:
        with suppress(OSError):
            while n := len(receiver.recv(1 << 16)):
                if counting.is_set():
                    got[source] += n

    with ExitStack() as stack:
        ends = [(source, *stack.enter_context(connected(pair, source, to, family))) for source, to in flows]
        threads = [threading.Thread(target=send, args=(s,)) for _, s, _ in ends]
        threads += [threading.Thread(target=receive, args=(source, r)) for source, _, r in ends]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        counting.set()
        began = time.monotonic()
        time.sleep(seconds)
        counting.clear()
        took = time.monotonic() - began
        over.set()
        for _, *both in ends:
            for s in both:
                with suppress(OSError):  # and what is not sent yet keeps no namespace alive
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
    return {source: n * 8e-6 / took for source, n in got.items()}


@pytest.mark.parametrize("tunnel", ["vxlan", pytest.param("gretap", marks=pytest.mark.needs("gretap"))])
def test_a_sliver_sends_no_more_than_its_most(pair, tunnel):
    pair.up(sharing(Traffic(max_mbit=5), Traffic(), tunnel), PLACED)
    eventually(lambda: pair.pings("a", "x"))
    unspoilt(lambda: goodput(pair, ("a", "x")), lambda got: 3.5 < got["a"] < 5.2)


def test_what_is_a_slivers_own_it_gets_though_another_sends_all_that_it_can(pair):
    """40 Mbit/s for both; a has 30 of its own, and b, with four times the connections, all that it can get."""
    pair.up(sharing(Traffic(min_mbit=30), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x") and pair.pings("b", "y"))
    flows = (("a", "x"), *[("b", "y")] * 4)
    unspoilt(lambda: goodput(pair, *flows), lambda got: got["a"] > 24 and 3 < got["b"] < 13)


def test_what_nobody_has_of_its_own_is_shared_by_weight_and_what_one_leaves_is_the_others(pair):
    pair.up(sharing(Traffic(weight=300), Traffic(weight=100)), PLACED)
    eventually(lambda: pair.pings("a", "x") and pair.pings("b", "y"))
    flows = [("a", "x")] * 2 + [("b", "y")] * 2
    unspoilt(lambda: goodput(pair, *flows), lambda got: 2.0 < got["a"] / got["b"] < 4.0)
    unspoilt(lambda: goodput(pair, ("b", "y")), lambda got: got["b"] > 28)
