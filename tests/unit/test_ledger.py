"""The agent's one memory: newest wins, nothing goes back, a broken file is no catastrophe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import spec_of, specs

from vini.model import Conflict, DriverError, SliceSpec, Sliver, Stale, Topology
from vini.node.ledger import Ledger

PAIR = Topology("lab", {"a": Sliver("a"), "b": Sliver("b")})


def test_what_was_accepted_is_there_after_a_restart(tmp_path):
    Ledger(tmp_path).accept(spec_of(PAIR, 3))
    assert Ledger(tmp_path).specs == {"lab": spec_of(PAIR, 3)}


def test_accept_gives_back_what_it_replaces(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.accept(spec_of(PAIR, 1)) is None
    assert ledger.accept(spec_of(Topology("lab"), 2)) == spec_of(PAIR, 1)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_generations_never_go_back_also_over_restarts(tmp_path_factory, generations):
    directory = tmp_path_factory.mktemp("ledger")
    newest = 0
    for g in generations:
        ledger = Ledger(directory)
        if g < newest:
            with pytest.raises(Stale, match=f"generation {g} came after generation {newest}"):
                ledger.accept(spec_of(PAIR, g))
        else:
            ledger.accept(spec_of(PAIR, g))
            newest = g
        assert Ledger(directory).specs["lab"].generation == newest


def test_the_same_spec_again_is_welcome_another_of_the_same_generation_is_not(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(spec_of(PAIR))
    assert ledger.accept(spec_of(PAIR)) == spec_of(PAIR)
    with pytest.raises(Conflict):
        ledger.accept(SliceSpec("lab", "local", 1))
    assert Ledger(tmp_path).specs["lab"] == spec_of(PAIR)


def test_the_end_of_a_slice_is_remembered_so_that_it_does_not_come_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(spec_of(PAIR, 1))
    ledger.accept(spec_of(Topology("lab"), 2))
    with pytest.raises(Stale):
        Ledger(tmp_path).accept(spec_of(PAIR, 1))


@given(specs())
def test_any_spec_survives_the_disk(tmp_path_factory, spec):
    directory = tmp_path_factory.mktemp("ledger")
    Ledger(directory).accept(spec)
    assert Ledger(directory).specs == {spec.slice: spec}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b'{"slice":"lab"}', b"\xff\x00", b'{"slice":"x","node":"n","generation":9}']
)
def test_a_broken_file_is_set_aside_named_and_the_other_slices_are_kept(tmp_path, content):
    other = Topology("other", {"a": Sliver("a")})
    ledger = Ledger(tmp_path)
    ledger.accept(spec_of(PAIR, 7))
    ledger.accept(spec_of(other))
    (tmp_path / "lab.json").write_bytes(content)
    again = Ledger(tmp_path)
    assert set(again.specs) == {"other"}
    assert again.unreadable == {"lab"}
    assert (tmp_path / "lab.json.bad").read_bytes() == content
    assert Ledger(tmp_path).unreadable == {"lab"}, "the next agent must not forget it either"


def test_a_slice_whose_file_was_broken_is_whole_again_when_it_is_sent_anew(tmp_path):
    (tmp_path / "lab.json").write_bytes(b"{")
    ledger = Ledger(tmp_path)
    assert ledger.accept(spec_of(PAIR, 7)) is None
    assert ledger.unreadable == set()
    assert Ledger(tmp_path).unreadable == set()
    assert Ledger(tmp_path).specs == {"lab": spec_of(PAIR, 7)}


def test_a_half_written_file_of_a_crash_is_not_taken_for_a_spec(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(spec_of(PAIR))
    (tmp_path / "lab.new").write_bytes(b'{"slice":"la')
    assert Ledger(tmp_path).specs == {"lab": spec_of(PAIR)}


def test_a_ledger_that_cannot_be_written_says_so_and_forgets_the_wish(tmp_path, monkeypatch):
    """The disk is full at the moment of fsync; nothing is remembered that isn't on disk."""
    ledger = Ledger(tmp_path)
    ledger.accept(spec_of(PAIR, 1))

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DriverError, match=r"The ledger .* can't be written: No space left on device"):
        ledger.accept(spec_of(Topology("lab"), 2))
    monkeypatch.undo()
    assert ledger.specs["lab"] == spec_of(PAIR, 1)
    assert Ledger(tmp_path).specs == {"lab": spec_of(PAIR, 1)}
    assert [p.name for p in Path(tmp_path).iterdir()] == ["lab.json"]
