"""What shows a slice on one machine shows one over two nodes too, by the same commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from own_place import eventually
from testbed import Flow, Testbed, testbed

from vini import nearby
from vini.model import Topology
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird", "tcpdump", "programs", "element")]

SLICE = "home_looks"
PROGRAM = """\
input -> seen :: count -> routes :: route4(routes={10.99.0.0/16 = to-a})
routes[out] -> out
routes[none] -> kernel
"""
COUNTS = """'{"vifs": {"to-c": {"received": 7}}}' > $VINI_COUNTERS"""
LINE = f"""
name: {SLICE}
routing: {{protocols: ospf, daemon: bird}}
slivers:
  a: {{node: n1}}
  b: {{node: n2, program: routes.elements}}
  c: {{node: n1}}
  p: {{node: n2, routing: none, program: {{process: "echo {COUNTS.replace('"', chr(92) + '"')}; exec sleep 1000"}}}}
links:
  - a -- b
  - b -- c
  - c -- p: {{delay: 5ms}}
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        (made.directory / "routes.elements").write_text(PROGRAM)
        (made.directory / "line.yaml").write_text(LINE)
        made.vini("slice", "create", SLICE)
        made.vini("up", str(made.directory / "line.yaml"), "--slice", SLICE, "--no-wait")  # p routes nothing
        yield made
        made.vini("down", "-s", SLICE)


@pytest.fixture
def flow(bed: Testbed) -> Iterator[None]:
    """From a on n1 over b on n2 to c on n1."""
    running = Flow(bed.hosts["n1"], topology(bed), "a", "c")
    yield
    running.kill()


def topology(bed: Testbed) -> Topology:
    return parse(LINE, read_file=nearby.reader(bed.directory))


def look(bed: Testbed, *argv: str) -> Any:
    return json.loads(bed.vini(*argv, "-s", SLICE, "--json"))


def test_neighbors_routes_and_who_shapes(bed: Testbed) -> None:
    found = eventually(lambda: look(bed, "neighbors"))  # ends with 1 as long as one is missing
    assert {s: [(a["neighbor"] != "", a["up"]) for a in f["adjacencies"]] for s, f in found.items()} == {
        "a": [(True, True)], "b": [(True, True)] * 2, "c": [(True, True)],
    }  # fmt: skip
    assert look(bed, "routes", "a", "--to", "c")["a"]["path"] == ["a", "b", "c"]
    backends = {tuple(k["ends"]): {d["backend"] for d in k["directions"]} for k in look(bed, "link")}
    assert backends[("a", "b")] == {""} and len(backends[("c", "p")]) == 1 and backends[("c", "p")] != {""}


@pytest.mark.usefixtures("flow")
def test_top(bed: Testbed) -> None:
    (rows,) = [{row["sliver"]: row for row in look(bed, "top", "-n", "1")}]
    assert list(rows) == ["a", "b", "c", "p"]
    for sliver, vif in (("a", "to-b"), ("b", "to-c"), ("c", "to-b")):
        assert rows[sliver]["vifs"][vif]["tx_pps"] > 1, rows
        assert rows[sliver]["memory_mib"] > 0.1
    assert rows["b"]["program"]["pps"] > 1 and "program" not in rows["a"]


@pytest.mark.usefixtures("flow")
def test_a_capture_is_written_here(bed: Testbed) -> None:
    for name, magic in (("x.pcap", 0xA1B2C3D4), ("x.pcapng", 0x0A0D0D0A)):
        bed.vini("capture", "-s", SLICE, "b:to-c", "-c", "3", "-w", str(bed.directory / name), "icmp")
        data = (bed.directory / name).read_bytes()
        assert int.from_bytes(data[:4], "little") == magic and len(data) > 3 * 84
    assert bed.vini("capture", "-s", SLICE, "b:to-c", "-c", "2", "icmp").count("ICMP echo") == 2


@pytest.mark.usefixtures("flow")
def test_programs_are_listed_read_and_written(bed: Testbed) -> None:
    rows = {row["sliver"]: row for row in look(bed, "program", "list")}
    assert rows["b"]["hook"] == "tc" and "other nodes" in rows["b"]["why"]
    seen = look(bed, "program", "read", "b", "seen.passed")["seen.passed"][0]
    eventually(
        lambda: (
            int(look(bed, "program", "read", "b", "seen.passed")["seen.passed"][0]["packets"]) > int(seen["packets"])
        )
    )
    bed.vini("program", "write", "-s", SLICE, "b", "routes.routes", "10.98.0.0/16", "to-c")
    assert "10.98.0.0/16" in bed.vini("program", "read", "-s", SLICE, "b")
    bed.vini("program", "write", "-s", SLICE, "b", "routes.routes", "10.98.0.0/16", "--delete")
    assert "10.98" not in bed.vini("program", "read", "-s", SLICE, "b")


def test_what_a_process_counts_is_read_from_its_node(bed: Testbed) -> None:
    assert look(bed, "program", "read", "p") == {"vifs": [{"vif": "to-c", "received": "7"}]}
