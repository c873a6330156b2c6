"""Every test of the store and of the API runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
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
    made = postgres.Cluster()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with its tables, to be copied: all its migrations take a quarter of a second."""
    path = tmp_path_factory.mktemp("migrated") / "central.db"
    _migrated(f"sqlite:///{path}")
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing of it is in a log beside it
    return path


@pytest.fixture(scope="session")
def migrated_name(cluster: postgres.Cluster) -> str:
    """A PostgreSQL database with its tables, to be copied, too."""
    _migrated(cluster.create("migrated"))
    return "migrated"


def _migrated(url: str) -> None:
    made = Database(url)
    made.migrate()
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database: with its tables for a test that uses `database`, else empty."""
    has_tables = "database" in request.fixturenames
    if request.param == "sqlite":
        if has_tables:
            shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "central.db")
        yield f"sqlite:///{tmp_path}/central.db"
        return
    template = request.getfixturevalue("migrated_name") if has_tables else ""
    cluster, name = request.getfixturevalue("cluster"), f"test{next(_numbers)}"
    yield cluster.create(name, template)
    cluster.drop(name)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """With its tables."""
    made = Database(url)
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
