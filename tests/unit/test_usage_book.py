"""The book of what slivers used: nothing twice, and after whatever end of an agent nothing lost that was written."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vini import bus, durable
from vini.model import TWIN, Gretap, Netns, SliceSpec, Veth, VethEnd, Vxlan, beyond, underlay
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.ledgers import Ledgers
from vini.node.place import Place
from vini.node.usage import meter as meters
from vini.node.usage.book import KEPT, Book, Known, Now, after
from vini.node.usage.meter import HERE, Meter, Metered, metered
from vini.usage import DAY_S, Look, SliceUse, Use, plus, since

NOON = 20_000 * DAY_S + DAY_S // 2
ONE = "s.a"


class Machine:
    """Counters that go on, whatever happens to agents."""

    def __init__(self, path: Path):
        self.place = Place("test", path / "run", path / "state")
        self.now = float(NOON)
        self.slivers: dict[str, Metered] = {}
        self.looks: dict[str, Look] = {}

    def make(self, ns: str, whose: str = HERE) -> None:
        self.slivers[ns] = Metered(whose)
        self.looks[ns] = Look({"cpu 1": (0,)})
        self.place.pin(ns).parent.mkdir(parents=True, exist_ok=True)
        self.place.pin(ns).touch()

    def spend(self, ns: str, cpu: int) -> None:
        (before,) = self.looks[ns].counters["cpu 1"]
        self.looks[ns] = Look({"cpu 1": (before + cpu,)})

    def look(self, namespaces: Mapping[str, Collection[str]]) -> dict[str, Look]:
        return {ns: self.looks[ns] for ns in namespaces if ns in self.looks}

    def agent(self) -> Meter:
        """Another one: that before was killed."""
        return Meter(self.place, lambda: self.now, self.look)

    def cpu(self, meter: Meter, whose: str | None = None) -> dict[tuple[int, str], int]:
        """Day and slice -> what was used."""
        rows, question = list[SliceUse](), bus.AskUsage()
        while True:
            said = meter.told(question, whose)
            rows += said.rows
            if not said.more:
                break
            question = bus.AskUsage(rows[-1].day, rows[-1].slice)
        return {(r.day, r.slice): sum(u.cpu_us for u in r.slivers.values()) for r in rows}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.agent().look({})  # a new machine, on which nothing is
    made.make(ONE)
    return made


def test_what_was_used_before_anybody_counted_is_not_counted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.make(ONE)
    machine.spend(ONE, 1000)
    agent = machine.agent()
    agent.look(machine.slivers)
    machine.spend(ONE, 5)
    agent.look(machine.slivers)
    assert machine.cpu(agent) == {(20_000, "s"): 5}


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["spend", "look", "killed", "killed while it writes", "full", "day", "parting"]), max_size=30
    )
)
def test_whatever_ends_agents_all_is_counted_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    agent, spent = machine.agent(), 0
    agent.look({})
    machine.make(ONE)
    for step in steps:
        match step:
            case "spend":
                machine.spend(ONE, 7)
                spent += 7
            case "look":
                agent.look(machine.slivers)
            case "parting":
                agent.look(machine.slivers, parting=True)
            case "killed":
                agent = machine.agent()
            case "killed while it writes" | "full":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(durable, "write", _fails_at(1 if step == "full" else 2))
                    agent.look(machine.slivers)
                agent = machine.agent() if step != "full" else agent
            case "day":
                machine.now += DAY_S
    agent = machine.agent()
    agent.look(machine.slivers)
    assert sum(machine.cpu(agent).values()) == spent


def _fails_at(number: int) -> object:
    """As `durable.write`, but that call fails."""
    calls, write = [0], durable.write

    def fails(path: Path, content: bytes, mode: int = 0o600) -> None:
        calls[0] += 1
        if calls[0] == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content, mode)

    return fails


def test_counters_begin_anew_with_the_machine_and_with_what_they_count() -> None:
    assert since({"cpu 1": (10,)}, Look({"cpu 2": (3,)}), 60).cpu_us == 3
    assert since({"cpu 1": (10,)}, Look({"cpu 1": (3,)}), 60).cpu_us == 3
    assert since({"tunnel 1 x": (10, 20)}, Look({"tunnel 1 x": (11, 22), "tunnel 1 y": (5, 5)}), 60).tunnel_out == 7
    used = since({}, Look({"outside 3": (1, 2), "exempt e": (9,)}, memory=50, disk=5), 60)
    assert used == Use(outside_in=1, outside_out=2, exempt_out=9, memory_byte_s=3000, memory_most=50,
                       disk_byte_s=300, disk_most=5, up_s=60)  # fmt: skip


def test_after_a_reboot_all_counts_from_nothing(tmp_path: Path) -> None:
    book = Book(tmp_path)
    there = {ONE: Look({"cpu 1": (100,)})}
    before = after(after(book.now, {}, {}, (), Now("b1", 1.0, 5)), there, {ONE: HERE}, {ONE}, Now("b1", 60.0, 5))
    rebooted = after(before, {ONE: Look({"cpu 1": (120,)})}, {ONE: HERE}, {ONE}, Now("b2", 61.0, 5))
    assert rebooted.uses[HERE][ONE].cpu_us == 220 and rebooted.uses[HERE][ONE].up_s == 0


def test_what_can_not_be_read_for_once_is_not_counted_again(tmp_path: Path) -> None:
    day, whose = after(Book(tmp_path).now, {}, {}, (), Now("b", 0.0, 5)), {ONE: HERE}
    for at, look in enumerate((Look({"cpu 1": (9,), "tunnel 1 x": (0, 9)}), Look({"cpu 1": (9,)}), None, Look(
        {"cpu 1": (10,), "tunnel 1 x": (0, 10)}))):  # fmt: skip
        day = after(day, {ONE: look} if look else {}, whose, {ONE}, Now("b", 60.0 * at, 5))
    assert (day.uses[HERE][ONE].cpu_us, day.uses[HERE][ONE].tunnel_out) == (10, 10)
    assert after(day, {}, whose, (), Now("b", 300.0, 5)).known == {}
    assert set(day.known) == {ONE} and isinstance(day.known[ONE], Known)


def test_memory_counts_for_as_long_as_somebody_looked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [1000.0]
    monkeypatch.setattr(meters.time, "clock_gettime", lambda _: at[0])
    agent = machine.agent()
    for step, memory in ((0, 100), (60, 100), (60, 200), (7200, 200)):
        at[0] += step
        machine.looks[ONE] = Look({"cpu 1": (0,)}, memory)
        agent.look(machine.slivers)
    (row,) = agent.told(bus.AskUsage(), None).rows
    used = row.slivers["a"]
    assert used.up_s == 60 + 60 + 120 and used.memory_byte_s == 60 * 100 + 60 * 200 + 120 * 200
    assert used.memory_most == 200


def test_each_day_has_its_own_and_what_is_old_goes(machine: Machine) -> None:
    agent = machine.agent()
    for _ in range(KEPT + 5):
        machine.spend(ONE, 1)
        agent.look(machine.slivers)
        machine.now += DAY_S
    machine.now -= DAY_S
    found = machine.cpu(agent)
    last = 20_000 + KEPT + 4
    assert sorted(day for day, _ in found) == list(range(last - KEPT, last + 1)) and set(found.values()) == {1}
    assert [r.day for r in agent.told(bus.AskUsage(last - 1), None).rows] == [last - 1, last]


def test_a_clock_that_is_set_back_counts_on_where_that_day_was(machine: Machine) -> None:
    agent = machine.agent()
    for step in (0, DAY_S, -DAY_S):
        machine.now += step
        machine.spend(ONE, 1)
        agent.look(machine.slivers)
    assert machine.cpu(agent) == {(20_000, "s"): 2}, "what lies in the future is not told until then"
    machine.now += DAY_S
    machine.spend(ONE, 1)
    agent.look(machine.slivers)
    assert machine.cpu(agent) == {(20_000, "s"): 2, (20_001, "s"): 2}


@pytest.mark.parametrize("wrong", [-5000, 5000])
def test_a_clock_that_is_wrong_by_years_for_a_while_takes_no_day_along(machine: Machine, wrong: int) -> None:
    agent = machine.agent()
    for _ in range(KEPT):
        machine.spend(ONE, 1)
        agent.look(machine.slivers)
        machine.now += DAY_S
    before = machine.cpu(agent)
    machine.now += wrong * DAY_S
    for _ in range(KEPT + 5):
        machine.now += DAY_S
        agent.look(machine.slivers)
    assert len(list((machine.place.state / "usage").iterdir())) <= 2 * KEPT + 1
    machine.now = (20_000.5 + KEPT) * DAY_S
    agent.look(machine.slivers)
    kept = machine.cpu(agent)
    assert wrong > 0 or kept | before == kept, "what a clock that is behind calls the future"
    machine.spend(ONE, 1)
    agent.look(machine.slivers)
    assert machine.cpu(agent)[20_000 + KEPT, "s"] == 1


def test_a_clock_that_jumps_ahead_once_takes_no_day_along(machine: Machine) -> None:
    agent = machine.agent()
    for step in (0, 1, 5000, -5000):
        machine.now += step * DAY_S
        machine.spend(ONE, 1)
        agent.look(machine.slivers)
    assert machine.cpu(agent) == {(20_000, "s"): 1, (20_001, "s"): 2}


def test_a_book_that_can_not_be_read_is_another_one(machine: Machine) -> None:
    agent = machine.agent()
    agent.look(machine.slivers)
    (before,) = agent.told(bus.AskUsage(), None).rows
    (machine.place.state / "usage" / "now.json").write_text("{")
    agent = machine.agent()
    machine.spend(ONE, 100)
    agent.look(machine.slivers)
    (now,) = agent.told(bus.AskUsage(), None).rows
    assert now.book != before.book and now.slivers["a"].cpu_us == 0


def test_a_central_is_told_of_its_own_only(machine: Machine) -> None:
    machine.make("t.b", "central x")
    agent = machine.agent()
    machine.spend("t.b", 3)
    machine.spend(ONE, 4)
    agent.look(machine.slivers)
    assert machine.cpu(agent, "central x") == {(20_000, "t"): 3} and machine.cpu(agent, "central y") == {}
    assert machine.cpu(agent) == {(20_000, "s"): 4, (20_000, "t"): 3}


def test_what_two_asked_for_under_one_name_in_one_day_is_told_together(machine: Machine) -> None:
    agent = machine.agent()
    for whose in ("central x", HERE):
        machine.slivers[ONE] = Metered(whose)
        machine.spend(ONE, 3)
        agent.look(machine.slivers)
    assert machine.cpu(agent) == {(20_000, "s"): 6} and machine.cpu(agent, "central x") == {(20_000, "s"): 3}


def test_many_are_told_in_parts(machine: Machine) -> None:
    for i in range(1200):
        machine.make(f"s{i // 3}.x{i % 3}")
        machine.spend(f"s{i // 3}.x{i % 3}", 1)
    agent = machine.agent()
    agent.look(machine.slivers)
    assert agent.told(bus.AskUsage(), None).more
    found = machine.cpu(agent)
    assert len(found) == 401 and sum(found.values()) == 1200


def test_what_a_sliver_has_to_other_nodes_is_metered_where_it_can_not_take_it_away() -> None:
    """Also as agents before this one asked for it, by their ledger."""
    objects = {
        Netns("s.a"), Netns("s.b"), Netns(underlay("s")),
        Vxlan("s.a", "to-c", 5, "02:00:00:00:00:01", 7, "192.0.2.1", "192.0.2.2"),
        Gretap("s.a", "to-d", 6, "02:00:00:00:00:02", 8, "192.0.2.1", "192.0.2.2"),
    }  # fmt: skip
    own = VethEnd("s.b", "to-e", 9, "02:00:00:00:00:03")
    beyond_reach = beyond("s")
    of_container = Vxlan(beyond_reach, "tunnel9", 1 << 24 | 9, "02:00:00:00:00:05", 9, "192.0.2.1", "192.0.2.2")
    for twin in (TWIN, 3 << 24):
        far = VethEnd(beyond_reach, "pair9", of_container.index ^ twin, "02:00:00:00:00:04")
        contained = {Netns(beyond_reach), of_container, Veth((far, own))}
        found = metered(SliceSpec("s", "n1", 1, frozenset(objects | contained)), HERE)
        assert found == {
            "s.a": Metered(HERE, frozenset({("s.a", "to-c"), ("s.a", "to-d")})),
            "s.b": Metered(HERE, frozenset({(beyond_reach, "tunnel9")})),
        }
    alone = SliceSpec("s", "n1", 1, frozenset({*objects, of_container}))
    assert metered(alone, HERE)["s.b"] == Metered(HERE)


async def test_slices_come_while_it_is_looked_which_are_metered(tmp_path: Path) -> None:
    agent = agent_over(FakeDriver(), Ledgers.below(tmp_path), Meter(Place("test", tmp_path, tmp_path)))

    class Touched(dict[str, Any]):
        """Another thread writes to it at every step of whoever goes over it."""

        def items(self) -> Any:
            for number, pair in enumerate(super().items()):
                self[f"other{number}"] = pair[1]
                yield pair

    for name in ("s", "t"):
        await agent.accept(SliceSpec(name, "n", 1, frozenset({Netns(f"{name}.a")})), lambda *_: None)
    agent._metered = Touched(agent._metered)
    assert agent.metered() == {"s.a": Metered(HERE), "t.a": Metered(HERE)}
    assert agent._metered.keys() == {"s", "t"}


def test_sums() -> None:
    a, b = Use(up_s=1, memory_most=5), Use(up_s=2, memory_most=3)
    assert plus(a, b) == plus(b, a) == Use(up_s=3, memory_most=5)
