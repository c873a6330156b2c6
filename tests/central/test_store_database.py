"""One database by one URL: tables as this version knows them, transactions that happen or don't, plain sentences."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from vini.model import Conflict
from vini.rules.wishes import NewSite
from vini.store import sites
from vini.store.database import Database, DatabaseError
from vini.store.tables import metadata


def test_the_migrations_make_the_tables_that_the_program_knows(database):
    with database.transaction() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []


def test_migrating_again_keeps_what_is_there(database, another):
    with database.transaction() as tx:
        sites.add(tx, NewSite("princeton"))
    second = another()
    second.migrate()
    with second.reading() as tx:
        assert [s.login_base for s in sites.all(tx)] == ["princeton"]


def test_two_centrals_that_start_at_once_both_find_it_migrated(another):
    opened = [another(), another()]
    threads = [threading.Thread(target=database.migrate) for database in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in opened:
        database.check()


def test_a_database_without_tables_says_how_to_get_them(url):
    database = Database(url)
    with pytest.raises(DatabaseError, match="vini central init"):
        database.check()
    with pytest.raises(DatabaseError, match="vini central init"), database.reading() as tx:
        sites.all(tx)


def test_one_of_a_newer_version_is_left_alone(database):
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (database.check, database.migrate):
        with pytest.raises(DatabaseError, match="newer VINI"):
            use()


def test_a_database_that_may_only_be_read_says_who_can_mend_it(database):
    """As where its disk was mounted so after an error, or a PostgreSQL is another one's standby."""
    only_read = "PRAGMA query_only = ON" if database.is_sqlite else "SET TRANSACTION READ ONLY"
    with pytest.raises(DatabaseError, match="Let the central's user write there"), database.transaction() as tx:
        tx.execute(text(only_read))
        sites.add(tx, NewSite("princeton"))
    with database.reading() as tx:
        assert sites.all(tx) == []


def test_what_fails_in_the_middle_did_not_happen(database):
    with pytest.raises(ZeroDivisionError), database.transaction() as tx:
        sites.add(tx, NewSite("princeton"))
        _ = 1 / 0
    with database.reading() as tx:
        assert sites.all(tx) == []


def test_who_only_reads_can_not_write_and_sees_one_picture(database, another):
    with pytest.raises(DatabaseError), database.reading() as tx:
        sites.add(tx, NewSite("princeton"))
    with database.reading() as tx:
        assert sites.all(tx) == []
        with another().transaction() as writer:
            sites.add(writer, NewSite("princeton"))
        assert sites.all(tx) == []


def test_what_two_write_at_once_and_excludes_each_other_is_a_conflict(database, another):
    """On SQLite they take turns; on PostgreSQL the unique name tells."""
    both = threading.Barrier(2)
    outcomes: list[str] = []

    def add(one: Database) -> None:
        both.wait(5)
        try:
            with one.transaction() as tx:
                sites.add(tx, NewSite("princeton"))
            outcomes.append("ok")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=add, args=[one]) for one in (database, another())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict", "ok"]


@pytest.mark.parametrize(
    "wrong, says",
    [
        ("nonsense", "no URL of a database"),
        ("mysql://root@localhost/vini", "SQLite or PostgreSQL"),
        ("sqlite://", "gone with the central"),
        ("postgresql:///?host=/nonexistent&connect_timeout=1", "See that it runs"),
        ("sqlite:////nonexistent/directory/central.db", "See that its directory is there, that .* may write"),
    ],
)
def test_a_wrong_url_is_told_in_a_sentence(wrong, says):
    with pytest.raises(DatabaseError, match=says):
        Database(wrong).migrate()


def test_a_password_is_in_no_sentence():
    with pytest.raises(DatabaseError) as told:
        Database("postgresql://vini:hunter2@/vini?host=/nonexistent").migrate()
    assert "hunter2" not in str(told.value)


def test_a_database_that_is_full_says_so_and_keeps_what_it_has(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/central.db")
    database.migrate()
    with database.transaction() as tx:
        sites.add(tx, NewSite("princeton"))
        pages = tx.execute(text("PRAGMA page_count")).scalar_one()
        tx.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(DatabaseError, match="Make room"), database.transaction() as tx:
        for i in range(10_000):
            sites.add(tx, NewSite(f"site{i}"))
    with database.reading() as tx:
        assert [s.login_base for s in sites.all(tx)] == ["princeton"]


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "central.db").write_text("hello " * 1000)
    with pytest.raises(DatabaseError, match="not a database.*restore a backup"):
        Database(f"sqlite:///{tmp_path}/central.db").migrate()


def test_one_that_is_damaged_is_told(tmp_path, migrated_file):
    content = bytearray(migrated_file.read_bytes())
    for page in range(3, len(content) // 4096 - 1):
        content[4096 * page : 4096 * page + 4096] = b"\xa5" * 4096
    (tmp_path / "central.db").write_bytes(content)
    database = Database(f"sqlite:///{tmp_path}/central.db")
    with pytest.raises(DatabaseError, match="malformed.*restore a backup"), database.transaction() as tx:
        for i in range(100):
            sites.add(tx, NewSite(f"site{i}"))
    database.close()


def test_one_that_another_program_holds_is_told_and_is_good_when_that_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("vini.store.database._PATIENCE_S", 0.1)
    database = Database(f"sqlite:///{tmp_path}/central.db")
    database.migrate()
    other = sqlite3.connect(tmp_path / "central.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseError, match="Another program holds it: see which .*fuser"), database.transaction():
        raise AssertionError("nobody else may write")
    other.execute("ROLLBACK")
    other.close()
    with database.transaction() as tx:
        sites.add(tx, NewSite("princeton"))
    database.close()


def test_what_is_in_it_is_taken_out(database):
    assert not database.is_empty()
    database.clear()
    assert database.is_empty()


def test_one_of_postgresql_that_is_not_there_is_told(cluster):
    url = cluster.create("there").replace("/there?", "/elsewhere?")
    with pytest.raises(DatabaseError, match="Make it .`createdb`., or mend its name"):
        Database(url).migrate()
    cluster.drop("there")


def test_sqlite_is_in_wal_mode_with_foreign_keys(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/central.db")
    database.migrate()
    with database.transaction() as tx:
        assert tx.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    assert sqlite3.connect(tmp_path / "central.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_command_of_one_machine_does_not_pay_for_sqlalchemy():
    import subprocess
    import sys

    code = "import sys, vini.store; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_sqlite_that_is_too_old_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(DatabaseError, match="too old.*PostgreSQL"):
        Database(f"sqlite:///{tmp_path}/x.db")
