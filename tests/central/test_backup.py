"""A central's backup: all of it, at one moment, also while it is written to; and back elsewhere."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest
from msgspec import structs
from sqlalchemy import text

from vini import durable
from vini.central import backup, settings
from vini.central.ca import Authority
from vini.central.making import Making, finish
from vini.central.run import run
from vini.model import Conflict, Netns, SliceSpec, Sliver, Topology, ViniError
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import nodes, sites, slices, specs, unfinished
from vini.store.database import Database


def made(directory: Path) -> settings.Settings:
    wanted = settings.Settings(("central.example",))
    directory.mkdir(parents=True)
    Authority(directory / "ca").serve(wanted.names)
    database = Database(wanted.database_url(directory))
    database.migrate()
    with database.transaction() as tx:
        sites.add(tx, NewSite("home"))
    database.close()
    settings.write(directory, wanted)
    return wanted


def restored(file: Path, directory: Path) -> settings.Settings:
    return backup.restore(file, directory).settings


def names(directory: Path) -> list[str]:
    database = Database(settings.read(directory).database_url(directory))
    try:
        database.check()
        with database.reading() as tx:
            return [s.login_base for s in sites.all(tx)]
    finally:
        database.close()


def test_a_central_is_the_same_elsewhere(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    assert backup.save(here, file) == file.stat().st_size > 0
    assert file.stat().st_mode & 0o077 == 0
    assert restored(file, there) == settings.read(here) == settings.read(there)
    assert names(there) == ["home"]
    assert Authority(there / "ca").fingerprint == Authority(here / "ca").fingerprint
    assert all(p.stat().st_mode & 0o077 == 0 for p in (there / "ca").iterdir() if p.suffix == ".key")


def test_what_is_numbered_after_a_restoring_is_above_what_was_numbered_after_the_backup(tmp_path: Path) -> None:
    """Also of slices that the backup does not know; nodes that have not come yet may hold all of that."""
    here, file = tmp_path / "here", tmp_path / "b.tar.gz"
    wanted = made(here)
    add(Database(wanted.database_url(here)), "home_a")
    backup.save(here, file)
    before = add(Database(wanted.database_url(here)), "home_b", changes=30)
    for there in (tmp_path / "one", tmp_path / "two"):
        database = Database(restored(file, there).database_url(there))
        with database.transaction() as tx:
            assert slices.get(tx, "home_a").generation == slices.next_generation(tx, "home_a") - 1 > before
            held = specs.spec(tx, "home_a", "n1")
            assert held and held.generation == 1  # nothing new is asked of nodes
        before, last = add(database, f"home_{there.name}"), before
        assert before > last
        file = tmp_path / f"{there.name}.tar.gz"
        backup.save(there, file)  # of a restored one, too


def test_nor_do_two_lives_after_one_backup_number_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was away may hold what the first of them asked."""
    wanted = made(tmp_path / "here")
    add(Database(wanted.database_url(tmp_path / "here")), "home_a")
    backup.save(tmp_path / "here", tmp_path / "b.tar.gz")
    lives = []
    for there, now in (("one", 2e9), ("two", 2e9 + 5)):
        monkeypatch.setattr("vini.central.backup.time.time", lambda now=now: now)
        database = Database(restored(tmp_path / "b.tar.gz", tmp_path / there).database_url(tmp_path / there))
        with database.transaction() as tx:
            first = slices.next_generation(tx, "home_a")
        lives.append((first, add(database, "home_b", changes=30)))
    (first, last), (again, _) = lives
    assert first < last < again < 1 << 53


def add(database: Database, name: str, changes: int = 1) -> int:
    """A slice with something on a node, changed so often; its generation."""
    with database.transaction() as tx:
        nodes.join(tx, "n1", "home", bytes(32), NodeSaid())
        slices.add(tx, name, "ada@example.org", 1.0)
        for _ in range(changes):
            number = slices.next_generation(tx, name)
            spec = SliceSpec(name, "n1", number, frozenset({Netns(f"{name}.x")}))
            slices.put_topology(tx, name, Topology(name, {"x": Sliver("x")}), {"n1": spec}, 1.0)
    database.close()
    return number


