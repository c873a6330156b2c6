"""Echo requests as the kernel sends and answers them, with nobody at the other end but the kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import eventually, run

from vini.model import Way
from vini.node import netns, rtt
from vini.node.echo import IcmpEcho

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
