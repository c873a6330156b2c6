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

from vini.bus import ShareLoad
from vini.model import End, Link, Sliver, Topology, Traffic, Unsupported
from vini.node import netns
from vini.node.drivers.share import ShareDriver
from vini.node.shares import record, settings
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


@pytest.mark.parametrize("tunnel", ["vxlan", pytest.param("gretap", marks=pytest.mark.needs_kernel("gretap"))])
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


# --- bytes of a day -----------------------------------------------------------------------------------------


def load(pair: Pair, ns: str = A) -> ShareLoad:
    with netns.inside(pair.hosts["one"].path):
        return ShareDriver(pair.hosts["one"].own.place).loads()[ns]


def look(pair: Pair, day: int = 0) -> None:
    """One look and what follows from it, as of that day from today on, by an agent that was just started."""
    host = pair.hosts["one"]
    driver = ShareDriver(host.own.place, clock=lambda: time.time() + day * 86_400)
    with netns.inside(host.path):
        have = driver.observe({A, B})
        assert driver.ensure([o for o in host.want if o in {replace(h, whole=True) for h in have if not h.whole}]) == {}


def test_what_is_beyond_a_days_bytes_goes_at_their_average_rate_until_the_next_day(pair):
    """16 MB a day are 1481 bit/s; exact to the byte what the kernel counted, whoever looks."""
    pair.up(sharing(Traffic(min_mbit=10, daily_mb=16), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x") and pair.pings("b", "y"))
    before = load(pair)
    assert (before.slowed, before.daily, before.max_mbit) == (False, 16_000_000, 40.0)

    def sent_a_day() -> bool:
        goodput(pair, ("a", "x"))
        look(pair)
        return load(pair).slowed

    eventually(sent_a_day)
    slow = load(pair)
    assert slow.today >= 16_000_000
    assert slow.today == pytest.approx(slow.sent, rel=0.001)
    assert slow.max_mbit == pytest.approx(16e6 * 8 / 86_400 / 1e6, rel=0.01)
    assert slow.min_mbit <= slow.max_mbit
    with netns.inside(pair.hosts["one"].path):
        (said,) = ShareDriver(pair.hosts["one"].own.place).slowed().values()
    assert "16 MB" in said
    time.sleep(1.0)  # what TCP had under way has left
    quiet = load(pair).sent
    pair.enter("a", "ping", "-q", "-c", "200", "-i", "0.01", "-s", "1000", "-W1", pair.address("x"))  # 200 kB
    assert load(pair).sent < quiet + 20_000
    unspoilt(lambda: goodput(pair, ("b", "y")), lambda got: got["b"] > 28)
    pair.up(sharing(Traffic(), Traffic()), PLACED, generation=2)  # down with the cap, and back: no new bytes
    pair.up(sharing(Traffic(daily_mb=16), Traffic()), PLACED, generation=3)
    look(pair)
    assert load(pair).slowed
    look(pair, day=1)
    look(pair, day=1)
    with netns.inside(pair.hosts["one"].path):
        tomorrow = ShareDriver(pair.hosts["one"].own.place, clock=lambda: time.time() + 86_400).loads()[A]
    assert (tomorrow.slowed, tomorrow.max_mbit) == (False, 40.0)


@pytest.mark.parametrize("tunnel", ["vxlan", pytest.param("gretap", marks=pytest.mark.needs_kernel("gretap"))])
def test_what_a_sliver_forwards_for_another_counts_as_its_own(pair, tunnel):
    slivers = {"a": Sliver("a", routing=STATIC), "b": Sliver("b", routing=STATIC), "x": Sliver("x", routing=STATIC)}
    links = (Link((End("a"), End("x"))), Link((End("b"), End("a"))))
    pair.up(Topology("v", slivers, links, tunnel=tunnel), {"a": "one", "b": "one", "x": "two"})
    eventually(lambda: pair.pings("b", "x"))
    before = load(pair).today
    pair.enter("b", "ping", "-q", "-c", "100", "-i", "0.01", "-s", "1000", "-W1", pair.address("x"))
    assert 100_000 < load(pair).today - before < 130_000


def test_what_goes_to_an_exempt_network_has_a_rate_of_its_own_and_is_not_counted(pair):
    host = pair.hosts["one"]
    settings.write(host.own.place.state, UplinkSettings(40.0, (f"{pair.hosts['two'].node.address}",), 10.0))
    pair.up(sharing(Traffic(max_mbit=2, daily_mb=16), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x"))
    before = load(pair)
    unspoilt(lambda: goodput(pair, ("a", "x")), lambda got: 7 < got["a"] < 10.5)
    after = load(pair)
    assert after.exempt_today > before.exempt_today + 1_000_000
    assert after.today == before.today
    settings.write(host.own.place.state, UplinkSettings(40.0))  # and with the next look it counts
    look(pair)
    host.is_as_asked()
    unspoilt(lambda: goodput(pair, ("a", "x")), lambda got: 1.2 < got["a"] < 2.1)
    assert load(pair).today > before.today


# --- whatever happens ---------------------------------------------------------------------------------------


VANDALS = {
    "the tree": "tc qdisc delete dev $IFB root",
    "a class": "tc class change dev $IFB parent 5653:1 classid $CLASS htb rate 30mbit ceil 40mbit",
    "a queue": "tc qdisc delete dev $IFB parent $CLASS",
    "the ifb": "ip link delete $IFB",
    "its state": "ip link set $IFB down",
    "a filter": "tc filter delete dev eth0 egress prio 65280",
    "all hooks": "tc qdisc delete dev eth0 clsact",
}


@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)  # what is spoilt knows no version of the underlay
@pytest.mark.parametrize("what", VANDALS)
def test_what_a_hand_does_to_it_is_put_right_with_the_next_look(pair, what):
    pair.up(sharing(Traffic(max_mbit=5), Traffic()), PLACED)
    host = pair.hosts["one"]
    (ifb,) = (row.split(":")[1].strip() for row in host.inside("ip", "-o", "link", "show", "type", "ifb").splitlines())
    (own,) = (row for row in host.inside("tc", "class", "show", "dev", ifb).splitlines() if "ceil 5Mbit" in row)
    (tag,) = [word for word in own.split() if word.startswith("5653:") and word != "5653:1"]
    host.inside("sh", "-c", VANDALS[what].replace("$IFB", ifb).replace("$CLASS", tag))
    with netns.inside(host.path):
        (seen,) = ShareDriver(host.own.place).observe({A})
        assert not seen.whole
    pair.up(sharing(Traffic(max_mbit=5), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x"))
    unspoilt(lambda: goodput(pair, ("a", "x")), lambda got: 3.5 < got["a"] < 5.2)


def test_what_others_have_at_the_interface_stays(pair):
    host = pair.hosts["one"]
    host.inside("tc", "qdisc", "replace", "dev", "eth0", "root", "handle", "77:", "tbf", "rate", "20mbit",
                "burst", "100kb", "latency", "100ms")  # fmt: skip
    host.inside("tc", "qdisc", "add", "dev", "eth0", "clsact")
    host.inside("tc", "filter", "add", "dev", "eth0", "egress", "prio", "50", "bpf", "bytecode", "1,6 0 0 0,")
    pair.up(sharing(Traffic(max_mbit=30), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x"))
    unspoilt(lambda: goodput(pair, ("a", "x")), lambda got: 14 < got["a"] < 20.5)  # both bound it
    assert host.one_pass(None) == {}
    assert "tbf 77:" in host.inside("tc", "qdisc", "show", "dev", "eth0")
    assert "pref 50" in host.inside("tc", "filter", "show", "dev", "eth0", "egress")
    assert "65280" not in host.inside("tc", "filter", "show", "dev", "eth0", "egress")
    assert not host.inside("ip", "-o", "link", "show", "type", "ifb")


def test_a_change_loses_nothing_of_what_flows_and_a_sliver_that_goes_leaves_the_other_its_own(pair):
    pair.up(sharing(Traffic(max_mbit=5), Traffic(max_mbit=4)), PLACED)
    eventually(lambda: pair.pings("a", "x") and pair.pings("b", "y"))
    with connected(pair, "a", "x") as (sender, receiver):
        pair.up(sharing(Traffic(max_mbit=20), Traffic(max_mbit=4)), PLACED, generation=2)
        sender.sendall(bytes(100_000))
        got = 0
        while got < 100_000:
            part = receiver.recv(1 << 16)
            assert part, f"it ended after {got} bytes"
            got += len(part)
    slivers = {n: s for n, s in pair.topology.slivers.items() if n in "by"}
    pair.up(replace(pair.topology, slivers=slivers, links=pair.topology.links[1:]), PLACED, generation=3)
    assert set(record.held(pair.hosts["one"].own.place)) == {B}
    eventually(lambda: pair.pings("b", "y"))
    unspoilt(lambda: goodput(pair, ("b", "y")), lambda got: 2.8 < got["b"] < 4.2)


def test_root_in_the_sliver_changes_nothing_of_it(pair):
    pair.up(sharing(Traffic(max_mbit=5), Traffic()), PLACED)
    eventually(lambda: pair.pings("a", "x"))
    pair.enter("a", "tc", "qdisc", "replace", "dev", "to-x", "root", "pfifo", "limit", "10000")
    pair.enter("a", "tc", "qdisc", "add", "dev", "to-x", "clsact")
    unspoilt(lambda: goodput(pair, *[("a", "x")] * 3), lambda got: 3.0 < got["a"] < 5.2)


@pytest.mark.parametrize("tunnel", ["vxlan-xdp", "wireguard"])
def test_a_tunnel_that_the_node_can_not_count_is_refused_by_what_would_do(pair, tunnel):
    """The hosts here have no feature `shares-wireguard`: test_shares_wireguard.py has such that do."""
    with pytest.raises(Unsupported, match="tunnel: vxlan"):
        pair.up(sharing(Traffic(max_mbit=5), Traffic(), tunnel), PLACED)
