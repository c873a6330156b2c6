"""By a clock that nobody vouches for nothing is ended and nothing forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini.boot import boot
from vini.central import clocks as clocks_module
from vini.central.clocks import Clocks, Verdict
from vini.central.synchronised import is_synchronised
from vini.rules.doubt import behind, middle

NOW, HOUR, DAY = 1.8e9, 3600.0, 86400.0
BELIEVED = Verdict()


def said(*ahead: float | None) -> str:
    """By nodes at sites of their own, of which that was measured."""
    site_of = {f"n{i}": i for i in range(len(ahead))}
    return behind(middle(site_of, {f"n{i}": s for i, s in enumerate(ahead) if s is not None} | {"gone": -9 * DAY}))


@pytest.mark.parametrize("ahead", [(), (0.0,), (None,), (-HOUR + 1, 5 * DAY), (-9 * HOUR, 0.0, 1.0), (9 * DAY,)])
def test_a_clock_that_nodes_are_not_behind_is_not_refuted(ahead: tuple[float | None, ...]) -> None:
    assert said(*ahead) == ""


def test_one_that_most_are_behind_is() -> None:
    assert "by 2 hours" in said(-2 * HOUR)
    assert "by 43200 hours" in said(-1800 * DAY, -1800 * DAY, 0.0)


def test_a_site_with_many_nodes_has_one_voice() -> None:
    ahead = dict.fromkeys("abcde", -9 * HOUR) | {"f": 0.0, "g": 0.0}
    assert middle(dict.fromkeys("abcde", 1) | {"f": 2, "g": 3}, ahead) == 0.0
    assert middle({n: i for i, n in enumerate("abcdefg")}, ahead) == -9 * HOUR


class World:
    """A machine's two clocks, what its kernel was told of the first, and the process that asks."""

    def __init__(self, directory: Path, synchronised: bool = False):
        self.wall, self.since_boot, self.synchronised = NOW, 100.0, synchronised
        self.file = directory / "clock.json"
        self.restart()

    def restart(self) -> None:
        self.clocks = Clocks(lambda: self.wall, self.file, lambda: self.since_boot, lambda: self.synchronised)

    def reboot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clocks_module, "boot", lambda: "another")
        self.since_boot = 5.0
        self.restart()

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds

    def look(self, attended: str = "") -> Verdict:
        return self.clocks.look({"a": 1, "b": 2, "c": 3}, set(attended))

    def measured(self, ahead: float = 0.0) -> Verdict:
        """All nodes, in the next minute."""
        self.clocks.note({})  # as by others that come and go: that the clock was set is seen
        self.go(60.0)
        self.clocks.note(dict.fromkeys("abc", ahead))
        return self.look("abc")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_clock_is_not_believed_until_most_nodes_were_measured(world: World) -> None:
    assert "nothing shows that this machine's clock is right" in world.look().why
    assert world.look("abc").early
    world.clocks.note({"a": 0.0, "b": float("nan")})
    assert world.look("abc").why
    world.clocks.note({"b": 1.0})
    assert world.look("abc") == BELIEVED


def test_where_no_node_comes_it_is_said_after_ten_minutes(world: World) -> None:
    world.go(599.0)
    assert world.look("a").early
    world.go(2.0)
    assert not (found := world.look()).early and "timedatectl set-ntp true" in found.why
    world.go(30 * DAY)
    assert world.look().why


def test_nor_by_who_was_measured_long_ago_or_elsewhere(world: World) -> None:
    world.clocks.note({"a": 0.0})
    world.go(301.0)
    assert world.look("a").why and world.look().why


def test_one_that_nodes_vouched_for_is_believed_while_all_are_away(world: World) -> None:
    assert world.measured() == BELIEVED
    for _ in range(100):
        world.go(DAY)
        world.wall += 8.0  # crystals
        assert world.look() == BELIEVED
        world.restart()
    assert world.look() == BELIEVED


