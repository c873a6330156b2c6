"""Every flow between a sliver and the world is written down, and who sent a packet is found again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from outside_world import BOTH, EVERYWHERE, NODE, NODE6, SERVER, SERVER6, World, world
from own_place import eventually, run

from vini.bus import AskFlows, Flow
from vini.node import netns
from vini.node.flows import ask, service
from vini.node.flows.book import Book, Keep, directory
from vini.node.flows.recorder import Recorder
from vini.node.outside import record

__all__ = ["world"]
pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside")]


def send(world: World, sliver: str, *ports: int, text: str = "x", to: str = SERVER) -> None:
    """A datagram from each of these ports of a sliver to the server."""
    for port in ports:
        with netns.inside(world.own.place.pin(f"v.{sliver}")):
            s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        with s:
            s.bind(("", port))
            s.sendto(text.encode(), (to, 53))


def asked(world: World, port: int, to: int = 53, at: float = 0.0) -> tuple[Flow, ...]:
    return ask.who(directory(world.own.place.state), AskFlows(NODE, port, SERVER, to, at)).flows


@pytest.fixture
def recorder(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """As a process of its own at home on the test host, with an empty book."""
    run("rm", "-rf", directory(world.own.place.state))
    world.up(EVERYWHERE)
    started = start(world)
    yield started
    started.kill()
    started.wait()


def start(world: World) -> subprocess.Popen[bytes]:
    argv = ["nsenter", f"--net={world.host}", "--", sys.executable, "-m", "vini.node.flows"]
    child = subprocess.Popen(argv, env={**os.environ, **world.own.environment})
    eventually(lambda: (world.own.place.run / "flows.running").read_text().startswith(f"{child.pid} "))
    eventually(lambda: "1" in world.on_host("cat", "/proc/sys/net/netfilter/nf_conntrack_acct"))
    return child


@pytest.mark.usefixtures("recorder")
def test_who_sent_a_packet_is_known_while_it_flows_and_what_it_was_afterwards(world):
    before = time.time()
    send(world, "a", 4001, text="from a")
    (flow,) = eventually(lambda: asked(world, 4001))
    assert (flow.slice, flow.sliver, flow.protocol) == ("v", "a", "udp")
    assert flow.source == f"{world.vif('a').address}:4001"
    assert (flow.seen_as, flow.destination) == (f"{NODE}:4001", f"{SERVER}:53")
    assert before - 1 < flow.start < time.time() + 1 and flow.stop == 0
    assert asked(world, 4001, at=time.time()) and not asked(world, 4001, at=before - 60)
    with world.listening(53, at=SERVER) as server:
        send(world, "b", 4002, text="1234567890")
        _, sender = server.recvfrom(100)
        server.sendto(b"12345", sender)
    eventually(lambda: asked(world, 4002))
    world.forget_flows()
    (flow,) = eventually(lambda: [f for f in asked(world, 4002) if f.end])
    assert (flow.sliver, flow.end, flow.out_packets, flow.out_bytes) == ("b", "ended", 1, 38)
    assert (flow.in_packets, flow.in_bytes) == (1, 33)
    assert 0 < flow.stop - flow.start < 30
    assert asked(world, 4003) == ()


@pytest.mark.needs("outside-ipv6")
@pytest.mark.usefixtures("recorder")
def test_flows_of_ipv6_are_written_down_as_those_of_ipv4_are(world):
    world.up(BOTH)
    own = world.addresses6("b")[0]
    with world.listening(53, at=SERVER6) as server:
        send(world, "b", 4040, text="1234567890", to=SERVER6)
        _, sender = server.recvfrom(100)
        server.sendto(b"12345", sender)
    where = directory(world.own.place.state)
    (flow,) = eventually(lambda: ask.who(where, AskFlows(NODE6, 4040, SERVER6, 53)).flows)
    assert (flow.slice, flow.sliver, flow.protocol, flow.stop) == ("v", "b", "udp", 0)
    assert (flow.source, flow.seen_as) == (f"[{own}]:4040", f"[{NODE6}]:4040")
    assert world.pings("b", SERVER6)
    (ping,) = eventually(lambda: ask.who(where, AskFlows(NODE6, -1, SERVER6, 128 << 8)).flows)
    assert (ping.protocol, ping.sliver) == ("icmpv6", "b")
    assert ask.who(where, AskFlows(own, int(ping.source.rpartition(":")[2]), SERVER6, -1)).flows == (ping,)
    world.forget_flows()
    (flow,) = eventually(lambda: [f for f in ask.who(where, AskFlows(own, 4040, SERVER6, 53)).flows if f.end])
    assert (flow.end, flow.out_packets, flow.out_bytes, flow.in_bytes) == ("ended", 1, 58, 53)
    world.up(EVERYWHERE)


@pytest.mark.usefixtures("recorder")
def test_two_slivers_with_one_port_are_told_apart_by_what_the_world_saw(world):
    send(world, "a", 4010)
    send(world, "b", 4010)
    (a,) = eventually(lambda: asked(world, 4010))
    where = directory(world.own.place.state)
    both = ask.who(where, AskFlows(NODE, -1, SERVER, 53)).flows
    assert len({f.seen_as for f in both}) == len(both) >= 2
    (b,) = [f for f in both if f.sliver == "b" and f.source.endswith(":4010")]
    assert asked(world, int(b.seen_as.rpartition(":")[2]))[0].sliver == "b" and a.sliver == "a"


def test_a_recorder_that_is_killed_loses_no_more_than_it_says(world, recorder):
    send(world, "a", 4020)
    eventually(lambda: asked(world, 4020))
    killed = time.time()
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()
    send(world, "a", 4021)  # goes on while nobody watches, and is there when somebody does again
    eventually(lambda: time.time() > killed + 3)
    again = start(world)
    try:
        assert [f.sliver for f in eventually(lambda: asked(world, 4021))] == ["a"]
        assert len(asked(world, 4020)) == 1  # not twice, though the kernel told of it again
        answer = eventually(lambda: ask.who(directory(world.own.place.state), AskFlows(NODE, 9, SERVER, 9)))
        ((start_, stop, why),) = answer.unwatched
        assert why == "the recorder did not run" and start_ <= killed + 0.5 and stop >= killed + 2.9
    finally:
        again.send_signal(signal.SIGTERM)
        assert again.wait(20) == 0


def test_it_ends_when_no_sliver_has_a_way_to_the_world(world, recorder):
    send(world, "a", 4030)
    eventually(lambda: asked(world, 4030))
    world.up(None)
    assert recorder.wait(20) == 0
    assert [f.end for f in asked(world, 4030)] == ["ended"]
    assert not service.needed(world.own.place) and record.slices(world.own.place) == []


def test_events_that_did_not_fit_are_a_loss_that_is_told_and_flows_that_last_are_found_all_the_same(world, tmp_path):
    world.up(EVERYWHERE)
    with netns.inside(world.host):
        book = Book(tmp_path, Keep(), time.time())
        recorder = Recorder(world.own.place, book)
        recorder._events.setsockopt(1, 33, 1)  # SO_RCVBUFFORCE: as little as there may be
        recorder._look()
    send(world, "a", *range(4100, 4140))
    with netns.inside(world.host):
        recorder.step(0.2)
        book.commit(time.time())
    found = ask.who(tmp_path, AskFlows(NODE, -1, SERVER, 53))
    ports = {int(f.seen_as.rpartition(":")[2]) for f in found.flows}
    assert set(range(4100, 4140)) <= ports
    assert any("more flows began" in why for *_, why in found.unwatched)
