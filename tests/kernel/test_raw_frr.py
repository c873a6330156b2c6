"""Mistakes in a user's own FRR configuration: the sliver is not ready, and FRR's words are shown; nothing half-made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run

from vini.model import Topology, ViniError
from vini.plugins import frr
from vini.topology import parse

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path(frr.BIN, "zebra").exists(), reason="needs the package frr"),
]
# As `show running-config` prints it: with `exit` behind each block, in an order of FRR's own.
GOOD = """\
frr version 8.4.4
service integrated-vtysh-config
!
interface to-b
 ip ospf area 0
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 4
exit
!
router bgp 65001
 neighbor 172.16.9.1 remote-as 65002
exit
!
route-map X permit 10
 set metric 3
exit
!
router ospf
 ospf router-id 172.16.0.1
exit
!
interface lo
 ip ospf area 0
exit
!
line vty
!
end
"""
SYNTAX = GOOD.replace("ip ospf network", "ip ospf netwrk").replace("ospf router-id", "ospf router-ip")
MEANING = GOOD.replace("remote-as 65002", "activate")
LINES = {
    SYNTAX: ("line 6: % Unknown command[17]:  ip ospf netwrk", "line 20: % Unknown command[41]:  ospf router-ip"),
    MEANING: ("Specify remote-as", "config line 12:  neighbor 172.16.9.1 activate"),
}


def network(conf: str) -> Topology:
    text = "\n".join(f"            {line}" for line in conf.splitlines())
    return parse(
        f"name: mine\nrouting: ospf\nlinks: [a -- b]\nslivers:\n  a:\n    routing:\n      raw:\n        frr.conf: |\n"
        f"{text}\n  b:\n"
    )


def up(own: OwnPlace, conf: str) -> str:
    """What the user is told; "" where all is well."""
    try:
        asyncio.run(own.client().up(network(conf), timeout_s=60))
    except ViniError as e:
        return str(e)
    return ""


def ospf(own: OwnPlace) -> str:
    client = own.client()
    words = [w.replace("{run}", str(own.place.sockets("mine.a"))) for w in frr.VTYSH]
    return run(*client.enter("mine", "a", [*words, "-d", "ospfd", "-c", "show ip ospf neighbor"]), check=False)


@pytest.mark.parametrize("bad", LINES)
def test_mistakes_in_an_integrated_file_are_shown(own: OwnPlace, bad: str) -> None:
    said = up(own, bad)
    assert "ended soon after its start" in said
    for words in LINES[bad]:
        assert words in said
    assert up(own, GOOD) == ""
    eventually(lambda: "Full" in ospf(own))


@pytest.mark.parametrize("bad", LINES)
def test_a_running_router_keeps_what_it_has_when_the_new_file_is_wrong(own: OwnPlace, bad: str) -> None:
    assert up(own, GOOD) == ""
    eventually(lambda: "Full" in ospf(own))
    said = up(own, bad.replace("hello-interval 1", "hello-interval 3"))
    assert "refused its new configuration" in said
    for words in LINES[bad]:
        assert words in said
    if bad == SYNTAX:  # wrong as a whole; a block that a daemon refuses is that daemon's alone
        assert "Full" in ospf(own)
    assert up(own, GOOD) == ""
    assert "Full" in ospf(own)
