"""`vini central init` and what it prints: broken off at any step, repeated, on a database that is another's."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest
from click.testing import CliRunner, Result
from sqlalchemy.engine import make_url

from vini import durable
from vini.central import backup, passwords, rights, settings
from vini.central.ca import Authority
from vini.central.making import Making
from vini.cli import central as command
from vini.cli import vini
from vini.model import Conflict, NotFound, ViniError
from vini.rules.errors import Invalid
from vini.store import events, persons, tokens
from vini.store.database import Database

ADMIN = "ada@example.org"


def init(directory: Path, *more: str) -> Result:
    asked = ["central", "init", "--dir", str(directory), "--name", "central.example", "--admin", ADMIN, *more]
    return CliRunner().invoke(vini, asked)


def password(said: str) -> str:
    found = re.search(r"assword.*: (\S+)$", said, re.MULTILINE)
    assert found, said
    return found[1]


def fits(directory: Path, word: str) -> bool:
    database = Database(settings.read(directory).database_url(directory))
    try:
        with database.reading() as tx:
            return passwords.fits(persons.password_hash(tx, ADMIN), word)
    finally:
        database.close()


class _Killed(BaseException):
    pass


def mortal(act: Callable[..., object], steps: Iterator[int]) -> Callable[..., object]:
    """It is killed in place of one of them."""

    def step(*given: object) -> object:
        if next(steps, None) is None:
            raise _Killed
        return act(*given)

    return step


@pytest.mark.parametrize("last", range(7))
def test_one_that_was_killed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    steps = iter(range(last))
    with monkeypatch.context() as patch:
        for owner, name in ((durable, "write"), (command, "_fill"), (settings, "write")):
            patch.setattr(owner, name, mortal(getattr(owner, name), steps))
        patch.setattr(Making, "undo", lambda _: None)  # it has no last words
        with pytest.raises(_Killed):
            CliRunner().invoke(vini, ["central", "init", "--dir", str(tmp_path / "c"), "--name", "central.example",
                                      "--admin", ADMIN], catch_exceptions=False)  # fmt: skip
    assert not (tmp_path / "c" / "settings.json").exists()
    done = init(tmp_path / "c")
    assert done.exit_code == 0, done.output
    assert fits(tmp_path / "c", password(done.output))
    assert Authority(tmp_path / "c" / "ca").fingerprint in done.output
    again = init(tmp_path / "c")
    assert again.exit_code == 1 and isinstance(again.exception, Conflict)
    assert f"`vini central password EMAIL --dir {tmp_path / 'c'}`" in str(again.exception)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--admin", "ada"), "'ada' is not good here: An e-mail address looks like ada@example.org"),
        (("--admin", "ada%x@example.org"), "'%' may not be in it"),
        (("--site", "Home"), "'Home' is not good here: A site's name has 1 to 20 small letters"),
    ],
)
def test_an_administrator_who_could_not_log_in_is_refused_before_anything_is_made(
    tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    done = init(tmp_path / "c", *more)
    assert isinstance(done.exception, Invalid) and said in str(done.exception)
    assert not (tmp_path / "c").exists()


def test_a_password_that_nobody_read_is_replaced_and_sessions_end(tmp_path: Path) -> None:
    first = password(init(tmp_path / "c").output)
    database = Database(settings.read(tmp_path / "c").database_url(tmp_path / "c"))
    with database.transaction() as tx:
        session = tokens.issue_session(tx, ADMIN, 1e9)
    said = CliRunner().invoke(vini, ["central", "password", "--dir", str(tmp_path / "c"), "ADA@example.org"])
    assert said.exit_code == 0, said.output
    assert fits(tmp_path / "c", password(said.output)) and not fits(tmp_path / "c", first)
    with database.reading() as tx:
        assert events.since(tx, 0).events[-1].what == "set password"
        with pytest.raises(Exception, match="not known here"):
            tokens.whose(tx, session, 1e9)
    database.close()
    said = CliRunner().invoke(vini, ["central", "password", "--dir", str(tmp_path / "c"), "eve@example.org"])
    assert said.exit_code == 1 and isinstance(said.exception, NotFound)


@pytest.fixture
def theirs(cluster: postgres.Cluster, tmp_path: Path) -> Iterator[str]:
    """URL of a database that is a central's."""
    url = cluster.create("theirs")
    assert init(tmp_path / "theirs", "--database", url).exit_code == 0
    yield url
    cluster.drop("theirs")


def test_another_centrals_database_is_left_alone(tmp_path: Path, theirs: str) -> None:
    """With an authority of its own no node would know it; and its administrator has a password."""
    database = Database(theirs)

    def there() -> tuple[str, int]:
        with database.reading() as tx:
            return persons.password_hash(tx, ADMIN), events.place(tx, None)

    before = there()
    Authority(tmp_path / "left" / "ca")  # of an `init` with another database, which broke off
    refused = init(tmp_path / "left", "--database", theirs)
    assert refused.exit_code == 1 and "is not empty" in str(refused.exception)
    for _ in range(2):
        refused = init(tmp_path / "c", "--database", theirs)
        assert refused.exit_code == 1 and isinstance(refused.exception, Conflict)
        assert "is not empty.  One more central" in str(refused.exception)
        assert not (tmp_path / "c").exists()
    assert there() == before
    database.close()


