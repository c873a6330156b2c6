"""Whether a path is down: by simulated time, over a network of a test's own making."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pytest

from vini.model import Way
from vini.node.arrivals import Heard
from vini.node.echo import checksum
from vini.node.paths import Ears, Paths, Rhythm

A: Way = ("192.0.2.1", "192.0.2.2")
B: Way = ("192.0.2.1", "192.0.2.3")


class Silence:
    """What other nodes send besides answers: nothing."""

    def listen(self, ways: Collection[Way]) -> None:
        """Whatever they are."""

    def heard(self) -> Iterable[Heard]:
        return ()

    def close(self) -> None:
        """There is nothing."""


class World:
    """A clock, and a network between nodes: what is sent is answered `rtt` later, unless it is lost.

    A machine has no time for us for `late()` s now and then, and whatever has come is read then.
    """

    def __init__(self, loss: float = 0.0, rtt: float = 0.01):
        self.now, self.loss, self.rtt = 100.0, loss, rtt
        self.late: Callable[[], float] = lambda: 0.0
        self.ears: Ears = Silence()
        self.cut: set[Way] = set()
        self.sent: list[tuple[float, Way]] = []
        self.closed = 0
        self._answers: list[tuple[float, Way]] = []
        self._chance = random.Random(1)

    def send(self, way: Way, _: bool | None) -> None:
        self.sent.append((self.now, way))
        if way not in self.cut and self._chance.random() >= self.loss:
            self._answers.append((self.now + self.rtt, way))

    def receive(self) -> Iterable[Way]:
        come = [way for at, way in self._answers if at <= self.now and way not in self.cut]
        self._answers = [(at, way) for at, way in self._answers if at > self.now and way not in self.cut]
        return come

    def close(self) -> None:
        self.closed += 1

    def paths(self, file: Path | None = None, **rhythm: float) -> Paths:
        return Paths(file, lambda: self, Rhythm(**rhythm), lambda: self.now, 1, self.ears)

    def pass_(self, paths: Paths, seconds: float) -> list[float]:
        """Step as often as it wants to; when the failed ones changed, in s from the beginning."""
        began, out, before = self.now, [], paths.failed
        while self.now < began + seconds:
            self.now += paths.step() + self.late()
            if paths.failed != before:
                out.append(self.now - began)
                before = paths.failed
        return out


@pytest.fixture
def world() -> World:
    return World()


def alive(world: World, *ways: Way, file: Path | None = None, **rhythm: float) -> Paths:
    paths = world.paths(file, **rhythm)
    paths.watch(frozenset(ways or [A]))
    assert world.pass_(paths, 3.0) == []
    return paths


@pytest.mark.parametrize("rtt", [0.001, 0.3, 1.5])
def test_a_path_that_is_cut_is_down_within_a_second_and_back_within_two(rtt):
    world = World(rtt=rtt)
    paths = alive(world, A, B)
    for _ in range(3):
        world.cut = {A}
        (at,) = world.pass_(paths, 5.0)
        assert 0.4 < at < 1.0
        assert paths.failed == {A} and paths.changed.is_set()
        world.cut = set()
        assert len(world.pass_(paths, 200.0)) == 1
        assert paths.failed == frozenset()


def test_it_is_back_soon(world):
    paths = alive(world)
    world.cut = {A}
    world.pass_(paths, 5.0)
    world.cut = set()
    (at,) = world.pass_(paths, 5.0)
    assert 0.6 <= at < 1.5


@pytest.mark.parametrize(("lost", "changes"), [(0.3, 0), (0.5, 0), (0.95, None)])
def test_a_path_that_loses_much_does_not_flap(lost, changes):
    """Of answers: half of them, when each direction loses 30 %."""
    world = World(loss=lost)
    paths = alive(world) if changes == 0 else world.paths()
    paths.watch(frozenset({A}))
    turned = world.pass_(paths, 120.0)
    if changes is not None:
        assert len(turned) <= changes
    else:
        assert len(turned) < 40  # the more often it fails, the longer it stays so


def test_who_flaps_is_held_back_longer_each_time(world):
    paths = alive(world)
    took = []
    for _ in range(8):
        world.cut = {A}
        world.pass_(paths, 3.0)
        world.cut = set()
        took += world.pass_(paths, 12.0)
    assert took[:4] == sorted(took[:4]) and took[0] < 1.5 and all(9.0 < t < 12.0 for t in took[5:])
    world.pass_(paths, 100.0)
    world.cut = {A}
    world.pass_(paths, 3.0)
    world.cut = set()
    (at,) = world.pass_(paths, 12.0)
    assert at < 1.5


def test_a_path_that_never_answered_is_not_judged(world):
    world.cut = {A}
    paths = world.paths()
    paths.watch(frozenset({A}))
    assert world.pass_(paths, 60.0) == []
    world.cut = set()
    assert world.pass_(paths, 2.0) == []
    world.cut = {A}
    assert len(world.pass_(paths, 2.0)) == 1


def test_time_in_which_we_did_not_run_is_nobodys_silence(world):
    paths = alive(world)
    for slept in (0.9, 5.0, 3600.0):
        world.now += slept
        assert world.pass_(paths, 3.0) == []
    world.loss = 1.0  # the one probe that was under way is lost, too
    paths.step()
    world.now += 30.0
    paths.step()
    world.loss = 0.0
    assert world.pass_(paths, 3.0) == []


@pytest.mark.parametrize("late_s", [0.02, 0.05, 0.1])
def test_a_busy_machine_that_runs_us_notices_a_cut_within_a_second(world, late_s):
    paths = alive(world)
    chance = random.Random(3)
    world.late = lambda: chance.uniform(0.0, late_s)
    for _ in range(20):
        assert world.pass_(paths, 70.0) == []
        world.cut = {A}
        (at,) = world.pass_(paths, 3.0)
        assert 0.4 < at < 1.0
        world.cut = set()
        assert len(world.pass_(paths, 20.0)) == 1


def test_who_hardly_runs_calls_nobody_dead_by_that(world):
    """The machine runs neither us nor what hands us answers: each comes two of our steps late, or more."""
    world.rtt = 1.2
    paths = alive(world)
    world.late = lambda: 0.5
    assert world.pass_(paths, 120.0) == []


def test_lateness_counts_as_nobodys_silence(world):
    """What would be down by the clock on the wall is not by the time that we ran."""
    paths = alive(world, every=0.03)
    world.late = lambda: 0.24
    world.cut = {A}
    assert world.pass_(paths, 1.0) == []
    world.cut = set()
    assert world.pass_(paths, 60.0) == []


def test_who_hardly_runs_notices_a_cut_all_the_same(world):
    paths = alive(world)
    world.late = lambda: 0.5
    world.cut = {A}
    (at,) = world.pass_(paths, 60.0)
    assert at < 30.0


def test_after_a_long_pause_all_is_asked_anew(world):
    paths = alive(world)
    world.cut = {A}
    assert world.pass_(paths, 0.45) == []
    world.now += 20.0  # stopped as it was about to say so; and meanwhile the path has come back
    world.cut = set()
    assert world.pass_(paths, 5.0) == []


class Node:
    """One of two: what it hears of the other besides answers, as `arrivals.Arrivals` does."""

    def __init__(self, world: Two):
        self.world, self.inbox, self.listened, self.ways = world, list[Heard](), 0, set[Way]()

    def listen(self, ways: Collection[Way]) -> None:
        self.ways = set(ways)
        if not ways:
            self.inbox.clear()
        self.listened += bool(ways)

    def heard(self) -> Iterable[Heard]:
        out, self.inbox = self.inbox, []
        return out

    def close(self) -> None:
        self.inbox.clear()


class Wire(World):
    """One node's side of `Two`."""

    def __init__(self, two: Two, name: str):
        super().__init__()
        self.two, self.name, self.ears = two, name, Node(two)

    def send(self, way: Way, hears: bool | None) -> None:
        other = self.two.other(self.name)
        if not self.two.arrives(self.name):
            return
        if self.two.notes:
            self.two.wires[other].ears.inbox.append(Heard(A, hears))
        if self.two.arrives(other) and other not in self.two.answerless:
            self._answers.append((self.now + self.rtt, way))


