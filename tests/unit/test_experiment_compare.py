"""Two runs beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_network import SQUARE, FakeNetwork, virtually

from vini.experiment.actions import Fail
from vini.experiment.comparison import Difference, compare, differences
from vini.experiment.conditions import Limits
from vini.experiment.probes import Path as PathProbe
from vini.experiment.runner import run
from vini.experiment.timeline import Event, Experiment
from vini.model import NotFound, ViniError

CALM = Limits(load_per_core=1e9, busy=2, steal=2, memory_free_mb=0)


def make(out: Path, how: str, seed: int) -> Path:
    wish = Experiment(
        name="x", topology=SQUARE, duration_s=8.0, seed=seed, calm_s=0.1, inputs={"x.yaml": f"how: {how}\n"},
        timeline=(Event(Fail(("north", "east"), how), at_s=3.0),),
        probes={"way": PathProbe("west", "east", 0.1)},
    )  # fmt: skip
    return virtually(run(wish, FakeNetwork(dead_s=2.0), out, lambda _: None, limits=CALM))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return make(out, "silent", 1), make(out, "carrier", 2)


def test_silent_beside_carrier(runs):
    found = compare(*runs)
    inputs = {d.what: (d.a, d.b) for d in found.inputs}
    assert inputs["seed"] == (1, 2)
    assert "timeline" in inputs and "file x.yaml" in inputs
    assert found.versions == ()
    results = {d.what: (d.a, d.b) for d in found.results}
    assert results["failure_kinds"] == ("silent", "carrier")
    assert results["way.changes"] == (2, 1)
    assert "Inputs (a | b)" in str(found) and "failure_kinds: silent | carrier" in str(found)


def test_run_beside_itself(runs):
    found = compare(runs[0], runs[0])
    assert (found.inputs, found.versions, found.conditions, found.results) == ((), (), (), ())
    assert "the same" in str(found)


def test_what_is_no_run_and_what_was_altered(runs, tmp_path):
    with pytest.raises(NotFound, match="is not a finished run"):
        compare(runs[0], tmp_path)
    out = make(tmp_path, "silent", 3)
    (out / "versions.json").chmod(0o644)
    (out / "versions.json").write_text("{}")
    with pytest.raises(ViniError, match="altered after it was sealed: versions.json"):
        compare(runs[0], out)


def test_differences_of_leaves():
    a = {"x": 1.0, "y": {"z": "p", "w": True}, "only_a": 1}
    b = {"x": 1.04, "y": {"z": "q", "w": True}, "only_b": 2}
    assert list(differences(a, b, 0.05)) == [
        Difference("y.z", "p", "q"),
        Difference("only_a", 1, None),
        Difference("only_b", None, 2),
    ]
    assert list(differences({"x": 1.0}, {"x": 1.04})) == [Difference("x", 1.0, 1.04)]
    assert str(Difference("x", 1.0, 1.5)) == "x: 1 | 1.5  (+50.0%)"
