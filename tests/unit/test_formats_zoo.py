"""Real networks: every file of the Topology Zoo's sample is imported, quickly, and survives the topology file."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_formats import consistent

from vini.formats import read
from vini.topology import dump, parse

ZOO = Path(__file__).parents[3] / "shared" / "data" / "topology_zoo"
NETWORKS = sorted(ZOO.glob("*.graphml")) if ZOO.is_dir() else []
absent = pytest.mark.skipif(not NETWORKS, reason=f"the Topology Zoo's sample is not in {ZOO}")


@absent
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_every_network_is_imported(path: Path) -> None:
    text = path.read_text()
    imported = read(text, path.name)
    consistent(imported)
    assert len(imported.topology.slivers) == text.count("<node ")
    loops = sum(int(n.split()[0]) for n in imported.notes if "self-loop" in n)
    assert len(imported.topology.links) == text.count("<edge ") - loops
    assert all(s.routing and s.routing.protocols == ("ospf",) for s in imported.topology.slivers.values())


@absent
def test_abilene_has_the_delays_of_its_map() -> None:
    topology = read((ZOO / "Abilene.graphml").read_text(), "Abilene.graphml").topology
    assert len(topology.slivers) == 11 and len(topology.links) == 14
    delays = {frozenset(e.sliver for e in link.ends): link.impairment.delay_ms for link in topology.links}
    # New York to Chicago: 1144 km by the great circle
    assert delays[frozenset({"new-york", "chicago"})] == pytest.approx(5.72, abs=0.02)
    assert topology.slivers["washington-dc"].label == "Washington DC"


@absent
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_an_imported_network_survives_the_topology_file(path: Path) -> None:
    imported = read(path.read_text(), path.name).topology
    assert parse(dump(imported)) == imported
