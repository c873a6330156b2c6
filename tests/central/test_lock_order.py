"""Whoever waits for a lock holds none that another, who has that one, waits for: on PostgreSQL, which locks rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from own_place import eventually
from sqlalchemy import text
from testbed_api import Api, populated

from vini import bus
from vini.central.ca import Authority
from vini.central.clocks import Clocks
from vini.central.delivery import Lack
from vini.central.desk import StoredDesk
from vini.central.run import Central
from vini.model import Netns, SliceSpec, Sliver, Topology
from vini.store import counters, reminders, slices, takings
from vini.store.database import Database, Tx

A, B = "princeton_a", "princeton_b"
N1 = "n1.princeton.example"


@pytest.fixture
def api(database: Database) -> Api:
    if database.is_sqlite:
        pytest.skip("SQLite has one writer")
    made = populated(database)
    with database.transaction() as tx:
        for name in (A, B):
            slices.add(tx, name, "pi@princeton.example", made.now[0], "what", "https://x.example")
            spec = SliceSpec(name, N1, 1, frozenset({Netns(f"{name}.x")}))
            slices.put_topology(tx, name, Topology(name, {"x": Sliver("x")}), {N1: spec}, 1.0)
    return made


def waits(database: Database) -> bool:
    with database.reading() as tx:
        return bool(tx.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))


def vouched_for(api: Api) -> Clocks:
    """By a daemon, whatever it shows."""
    return Clocks(lambda: api.now[0], unsynchronised=lambda: "")


def beside(
    database: Database, first: Callable[[Tx], object], work: Callable[[], object], then: Callable[[Tx], object]
) -> None:
    """While a transaction that has done `first` is open, `work` begins and comes to wait; `then` needs not wait."""
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as tx:
            first(tx)
            working = pool.submit(work)
            eventually(lambda: waits(database), within=60)
            tx.execute(text("SET LOCAL lock_timeout = '3s'"))
            then(tx)
        working.result(timeout=60)


def test_who_renews_takes_his_turn_before_he_holds_the_slice(api: Api, database: Database) -> None:
    answers = []
    beside(
        database, takings.turn, lambda: answers.append(api("pi", "POST", f"/slices/{A}/renewals", {})),
        lambda tx: slices.get(tx, A, lock=True),
    )  # fmt: skip
    assert answers[0].status_code == 200, answers[0].text


def test_who_ends_several_slices_holds_all_before_he_writes(api: Api, database: Database, tmp_path) -> None:
    api.now[0] += 1e8
    central = Central(database, Authority(tmp_path / "ca"), lambda: api.now[0], clocks=vouched_for(api))
    beside(
        database, lambda tx: slices.get(tx, B, lock=True), central._end_expired, lambda tx: counters.add(tx, "specs")
    )
    with database.reading() as tx:
        assert slices.all(tx) == []


@pytest.mark.usefixtures("api")
def test_of_two_centrals_that_look_at_once_one_reminds(database: Database) -> None:
    with database.reading() as tx:
        soon = min(slices.get(tx, name).expires for name in (A, B)) - 86400.0
    said: list[reminders.Reminder] = []

    def remind() -> None:
        with database.transaction() as tx:
            said.extend(reminders.remind(tx, soon))

    beside(database, lambda tx: said.extend(reminders.remind(tx, soon)), remind, lambda _: None)
    assert sorted(r.slice for r in said) == [A, B, "princeton_iias"]


def test_who_was_renewed_at_the_last_moment_lives_on(api: Api, database: Database, tmp_path) -> None:
    api.now[0] += 1e8
    central = Central(database, Authority(tmp_path / "ca"), lambda: api.now[0], clocks=vouched_for(api))
    later = {"expires": api.now[0] + 86400.0}
    beside(database, lambda tx: slices.change(tx, B, later), central._end_expired, lambda _: None)
    with database.reading() as tx:
        assert [row.name for row in slices.all(tx)] == [B]


@pytest.mark.usefixtures("api")
def test_who_overtakes_several_slices_holds_all_before_he_writes(database: Database) -> None:
    desk = StoredDesk(database)
    said = bus.Greeting("", 1, N1, frozenset(), {A: 7, B: 7})
    beside(
        database, lambda tx: slices.get(tx, B, lock=True), lambda: desk.newer([Lack(N1, said)]),
        lambda tx: counters.add(tx, "specs"),
    )  # fmt: skip
    with database.reading() as tx:
        assert min(slices.get(tx, name).generation for name in (A, B)) > 7
