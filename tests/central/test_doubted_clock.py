"""A central whose clock jumps ahead ends no slice and forgets nothing until the clock can be right again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from testbed_api import Api, populated

from vini.central.ca import Authority
from vini.central.run import Central
from vini.store import events, nodes, slices
from vini.store.database import Database

NODES = ("n1.princeton.example", "n2.princeton.example")
FIVE_YEARS = 5 * 365 * 86400.0


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


def measured(api: Api, *ahead: float) -> None:
    with api.database.transaction() as tx:
        nodes.measured(tx, {n: (a, 0.01) for n, a in zip(NODES, ahead, strict=True)}, api.now[0])


def kept(api: Api) -> tuple[int, int]:
    """How many slices and events there are."""
    with api.database.reading() as tx:
        return len(slices.all(tx)), len(events.since(tx, 0))


def test_a_clock_that_jumps_ends_nothing(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    central = Central(api.database, Authority(tmp_path), lambda: api.now[0])
    with api.database.transaction() as tx:
        events.add(tx, at=api.now[0], who="ada", what="log in", kind="person", target="ada")
    measured(api, 0.0, 0.1)
    before = kept(api)
    api.now[0] += FIVE_YEARS
    assert central._end_expired() == [] and kept(api) == before, "before any clock was compared"
    measured(api, -FIVE_YEARS, -FIVE_YEARS)
    assert central._end_expired() == [] and kept(api) == before
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said.startswith("No slice is ended, and nothing forgotten: no node was heard of since ")
    measured(api, 0.0, 0.0)  # they say the same: so much time has gone by
    assert central._end_expired() == ["princeton_iias"]
    assert kept(api)[0] == 0
