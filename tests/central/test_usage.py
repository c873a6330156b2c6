"""What slices used: told by nodes again and again, kept once, and shown to those whom it concerns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_agents import QUICK, FakeDesk
from sqlalchemy import func, select
from test_admission import N1, N2
from testbed_api import Api, email, populated

from vini import bus
from vini.central import attendance
from vini.central.attendance import Attendance
from vini.central.delivery import Desks, Identity
from vini.central.desk import StoredDesk
from vini.model import Netns, SliceSpec
from vini.node.place import Place
from vini.node.usage.meter import HERE, Meter, Metered
from vini.rules.usage import day_of, text_of
from vini.store import members, slices, specs, tables, usage
from vini.store.database import Database, Tx
from vini.usage import DAY_S, FIELDS, Look, SliceUse, Use

A, B = "princeton_iias", "princeton_b"
OWNER = "ada@princeton.example"  # of B


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    made.now[0] = 200.5 * DAY_S
    with database.transaction() as tx:
        slices.add(tx, B, OWNER, made.now[0])
        for name in (A, B):
            place(tx, name, N1, N2)
    return made


def place(tx: Tx, name: str, *nodes: str) -> None:
    specs.put(tx, name, 1, {node: SliceSpec(name, node, 1, frozenset({Netns(f"{name}.x")})) for node in nodes})


def today(api: Api) -> int:
    return int(api.now[0]) // DAY_S


def tell(api: Api, *rows: tuple[str, SliceUse]) -> None:
    desk = StoredDesk(api.database, lambda: api.now[0])
    desk.reported([(node, bus.Usage((row,))) for node, row in rows])


def used(day: int, slice_: str = A, book: str = "b1", **slivers: Use) -> SliceUse:
    return SliceUse(day, slice_, slivers, book)


def seen(api: Api, who: str = "admin", query: str = "") -> list[dict[str, object]]:
    items, cursor = [], ""
    while True:
        page = api(who, "GET", f"/usage?limit=2&cursor={cursor}&{query}").json()
        assert len(page["items"]) <= 2, page
        items += page["items"]
        if not (cursor := page["next"]):
            return items


def sums(api: Api, field: str, who: str = "admin", query: str = "") -> dict[object, object]:
    return {row["name"]: row[field] for row in seen(api, who, query)}


def test_what_is_told_again_counts_once(api: Api) -> None:
    day = today(api)
    tell(api, (N1, used(day, x=Use(outside_out=10, cpu_us=2_000_000, memory_most=7))))
    for _ in range(2):
        tell(api, (N1, used(day, x=Use(outside_out=15, cpu_us=3_000_000, memory_most=9), y=Use(outside_in=1))))
    tell(api, (N2, used(day, x=Use(outside_out=100, memory_most=8))))
    (row,) = seen(api)
    assert (row["name"], row["site"], row["nodes"], row["day"]) == (A, "princeton", 2, "")
    assert (row["outside_out"], row["outside_in"], row["cpu_s"], row["memory_most"]) == (115, 1, 3.0, 9)


def test_a_book_that_was_begun_anew_adds_to_the_one_before(api: Api) -> None:
    day = today(api)
    tell(api, (N1, used(day, x=Use(tunnel_out=10))))
    tell(api, (N1, used(day, book="b2", x=Use(tunnel_out=1))))
    tell(api, (N1, used(day, book="b2", x=Use(tunnel_out=2), y=Use(tunnel_out=5))))
    assert sums(api, "tunnel_out") == {A: 17}
    assert sums(api, "tunnel_out", query=f"per=sliver&slice={A}") == {f"{A}/x": 12, f"{A}/y": 5}


def test_a_node_is_asked_from_the_day_on_of_which_it_told_last(api: Api) -> None:
    day, desk = today(api), StoredDesk(api.database, lambda: api.now[0])
    assert desk.told_until([N1, N2]) == [0, 0]
    tell(api, (N1, used(day - 3, x=Use(up_s=5))), (N1, used(day - 1, x=Use(up_s=5))), (N2, used(day, x=Use(up_s=1))))
    assert desk.told_until([N2, N1, "gone"]) == [day - 1, day - 1, 0], "yesterday's is not over where a clock is behind"
    tell(api, (N1, used(day - 2, x=Use(up_s=5))), (N2, used(day + 1, x=Use(up_s=1))))
    assert desk.told_until([N2, N1]) == [day - 1, day - 1]
    api.now[0] += 3 * DAY_S
    assert desk.told_until([N2, N1]) == [day + 1, day - 1]


class _Node:
    """Of a connection that which asks it; tells without end of day after day."""

    node = "n"

    def __init__(self, last: int):
        self.last, self.asked = last, list[bus.AskUsage]()

    async def ask(self, question: bus.AskUsage) -> bus.Usage:
        self.asked.append(question)
        name = f"{question.after or 'a'}a"
        day = min(self.last, question.day + 1)
        return bus.Usage((used(day, name, x=Use(up_s=1)),), more=True)


async def test_a_round_has_an_end_and_the_next_goes_on_from_yesterday(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "_PAGES", 10)
    day, desk = 20_000, FakeDesk()
    node = _Node(day + 1)
    identity = Identity(b"")
    greeting = bus.Greeting("test", 1, "n1", frozenset(), {})
    line = Attendance(node, greeting, identity, Desks(desk), QUICK, lambda: day * DAY_S + 1.0)  # type: ignore[arg-type]
    assert await line._accounted(day - 2) == day - 1
    assert len(node.asked) == len(desk.heard) == 10
    assert await line._accounted(day - 50) == day - 40


class Counting:
    """A node that counts by a clock of its own, and answers whoever asks what was used there."""

    node = N1

    def __init__(self, state: Path, clock: Callable[[], float]):
        self.spent, self.by_day = 0, dict[int, int]()
        self._clock, self._before = clock, 0
        self.meter = Meter(Place("test", state / "run", state), clock, self._looked)

    def _looked(self, slivers: Mapping[str, object]) -> dict[str, Look]:
        return {ns: Look({"cpu 1": (self.spent,)}) for ns in slivers}

    def look(self) -> None:
        self.spent += 7
        self.meter.look({f"{A}.x": Metered(HERE)})
        day = int(self._clock()) // DAY_S
        self.by_day[day] = self.by_day.get(day, 0) + self.spent - self._before
        self._before = self.spent

    async def ask(self, question: bus.AskUsage) -> bus.Usage:
        return self.meter.told(question, None)


@pytest.mark.parametrize(
    ("ahead_s", "away"),
    [(0.0, range(0)), (900.0, range(0)), (-900.0, range(-7, 40)), (900.0, range(-3, 1))],
    ids=["always there", "clock ahead", "away, clock behind", "away at midnight, clock ahead"],
)
async def test_no_day_lacks_what_was_used_about_midnight(
    api: Api, tmp_path: Path, ahead_s: float, away: Collection[int]
) -> None:
    """A node looks each minute, and is asked every ten; `away`: minutes after each midnight in which it can't be."""
    node = Counting(tmp_path, lambda: api.now[0] + ahead_s)
    node.spent = -7
    node.look()  # the first look of a book only learns what there was before
    node.by_day.clear()
    greeting = bus.Greeting("test", 1, "n1", frozenset(), {})
    desk = StoredDesk(api.database, lambda: api.now[0])
    first = today(api)
    (since,) = desk.told_until([N1])
    for midnight in (first + 1, first + 2):
        for minute in range(-30, 64):
            api.now[0] = midnight * DAY_S + 60.0 * minute
            node.look()
            if minute in away:
                (since,) = desk.told_until([N1])  # it is another connection afterwards
            elif minute % 10 == 3:
                line = Attendance(node, greeting, Identity(b""), Desks(desk), QUICK, lambda: api.now[0])  # type: ignore[arg-type]
                since = await line._accounted(since)
                assert kept(api) == node.by_day
    assert kept(api) == node.by_day and sum(node.by_day.values()) == 7 * 2 * 94