@pytest.mark.parametrize("jump", [62.0, HOUR, 3 * DAY, 900 * DAY])
def test_one_that_was_set_ahead_is_not(world: World, jump: float) -> None:
    world.measured()
    world.wall += jump
    found = world.look()
    assert "was set ahead by" in found.why and found.early and not found.refuted
    world.go(601.0)
    assert not world.look().early and world.look().why
    world.restart()
    assert world.look().why, "also for the next process"
    world.wall -= jump
    assert world.look() == BELIEVED, "it is as it was"


@pytest.mark.parametrize("jump", [HOUR, 3 * DAY])
def test_nor_one_that_was_set_while_nothing_ran(world: World, jump: float) -> None:
    world.measured()
    world.go(DAY)
    world.wall += jump
    world.restart()
    assert "was set ahead by" in world.look().why


def test_nor_is_a_daemon_believed_under_whose_eyes_it_was_set(world: World) -> None:
    world.synchronised = True
    assert world.look() == BELIEVED
    world.wall += 3 * DAY
    assert world.look().why
    assert world.measured() == BELIEVED, "nodes can tell"


def test_small_steps_and_steps_back_are_borne(world: World) -> None:
    world.measured()
    world.wall += 59.0
    assert world.look() == BELIEVED
    world.wall -= DAY
    assert world.look() == BELIEVED, "what ends late is not gone"
    world.wall += DAY
    assert world.look() == BELIEVED
    world.wall += DAY
    assert world.look().why


def test_what_nodes_said_before_it_was_set_counts_no_more(world: World) -> None:
    world.measured()
    world.wall += DAY
    assert world.look("abc").why
    world.go(10.0)
    world.clocks.note(dict.fromkeys("abc", 0.0))
    assert world.look("abc").why, "that was on its way when the clock was set"
    assert world.measured(-DAY).refuted
    world.go(30 * DAY)
    assert world.look().refuted, "they have gone, and were right"
    world.wall -= DAY
    assert world.look() == BELIEVED


def test_nodes_that_speak_against_it_take_back_what_was_believed(world: World) -> None:
    world.synchronised = True
    assert world.look() == BELIEVED and world.file.exists()
    assert world.measured(-9 * DAY).refuted and not world.file.exists()
    assert world.look().refuted, "whatever a daemon says"
    assert world.measured() == BELIEVED


def test_one_that_was_late_may_be_put_right(world: World) -> None:
    """As where its battery was empty: nodes come before a daemon has set it."""
    assert world.measured(56 * 365 * DAY) == BELIEVED
    world.wall += 56 * 365 * DAY
    assert world.look() == BELIEVED
    world.wall += HOUR
    assert world.look().why


def test_after_a_boot_somebody_vouches_for_it_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.measured()
    world.wall += 3 * DAY
    world.reboot(monkeypatch)
    assert world.look().why
    world.synchronised = True
    world.wall -= 3 * DAY - 20.0  # a daemon has set it
    assert world.look() == BELIEVED


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot": 1}', b'{"boot": "another", "ahead_s": 1799999900.0}'])
def test_a_file_that_says_nothing_of_this_boot_says_nothing(world: World, content: bytes) -> None:
    world.file.write_bytes(content)
    world.restart()
    assert world.look().why


def test_a_disk_that_takes_nothing_ends_nothing(world: World, tmp_path: Path) -> None:
    world.file = tmp_path / "nowhere" / "clock.json"
    world.restart()
    assert world.measured() == BELIEVED


def test_the_file_is_written_where_it_is_another(world: World) -> None:
    world.measured()
    assert boot() in world.file.read_text()
    before = world.file.stat().st_ino
    world.go(DAY)
    world.look()
    assert world.file.stat().st_ino == before
    world.wall += 2.0
    world.look()
    assert world.file.stat().st_ino != before


def test_the_kernel_answers() -> None:
    assert is_synchronised() in (True, False)
