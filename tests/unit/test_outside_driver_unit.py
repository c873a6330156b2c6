"""The driver of ways to the world where the machine lets it down: nothing is forgotten, and no look ends the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini.model import DriverError, Outside, OutsideGrant
from vini.node.drivers.outside import OutsideDriver
from vini.node.outside import forwarding, nft, pair, record
from vini.node.outside.record import Attached, Record
from vini.node.place import Place

VIF = Outside("s.a", "02:00:00:00:00:01", 2, OutsideGrant(("0.0.0.0/0",)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(nft, "load", lambda _: None)
    monkeypatch.setattr(pair, "remove", lambda _: None)
    monkeypatch.setattr(pair, "strays", lambda _: set())
    made = Place("u", tmp_path / "run", tmp_path / "state")
    record.write(made, "s", Record({"s.a": Attached(VIF, "198.18.0.1", "198.18.0.0")}, "printed"))
    return made


def test_a_kill_while_the_node_stops_forwarding_leaves_the_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Place) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(forwarding, "switch_off", killed)
    with pytest.raises(KeyboardInterrupt):
        OutsideDriver(place).remove([VIF])
    assert record.slices(place) == ["s"]  # so the next agent does it again


def test_nothing_is_left_of_a_write_that_was_killed(place: Place) -> None:
    (record.directory(place) / "s.new").write_text("half")
    record.write(place, "s", Record())
    assert not record.directory(place).exists()


def test_a_look_without_nft_finds_what_is_not_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> str:
        raise DriverError("this node lacks nft")

    monkeypatch.setattr(nft, "_run", lacking)
    monkeypatch.setattr(nft, "generation", lambda: 7)
    monkeypatch.setattr(pair, "is_whole", lambda *_: True)
    (found,) = OutsideDriver(place).observe({"s.a"})
    assert isinstance(found, Outside) and not found.whole