def test_what_an_earlier_central_left_in_the_place_is_no_part_of_it(tmp_path: Path) -> None:
    """One that was killed leaves what it had not yet written into its database's file."""
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    old = Database(made(there).database_url(there))
    with old.transaction() as tx:
        sites.add(tx, NewSite("old"))
    logs = {p: p.read_bytes() for p in there.glob("central.db-*")}
    assert sum(map(len, logs.values()))
    old.close()
    for left in ("settings.json", "central.db", "ca/ca.pem", "ca/ca.key", "ca/server.pem", "ca/server.key"):
        (there / left).unlink()
    for path, content in logs.items():
        path.write_bytes(content)
    backup.restore(file, there)
    assert names(there) == ["home"]


def test_it_is_of_one_moment_beside_a_writer(tmp_path: Path) -> None:
    here, file = tmp_path / "here", tmp_path / "b.tar.gz"
    wanted = made(here)
    stop = threading.Event()

    def write() -> None:
        database, n = Database(wanted.database_url(here)), 0
        while not stop.is_set():
            with database.transaction() as tx:  # two at once, or none
                sites.add(tx, NewSite(f"a{n}"))
                sites.add(tx, NewSite(f"b{n}"))
            n += 1
        database.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup.save(here, file)
    finally:
        stop.set()
        writer.join()
    backup.restore(file, tmp_path / "there")
    found = names(tmp_path / "there")
    assert {n[1:] for n in found if n[0] == "a"} == {n[1:] for n in found if n[0] == "b"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    here, file = tmp_path / "here", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    with pytest.raises(Conflict, match="there already"):
        backup.save(here, file)
    with pytest.raises(Conflict, match="a central in"):
        backup.restore(file, here)
    assert not list(tmp_path.glob("*.new"))


def hostile(file: Path, name: str) -> None:
    with tarfile.open(file, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "ca/../../outside", "other"])
def test_what_no_backup_has_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    hostile(tmp_path / "b.tar.gz", name)
    with pytest.raises(ViniError, match="no backup"):
        backup.restore(tmp_path / "b.tar.gz", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_what_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"not a tar")
    with pytest.raises(ViniError, match="no backup"):
        backup.restore(tmp_path / "b.tar.gz", tmp_path / "there")
    with pytest.raises(ViniError, match="no backup"):
        backup.restore(tmp_path / "nowhere", tmp_path / "there")
    hostile(tmp_path / "c.tar.gz", "settings.json")
    with pytest.raises(ViniError, match="lacks ca/ca.pem"):
        backup.restore(tmp_path / "c.tar.gz", tmp_path / "there")