def test_a_central_whose_database_is_lost_does_not_begin_with_an_empty_one(tmp_path: Path) -> None:
    """As where a disk is not mounted: its nodes' slices would be none of its any more."""
    assert init(tmp_path / "c").exit_code == 0
    database = tmp_path / "c" / "central.db"
    content = database.read_bytes()
    for left in (None, b""):
        for path in tmp_path.glob("c/central.db*"):
            path.unlink()
        if left is not None:
            database.write_bytes(left)
        for asked in (["run"], ["password", ADMIN], ["audit"]):
            said = CliRunner().invoke(vini, ["central", *asked, "--dir", str(tmp_path / "c")])
            assert said.exit_code == 1 and "is not there, or empty: is its disk mounted" in str(said.exception)
        assert not database.exists() or database.read_bytes() == b""
    database.unlink()
    with pytest.raises(ViniError, match="can't be read: .*see that it is there"):
        backup.save(tmp_path / "c", tmp_path / "b.tar.gz")
    database.write_bytes(content)
    assert backup.save(tmp_path / "c", tmp_path / "b.tar.gz") > 0


@pytest.mark.root
def test_a_backup_is_made_of_a_disk_that_may_only_be_read(tmp_path: Path) -> None:
    """As its kernel makes it when it fails: then one is wanted most."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        assert init(disk / "c").exit_code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert backup.save(disk / "c", tmp_path / "b.tar.gz") > 0
        database = Database(f"sqlite:///{disk}/c/central.db")
        with pytest.raises(ViniError, match="its disk is not mounted to be read only"):
            database.migrate()
        database.close()
    finally:
        subprocess.run(["umount", disk], check=True)
    assert backup.restore(tmp_path / "b.tar.gz", tmp_path / "d").settings.names == ("central.example",)


def test_a_database_that_is_away_leaves_no_directory(tmp_path: Path) -> None:
    refused = init(tmp_path / "c", "--database", f"postgresql://nobody@/none?host={tmp_path}")
    assert refused.exit_code == 1 and not (tmp_path / "c").exists()


def test_one_that_is_killed_while_it_writes_its_last_file_is_repeated(tmp_path: Path) -> None:
    die = (
        "import os, sys\n"
        "real = os.fdopen\n"
        "def fdopen(fd, *more, **named):\n"
        "    if 'settings.json' in os.readlink(f'/proc/self/fd/{fd}'): os.kill(os.getpid(), 9)\n"
        "    return real(fd, *more, **named)\n"
        "os.fdopen = fdopen\n"
        "from vini.cli import main\n"
        "main()"
    )
    asked = ["central", "init", "--dir", str(tmp_path / "c"), "--name", "central.example", "--admin", ADMIN]
    done = subprocess.run([sys.executable, "-c", die, *asked], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "c" / "settings.json").exists()
    again = init(tmp_path / "c")
    assert again.exit_code == 0, again.exception
    assert fits(tmp_path / "c", password(again.output))


def test_an_authority_that_ends_is_replaced_as_told_and_the_engine_stays(tmp_path: Path) -> None:
    assert init(tmp_path / "c", "--engine", "nats").exit_code == 0
    ca = tmp_path / "c" / "ca"
    before, account = Authority(ca).fingerprint, rights.read(tmp_path / "c").account
    told = re.search(
        r"move (.*) in .* away and start", Authority(ca, lambda: time.time() + 9.5 * 365 * 86400.0).check()
    )
    assert told
    for name in re.split(", | and ", told[1]):
        (ca / name).rename(tmp_path / name)
    assert Authority(ca).fingerprint != before and rights.read(tmp_path / "c").account == account


def test_a_role_that_postgresql_has_not_is_made_there(tmp_path: Path, cluster: postgres.Cluster) -> None:
    """As of root, where the URL names nobody."""
    url = make_url(cluster.create("roles")).set(username="nobodyhere").render_as_string(hide_password=False)
    refused = init(tmp_path / "c", "--database", url)
    cluster.drop("roles")
    assert "Make it (`createuser`)" in str(refused.exception) and "central init" not in str(refused.exception)


@pytest.mark.parametrize("name", ["https://central.example", "central example", "-x", ""])
def test_what_is_no_name_of_a_central(tmp_path: Path, name: str) -> None:
    said = CliRunner().invoke(
        vini, ["central", "init", "--dir", str(tmp_path / "c"), "--admin", ADMIN, f"--name={name}"]
    )
    assert said.exit_code == 1 and "is neither a DNS name nor an address" in str(said.exception)
    assert not (tmp_path / "c").exists()