class Two:
    """Two nodes that probe each other; direction -> how much of probes and notes is lost, and whether data arrives.

    Each calls the path `A`.
    """

    def __init__(self, notes: bool = True):
        self.loss, self.data = {"x": 0.0, "y": 0.0}, {"x": False, "y": False}  # of what that one sends
        self.notes, self._chance = notes, random.Random(7)
        self.answerless = set[str]()  # those whose host answers no echo requests
        self.wires = {name: Wire(self, name) for name in "xy"}
        self.paths = {name: wire.paths() for name, wire in self.wires.items()}
        self.failed: dict[str, list[float]] = {"x": [], "y": []}
        for paths in self.paths.values():
            paths.watch(frozenset({A}))
        self._next = {"x": 100.0, "y": 100.1}
        self.now = 100.0

    def other(self, name: str) -> str:
        return "y" if name == "x" else "x"

    def arrives(self, name: str) -> bool:
        return self._chance.random() >= self.loss[name]

    def pass_(self, seconds: float) -> dict[str, list[float]]:
        """Name -> when its path changed, in s from now."""
        began, out = self.now, dict[str, list[float]](x=[], y=[])
        while (at := min(self._next.values())) < began + seconds:
            name = min(self._next, key=self._next.__getitem__)
            wire, paths = self.wires[name], self.paths[name]
            wire.now = self.now = at
            if self.data[self.other(name)]:
                wire.ears.inbox.append(Heard(A, None))
            before = paths.failed
            self._next[name] = at + paths.step()
            if paths.failed != before:
                out[name].append(at - began)
        self.now = began + seconds
        return out