@pytest.mark.root
def test_a_disk_without_room_for_it_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """SQLite says so by itself, and not as an OSError."""
    here = tmp_path / "here"
    made(here)
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path / "small"], check=True)
    try:
        with pytest.raises(ViniError, match="see that there is room"):
            backup.save(here, tmp_path / "small" / "b.tar.gz")
        assert list((tmp_path / "small").iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


# --- what is not whole -----------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """A backup's content."""
    made(tmp_path / "here")
    backup.save(tmp_path / "here", tmp_path / "b.tar.gz")
    return (tmp_path / "b.tar.gz").read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_one_that_is_cut_off_is_told_and_nothing_is_made(tmp_path: Path, whole: bytes, part: float) -> None:
    (tmp_path / "cut.tar.gz").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ViniError, match="no backup of a central, or not all of one, or damaged: .*; take another copy"):
        backup.restore(tmp_path / "cut.tar.gz", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_each_byte_of_it_counts(tmp_path: Path, whole: bytes) -> None:
    """Also where what is unpacked looks like a backup: the sum over all of it stands at its end."""
    file = tmp_path / "bad.tar.gz"
    for at in range(64, len(whole), len(whole) // 60):  # before that is the name that gzip writes down
        changed = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        if _unpacked(changed) == _unpacked(whole):  # a bit that only fills up a byte between two blocks (RFC 1951)
            continue
        file.write_bytes(changed)
        with pytest.raises(ViniError, match="take another copy"):
            backup.restore(file, tmp_path / "there")
        assert not (tmp_path / "there").exists()


def _unpacked(packed: bytes) -> bytes | None:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def test_one_of_a_newer_version_leaves_nothing_either(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    ahead(Database(made(here).database_url(here)))
    backup.save(here, file)
    with pytest.raises(ViniError, match="was written by a newer VINI"):
        backup.restore(file, there)
    assert not there.exists()
    there.mkdir()
    with pytest.raises(ViniError, match="was written by a newer VINI"):
        backup.restore(file, there)
    assert list(there.iterdir()) == []


def ahead(database: Database) -> None:
    """As one that a version to come has migrated."""
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()


@pytest.mark.parametrize("last", range(8))
def test_who_was_killed_while_restoring_does_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """After so many of its writes: what is left is no central, and the next attempt makes one."""
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    steps = iter(range(last))

    def mortal(act: Callable[..., None]) -> Callable[..., None]:
        def step(*given: object) -> None:
            if next(steps, None) is None:
                raise _Killed
            act(*given)

        return step

    with pytest.raises(_Killed), monkeypatch.context() as patch:
        for module, name in ((durable, "write"), (backup, "_leap"), (backup.settings_file, "write")):
            patch.setattr(module, name, mortal(getattr(module, name)))
        patch.setattr(Making, "undo", lambda _: None)  # it has no last words
        backup.restore(file, there)
        raise AssertionError(f"it has no more than {last} steps")
    assert not (there / "settings.json").exists()
    restored(file, there)
    assert names(there) == ["home"]
    assert Authority(there / "ca").fingerprint == Authority(here / "ca").fingerprint
    assert sorted(p.name for p in there.iterdir()) == ["ca", "central.db", "settings.json"]
    assert not unfinished.is_marked(Database(settings.read(there).database_url(there)))


def test_one_that_was_killed_when_all_was_there_is_a_central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(Making, "undo", lambda _: None)
        patch.setattr(unfinished, "over", kill)
        restored(file, there)
    database = Database(settings.read(there).database_url(there))
    assert unfinished.is_marked(database)
    backup.save(there, tmp_path / "c.tar.gz")
    copy = Database(restored(tmp_path / "c.tar.gz", tmp_path / "copy").database_url(tmp_path / "copy"))
    assert not unfinished.is_marked(copy)  # it is in no backup
    finish(there, database)
    assert not unfinished.is_marked(database) and not (there / "unfinished.json").exists()
    assert names(there) == ["home"]


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def kill(*_: object) -> None:
    raise _Killed


def test_of_two_at_once_one_makes_it_and_the_other_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    leap, refused = backup._leap, []

    def meanwhile(database: Database) -> None:
        with pytest.raises(Conflict, match="Another `vini central init` or `restore` is at work"):
            restored(file, there)
        refused.append(True)
        leap(database)

    monkeypatch.setattr(backup, "_leap", meanwhile)
    restored(file, there)
    assert refused and names(there) == ["home"]
    assert (there / "ca" / "ca.key").read_bytes() == (here / "ca" / "ca.key").read_bytes()


@pytest.mark.parametrize("lost", [("settings.json",), ("settings.json", "central.db")])
def test_a_central_that_has_lost_its_settings_is_not_written_over(tmp_path: Path, lost: tuple[str, ...]) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    made(there)
    for name in lost:
        (there / name).rename(tmp_path / name)
    before = {p: p.read_bytes() for p in there.rglob("*") if p.is_file()}
    with pytest.raises(Conflict, match="move it away"):
        restored(file, there)
    assert {p: p.read_bytes() for p in there.rglob("*") if p.is_file()} == before


def test_a_disk_that_is_full_at_the_last_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    made(here)
    backup.save(here, file)
    real = os.fsync

    def full(fd: int) -> None:
        if "settings.json" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ViniError, match="can't be written: No space left"):
            restored(file, there)
    assert not there.exists()


class _Killed(BaseException):
    pass


def test_a_database_that_is_damaged_is_told_when_it_is_saved_and_not_when_it_is_needed(tmp_path: Path) -> None:
    here, file = tmp_path / "here", tmp_path / "b.tar.gz"
    made(here)
    path = here / "central.db"
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\xa5" * 8192
    path.write_bytes(content)
    with pytest.raises(ViniError, match="is damaged .*keep the backups that you have"):
        backup.save(here, file)
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


def test_a_database_elsewhere_is_never_written_over(tmp_path: Path) -> None:
    """As that of the central that runs, where somebody tries on its machine whether its backup is good."""
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    wanted = made(here)
    elsewhere = tmp_path / "elsewhere.db"
    (here / "central.db").rename(elsewhere)
    settings.change(here, structs.replace(wanted, database=f"sqlite:///{elsewhere}"))
    backup.save(here, file)
    before = elsewhere.read_bytes()
    with pytest.raises(Conflict, match="There is a database .*elsewhere.db already; move it away, or give --database"):
        backup.restore(file, there)
    assert elsewhere.read_bytes() == before and not there.exists()
    backup.restore(file, there, f"sqlite:///{tmp_path}/copy.db")
    assert names(there) == ["home"]


# --- PostgreSQL ------------------------------------------------------------------------------------


@pytest.fixture
def empty(cluster: postgres.Cluster) -> Iterator[str]:
    """URL of a database without tables."""
    yield cluster.create("backup")
    cluster.drop("backup")


def test_one_more_central_beside_the_first_and_one_that_takes_its_place(tmp_path: Path, empty: str) -> None:
    here, file = tmp_path / "here", tmp_path / "b.tar.gz"
    wanted = structs.replace(made(here), database=empty, internal="https://central.example:8443")
    settings.change(here, wanted)
    database = Database(empty)
    database.migrate()
    add_site(database, "home")
    backup.save(here, file)
    with pytest.raises(Conflict, match="is not empty.  For one more central .*--beside"):
        backup.restore(file, tmp_path / "b")
    assert not (tmp_path / "b").exists() and names(here) == ["home"]

    add_site(database, "later")
    both = backup.restore(file, tmp_path / "b", beside=True, names=("b.example",))
    assert (both.settings.names, both.settings.database, both.at) == (("b.example", "central.example"), empty, 0.0)
    assert both.settings.internal == "", "by that the first one is reached"
    assert names(tmp_path / "b") == ["home", "later"]
    assert Authority(tmp_path / "b" / "ca").fingerprint == Authority(here / "ca").fingerprint

    ahead(database)
    with pytest.raises(ViniError, match="newer VINI"):
        backup.restore(file, tmp_path / "c", beside=True)
    assert not (tmp_path / "c").exists()
    database.clear()
    assert backup.restore(file, tmp_path / "c").at > 0
    assert names(tmp_path / "c") == ["home"]

    ahead(database)
    (tmp_path / "b.tar.gz").unlink()
    backup.save(tmp_path / "c", file)
    database.clear()
    with pytest.raises(ViniError, match="newer VINI"):
        backup.restore(file, tmp_path / "d")
    assert database.is_empty() and not (tmp_path / "d").exists()
    database.close()


def test_one_into_postgresql_that_was_killed_is_done_again_and_nobody_goes_beside_it(
    tmp_path: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "b.tar.gz"
    settings.change(here, structs.replace(made(here), database=empty))
    database = Database(empty)
    database.migrate()
    add_site(database, "home")
    add(database, "home_a")
    backup.save(here, file)
    database.clear()
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(Making, "undo", lambda _: None)
        patch.setattr(backup, "_leap", kill)
        backup.restore(file, there)
    for directory, beside in ((there, True), (tmp_path / "other", True), (tmp_path / "other", False)):
        with pytest.raises(Conflict, match="has begun a central, and not ended"):
            backup.restore(file, directory, beside=beside)
    with pytest.raises(ViniError, match="has begun a central, and not ended"):
        run(here, "", print)
    with monkeypatch.context() as patch, pytest.raises(ViniError, match="No space left"):
        patch.setattr(Making, "fill", no_room)  # again, and it fails: then nothing is left of the first one either
        backup.restore(file, there)
    assert database.is_empty() and not (there / "unfinished.json").exists()
    backup.restore(file, there)
    with database.reading() as tx:
        assert slices.get(tx, "home_a").generation > 1
    backup.restore(file, tmp_path / "other", beside=True)

    with monkeypatch.context() as patch, pytest.raises(_Killed):  # a mark here, of a database that is another's now
        patch.setattr(Making, "undo", lambda _: None)
        patch.setattr(backup, "_leap", kill)
        database.clear()
        backup.restore(file, tmp_path / "late")
    database.clear()
    backup.restore(file, tmp_path / "new")
    with pytest.raises(Conflict, match="is not empty"):
        backup.restore(file, tmp_path / "late")
    assert names(tmp_path / "new") == ["home"]
    database.close()


def test_a_database_of_sqlite_has_one_central(tmp_path: Path) -> None:
    made(tmp_path / "here")
    backup.save(tmp_path / "here", tmp_path / "b.tar.gz")
    with pytest.raises(Conflict, match="SQLite has one central"):
        backup.restore(tmp_path / "b.tar.gz", tmp_path / "there", beside=True)
    assert not (tmp_path / "there").exists()


def add_site(database: Database, name: str) -> None:
    with database.transaction() as tx:
        sites.add(tx, NewSite(name))