def kept(api: Api) -> dict[int, int]:
    with api.database.reading() as tx:
        rows = tx.execute(select(tables.usage.c.day, func.sum(tables.usage.c.cpu_us)).group_by(tables.usage.c.day))
        return {int(day): int(used) for day, used in rows}


def test_sums_by_day_site_person_and_node(api: Api) -> None:
    day = today(api)
    tell(
        api,
        (N1, used(day - 1, x=Use(up_s=1))), (N1, used(day, x=Use(up_s=10))), (N2, used(day, B, x=Use(up_s=100))),
        (N2, used(day - 40, x=Use(up_s=1000))),
    )  # fmt: skip
    assert sums(api, "up_s") == {A: 11, B: 100}
    assert sums(api, "up_s", query="per=site") == {"princeton": 111}
    assert sums(api, "up_s", query="per=node") == {N1: 11, N2: 100}
    assert sums(api, "up_s", query=f"per=node&slice={A[:-1]}*") == {N1: 11}
    assert sums(api, "up_s", query=f"since={text_of(day - 40)}") == {A: 1011, B: 100}
    assert sums(api, "up_s", query=f"until={text_of(day - 1)}") == {A: 1}
    daily = [(row["day"], row["name"], row["up_s"]) for row in seen(api, query="daily=true")]
    assert daily == [(text_of(day - 1), A, 1), (text_of(day), B, 100), (text_of(day), A, 10)]
    by_person = sums(api, "up_s", query="per=person")
    assert by_person == {email("pi"): 11, OWNER: 100}
    for wrong in (
        f"per=sliver&slice={A}&since=2020-01-01",
        "since=2020-13-01",
        "since=2021-01-01&until=2020-01-01",
        "cursor=x",
    ):
        assert api("admin", "GET", f"/usage?{wrong}").status_code == 400, wrong
    for some in ("", f"&slice={A[:-1]}*"):
        refused = api("admin", "GET", f"/usage?per=sliver{some}")
        assert refused.status_code == 400 and "`vini usage --per sliver --slice NAME`" in refused.text
    assert api("", "GET", "/usage").status_code == 401


