"""What an agent tells of its machine's network interfaces, on the kernel itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import run

from vini.node import interfaces, netns
from vini.node.place import GROUP, OUTSIDE_GROUP
from vini.rules.interfaces import MOST_INTERFACES, NodeInterface

pytestmark = pytest.mark.root
NAME = "vini-own"


@pytest.fixture
def machine() -> Iterator[str]:
    """A network namespace of its own, with nothing but a loopback."""
    run("ip", "netns", "add", NAME)
    try:
        ip("link", "set", "lo", "up")
        yield NAME
    finally:
        run("ip", "netns", "delete", NAME)


def ip(*words: str) -> None:
    run("ip", "-n", NAME, *words)


def own() -> dict[str, NodeInterface]:
    with netns.inside(Path("/run/netns") / NAME):
        return {one.name: one for one in interfaces.own()}


@pytest.mark.usefixtures("machine")
def test_virtual_ones_are_told_where_the_machine_is_reached_by_them() -> None:
    assert own() == {}
    mac = "02:00:00:00:00:01"
    ip("link", "add", "eth0", "address", mac, "mtu", "1400", "type", "veth", "peer", "name", "far")
    ip("link", "set", "eth0", "up")
    ip("link", "set", "far", "up")  # both have link-local addresses now
    assert own() == {}
    for address in ("192.0.2.1/24", "2001:db8::1/64"):
        ip("address", "add", address, "dev", "eth0", "nodad")
    (told,) = own().values()
    assert (told.name, told.mac, told.mtu, told.speed_mbit) == ("eth0", mac, 1400, 10_000)
    assert {"192.0.2.1/24", "2001:db8::1/64"} <= set(told.addresses)
    ip("link", "add", "br0", "type", "bridge")
    assert set(own()) == {"eth0"}
    ip("address", "add", "198.51.100.1/24", "dev", "br0")
    assert own()["br0"].speed_mbit == 0, "the kernel does not know that of one that is down"
    ip("address", "add", "203.0.113.1/32", "dev", "lo")
    assert (own()["lo"].mac, own()["lo"].addresses) == ("", ("203.0.113.1/32",))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("group", [GROUP, OUTSIDE_GROUP])
def test_what_vini_made_is_not_the_machines_own(group: int) -> None:
    ip("link", "add", "x", "type", "bridge")
    ip("address", "add", "192.0.2.1/24", "dev", "x")
    assert set(own()) == {"x"}
    ip("link", "set", "x", "group", str(group))
    assert own() == {}


@pytest.mark.usefixtures("machine")
def test_of_many_no_more_are_told_than_a_central_keeps() -> None:
    for i in range(MOST_INTERFACES + 3):
        ip("link", "add", f"b{i:02}", "type", "bridge")
        ip("address", "add", f"10.0.{i}.1/24", "dev", f"b{i:02}")
    assert list(own()) == [f"b{i:02}" for i in range(MOST_INTERFACES)]


def test_hardware_comes_first_and_is_told_without_an_address() -> None:
    """On the machine that this runs on."""
    links = Path("/sys/class/net")
    hardware = {path.name for path in links.iterdir() if (path / "device").exists()}
    told = {one.name: one for one in interfaces.own()}
    assert hardware <= set(told)
    for name in hardware:
        assert told[name].mac == (links / name / "address").read_text().strip()
        assert told[name].mtu == int((links / name / "mtu").read_text())
