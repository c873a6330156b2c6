"""What a node agrees to send and await at its slivers, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from vini import bus
from vini.model import NotFound, ViniError
from vini.node import measuring
from vini.node.measuring import MOST_FRAMES, measures
from vini.node.place import Place

FLOW = bus.FrameFlow("a", "to-b", "", "02:00:00:00:00:01", 0, 1000, 10, 100)
CONTROL = bus.FrameFlow("-", "lo", "-", "lo", 0, 1_000_000, 3, 100)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where s.a, s._wireguard and t.z have a namespace, and nothing is compiled."""
    made = {name: tmp_path / name for name in ("s.a", "s._wireguard", "t.z")}
    for path in made.values():
        path.touch()
    monkeypatch.setattr(Place, "netns", lambda _, ns: made.get(ns, tmp_path / "none"))
    monkeypatch.setattr(measuring.probe, "built", lambda: Path("/bin/true"))
    return Place("x", tmp_path, tmp_path)


def asked(*flows: bus.FrameFlow) -> bus.Measure:
    return bus.Measure("s.a", flows, 1_000_000)


def test_the_plan_names_namespaces_here_and_addresses_elsewhere(place: Place) -> None:
    prepared = measures(place)(asked(CONTROL, FLOW))
    plan = Path(prepared.argv[1])
    assert plan.read_text() == (
        "stream - lo - lo 0 1000000 3 0 100\n"
        f"stream {place.run}/s.a to-b @ 02:00:00:00:00:01 0 1000 10 0 100\n"
        "drain 1000000\n"
    )  # fmt: skip
    prepared.end(False)
    assert not plan.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"source": "b"},  # not up
        {"source": "../t.z"},
        {"source": "_wireguard"},  # what carries the slice's links is nobody's to look into
        {"vif": "to-b\nstream - lo - lo 0 0 1 0 60"},
        {"vif": "to b"},
        {"peer_vif": "to-b"},  # elsewhere, by a name
    ],
)
def test_what_is_not_the_slices_is_refused(place: Place, change: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        measures(place)(asked(replace(FLOW, **change)))
    assert not list(place.run.glob("measure-*"))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0}, {"count": MOST_FRAMES + 1}, {"frame_bytes": 59}, {"frame_bytes": 1515}, {"start_ns": -1},
        {"interval_ns": 10**13}, {"ahead": -1},
    ],
)  # fmt: skip
def test_what_can_not_be_sent_is_refused(place: Place, change: dict[str, int]) -> None:
    with pytest.raises(ViniError):
        measures(place)(asked(replace(FLOW, **change)))


def test_nothing_at_all_is_refused(place: Place) -> None:
    with pytest.raises(ViniError):
        measures(place)(asked())