def test_each_sees_what_concerns_him(api: Api) -> None:
    tell(api, (N1, used(today(api), x=Use(up_s=1))), (N1, used(today(api), B, x=Use(up_s=2))))
    assert sums(api, "up_s", "pi") == sums(api, "up_s", "tech") == {A: 1, B: 2}
    assert sums(api, "up_s", "user", "per=site") == {"princeton": 1}, "he is a member of one of both"
    assert sums(api, "up_s", "user", f"slice={B}&per=sliver") == {}
    assert seen(api, "outsider") == []


def test_a_slice_that_is_gone_keeps_its_site_and_its_person(api: Api) -> None:
    with api.database.transaction() as tx:
        slices.delete(tx, B)
    tell(api, (N1, used(today(api), B, x=Use(up_s=2))))
    (row,) = seen(api)
    assert (row["name"], row["site"], row["person"]) == (B, "princeton", OWNER)
    assert sums(api, "up_s", "pi") == {B: 2} and seen(api, "user") == []
    api.now[0] += 2 * DAY_S
    with api.database.transaction() as tx:
        row = slices.add(tx, B, "other@princeton.example", api.now[0])
        members.add(tx, row.id, email("user"))
        place(tx, B, N1)
    assert seen(api, "user") == [], "what another one of its name used is not his"
    day = today(api)
    tell(api, *((N1, used(d, B, x=Use(up_s=3))) for d in (day - 2, day - 1, day)))
    by_person = sums(api, "up_s", query="per=person")
    assert by_person == {OWNER: 6, "other@princeton.example": 3}, "what the one before used stays his"


