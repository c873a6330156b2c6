"""Files of other tools, imported and brought up for real: converged, pinged, down."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from own_place import OwnPlace
from pings import unanswered, up

from vini import formats
from vini.formats import Imported
from vini.model import Routing

pytestmark = [pytest.mark.root, pytest.mark.needs("bird")]

ROOT = Path(__file__).parents[2]
ZOO = ROOT.parent / "shared/data/topology_zoo"
FIXTURES = ROOT / "tests/unit/formats"
BIRD = Routing(("ospf",), "bird")
FILES = [
    *(pytest.param(ZOO / f"{n}.graphml", id=n) for n in ("Abilene", "Cesnet200706", "Geant2012")),
    *(pytest.param(FIXTURES / n, id=n) for n in ("small.sndlib.xml", "small.sndlib.txt", "iias.rb", "doubled.gml")),
]
CLAB = """\
name: pair
topology:
  kinds: {linux: {image: "quay.io/frrouting/frr:10.1"}}
  nodes:
    r1: {kind: linux, binds: ["r1.conf:/etc/frr/frr.conf"]}
    r2: {kind: linux, binds: ["r2.conf:/etc/frr/frr.conf"]}
    pc:
      kind: linux
      image: alpine
      exec: [ip addr add 192.168.7.2/24 dev eth1, ip route replace default via 192.168.7.1]
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
    - endpoints: ["r2:eth2", "pc:eth1"]
"""
ROUTER = """\
interface lo
 ip address 10.255.0.{n}/32
 ip ospf area 0
interface eth1
 ip address 10.0.0.{n}/24
 ip ospf area 0
 ip ospf hello-interval 1
 ip ospf dead-interval 3
 ip ospf network point-to-point
interface eth2
 ip address 192.168.7.1/24
 ip ospf area 0
 ip ospf passive
router ospf
"""


def live(ours: OwnPlace, imported: Imported) -> None:
    """Up, converged, everybody answers three of them, a second time changes nothing, down."""
    topology = replace(imported.topology, name="imported")

    async def look() -> None:
        async with up(ours.client(), topology) as (client, report):
            assert report.ops > len(topology.slivers)
            await client.wait_converged("imported")
            three = sorted(topology.slivers)[:3]
            for _ in range(5):  # the first packet after convergence may wait for a neighbour in vain
                if not (silent := await unanswered(client, topology, three)):
                    break
            assert silent == []
            assert (await client.put(topology)).ops == 0

    asyncio.run(look())
    assert ours.leftovers() == [f"agent {pid}" for pid in ours.agents()]


@pytest.mark.parametrize("file", FILES)
def test_drawing_of_a_network_comes_alive(ours, file):
    if not file.exists():
        pytest.skip(f"{file} is not here")
    live(ours, formats.read(file.read_text(), file.name, routing=BIRD))


@pytest.mark.needs("frr")
def test_containerlab_file_with_frrs_own_configuration_comes_alive(ours):
    files = {f"r{n}.conf": ROUTER.format(n=n) for n in (1, 2)}
    files["r1.conf"] = files["r1.conf"].replace("interface eth2\n ip address 192.168.7.1/24\n", "interface eth2\n")
    assert set(formats.wanted_files(CLAB, "pair.clab.yml")) == set(files)
    live(ours, formats.read(CLAB, "pair.clab.yml", files))
