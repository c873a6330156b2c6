"""What slivers may send over encrypted tunnels: two test hosts, and slivers on one that share its uplink."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import ENOMEM

import pytest
from killed import Crash, dying_after
from msgspec.structs import replace
from own_place import eventually
from two_hosts import STATIC, Host, Pair, pair_over, tcp

from vini.bus import ShareLoad
from vini.model import WIREGUARD, End, Impairment, Link, Shape, Share, Sliver, Topology, Traffic, Vxlan, Wireguard
from vini.node import netns
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.wireguard import WireguardDriver
from vini.node.shares import detour, settings
from vini.node.shares.settings import UplinkSettings

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping"), pytest.mark.needs_kernel("wireguard")]

PLACED = {"a": "one", "b": "one", "x": "two", "y": "two"}
A, WAY = "v.a", "v._wireguard"
PADDED = 15  # bytes at most that WireGuard fills a packet up with, which are not counted
BESIDES = 4000  # bytes of handshakes and ARP
LITTLE = 16_000  # bytes that a class may send at once


def sharing(a: Traffic, b: Traffic, **of_links: object) -> Topology:
    """a -- x and b -- y, both from host to host."""
    own = {"a": a, "b": b}
    slivers = {n: Sliver(n, routing=STATIC, network=own.get(n, Traffic())) for n in PLACED}
    links = tuple(Link(ends, **of_links) for ends in ((End("a"), End("x")), (End("b"), End("y"))))
    return Topology("v", slivers, links, tunnel="wireguard")


def able(pair: Pair, said: UplinkSettings) -> None:
    """Both hosts keep shares, and their operators have said that."""
    for host in pair.hosts.values():
        more = host.node.capabilities | {"shares", "shares-wireguard"}
        host.node = replace(host.node, capabilities=more, rate_mbit=said.rate_mbit)
        settings.write(host.own.place.state, said)


@pytest.fixture(params=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_over(request.param, tmp_path_factory) as made:
        able(made, UplinkSettings(8.0))
        yield made


def up(pair: Pair, a: Traffic, b: Traffic, generation: int = 1, **of_links: object) -> None:
    pair.up(sharing(a, b, **of_links), PLACED, generation)
    eventually(lambda: pair.pings("a", "x") and pair.pings("b", "y"))


def load(pair: Pair, ns: str = A) -> ShareLoad:
    with netns.inside(pair.hosts["one"].path):
        return ShareDriver(pair.hosts["one"].own.place).loads()[ns]


def is_whole(pair: Pair) -> bool:
    host = pair.hosts["one"]
    with netns.inside(host.path):
        return all(isinstance(o, Share) and o.whole for o in ShareDriver(host.own.place).observe({A, "v.b"}))


def sent(pair: Pair) -> tuple[int, int]:
    """Bytes and packets that host one has sent to the other."""
    row = next(
        r for r in pair.hosts["one"].inside("cat", "/proc/net/dev").splitlines() if r.strip().startswith("eth0:")
    )
    sent_bytes, packets = row.partition(":")[2].split()[8:10]
    return int(sent_bytes), int(packets)


def bound(seconds: float) -> float:
    """Bytes that may be on the wire of a sliver that may send 0.2 Mbit/s."""
    return 25_000 * seconds + LITTLE + BESIDES


def beside(host: Host, *argv: str) -> str:
    """A command in the namespace of the slice's WireGuard."""
    with netns.inside(host.path):
        return host.inside(*argv, ns=WAY)


def many(pair: Pair, source: str, to: str, count: int, size: int) -> None:
    own = ("-I", pair.address(source))
    pair.enter(source, "ping", "-q", "-c", str(count), "-i", "0.02", "-s", str(size), "-W1", *own, pair.address(to))


def flooded(pair: Pair, source: str, to: str, size: int, seconds: float = 2.0) -> tuple[float, int]:
    """For how long a sliver sent some thousand UDP packets a second, and the bytes that left its host meanwhile."""
    with netns.inside(pair.of(source)[1]):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.bind((pair.address(source), 0))
        before, began = sent(pair)[0], time.monotonic()
        while time.monotonic() < began + seconds:
            for _ in range(16):
                with suppress(OSError):  # no room in its queue at the moment
                    s.sendto(bytes(size), (pair.address(to), 9))
            time.sleep(0.01)  # who encrypts needs the processor, too
        left = sent(pair)[0] - before
        return time.monotonic() - began, left


