"""A benchmark on this machine, as small as can be: it measures, and leaves nothing."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from vini.bench import floor, lines, ours, setup, slivers
from vini.bench.finished import wait_finished
from vini.embed import embed
from vini.model import Interface, Node, Sysctl
from vini.node.drivers.network import NetworkDriver
from vini.node.pins import Pins
from vini.node.place import Place

pytestmark = [pytest.mark.alone, pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
TINY = setup.Sizes(line=3, rounds=1, long_line=4, abilene_rounds=0, grid=(0, 0), edited=5, edits=2)
NETNS = Path("/run/netns")


def _left(mark: str) -> list[str]:
    return sorted(p.name for p in NETNS.glob(f"{mark}*")) if NETNS.is_dir() else []


def test_the_floor_makes_the_same_objects_as_vini(tmp_path: Path) -> None:
    """Else its time would be no floor."""
    mark = f"vbtest{os.getpid()}"
    place = Place(mark, tmp_path)
    pins = Pins(place)
    _in_child(mark, 4)
    try:
        pins.adopt()
        seen = NetworkDriver(place).observe([f"bench.r{i + 1}" for i in range(4)])
    finally:
        pins.remove(pins.names())
    wait_finished(mark)
    want = embed(ours.routers("line:4"), [Node("local")])["local"].objects
    assert Counter(type(o) for o in seen) == Counter(type(o) for o in want)
    assert {o.settings for o in seen if isinstance(o, Sysctl)} == {o.settings for o in want if isinstance(o, Sysctl)}
    assert all(o.up for o in seen if isinstance(o, Interface))
    assert _left(mark) == []


def _in_child(mark: str, count: int) -> None:
    """The floor leaves the process that makes it in another namespace."""
    paths = [f"/run/netns/{mark}.bench.r{i + 1}".encode() for i in range(count)]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if floor.make(count, f"{mark}.bench.") == paths else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_part_measures_and_nothing_is_left() -> None:
    said: list[str] = []
    results = setup.measure(quick=True, say=said.append, sizes=TINY)
    names = {r["name"] for r in msgspec.json.decode(msgspec.json.encode(results))["rows"]}
    assert {"line of 3: up / floor", "line of 3: down / up", "line of 4: a pass with nothing to do"} <= names
    assert all(r["value"] > 0 for r in results["rows"] if r["unit"] != "packets")
    assert {r["value"] for r in results["rows"] if r["unit"] == "packets"} <= {0}
    assert not [m for m in results["missing"] if m["failed"]]
    assert said
    assert _left("vbench") == []
    assert not ours.PLACE.run.exists()
    assert not ours.PLACE.state.exists()


@pytest.mark.needs("cgroup2", "containers")
def test_containers_are_measured_and_nothing_is_left() -> None:
    results = slivers.measure(quick=True, say=lambda _: None, sizes=slivers.Sizes(2, 1, 2, 0))
    assert {r["name"] for r in results["rows"]} >= {"2 containers: up", "a command in a container"}
    assert all(r["value"] > 0 for r in results["rows"] if "beyond" not in r["name"])
    assert results["missing"] == []
    assert _left("vbench") == []
    assert not ours.PLACE.run.exists()


def test_a_second_benchmark_is_refused() -> None:
    with ours.alone(), pytest.raises(ours.ViniError, match="Another benchmark"), ours.alone():
        pass
    with ours.alone():
        pass


def test_mininet_is_measured_where_it_is() -> None:
    if why := lines.why_no_mininet():
        pytest.skip(why)
    times = lines.mininet(3)
    assert times.up_s > 0
    assert times.down_s > 0


def test_a_peer_that_fails_is_a_sentence_with_its_last_line() -> None:
    with pytest.raises(ours.ViniError, match="its last line: 'x' is wrong"):
        lines._times([sys.executable, "-c", "import sys; sys.exit(\"'x' is wrong\")"])
