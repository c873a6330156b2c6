"""What a testbed's links really give, between its nodes and on one of them, measured with packets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from own_place import unspoilt
from testbed import Testbed, testbed

from vini.model import Impairment, Topology
from vini.topology import parse
from vini.truth import Check

pytestmark = [pytest.mark.alone, pytest.mark.waits, pytest.mark.root]
pytestmark += [pytest.mark.needs("cgroup2", "vxlan", "ping", "element")]

SLICE = "home_truth"
LINE = f"""
name: {SLICE}
routing: none
slivers:
  a: {{node: n1}}
  b: {{node: n2}}
  c: {{node: n2}}
links:
  - a -- b: {{delay: 20ms, rate: 20mbit}}
  - ends:
      - {{sliver: b, trace: "time_ms,rate_mbit,delay_ms\\n0,10,3\\n400,3,8\\n700,repeat\\n"}}
      - {{sliver: c, delay: 3ms}}
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        (made.directory / "line.yaml").write_text(LINE)
        made.vini("slice", "create", SLICE)
        made.vini("up", str(made.directory / "line.yaml"), "--slice", SLICE)
        yield made
        made.vini("down", "-s", SLICE)


def test_links_between_nodes_and_on_one_are_found_true(bed: Testbed) -> None:
    def verified() -> dict[tuple[str, str], Any]:
        said = bed.vini("link", "-s", SLICE, "--verify", "--for", "3s", "--json", check=False)
        found = json.loads(said[said.index("{") :])
        return {(d["from"], d["to"]): d for d in found["directions"]}

    def good(found: dict[tuple[str, str], Any]) -> bool:
        return {d["outcome"] for d in found.values()} == {"true"}

    found = unspoilt(verified, good)
    assert {ends: d["clock"] for ends, d in found.items()} == {
        ("a", "b"): "round trip", ("b", "a"): "round trip", ("b", "c"): "one", ("c", "b"): "one",
    }  # fmt: skip
    wishes = {v["wish"]: v for v in found["a", "b"]["verdicts"]}
    assert {"delay", "delay under load", "rate", "loss", "order"} <= wishes.keys()
    assert {"trace", "delay", "rate", "rate over time", "loss"} <= {v["wish"] for v in found["b", "c"]["verdicts"]}
    assert float(wishes["delay"]["value"]) < float(wishes["delay"]["limit"]) < 2  # ms


def test_what_was_not_given_is_found_out_between_nodes_too(bed: Testbed) -> None:
    """One direction asks for 5 ms less than it has: half of that is what can be told of each."""
    topology = parse(LINE)
    first = topology.links[0]
    ends = (replace(first.ends[0], impairment=Impairment(delay_ms=10, rate_mbit=10)), first.ends[1])
    asked = replace(topology, links=(replace(first, ends=ends), *topology.links[1:]))

    def told() -> dict[tuple[str, str], set[str]]:
        found = asyncio.run(lightly(bed, asked))
        return {(j.source, j.destination): {v.wish for v in j.verdicts if v.outcome == "off"} for j in found.judgements}

    found = unspoilt(told, lambda said: {"delay", "rate"} <= said["a", "b"] and "delay" in said["b", "a"])
    assert "rate" not in found["b", "a"]


async def lightly(bed: Testbed, asked: Topology) -> Check:
    return await bed.client().check_links(asked, asked.links[:1])
