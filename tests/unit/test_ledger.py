"""The agent's one memory: newest wins, nothing goes back, a broken file is no catastrophe."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import spec_of, specs

from vini.model import Conflict, DriverError, SliceSpec, Sliver, Stale, Topology
from vini.node.ledger import KEPT, Ledger

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
    again = Ledger(directory)
    if spec.objects:
        assert again.specs == {spec.slice: spec}
    else:
        assert (again.specs, again.ended.generations) == ({}, {spec.slice: spec.generation})


def one(name: str, generation: int, *, up: bool = True) -> SliceSpec:
    return spec_of(Topology(name, {"a": Sliver("a")} if up else {}), generation)


def test_of_a_slice_that_ended_its_name_and_generation_are_left(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(one("v", 1))
    assert ledger.accept(one("v", 2, up=False)) == one("v", 1)
    assert ledger.accept(one("v", 2, up=False)) is None, "the same again is welcome"
    with pytest.raises(Conflict):
        ledger.accept(one("v", 2))
    assert [p.name for p in tmp_path.iterdir()] == [".ended"]
    ledger.accept(one("v", 3))
    assert Ledger(tmp_path).specs == {"v": one("v", 3)}


def test_the_ends_of_many_slices_take_no_more_room_and_none_comes_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(one("stays", 1))
    last = 3 * KEPT
    for i in range(last):
        ledger.accept(one(f"s{i}", 2 * i + 2))
        ledger.accept(one(f"s{i}", 2 * i + 3, up=False))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".ended", "stays.json"]
    for again in (ledger, Ledger(tmp_path)):
        assert list(again.ended.generations) == [f"s{i}" for i in range(last - KEPT, last)]
        for i in range(last):
            with pytest.raises(Stale):
                again.accept(one(f"s{i}", 2 * i + 2))
        assert again.accept(one("stays", 2)) in (one("stays", 1), one("stays", 2)), "its own generations go on"
    ledger.accept(one("s0", 2 * last + 2))
    assert ledger.specs["s0"].generation == 2 * last + 2


class OneThatForgets:
    """What the ledger promises, remembered in full: no slice goes back, whatever is sent late, in whatever order."""

    def __init__(self) -> None:
        self.newest: dict[str, SliceSpec] = {}

    def allows(self, spec: SliceSpec) -> bool:
        known = self.newest.get(spec.slice)
        return known is None or spec.generation > known.generation or spec == known


SENT = st.lists(st.tuples(st.sampled_from("vwxyz"), st.integers(1, 12), st.booleans(), st.booleans()), max_size=40)


@given(SENT)
def test_no_generation_comes_back_though_ends_are_forgotten(tmp_path_factory, sent):
    """With room for one name only; some of the requests come to the next agent, after a restart."""
    directory = tmp_path_factory.mktemp("ledger")
    ledger, model = Ledger(directory), OneThatForgets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vini.node.ledger.KEPT", 1)
        for name, generation, up, restarted in sent:
            spec = one(name, generation, up=up)
            try:
                ledger.accept(spec)
            except (Stale, Conflict):
                pass
            else:
                assert model.allows(spec), f"{spec} after {model.newest.get(name)}"
                model.newest[name] = spec
            if restarted:
                ledger = Ledger(directory)
            assert ledger.specs == {n: s for n, s in model.newest.items() if s.objects}
            assert len(ledger.ended.generations) <= 1
            first = max([ledger.ended.forgotten, *ledger.ended.generations.values()]) + 1
            assert all(s.objects or s.generation < first for s in model.newest.values())


def test_a_crash_between_an_end_and_its_files_deletion_brings_nothing_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.accept(one("v", 1))
    left = (tmp_path / "v.json").read_bytes()
    ledger.accept(one("v", 2, up=False))
    (tmp_path / "v.json").write_bytes(left)
    again = Ledger(tmp_path)
    assert again.specs == {}
    again.accept(one("w", 1, up=False))
    assert [p.name for p in tmp_path.iterdir()] == [".ended"]


def test_ends_that_an_earlier_version_wrote_are_known(tmp_path):
    (tmp_path / "v.json").write_bytes(msgspec.json.encode(one("v", 2, up=False)))
    ledger = Ledger(tmp_path)
    assert (ledger.specs, ledger.ended.generations) == ({}, {"v": 2})
    ledger.accept(one("w", 1))
    with pytest.raises(Stale):
        Ledger(tmp_path).accept(one("v", 1))


def test_a_slice_whose_file_was_broken_can_be_ended(tmp_path):
    (tmp_path / "v.json").write_bytes(b"{")
    ledger = Ledger(tmp_path)
    ledger.accept(one("v", 2, up=False))
    assert ledger.unreadable == Ledger(tmp_path).unreadable == set()


def test_a_broken_list_of_ends_is_set_aside(tmp_path):
    Ledger(tmp_path).accept(one("v", 1))
    (tmp_path / ".ended").write_bytes(b"{")
    assert Ledger(tmp_path).specs == {"v": one("v", 1)}
    assert (tmp_path / ".ended.bad").read_bytes() == b"{"


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
