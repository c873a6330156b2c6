"""By a clock that nobody vouches for nothing is ended and nothing forgotten."""

from __future__ import annotations

import ctypes
import errno
import struct
from pathlib import Path

import pytest

from vini.boot import boot
from vini.central import clocks as clocks_module
from vini.central import synchronised as kernel
from vini.central.clocks import Clocks, Verdict
from vini.central.synchronised import why_unsynchronised
from vini.rules.doubt import behind, middle, unknown

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
        told = lambda: "" if self.synchronised else "no daemon runs"  # noqa: E731
        self.clocks = Clocks(lambda: self.wall, self.file, lambda: self.since_boot, told)

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
        self.clocks.note({}, {})  # as by others that come and go: that the clock was set is seen
        self.go(60.0)
        self.clocks.note(dict.fromkeys("abc", ahead), {})
        return self.look("abc")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_clock_is_not_believed_until_most_nodes_were_measured(world: World) -> None:
    assert "nothing shows that this machine's clock is right" in world.look().why
    assert world.look("abc").early
    world.clocks.note({"a": 0.0, "b": float("nan")}, {})
    assert world.look("abc").why
    world.clocks.note({"b": 1.0}, {})
    assert world.look("abc") == BELIEVED


def test_where_no_node_comes_it_is_said_after_ten_minutes(world: World) -> None:
    world.go(599.0)
    assert world.look("a").early
    world.go(2.0)
    assert not (found := world.look()).early and "no daemon runs" in found.why
    world.go(30 * DAY)
    assert world.look().why


def test_nor_by_who_was_measured_long_ago_or_elsewhere(world: World) -> None:
    world.clocks.note({"a": 0.0}, {})
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
    assert "ahead of what nodes" in found.why and found.early and not found.refuted
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
    assert "ahead of what nodes" in world.look().why


def test_nor_is_a_daemon_believed_under_whose_eyes_it_was_set(world: World) -> None:
    world.synchronised = True
    world.go(601.0)
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
    world.clocks.note(dict.fromkeys("abc", 0.0), {})
    assert world.look("abc").why, "that was on its way when the clock was set"
    assert world.measured(-DAY).refuted
    world.go(30 * DAY)
    assert world.look().refuted, "they have gone, and were right"
    world.wall -= DAY
    assert world.look() == BELIEVED


def test_nodes_that_speak_against_it_take_back_what_was_believed(world: World) -> None:
    world.synchronised = True
    world.go(601.0)
    assert world.look() == BELIEVED
    assert world.measured(-9 * DAY).refuted
    assert world.look().refuted, "whatever a daemon says"
    world.restart()
    world.go(601.0)
    assert "216 hours" in world.look().why, "also to the next process"
    world.wall -= 9 * DAY
    assert world.look() == BELIEVED, "set to what they say"
    world.wall += 9 * DAY
    assert world.measured() == BELIEVED, "they have changed their minds"


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
    assert world.look().why, "nodes could not speak yet"
    world.go(601.0)
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


def test_what_nodes_refute_before_the_kernel_is_asked_is_not_believed_by_the_next_process(world: World) -> None:
    world.synchronised = True
    assert world.measured(-9 * DAY).refuted
    world.restart()
    for _ in range(3):
        assert world.look().why
        world.go(601.0)


def together(world: World, ahead: dict[str, float], here: str) -> Verdict:
    """Nodes at sites of their own, all connected; those in `here` run on the central's machine."""
    world.clocks.note({}, {})
    world.go(60.0)
    world.clocks.note(ahead, {n: boot() if n in here else "of another machine" for n in ahead})
    return world.clocks.look({n: i for i, n in enumerate(ahead)}, ahead.keys())


