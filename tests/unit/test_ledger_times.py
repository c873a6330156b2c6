"""What the ledger holds back, and what it lets go, by the clock; whatever is sent, and whenever it is restarted."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import spec_of

from vini.model import Conflict, DriverError, SliceSpec, Sliver, Stale, Topology
from vini.node.ledger import KEPT, Ledger


def one(generation: int, *slivers: str, name: str = "s", **times: float) -> SliceSpec:
    return replace(spec_of(Topology(name, {n: Sliver(n) for n in slivers}), generation), **times)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    return Ledger(tmp_path, clock)


def test_a_spec_for_later_is_on_disk_and_not_in_force(tmp_path, ledger, clock):
    ledger.accept(one(1, "a"))
    assert ledger.accept(one(2, "b", not_before=1010.0)) == one(1, "a")
    for each in (ledger, Ledger(tmp_path, clock)):
        assert each.wanted() == {"s": one(1, "a")}
        assert (each.accepted("s"), each.in_force("s"), each.moment()) == (2, 1, 10.0)
        assert each.advance() == []
    clock.now = 1010.0
    assert ledger.moment() == 0.0
    assert ledger.advance() == [(one(1, "a"), one(2, "b", not_before=1010.0))]
    ledger.settle()
    assert Ledger(tmp_path, clock).wanted() == {"s": one(2, "b", not_before=1010.0)}
    assert ledger.moment() == math.inf


def test_a_first_spec_and_an_end_may_be_for_later(tmp_path, ledger, clock):
    ledger.accept(one(1, "a", not_before=1010.0))
    ledger.accept(one(2, not_before=1020.0))
    assert ledger.wanted() == {}
    clock.now = 1015.0
    again = Ledger(tmp_path, clock)
    assert [new.generation for _, new in again.advance()] == [1]
    clock.now = 1020.0
    assert [new.generation for _, new in again.advance()] == [2]
    assert (again.wanted(), again.ended.generations) == ({}, {"s": 2})
    again.settle()
    assert [p.name for p in tmp_path.iterdir()] == [".ended"]


def test_a_newer_one_replaces_those_that_were_to_come_after_it(ledger, clock):
    for generation, at in ((1, 0.0), (2, 1010.0), (3, 1020.0), (4, 1030.0)):
        ledger.accept(one(generation, "a", not_before=at))
    ledger.accept(one(5, "b", not_before=1015.0))
    assert [s.generation for s in ledger.later["s"]] == [2, 5]
    clock.now = 2000.0
    assert [(old.generation, new.generation) for old, new in ledger.advance()] == [(1, 5)]
    ledger.accept(one(6, "c", not_before=3000.0))
    ledger.accept(one(7, "d"))
    assert (ledger.later, ledger.wanted()) == ({}, {"s": one(7, "d")})


def test_the_same_again_is_welcome_another_of_its_generation_is_not(ledger):
    later = one(2, "b", not_before=1010.0)
    ledger.accept(one(1, "a"))
    ledger.accept(later)
    ledger.accept(later)
    with pytest.raises(Conflict):
        ledger.accept(one(2, "c", not_before=1010.0))
    with pytest.raises(Stale):
        ledger.accept(one(1, "a"))


def test_a_slice_ends_when_its_time_is_over_and_comes_back_when_it_is_renewed(tmp_path, ledger, clock):
    ledger.accept(one(1, "a", expires=1010.0))
    assert ledger.moment() == 10.0
    clock.now = 1010.0
    assert ledger.wanted() == {}
    assert ledger.expired() == {"s": 1}
    assert ledger.moment() == 0.0
    assert ledger.advance() == [(one(1, "a", expires=1010.0), one(1, expires=1010.0))]
    assert ledger.advance() == []
    assert Ledger(tmp_path, clock).wanted() == {}
    ledger.accept(one(2, "a", expires=2000.0))
    assert ledger.wanted() == {"s": one(2, "a", expires=2000.0)}


def test_a_clock_that_was_wrong_for_a_while_does_no_lasting_harm(ledger, clock):
    ledger.accept(one(1, "a", expires=5000.0))
    clock.now = 1e9
    assert len(ledger.advance()) == 1
    clock.now = 1001.0
    assert ledger.moment() == 0.0
    assert ledger.advance() == [(None, one(1, "a", expires=5000.0))]
    assert ledger.wanted() == {"s": one(1, "a", expires=5000.0)}


def test_a_time_that_has_come_is_not_waited_for_again_by_a_clock_that_was_set_back(ledger, clock):
    """As where the substrate under an event of a while ago is taken down: its spec is amended, and keeps its time."""
    ledger.accept(one(1, "a", not_before=1010.0))
    clock.now = 1010.0
    ledger.advance()
    clock.now = 1.0
    ledger.accept(one(2, "b", not_before=1010.0))
    assert ledger.wanted() == {"s": one(2, "b", not_before=1010.0)} and ledger.later == {}
    for generation, at in ((3, 1011.0), (4, 5.0)):  # others are, by that clock
        ledger.accept(one(generation, "c", not_before=at))
        assert ledger.wanted() == {"s": one(2, "b", not_before=1010.0)}
    assert ledger.moment() == 4.0


def test_what_comes_in_force_is_not_held_up_by_the_disk(tmp_path, ledger, clock, monkeypatch):
    """A restart before it is written, or a disk that takes nothing, changes nothing of it."""
    ledger.accept(one(1, "a"))
    ledger.accept(one(2, "b", not_before=1010.0))
    ledger.accept(one(3, not_before=1020.0))
    full = DriverError("full")

    def refuses(*_):
        raise full

    clock.now = 1010.0
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "_write", refuses)
        assert [new.generation for _, new in ledger.advance()] == [2]
        assert ledger.wanted() == {"s": one(2, "b", not_before=1010.0)}
        for work in (ledger.settle, lambda: ledger.accept(one(4, "c"))):
            with pytest.raises(DriverError):
                work()
    again = Ledger(tmp_path, clock)
    again.advance()
    assert (again.wanted(), again.later) == (ledger.wanted(), ledger.later)
    ledger.settle()
    again = Ledger(tmp_path, clock)
    assert (again.advance(), again.wanted(), again.later) == ([], ledger.wanted(), ledger.later)
    clock.now = 1020.0
    assert [new.generation for _, new in again.advance()] == [3]
    assert Ledger(tmp_path, clock).accepted("s") == 3


def test_an_end_that_a_read_only_disk_takes_no_note_of_is_tried_again(tmp_path, ledger, clock, monkeypatch):
    """Such a disk refuses to remove what is not there, too."""
    ledger.accept(one(1, "a"))
    ledger.accept(one(2, not_before=1010.0))

    def refuses(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    clock.now = 1010.0
    ledger.advance()
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", refuses)
        with pytest.raises(DriverError, match=r"The ledger .* can't be removed: Read-only file system"):
            ledger.settle()
    assert ledger.wanted() == {}
    ledger.settle()
    again = Ledger(tmp_path, clock)
    assert (again.advance(), again.wanted(), again.later) == ([], {}, {})


def test_what_has_expired_takes_no_more_room_for_ever(tmp_path, ledger, clock):
    for i in range(KEPT + 20):
        ledger.accept(one(1, "a", name=f"s{i}", expires=1010.0 + i))
    clock.now = 1e6
    ledger.advance()
    ledger.settle()
    assert (ledger.moment(), ledger.advance()) == (math.inf, [])
    assert len(list(tmp_path.glob("*.json"))) == KEPT
    with pytest.raises(Conflict):
        ledger.accept(one(1, "a", name="s0", expires=1010.0))


def test_a_list_for_later_that_can_not_be_read_is_set_aside(tmp_path, ledger, clock):
    ledger.accept(one(1, "a"))
    ledger.accept(one(2, "b", not_before=1010.0))
    (tmp_path / "s.later").write_bytes(b"{")
    again = Ledger(tmp_path, clock)
    assert (again.wanted(), again.accepted("s")) == ({"s": one(1, "a")}, 1)
    assert (tmp_path / "s.later.bad").exists()
    again.accept(one(2, "b", not_before=1010.0))
    assert again.accepted("s") == 2


def test_a_crash_between_two_files_brings_back_nothing_that_was_overtaken(tmp_path, ledger, clock):
    ledger.accept(one(1, "a"))
    ledger.accept(one(2, "b", not_before=1010.0))
    left = (tmp_path / "s.later").read_bytes()
    ledger.accept(one(3, "c"))
    (tmp_path / "s.later").write_bytes(left)
    clock.now = 2000.0
    again = Ledger(tmp_path, clock)
    assert again.advance() == []
    assert again.wanted() == {"s": one(3, "c")}


SENT = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from([0.0, 1005.0, 1010.0, 1020.0]), st.booleans(),
              st.sampled_from([0.0, 0.0, 4.0, 9.0]), st.booleans(), st.booleans()),
    max_size=20,
)  # fmt: skip


@given(SENT)
def test_in_force_is_the_newest_whose_time_has_come_of_all_that_was_accepted(tmp_path_factory, sent):
    """By a model that remembers everything; over restarts, and however time passes."""
    clock = Clock()
    directory = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(directory, clock)
    accepted: dict[int, SliceSpec] = {}
    forced = 0
    for generation, at, up, passes, restarted, settled in sent:
        wanted = one(generation, *(["a"] if up else []), not_before=at)
        try:
            ledger.accept(wanted)
        except (Stale, Conflict):
            assert accepted and generation <= max(accepted)
        else:
            accepted[generation] = wanted
        clock.now += passes
        if restarted:
            ledger = Ledger(directory, clock)
        ledger.advance()
        if settled:
            ledger.settle()
        due = [g for g, s in accepted.items() if s.not_before <= clock.now]
        forced = max([forced, *due])
        want = accepted.get(forced)
        assert ledger.wanted() == ({"s": want} if want and want.objects else {})
        assert ledger.in_force("s") == forced
        assert ledger.accepted("s") == max(accepted, default=0)