def rests(pair: Pair) -> bool:
    """Whether nothing of the first sliver's waits in its queue."""
    was = load(pair).today
    time.sleep(1.0)
    return load(pair).today == was


def test_what_leaves_encrypted_is_counted_as_it_is_on_the_wire_and_bounded_by_that(pair: Pair) -> None:
    up(pair, Traffic(max_mbit=0.2, daily_mb=500), Traffic())
    assert is_whole(pair)
    before, wire = load(pair).today, sent(pair)[0]
    many(pair, "a", "x", 40, 1000)
    counted, wire = load(pair).today - before, sent(pair)[0] - wire
    assert counted >= 40 * (1000 + 28 + 14)
    assert counted <= wire < counted + 40 * PADDED + BESIDES
    began, before, wire, packets = time.monotonic(), load(pair).today, *sent(pair)
    assert tcp(pair, "a", "x", 1 << 17) == 1 << 17, "also in large segments"
    took, counted = time.monotonic() - began, load(pair).today - before
    wire, packets = (now - then for now, then in zip(sent(pair), (wire, packets), strict=True))
    assert (1 << 17) < counted <= wire < counted + packets * PADDED + BESIDES
    assert wire < 1.1 * bound(took)
    for size in (18, 1200):
        took, left = flooded(pair, "a", "x", size)
        assert 5000 < left < 1.1 * bound(took), f"in packets of {size} bytes"
    eventually(lambda: rests(pair))
    before = load(pair).today
    many(pair, "b", "y", 20, 1000)
    assert load(pair).today == before, "b's are not a's"
    assert load(pair, "v.b").today >= 20 * 1000
    pair.enter("a", "ip", "link", "set", "to-x", "mtu", "3000")  # so its tunnel's packets are in fragments
    before, wire, packets = load(pair).today, *sent(pair)
    many(pair, "a", "x", 10, 2500)
    eventually(lambda: rests(pair))
    counted, wire, packets = load(pair).today - before, sent(pair)[0] - wire, sent(pair)[1] - packets
    assert packets >= 20
    assert 25_000 < counted <= wire < counted + packets * PADDED + BESIDES


@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
def test_a_number_that_is_none_of_the_slices_tunnels_leads_past_no_share(pair: Pair) -> None:
    """Root in a sliver may choose one, packet by packet."""

    def astray() -> int:
        """Packets on the wire of twenty that bear such a number."""
        remote = next(o.remote for o in pair.hosts["one"].tunnels() if isinstance(o, Vxlan) and o.ns == A)
        mac = "02:00:00:00:00:99"
        pair.enter("a", "bridge", "fdb", "replace", mac, "dev", "to-x", "dst", remote, "vni", "4242")
        pair.enter("a", "ip", "neighbour", "replace", "9.9.9.9", "lladdr", mac, "dev", "to-x", "nud", "permanent")
        pair.enter("a", "ip", "route", "replace", "9.9.9.9", "dev", "to-x")
        before = sent(pair)[1]
        pair.enter("a", "ping", "-q", "-c", "20", "-i", "0.02", "-W1", "9.9.9.9")
        return sent(pair)[1] - before

    able(pair, UplinkSettings())
    up(pair, Traffic(), Traffic())
    assert astray() >= 20, "without shares they leave, and come out of nothing"
    up(pair, Traffic(), Traffic(max_mbit=1), generation=2)  # b's wish gives a one, too
    assert astray() < 10
    assert load(pair).max_mbit > 1000


@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
def test_what_goes_to_an_exempt_node_is_not_counted(pair: Pair) -> None:
    able(pair, UplinkSettings(8.0, (pair.hosts["two"].node.address,), 4.0))
    up(pair, Traffic(max_mbit=1, daily_mb=500), Traffic())
    before = load(pair)
    many(pair, "a", "x", 20, 1000)
    after = load(pair)
    assert after.exempt_today - before.exempt_today >= 20_000
    assert after.today == before.today


