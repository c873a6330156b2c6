"""The driver of ways to the world where the machine lets it down: nothing is forgotten, and no look ends the agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vini.model import DriverError, Outside, OutsideGrant
from vini.node.drivers.outside import OutsideDriver
from vini.node.outside import forwarding, nft, pair, record, rules
from vini.node.outside.record import Attached, Record
from vini.node.place import Place

VIF = Outside("s.a", "02:00:00:00:00:01", 2, OutsideGrant(("0.0.0.0/0",)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(nft, "load", lambda _: None)
    monkeypatch.setattr(pair, "remove", lambda _: None)
    monkeypatch.setattr(pair, "strays", lambda _: set())
    monkeypatch.setattr(pair, "seen", dict)
    made = Place("u", tmp_path / "run", tmp_path / "state")
    record.write(made, "s", Record({"s.a": Attached(VIF, "198.18.0.1", "198.18.0.0")}, "printed"))
    return made


def forwards(place: Place) -> None:
    """It is written down that the node forwards by us."""
    for family in forwarding.FAMILIES.values():
        (record.directory(place) / family.kept).write_text("-")


def test_a_kill_while_the_node_stops_forwarding_leaves_the_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(forwarding, "switch_off", killed)
    with pytest.raises(KeyboardInterrupt):
        OutsideDriver(place).remove([VIF])
    assert record.slices(place) == ["s"]  # so the next agent does it again


@pytest.mark.parametrize("at", ["the slice's rules", "the node's rule"])
def test_rules_that_nft_does_not_take_away_are_not_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    refused, loaded = [True], []

    def load(text: str) -> None:
        if refused[0] and ("netdev" in text) == (at == "the slice's rules"):
            raise DriverError("nft refused: Device or resource busy")
        loaded.append(text)

    monkeypatch.setattr(nft, "load", load)
    monkeypatch.setattr(forwarding, "_changed", lambda *_: [])
    forwards(place)
    driver = OutsideDriver(place)
    assert driver.remove([VIF]) == {
        VIF.key: "The way to the world can't be taken away: nft refused: Device or resource busy."
    }
    assert record.namespaces(place) == {"s.a"}, "so it is tried again"
    refused[0] = False
    assert driver.remove([VIF]) == {} and record.slices(place) == []
    assert rules.gone("u", "s") in loaded and rules.unguard("u", 4) in loaded and rules.unguard("u", 6) in loaded


def test_a_record_that_can_not_be_read_is_of_a_slice_whose_rules_go(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(nft, "load", loaded.append)
    monkeypatch.setattr(forwarding, "_changed", lambda *_: [])
    (record.directory(place) / "s.json").write_bytes(b'{"vifs": 7}')
    assert record.namespaces(place) == {"s._outside"}, "as no sliver is called"
    assert OutsideDriver(place).remove([pair.remnant("s._outside")]) == {}
    assert record.slices(place) == [] and rules.gone("u", "s") in loaded


@pytest.mark.parametrize("run", [lambda: nft.printed("x"), lambda: pair._ip(None, ["link show"])], ids=["nft", "ip"])
def test_a_program_that_hangs_does_not_hold_the_agent_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]
) -> None:
    for name in ("nft", "ip"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 1000\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for module in (nft, pair):
        monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    with pytest.raises(DriverError, match="did not end within"):
        run()


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