def test_what_makes_no_sense_is_left_out(api: Api) -> None:
    day = today(api)
    good = used(day, x=Use(up_s=1))
    bad = [
        used(day, "princeton_never", x=Use(up_s=1)), used(day + 2, x=Use(up_s=1)), used(day - 41, x=Use(up_s=1)),
        used(day, "no slice", x=Use(up_s=1)), used(day, x=Use(up_s=-1)), used(day, x=Use(cpu_us=1 << 63)),
        used(day, book="\0", x=Use(up_s=1)), used(day, **{"x\0": Use(up_s=1)}),
    ]  # fmt: skip
    tell(api, *((N1, row) for row in bad))
    assert seen(api) == []
    tell(api, *((N2, row) for row in bad), (N1, good))
    assert sums(api, "up_s") == {A: 1}


def test_a_node_tells_only_of_slices_that_are_or_were_on_it(api: Api) -> None:
    day, other = today(api), "princeton_other"
    with api.database.transaction() as tx:
        slices.add(tx, other, OWNER, api.now[0])
        place(tx, other, N1)
    tell(api, (N1, used(day, other, x=Use(up_s=1))), (N2, used(day, other, x=Use(up_s=10))))
    assert sums(api, "up_s", query="per=node") == {N1: 1}
    with api.database.transaction() as tx:
        specs.put(tx, other, 2, {})
        specs.acknowledge(tx, other, N1, 2, b"", api.now[0])
        assert not specs.numbers_of_node(tx, N1).get(other)
    tell(api, (N1, used(day, other, x=Use(up_s=2))), (N1, used(day + 1, other, x=Use(up_s=4))))
    assert sums(api, "up_s", query=f"per=node&until={text_of(day + 1)}") == {N1: 6}, "the last of one that it gave up"
    with api.database.transaction() as tx:
        slices.delete(tx, other)
    tell(api, (N2, used(day, other, x=Use(up_s=10))))
    assert sums(api, "up_s", query="per=node") == {N1: 2, N2: 10}, "where one was that ended, nobody knows"


def test_a_node_can_not_fill_the_database(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    day = today(api)
    monkeypatch.setattr(usage, "_MOST_BYTES", 5_000)
    tell(api, (N1, used(day, x=Use(up_s=1))), (N1, used(day, B, **{f"y{i}": Use(up_s=1) for i in range(1000)})))
    tell(api, (N1, used(day - 1, B, **{f"y{i}": Use(up_s=1) for i in range(100)})))
    assert sums(api, "up_s") == {A: 1, B: 100} and f"node {N1} tells of more slivers" in caplog.text
    for book in range(5):
        some = {f"z{book}-{i}": Use(up_s=1) for i in range(100)}
        tell(api, (N1, used(day, A, f"b{book}", **some)))
    with api.database.reading() as tx:
        assert sum(usage._held(tx, [N1], [day]).values()) <= 5_000
    tell(api, (N1, used(day - 1, B, y0=Use(up_s=7))))
    assert sums(api, "up_s", query=f"until={text_of(day - 1)}") == {B: 7}, "what takes less is written down"


def test_what_is_old_is_forgotten(api: Api) -> None:
    day = today(api)
    tell(api, (N1, used(day, x=Use(up_s=1))))
    api.now[0] += usage.KEPT_DAYS * DAY_S
    for kept in (1, 0):
        with api.database.transaction() as tx:
            usage.forget(tx, api.now[0])
        assert len(seen(api, query=f"since={text_of(day)}")) == kept
        api.now[0] += DAY_S


def test_no_lie_is_too_great_for_the_database(api: Api) -> None:
    most = Use(**dict.fromkeys(FIELDS, (1 << 53) - 1))
    for book in range(3):
        tell(api, *((N1, used(today(api) - i, book=f"b{book}", x=most)) for i in range(30)))
    (row,) = seen(api)
    assert row["memory_byte_s"] == pytest.approx(60 * 2**53) and row["memory_most"] == (1 << 53) - 1


def test_days_are_words() -> None:
    assert text_of(0) == "1970-01-01" and day_of("2026-11-29") == 20786
