"""Echo requests as the kernel sends and answers them, with nobody at the other end but the kernel."""

from __future__ import annotations

import gc
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import eventually, run

from vini.model import Way
from vini.node import netns, rtt
from vini.node.arrivals import Arrivals, Heard
from vini.node.echo import IcmpEcho
from vini.node.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("ping")]

NAMES = ("vtpath1", "vtpath2")
V4: Way = ("192.0.2.1", "192.0.2.2")
V6: Way = ("2001:db8::1", "2001:db8::2")


@pytest.fixture
def echo() -> Iterator[IcmpEcho]:
    """At home on the first of two joined machines; on the second nothing runs at all."""
    one, two = NAMES
    for name in NAMES:
        run("ip", "netns", "add", name)
    try:
        run("ip", "-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two)
        for name, last in ((one, 1), (two, 2)):
            for command in (
                f"address add 192.0.2.{last}/24 dev eth0",
                f"address add 2001:db8::{last}/64 dev eth0 nodad",
                "link set eth0 up",
            ):
                run("ip", "-n", name, *command.split())
        with netns.inside(Path("/run/netns") / one):
            made = IcmpEcho()
            yield made
            made.close()
    finally:
        for name in NAMES:
            run("ip", "netns", "delete", name)


def answers(echo: IcmpEcho, *ways: Way) -> set[Way]:
    for way in ways:
        echo.send(way)
    return set(echo.receive())


def test_a_kernel_answers_for_its_machine_over_both_ip_versions(echo: IcmpEcho) -> None:
    for way in (V4, V6):
        eventually(lambda w=way: answers(echo, w) == {w})


def test_a_round_trip_is_measured_of_who_answers(echo: IcmpEcho) -> None:
    eventually(lambda: answers(echo, V4, V6) == {V4, V6})
    four = rtt.measure("192.0.2.1", {"there": "192.0.2.2", "nobody": "192.0.2.9", "far": "203.0.113.1"}, 0.3)
    six = rtt.measure("2001:db8::1", {"there": "2001:db8::2"})
    for found in (four["there"], six["there"]):
        assert found is not None and 0.0 < found < 1000.0
    assert four["nobody"] is None and four["far"] is None
    assert rtt.measure("192.0.2.77", {"there": "192.0.2.2"}) == {"there": None}, "not our address"


@pytest.mark.needs("netem")
def test_a_round_trip_takes_as_long_as_the_network_does(echo: IcmpEcho) -> None:
    """What a network takes at least is exact; what a busy machine adds is not bounded here."""
    eventually(lambda: answers(echo, V4) == {V4})
    run(*f"tc -n {NAMES[1]} qdisc add dev eth0 root netem delay 40ms".split())
    found = rtt.measure("192.0.2.1", {"there": "192.0.2.2"})["there"]
    assert found is not None and 40.0 <= found < 1000.0
    run(*f"tc -n {NAMES[1]} qdisc change dev eth0 root netem delay 400ms".split())
    assert rtt.measure("192.0.2.1", {"there": "192.0.2.2"}, 0.3) == {"there": None}, "no answer counts for another one"


def test_what_cannot_be_sent_has_no_answer(echo: IcmpEcho) -> None:
    nobodys = (("192.0.2.77", "192.0.2.2"), ("2001:db8::77", "2001:db8::2"), ("192.0.2.1", "203.0.113.1"))
    for _ in range(3):
        assert not answers(echo, *nobodys)
    run("ip", "-n", NAMES[0], "link", "set", "eth0", "down")
    assert not answers(echo, V4, V6)
    run("ip", "-n", NAMES[0], "link", "set", "eth0", "up")
    eventually(lambda: answers(echo, V4) == {V4})


def test_answers_to_others_are_not_ours(echo: IcmpEcho) -> None:
    eventually(lambda: answers(echo, V4) == {V4})
    list(echo.receive())
    for _, remote in (V4, V6):
        subprocess.run(
            ["nsenter", f"--net=/run/netns/{NAMES[0]}", "--", "ping", "-c3", "-i0.01", "-W2", remote],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    assert set(echo.receive()) == set()


def test_a_thousand_answers_at_once_are_all_heard(echo: IcmpEcho) -> None:
    eventually(lambda: answers(echo, V4) == {V4})
    list(echo.receive())
    for _ in range(1000):
        echo.send(V4)
    assert len(list(echo.receive())) == 1000


# --- what arrives besides answers --------------------------------------------------------------


def mirror_image(way: Way) -> Way:
    return way[1], way[0]


class Both:
    """Both nodes' watches, by a clock that goes on by what was meant to be slept: so a busy machine has more time."""

    def __init__(self, way: Way):
        self.now, self.way = 100.0, way
        self.paths = {name: self._made(Arrivals()) for name in NAMES}
        self.by_answers = self._made(None)  # at the first node: what it would say if it did not listen

    def _made(self, ears: Arrivals | None) -> Paths:
        return Paths(clock=lambda: self.now, seed=1, ears=ears or Deaf())

    def __enter__(self) -> Both:
        for at, name in enumerate(NAMES):
            self.paths[name].watch(frozenset({self.way if at == 0 else mirror_image(self.way)}))
        local = self.way[0].removesuffix("1") + "3"  # so that nothing it says is taken for what the listening one says
        size, more = ("128", ("nodad",)) if ":" in local else ("32", ())
        run("ip", "-n", NAMES[0], "address", "add", f"{local}/{size}", "dev", "eth0", *more)
        self.by_answers.watch(frozenset({(local, self.way[1])}))
        return self

    def __exit__(self, *_: object) -> None:
        for paths in (*self.paths.values(), self.by_answers):
            paths.watch(frozenset())

    def step(self) -> list[bool]:
        """Which of them are down, a moment later."""
        time.sleep(0.03)
        self.now += 0.03
        for name in NAMES:
            with netns.inside(Path("/run/netns") / name):
                self.paths[name].step()
        with netns.inside(Path("/run/netns") / NAMES[0]):
            self.by_answers.step()
        return [bool(paths.failed) for paths in self.paths.values()]

    def pass_(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> list[list[bool]]:
        """What `step` told, one after the other."""
        end = self.now + seconds
        out = []
        while self.now < end:
            meanwhile()
            out.append(self.step())
        return out


class Deaf:
    """Listens to nothing."""

    def listen(self, ways: Collection[Way]) -> None:
        """To nothing."""

    def heard(self) -> list[Heard]:
        return []

    def close(self) -> None:
        """There is nothing."""


class Flood:
    """The other node sends 500 packets at each step, and of all that comes from there 99 of 100 are lost."""

    def __init__(self, way: Way):
        with netns.inside(Path("/run/netns") / NAMES[1]):
            self._socket = socket.socket(socket.AF_INET6 if ":" in way[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._to = (way[0], 4789)

    def __enter__(self) -> Flood:
        known = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;"  # ARP is not filtered either
        loss = f"type filter hook prerouting priority -300; {known} numgen random mod 100 < 99 drop;"
        self._nft(f"table inet narrow {{ chain c {{ {loss} }}; }}")
        return self

    def __exit__(self, *_: object) -> None:
        self._nft("delete table inet narrow")
        self._socket.close()

    def _nft(self, command: str) -> None:
        run("nsenter", f"--net=/run/netns/{NAMES[0]}", "--", "nft", command)

    def send(self) -> None:
        """What a step's time takes; where there is no way it goes nowhere."""
        for _ in range(500):
            with suppress(OSError):
                self._socket.sendto(bytes(1000), self._to)


@pytest.mark.skipif(shutil.which("nft") is None, reason="drops packets with nft(8): apt install nftables")
@pytest.mark.parametrize("way", [V4, V6])
def test_a_flood_costs_answers_and_is_no_failure_and_a_cut_in_it_is(echo: IcmpEcho, way: Way) -> None:
    eventually(lambda: answers(echo, way) == {way})
    with Both(way) as both:
        assert not any(any(down) for down in both.pass_(2.0))
        with Flood(way) as flood:
            eventually(lambda: both.pass_(1.0, flood.send) and both.by_answers.failed)
            assert not any(any(down) for down in both.pass_(5.0, flood.send))
            run("ip", "-n", NAMES[1], "link", "set", "eth0", "down")
            seen = both.pass_(1.0, flood.send)
            assert seen[-1] == [True, True]
            print("down after", *(f"{0.03 * [s[n] for s in seen].index(True):.2f} s" for n in (0, 1)))


def test_what_arrives_of_that_node_is_heard_and_nothing_else(echo: IcmpEcho) -> None:
    """Of tunnels of each protocol, and what its agent says; no connections, and not what people send."""
    one, two = (Path("/run/netns") / name for name in NAMES)
    eventually(lambda: answers(echo, V4, V6) == {V4, V6})
    ears = Arrivals()

    def said(send: Callable[[], object]) -> set[Heard]:
        with netns.inside(two):
            send()
        return set(ears.heard())

    with netns.inside(one):
        ears.listen({V4, V6, ("192.0.2.1", "192.0.2.9"), ("192.0.2.77", "192.0.2.2")})
    for way in (V4, V6):
        there = IcmpEcho()
        for hears in (None, True, False):
            assert said(lambda w=way, h=hears, t=there: t.send(mirror_image(w), h)) == {Heard(way, hears)}
        there.close()
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_GRE):
            assert said(lambda w=way, p=protocol: raw(w[0], p)) == {Heard(way, None)}
        assert said(lambda w=way: raw(w[0], socket.IPPROTO_TCP)) == set()
        assert said(lambda w=way: run("ping", "-c1", "-W2", w[0])) == set()
    ears.close()
    assert said(lambda: raw(V4[0], socket.IPPROTO_UDP)) == set()


def test_however_many_paths_are_in_doubt_descriptors_stay_few(echo: IcmpEcho) -> None:
    eventually(lambda: answers(echo, V4) == {V4})
    ears, before = Arrivals(), descriptors()
    for first in (150, 100, 50):  # others come while those before are still in doubt
        ears.listen({("192.0.2.1", f"192.0.2.{last}") for last in range(first, 250)})
        assert descriptors() - before == 3 * 64
    ears.close()
    assert descriptors() == before


def descriptors() -> int:
    gc.collect()  # what other tests in this process left as garbage holds some, and would go when it likes
    return len(list(Path("/proc/self/fd").iterdir()))


def raw(to: str, protocol: int) -> None:
    """A packet of that protocol."""
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_RAW, protocol) as own:
        own.sendto(bytes(24), (to, 0))
