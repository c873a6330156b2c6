"""Every test of the store and of the API runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest

from vini.store.database import Database

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    if why := postgres.missing():
        pytest.skip(why)
    made = postgres.Cluster(Path(tempfile.mkdtemp(prefix="vini-pg-")))  # a socket's path must be short: unix(7)
    yield made
    made.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/central.db"
    return request.getfixturevalue("cluster").create(f"test{next(_numbers)}")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """With its tables."""
    made = Database(url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def another(url: str) -> Iterator[Callable[[], Database]]:
    """The same database, as a second central sees it."""
    made: list[Database] = []

    def open_() -> Database:
        made.append(Database(url))
        return made[-1]

    yield open_
    for one in made:
        one.close()
