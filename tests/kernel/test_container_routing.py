"""Routing daemons inside containers: FRR and BIRD converge as they do outside, and are talked to in the same ways."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from msgspec import structs
from own_place import OwnPlace, eventually, run

from vini.bench.slivers import by
from vini.client import Client
from vini.topology import parse

ABILENE = Path(__file__).parents[2] / "examples/abilene.yaml"
pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers", "frr", "bird")]
MIXED = """
name: mixed
routing: ospf
slivers:
  f: {runtime: container}
  b: {runtime: container, routing: {daemon: bird}}
  h: {routing: none}
links:
  - f -- b: {cost: 10}
  - b -- h
expect: all
"""


def inside(client: Client, sliver: str, *argv: str) -> str:
    return run(*client.enter("mixed", sliver, argv))


def test_abilene_with_frr_in_containers_converges(own: OwnPlace) -> None:
    topology = parse(ABILENE.read_text(), source=str(ABILENE), default_name="abilene")
    client = own.client()
    asyncio.run(client.up(by(structs.replace(topology, name="abilene"), "container")))
    eventually(lambda: own.is_as_asked("abilene"))


def test_both_daemons_are_neighbours_and_their_own_tools_find_them(own: OwnPlace) -> None:
    client = own.client()
    asyncio.run(client.up(parse(MIXED)))
    assert "Full" in inside(client, "f", "vtysh", "-c", "show ip ospf neighbor")
    assert "Running" in inside(client, "b", "birdc", "show", "protocols")
    assert "0% packet loss" in inside(client, "h", "ping", "-c", "1", "-W", "5", _address(client))
    assert "OSPFv2" in inside(client, "f", "timeout", "20", "tcpdump", "-c", "1", "-ni", "to-b", "proto", "ospf")


def _address(client: Client) -> str:
    hosts = inside(client, "f", "cat", "/etc/hosts")
    return next(line.split()[0] for line in hosts.splitlines() if line.split()[1:] == ["f"] and "." in line)


def test_a_change_of_configuration_is_told_to_daemons_that_go_on(own: OwnPlace) -> None:
    client = own.client()
    asyncio.run(client.up(parse(MIXED)))
    before = subprocess.run(client.enter("mixed", "f", ["pidof", "ospfd"]), capture_output=True, text=True).stdout
    asyncio.run(client.up(parse(MIXED.replace("cost: 10", "cost: 77"))))
    assert inside(client, "f", "pidof", "ospfd") == before != ""
    eventually(lambda: "Cost: 77" in inside(client, "f", "vtysh", "-c", "show ip ospf interface to-b"))