@pytest.mark.parametrize("sites", [{"own": 1, "b": 1}, {"own": 1, "b": 2}])
def test_a_node_on_this_machine_can_t_tell(world: World, sites: dict[str, int]) -> None:
    assert together(world, {"own": 0.0, "b": 0.0}, "own") == BELIEVED
    world.wall += 3 * DAY
    assert together(world, {"own": 0.0, "b": -3 * DAY}, "own").refuted
    world.restart()
    world.go(60.0)
    world.clocks.note({"own": 0.0}, {"own": boot()})
    assert world.clocks.look(sites, {"own"}).why, "it is back first"


def test_of_two_that_differ_the_one_behind_counts_where_the_clock_was_set(world: World) -> None:
    """As where the other is a virtual machine that follows its host's clock."""
    assert together(world, {"a": 0.0, "b": 0.0}, "") == BELIEVED
    world.wall += 3 * DAY
    assert together(world, {"a": 0.0, "b": -3 * DAY}, "").refuted
    assert together(world, {"a": 0.0, "b": 0.0}, "") == BELIEVED


def alone(world: World) -> Verdict:
    return together(world, {"own": 0.0}, "own")


def test_where_all_nodes_run_on_this_machine_slices_end_all_the_same(world: World) -> None:
    assert alone(world).why, "a daemon may put it right yet"
    world.go(600.0)
    assert alone(world) == BELIEVED, "without a daemon"
    world.go(30 * DAY)
    world.restart()
    assert world.clocks.look({"own": 1}, set()) == BELIEVED, "its agent does not run"
    world.wall += HOUR
    assert alone(world) == BELIEVED, "as with nodes elsewhere"


def test_but_not_by_a_clock_that_a_hand_set_ahead(world: World) -> None:
    """That takes a daemon's word back; a virtual machine that was paused has it again when its clock is right."""
    world.go(600.0)
    assert alone(world) == BELIEVED
    world.wall += 3 * DAY
    assert "start the machine anew" in alone(world).why
    world.restart()
    assert alone(world).why
    world.synchronised = True
    assert alone(world) == BELIEVED


def test_a_node_that_moved_to_another_machine_can_tell(world: World) -> None:
    world.go(600.0)
    assert alone(world) == BELIEVED
    world.wall += 3 * DAY
    assert together(world, {"own": 0.0}, "") == BELIEVED


@pytest.mark.parametrize(
    ("seconds", "words"), [(62.0, "62 seconds"), (179.0, "3 minutes"), (HOUR, "60 minutes"), (3 * DAY, "72 hours")]
)
def test_by_how_much_it_was_set_is_said_in_words(seconds: float, words: str) -> None:
    assert f", {words} ahead of" in unknown(NOW, seconds, "", alone=False)


def libc(monkeypatch: pytest.MonkeyPatch, status: int, error: int = 0) -> None:
    """Its `adjtimex` writes as the kernel does on this kind of machine: eight bytes each but for the ints."""

    class Libc:
        def adjtimex(self, where) -> int:  # noqa: ANN001
            if error:
                kernel.ctypes.set_errno(error)
                return -1
            told = struct.pack("@IlllliI", 0, 1, 2, 3, 4, status, 0xFFFFFFFF)
            kernel.ctypes.memmove(where, told, len(told))
            return 0

    monkeypatch.setattr(kernel.ctypes, "CDLL", lambda *_, **__: Libc())


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(0x2001, 0, ""), (0x2041, 0, "`rtcsync`"), (0, errno.EPERM, "may not ask its kernel")],
)
def test_what_the_kernel_says_is_understood(
    monkeypatch: pytest.MonkeyPatch, status: int, error: int, words: str
) -> None:
    libc(monkeypatch, status, error)
    found = why_unsynchronised()
    assert words in found and bool(words) == bool(found)


@pytest.mark.skipif(struct.calcsize("l") != 8, reason="the struct is another one there")
def test_the_flag_is_looked_for_where_this_kernel_has_it() -> None:
    """40 bytes from the struct's beginning (linux/timex.h)."""
    buffer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(buffer) < 0:
        pytest.skip("this process may not ask")
    (status,) = struct.unpack_from("@i", buffer, 40)
    assert bool(status & 0x40) == bool(why_unsynchronised())