NOTHING: dict[str, list[float]] = {"x": [], "y": []}


@pytest.fixture
def two() -> Two:
    made = Two()
    assert made.pass_(5.0) == NOTHING
    assert all(wire.ears.listened == 0 for wire in made.wires.values()), "nobody listens while all is well"
    return made


@pytest.mark.parametrize("loss", [0.5, 0.9, 0.99, 1.0])
def test_a_flood_that_costs_all_probes_of_its_direction_is_no_failure(two: Two, loss: float) -> None:
    """The others arrive, and tell that the flood does."""
    two.loss["y"], two.data["y"] = loss, True
    assert two.pass_(100.0) == NOTHING


@pytest.mark.parametrize("loss", [0.9, 0.99, 1.0])
def test_nor_is_a_flood_in_both_directions(two: Two, loss: float) -> None:
    two.loss, two.data = {"x": loss, "y": loss}, {"x": True, "y": True}
    assert two.pass_(100.0) == NOTHING


def test_a_cut_in_the_middle_of_a_flood_is_noticed_within_a_second(two: Two) -> None:
    two.loss["y"], two.data["y"] = 0.99, True
    assert two.pass_(60.0) == NOTHING
    two.loss, two.data = {"x": 1.0, "y": 1.0}, {"x": False, "y": False}
    for (at,) in two.pass_(10.0).values():
        assert at < 1.0


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("mute", ["x", "y"])
def test_a_cut_of_one_direction_fails_both_ends_though_packets_arrive_at_one(two: Two, mute: str, data: bool) -> None:
    for _ in range(20):
        two.loss[mute], two.data[two.other(mute)] = 1.0, data
        for (at,) in two.pass_(10.0).values():
            assert 0.4 < at < 1.0
        two.loss[mute] = 0.0
        assert all(len(turned) == 1 for turned in two.pass_(80.0).values())


def test_so_does_it_at_the_end_that_has_answers_where_the_other_never_had_one() -> None:
    """Whose probes arrive all the same: they prove nothing of the other direction."""
    two = Two()
    two.answerless = {"x"}
    assert two.pass_(5.0) == NOTHING
    two.loss["x"] = 1.0
    (at,) = two.pass_(10.0)["x"]
    assert 0.4 < at < 1.0