VANDALS: dict[str, Callable[[Host, str], str]] = {
    "the pair": lambda host, outer: host.inside("ip", "link", "delete", outer),
    "the name of its end here": lambda host, outer: host.inside(
        "sh", "-c", f"ip link set {outer} down; ip link set {outer} name elsewhere"
    ),
    "its end beside the WireGuard": lambda host, _: beside(host, "ip", "link", "set", detour.INNER, "down"),
    "its end here": lambda host, outer: host.inside("ip", "link", "set", outer, "down"),
    "what leads there": lambda host, _: beside(host, "tc", "qdisc", "delete", "dev", WIREGUARD, "clsact"),
    "what leads back": lambda host, _: beside(host, "tc", "qdisc", "delete", "dev", detour.INNER, "clsact"),
    "what chooses": lambda host, outer: host.inside("tc", "qdisc", "delete", "dev", outer, "clsact"),
    "what drops": lambda host, outer: host.inside("tc", "filter", "delete", "dev", outer, "egress", "prio", "65281"),
    "that it is split": lambda host, _: beside(host, "ip", "link", "set", detour.INNER, "gso_max_segs", "64"),
    "the WireGuard": lambda host, _: beside(host, "ip", "link", "delete", WIREGUARD),
}


@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
def test_what_a_hand_does_to_its_detour_is_put_right_and_nothing_stays_of_it(pair: Pair) -> None:
    wish, host = Traffic(max_mbit=1), pair.hosts["one"]
    up(pair, wish, Traffic())
    outer = detour.outer_name(host.own.place.mark, WAY)
    for what, does in VANDALS.items():
        does(host, outer)
        assert what == "the WireGuard" or not is_whole(pair), what
        up(pair, wish, Traffic())
        assert is_whole(pair), what
    assert "elsewhere" not in host.inside("ip", "link")
    for step in range(40):  # the n-th thing that an agent tells the kernel is its last
        host.inside("ip", "link", "delete", outer)
        over = False
        with netns.inside(host.path), dying_after(step), suppress(Crash):
            ShareDriver(host.own.place).learn()
            over = True
        with netns.inside(host.path):
            ShareDriver(host.own.place).learn()
        assert is_whole(pair), step
        if over:
            break
    assert over and step > 5, "it comes to an end"
    eventually(lambda: pair.pings("a", "x"))
    _, left = flooded(pair, "a", "x", 1200)
    assert left < 125_000 * 4
    able(pair, UplinkSettings())
    ends: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: VANDALS["the pair"](host, outer),
        lambda: VANDALS["the name of its end here"](host, outer),
    )
    for i, spoil in enumerate(ends):
        spoil()
        up(pair, Traffic(), Traffic(), generation=2 + 2 * i)
        assert detour.INNER not in beside(host, "ip", "link")
        assert "clsact" not in beside(host, "tc", "qdisc", "show", "dev", WIREGUARD)
        links = host.inside("ip", "link")
        assert outer not in links and "elsewhere" not in links
        up(pair, wish, Traffic(), generation=3 + 2 * i)
        assert is_whole(pair)


@pytest.mark.needs_kernel("netem")
@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
def test_links_that_are_shaped_lead_by_it_too(pair: Pair) -> None:
    for host in pair.hosts.values():
        host.node = replace(host.node, capabilities=host.node.capabilities - {"element"} | {"netem"})
    up(pair, Traffic(max_mbit=8), Traffic(), impairment=Impairment(delay_ms=5.0))
    assert is_whole(pair)
    assert any(isinstance(o, Shape) and o.ns == A for o in pair.hosts["one"].want)
    before = load(pair).today
    many(pair, "a", "x", 20, 1000)
    assert load(pair).today - before >= 20_000


@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
def test_nothing_is_encrypted_before_it_is_known_what_each_may_send(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(pair, Traffic(max_mbit=1), Traffic())
    host = pair.hosts["one"]
    beside(host, "ip", "link", "delete", WIREGUARD)
    own = next(o for o in host.want if isinstance(o, Wireguard))

    def refused(*_: object) -> None:
        raise OSError(ENOMEM, "no")

    with netns.inside(host.path):
        driver = WireguardDriver(host.own.place)
        for of, what in ((ShareDriver, "learn"), (detour.Detours, "make")):
            with monkeypatch.context() as patch:
                patch.setattr(of, what, refused)
                for _ in range(2):
                    assert driver.ensure([own]).keys() == {own.key}
                    assert "UP" not in beside(host, "ip", "link", "show", "dev", WIREGUARD).partition(">")[0]
        assert driver.ensure([own]) == {}
    assert is_whole(pair)
    eventually(lambda: pair.pings("a", "x"))
