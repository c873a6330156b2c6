"""What slivers may send to the world: a test host, a world behind it, and two slivers with a way there."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace
from outside_world import CAPABLE, SERVER, SERVER6, World, a_world
from own_place import eventually, unspoilt

from vini.bus import AskUsage
from vini.model import OutsideGrant, Sliver, Topology, Traffic
from vini.node import netns
from vini.node.drivers.share import ShareDriver
from vini.node.shares import settings
from vini.node.shares.settings import UplinkSettings
from vini.node.usage.meter import HERE, Meter, Metered
from vini.usage import Use

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside", "shares", "ping")]
WIDE = OutsideGrant(("0.0.0.0/0",), rate_kbit=500_000, packets_per_s=100_000, new_flows_per_s=100_000, daily_mb=0)
PORT = 5001


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as made:
        made.node = replace(made.node, capabilities=CAPABLE | {"shares"}, rate_mbit=20.0)
        settings.write(made.own.place.state, UplinkSettings(20.0))
        yield made
    assert made.own.leftovers() == []


def attached(a: Traffic, b: Traffic) -> Topology:
    return Topology("v", {n: Sliver(n, outside=True, network=t) for n, t in (("a", a), ("b", b))})


def arrives(world: World, *senders: str, seconds: float = 2.0, to: str = SERVER) -> dict[str, float]:
    """Mbit/s that arrive in the world of what slivers send there, each some 30 Mbit/s in UDP packets of 1200 bytes."""
    over = threading.Event()
    got = dict.fromkeys(senders, 0)

    def send(sliver: str) -> None:
        with netns.inside(world.own.place.pin(f"v.{sliver}")):
            s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        with s:
            while not over.is_set():
                for _ in range(16):
                    with suppress(OSError):  # no room in its queue at the moment
                        s.sendto(sliver.encode() * 1200, (to, PORT))
                time.sleep(0.005)

    threads = [threading.Thread(target=send, args=(sliver,)) for sliver in senders]
    with world.listening(PORT, at=to) as there:
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        there.setblocking(False)
        with suppress(BlockingIOError):  # what came before is not counted
            while there.recv(2000):
                pass
        there.settimeout(0.2)
        end = (began := time.monotonic()) + seconds
        while time.monotonic() < end:
            with suppress(TimeoutError):
                packet = there.recv(2000)
                got[packet[:1].decode()] += len(packet)
        took = time.monotonic() - began
        over.set()
        for thread in threads:
            thread.join()
    return {sliver: n * 8e-6 / took for sliver, n in got.items()}


@pytest.mark.parametrize(
    ("grant", "server"),
    [
        (WIDE, SERVER),
        pytest.param(replace(WIDE, to=("::/0",)), SERVER6, marks=pytest.mark.needs("outside-ipv6")),
    ],
    ids=["IPv4", "IPv6"],
)
def test_what_leaves_by_the_way_to_the_world_has_the_same_bounds(world, grant, server):
    world.up(grant, attached(Traffic(max_mbit=3), Traffic()))
    eventually(lambda: world.pings("a", server) and world.pings("b", server))
    unspoilt(lambda: arrives(world, "a", to=server), lambda got: 2.2 < got["a"] < 3.2)
    with netns.inside(world.host):
        assert ShareDriver(world.own.place).loads()["v.a"].today > 500_000


def test_its_own_rate_is_there_though_another_sends_more_than_the_uplink_carries(world):
    world.up(WIDE, attached(Traffic(min_mbit=15), Traffic()))
    eventually(lambda: world.pings("a", SERVER) and world.pings("b", SERVER))
    unspoilt(lambda: arrives(world, "a", "b"), lambda got: got["a"] > 12 and 2 < got["b"] < 7)


def test_a_way_to_the_world_that_was_deleted_is_bounded_from_its_first_packet_when_it_is_made_again(world):
    """The pair has another number then, by which its packets are known."""
    world.up(WIDE, attached(Traffic(max_mbit=3), Traffic()))
    world.inside("a", "ip", "link", "delete", "outside")
    driver = ShareDriver(world.own.place)
    world.up(WIDE, attached(Traffic(max_mbit=3), Traffic()))
    eventually(lambda: world.pings("a", SERVER))
    with netns.inside(world.host):
        assert all(o.whole for o in driver.observe({"v.a", "v.b"}))
    unspoilt(lambda: arrives(world, "a"), lambda got: 2.2 < got["a"] < 3.2)


def test_a_way_to_the_world_of_a_sliver_without_a_share_comes_and_goes_and_no_share_is_broken(world):
    """What the filters know has another name with each way: they are told before the next look finds an old one."""
    world.node = replace(world.node, rate_mbit=0.0)
    world.up(WIDE, Topology("v", {"a": Sliver("a", outside=True, network=Traffic(max_mbit=3))}))
    world.up(WIDE, Topology("w", {"c": Sliver("c", outside=True)}))
    world.up(None, Topology("w"))


def test_what_a_sliver_used_of_the_world_is_counted_once_and_by_its_class(world):
    """Also over a way that was made again, whose counters begin at 0."""
    meter, slivers = Meter(world.own.place), {f"v.{name}": Metered(HERE) for name in "ab"}
    settings.write(world.own.place.state, UplinkSettings(20.0, (f"{SERVER}/32",)))
    meter.look({})
    world.up(WIDE, attached(Traffic(), Traffic()))
    eventually(lambda: world.pings("a", SERVER))
    used = [looked(world, meter, slivers)]
    for again in (False, False, True):
        if again:
            world.inside("a", "ip", "link", "delete", "outside")
            world.up(WIDE, attached(Traffic(), Traffic()))
            eventually(lambda: world.pings("a", SERVER))
        world.inside("a", "ping", "-q", "-c", "100", "-i", "0.002", "-s", "1000", SERVER)
        used.append(looked(world, meter, slivers))
    for before, now in itertools.pairwise(used):
        for gained in (
            now["a"].outside_out - before["a"].outside_out,
            now["a"].outside_in - before["a"].outside_in,
            now["a"].exempt_out - before["a"].exempt_out,
        ):
            assert 100 * 1042 <= gained < 110 * 1042 + 20_000
    assert used[-1]["b"].exempt_out == 0 and used[-1]["b"].outside_out < 20_000


def looked(world: World, meter: Meter, slivers: dict[str, Metered]) -> dict[str, Use]:
    with netns.inside(world.host):
        ShareDriver(world.own.place).observe(set(slivers))  # as an agent does once a second
        meter.look(slivers)
    (row,) = meter.told(AskUsage(), None).rows
    return row.slivers
