"""A central's backup: all of it, at one moment, also while it is written to; and back elsewhere."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from vini.central import backup, settings
from vini.central.ca import Authority
from vini.model import Conflict, Netns, SliceSpec, Sliver, Topology, ViniError
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import nodes, sites, slices, specs
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
    assert backup.restore(file, there) == settings.read(here) == settings.read(there)
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
        database = Database(backup.restore(file, there).database_url(there))
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
        database = Database(backup.restore(tmp_path / "b.tar.gz", tmp_path / there).database_url(tmp_path / there))
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
    (there / "settings.json").unlink()
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
