"""An experiment on a testbed whose nodes have other clocks than the central and than whoever runs it."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from own_place import eventually, unspoilt
from testbed import Host, Testbed, testbed

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]
pytestmark += [pytest.mark.alone, pytest.mark.waits]

SLICE, TOGETHER_MS = "home_run", 10.0
AHEAD_S = {"n1": 3600.0, "n2": -42.0}  # the clocks of the nodes' agents
TRIANGLE = """
routing: {protocols: ospf, daemon: bird}
slivers: {a: {node: n1}, b: {node: n2}, c: {node: n1}}
links: [a -- b: {cost: 10}, a -- c: {cost: 20}, c -- b: {cost: 20}]
expect: all
"""
HEAD = """
topology: triangle.yaml
calm: 1s
check_links: "off"
"""
FAILOVER = f"""{HEAD}
duration: 7s
timeline:
  - {{at: 500ms, routing: {{link: [a, b], cost: 11}}}}
  - {{at: 2s, fail: {{link: [a, b], how: carrier}}}}
  - {{at: 5s, restore: {{link: [a, b]}}}}
probes:
  echo: {{ping: {{from: a, to: b, every: 100ms}}}}
  way: {{path: {{from: a, to: b}}}}
"""
LATE = f"""{HEAD}
duration: 6s
timeline:
  - {{at: 4s, fail: {{link: [a, b], how: carrier}}}}
probes:
  echo: {{ping: {{from: a, to: c, every: 100ms}}}}
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        (made.directory / "triangle.yaml").write_text(TRIANGLE)
        (made.directory / "failover.yaml").write_text(FAILOVER)
        (made.directory / "late.yaml").write_text(LATE)
        made.vini("slice", "create", SLICE)
        for host in made.hosts.values():
            skewed(host, AHEAD_S[host.name])
        eventually(lambda: all(abs(offset(made, n) - s) < 1 for n, s in AHEAD_S.items()))
        yield made
        made.vini("down", "-s", SLICE)


def skewed(host: Host, seconds: float) -> None:
    host.kill()
    wrong = f"import time; real = time.time; time.time = lambda: real() + {seconds}"
    host.start("-c", f"{wrong}; from vini.node.serve import main; main()", "vini.node.serve")


def offset(bed: Testbed, name: str) -> float:
    return next(r["clock_offset_s"] for r in json.loads(bed.vini("nodes", "--json")) if r["name"] == name)


def ran(bed: Testbed, check: bool = True) -> tuple[Path, dict[str, Any]]:
    """Where the record is, and what it says in short."""
    file = str(bed.directory / "failover.yaml")
    out = bed.vini("run", file, "-s", SLICE, "-o", str(bed.directory / "runs"), "--keep", "--json", check=check)
    found = json.loads(out[out.index("\n{") :] if not out.startswith("{") else out)
    return Path(found["directory"]), found


@contextmanager
def watched(host: Host, sliver: str, dev: str) -> Iterator[list[float]]:
    """When the carrier of its vif went, by this machine's real clock; known at the end of the block."""
    argv = host.enter(f"{SLICE}.{sliver}", "env", "TZ=UTC0", "ip", "-o", "-ts", "monitor", "link")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    times: list[float] = []
    yield times
    process.terminate()
    for line in process.communicate()[0].splitlines():
        stamp, _, rest = line.removeprefix("[").partition("]")
        if f": {dev}@" in rest and "UP" not in rest.partition("<")[2].partition(">")[0].split(","):
            times.append(datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp())


def test_both_ends_of_a_link_act_at_one_moment(bed: Testbed) -> None:
    bed.vini("up", str(bed.directory / "triangle.yaml"), "--slice", SLICE)

    def apart_ms() -> float:
        with watched(bed.hosts["n1"], "a", "to-b") as one, watched(bed.hosts["n2"], "b", "to-a") as other:
            directory, found = ran(bed, check=False)
        recorded(directory, found)
        (failed,) = [e for e in found["events"] if e["action"] == "fail"]
        print(f"the kernel's ends: {one[0] - other[0]:+.4f} s; told: {failed}")
        print(found["reasons"])
        return abs(one[0] - other[0]) * 1000

    unspoilt(apart_ms, lambda ms: ms < TOGETHER_MS, tries=3)


def recorded(directory: Path, found: dict[str, Any]) -> None:
    """What must be in the record of any run over these nodes."""
    for node, ahead in AHEAD_S.items():
        told = found["nodes"][node]
        assert abs(told["clock_ahead_s"] - ahead) <= told["clock_error_s"] + 0.001, told
    with (directory / "clocks.csv").open() as table:
        assert {row["node"] for row in csv.DictReader(table)} == {"n1", "n2"}
    events = [e for e in found["events"] if e["planned_s"] is not None]
    assert [e["action"] for e in events] == ["routing", "fail", "restore"]
    assert not any("too late" in e["outcome"] for e in events), events
    # Only the agents' clocks are wrong here, not those that probes see; so what these saw has times that are wrong.
    assert all(way in found["paths"]["way"]["sequence"] for way in (["a", "b"], ["a", "c", "b"]))
    assert found["probes"]["echo"]["statistics"]["sent"] > 10
    assert not any("not of this run" in r or "another command" in r for r in found["reasons"]), found["reasons"]


def test_a_run_is_marked_where_an_event_reached_a_node_too_late(bed: Testbed) -> None:
    n2, log = bed.hosts["n2"], bed.directory / "late.log"
    with log.open("w") as out:
        argv = ("run", str(bed.directory / "late.yaml"), "-s", SLICE, "-o", str(bed.directory / "late"))
        process = bed.begin(*argv, out=out)
        eventually(lambda: "t = 0:" in log.read_text())
        n2.cut()
        try:
            eventually(lambda: "fails (carrier down)" in log.read_text())
        finally:
            n2.mend()
        assert process.wait(120) == 1, log.read_text()
    (directory,) = (bed.directory / "late").iterdir()
    found = json.loads((directory / "summary.json").read_text())
    assert not found["trustworthy"]
    assert any("reached node n2" in r and "too late" in r for r in found["reasons"]), found["reasons"]