def test_what_nothing_rides_on_any_more_is_not_listened_to(two: Two) -> None:
    two.loss, two.data = {"x": 1.0, "y": 1.0}, {"x": True, "y": True}
    assert two.pass_(5.0) == NOTHING
    wire, paths = two.wires["x"], two.paths["x"]
    wire.ears.inbox.append(Heard(A, None))
    paths.watch(frozenset({B}))
    paths.step()
    assert wire.ears.ways == set() and paths.failed == frozenset()


def test_an_agent_that_sends_no_notes_is_judged_by_answers_and_data() -> None:
    two = Two(notes=False)
    assert two.pass_(5.0) == NOTHING
    two.loss["x"] = 1.0
    for (at,) in two.pass_(10.0).values():
        assert 0.4 < at < 1.0


def test_an_agent_that_starts_assumes_that_paths_are_as_they_were(world, tmp_path):
    file = tmp_path / "paths.json"
    paths = alive(world, A, B, file=file)
    world.cut = {A}
    world.pass_(paths, 3.0)
    again = world.paths(file)
    assert again.failed == {A}
    again.watch(frozenset({A, B}))
    assert world.pass_(again, 5.0) == [] and again.failed == {A}
    world.cut = {B}
    third = world.paths(file)
    third.watch(frozenset({A, B}))
    assert len(world.pass_(third, 5.0)) == 2
    assert third.failed == {B}


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"local": 3}]', "null"])
def test_what_is_on_disk_and_makes_no_sense_is_nothing(world, tmp_path, text):
    (tmp_path / "paths.json").write_text(text)
    paths = alive(world, file=tmp_path / "paths.json")
    assert paths.failed == frozenset()
    assert json.loads((tmp_path / "paths.json").read_text()) == [{"local": A[0], "remote": A[1]}]


def test_a_disk_that_takes_nothing_stops_nothing(world, tmp_path):
    paths = alive(world, file=tmp_path / "no" / "paths.json")
    world.cut = {A}
    assert len(world.pass_(paths, 3.0)) == 1


def test_what_nothing_rides_on_is_not_probed_and_not_failed(world):
    paths = alive(world)
    world.cut = {A}
    world.pass_(paths, 3.0)
    paths.changed.clear()
    paths.watch(frozenset())
    assert paths.failed == frozenset() and paths.changed.is_set() and world.closed == 1
    sent = len(world.sent)
    world.pass_(paths, 10.0)
    assert len(world.sent) == sent
    paths.watch(frozenset({A}))  # something rides on it again: it is as it was
    assert paths.failed == {A}


def test_a_node_with_very_many_paths_probes_each_less_often(world):
    many = frozenset((f"192.0.2.{i % 9}", f"198.18.{i // 250}.{i % 250}") for i in range(1000))
    paths = world.paths()
    paths.watch(many)
    world.pass_(paths, 20.0)
    assert len(world.sent) / 20.0 <= 1350  # a quarter more at most, as each is up to a quarter earlier
    world.cut = {sorted(many)[7]}
    assert len(world.pass_(paths, 10.0)) == 1


def test_one_path_is_a_handful_of_probes_a_second(world):
    alive(world)
    assert 14 <= len(world.sent) <= 22  # in 3 s


def test_nothing_is_made_where_nothing_rides():
    def refuse() -> World:
        raise AssertionError("no socket is needed")

    async def go(paths: Paths) -> None:
        task = asyncio.create_task(paths.run(frozenset))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(go(Paths(None, refuse)))


def test_the_loop_follows_what_is_ridden_on(world):
    ridden: list[frozenset[Way]] = [frozenset({A})]

    async def until(check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():
                await asyncio.sleep(0.005)

    async def go() -> None:
        paths = Paths(
            None, lambda: world, Rhythm(every=0.01, soon=0.005, doubt=0.02, silence=0.05, look=0.02), ears=Silence()
        )
        world.rtt = 0.0
        task = asyncio.create_task(paths.run(lambda: ridden[0]))
        await until(lambda: len(world.sent) > 3)
        world.cut = {A}
        await until(lambda: paths.failed == {A})
        ridden[0] = frozenset({B})
        await until(lambda: paths.failed == frozenset() and (world.now, B) in world.sent)
        task.cancel()

    asyncio.run(go())


def test_the_checksum_is_that_of_the_internet():
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # RFC 1071, 3
