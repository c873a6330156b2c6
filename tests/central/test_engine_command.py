"""`vini central engine`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from engine_machines import EngineBed, vini_central
from fake_agents import no_engine
from msgspec.structs import replace

from vini.central import engine_files, rights, settings
from vini.central.ca import Authority
from vini.model import Conflict, NotFound, Unsupported, ViniError
from vini.rules import engine
from vini.rules.errors import Invalid
from vini.store import engine_servers, sites


@pytest.fixture
def made(tmp_path: Path) -> EngineBed:
    return EngineBed(tmp_path / "c", 4222)


def files(made: EngineBed, name: str) -> Path:
    return made.directory / "engine" / name


def test_each_server_has_all_that_it_needs_and_nothing_of_the_authority(made: EngineBed) -> None:
    assert "vini central engine --dir" in made.said, "init says what comes next"
    assert "Next, for 127.0.0.1:4222" in made.engine("server", "127.0.0.1")
    said = made.engine("leaf", "home", "Nats.Home.Example:5000")
    assert "Next, for nats.home.example:5000" in said and "Next, for 127.0.0.1" not in said, "whose files are the same"
    secret = (made.directory / "ca" / "engine.seed").read_bytes()
    key = (made.directory / "ca" / "ca.key").read_bytes()
    for name in ("127.0.0.1-4222", "nats.home.example-5000"):
        for path in files(made, name).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == "server.pem"
            assert secret not in path.read_bytes() and key not in path.read_bytes()
        assert stat.S_IMODE(files(made, name).stat().st_mode) == 0o700
        if not no_engine():
            copy = shutil.copytree(files(made, name), made.directory / f"copy of {name}")
            assert subprocess.run(["nats-server", "-t", "-c", "nats-server.conf"], cwd=copy).returncode == 0
    assert made.engine("write").startswith("No server's files change.\n") and "Next, for" not in made.engine("write")
    assert made.engine("write", "--all").count("Next, for") == 2
    assert {(s["address"], s["site"]) for s in json.loads(made.engine("--json"))} == {
        ("127.0.0.1:4222", ""), ("nats.home.example:5000", "home")
    }  # fmt: skip


def test_one_more_of_the_cluster_changes_the_files_of_all(made: EngineBed) -> None:
    made.engine("server", "127.0.0.1")
    said = made.engine("server", "nats2.example")
    assert said.count("Next, for") == 2
    one, two = (
        files(made, n).joinpath("nats-server.conf").read_text() for n in ("127.0.0.1-4222", "nats2.example-4222")
    )
    assert "nats-route://nats2.example:6222" in one and "nats-route://127.0.0.1:6222" in two
    said = made.engine("remove", "nats2.example")
    assert said.count("Next, for") == 1 and not files(made, "nats2.example-4222").exists()
    assert "nats2" not in files(made, "127.0.0.1-4222").joinpath("nats-server.conf").read_text()
    with made.database.reading() as tx:
        assert [s.address for s in engine_servers.all(tx)] == ["127.0.0.1:4222"]


def test_what_engine_url_names_is_dialled_until_it_is_taken_out_there(tmp_path: Path, capsys: Any) -> None:
    made = EngineBed(tmp_path / "c", 4222, 5222)
    made.engine("server", "127.0.0.1:4222")
    made.engine("server", "127.0.0.1:5222")
    said = made.engine("remove", "127.0.0.1:5222")
    assert f"take it out of `engine_url` in {made.directory / 'settings.json'}" in said
    capsys.readouterr()
    made.engine("write")
    assert "adds it, or it is taken out there" in capsys.readouterr().err
    found = settings.read(made.directory)
    settings.change(made.directory, replace(found, engine_url="tls://LOCALHOST:4222"))
    made.engine("server", "localhost")
    capsys.readouterr()
    made.engine("write")
    assert "none of this cluster" not in capsys.readouterr().err


@pytest.mark.parametrize(("port", "says"), [("63000", "no ports above 65535"), ("4222", "this central runs itself")])
def test_the_own_server_is_not_given_what_it_could_not_begin_with(tmp_path: Path, port: str, says: str) -> None:
    where = ("--dir", tmp_path / "c")
    who = ("--name", "127.0.0.1", "--admin", "ada@example.org")
    vini_central("init", *where, *who, "--engine", "nats", "--engine-port", port)
    with pytest.raises(Conflict, match=says):
        vini_central("engine", *where, "server", "127.0.0.1")
    assert json.loads(vini_central("engine", *where, "--json")) == [
        {"address": f"127.0.0.1:{port}", "site": "", "files": None}
    ]


def test_what_is_said_to_copy_does_it_as_a_user_who_may_not_read_that_directory_types_it(tmp_path: Path) -> None:
    made = EngineBed(tmp_path / "a b", 4222)
    said = made.engine("server", "127.0.0.1")
    (copying,) = [text for text in said.splitlines() if "sudo tar" in text]
    place = tmp_path / "there"
    copying = copying.replace(engine_files.PLACE, str(place)).replace("sudo ", "")
    copying = copying.replace("ssh root@127.0.0.1", "sh -c")
    assert subprocess.run(["sh", "-c", copying], check=False).returncode == 0
    assert {p.name for p in place.iterdir()} == {p.name for p in files(made, "127.0.0.1-4222").iterdir()}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_who_is_added_again_has_other_keys(made: EngineBed) -> None:
    made.engine("server", "127.0.0.1")
    made.engine("leaf", "home", "nats.home.example")
    before = {p.name: p.read_bytes() for p in files(made, "nats.home.example-4222").iterdir()}
    made.engine("remove", "nats.home.example")
    made.engine("leaf", "home", "nats.home.example")
    after = {p.name: p.read_bytes() for p in files(made, "nats.home.example-4222").iterdir()}
    same = {name for name, content in before.items() if after[name] == content}
    assert same == {"ca.pem", "vini-engine.service"}


def test_another_central_of_the_testbed_writes_the_same(made: EngineBed, tmp_path: Path) -> None:
    made.engine("server", "127.0.0.1")
    made.engine("leaf", "home", "nats.home.example")
    backup = tmp_path / "b.tar.gz"
    vini_central("backup", "--dir", made.directory, backup)
    vini_central("restore", "--dir", tmp_path / "d", backup)
    vini_central("engine", "--dir", tmp_path / "d", "write")
    for name in ("127.0.0.1-4222", "nats.home.example-4222"):
        for path in files(made, name).iterdir():
            if path.name != "server.pem":  # which has another number
                assert path.read_bytes() == (tmp_path / "d" / "engine" / name / path.name).read_bytes(), path.name


def test_a_certificate_that_would_end_before_the_second_half_year_is_made_anew(made: EngineBed) -> None:
    made.engine("server", "127.0.0.1")
    later = Authority(made.directory / "ca", clock=lambda: time.time() + 181 * 86400)
    its = engine_files.Files(made.directory, rights.read(made.directory), later, None)
    before = files(made, "127.0.0.1-4222").joinpath("server.pem").read_bytes()
    assert not engine_files.ending(made.directory, time.time() + 300 * 86400)
    assert "127.0.0.1-4222 ends on" in engine_files.ending(made.directory, time.time() + 320 * 86400)[0]
    assert [w.changed for w in its.write(made.added().servers)] == [True]
    assert files(made, "127.0.0.1-4222").joinpath("server.pem").read_bytes() != before


def test_what_can_not_be_is_refused_with_a_sentence_and_nothing_is_made(made: EngineBed) -> None:
    def there() -> set[str]:
        return (
            {p.name for p in (made.directory / "engine").glob("*")} if (made.directory / "engine").exists() else set()
        )

    with pytest.raises(Conflict, match="no server that one at a site could dial; `vini central engine server ADDRESS`"):
        made.engine("leaf", "home", "nats.home.example")
    made.engine("server", "127.0.0.1")
    before = there()
    with pytest.raises(NotFound, match="princetown"):
        made.engine("leaf", "princetown", "nats.example")
    with pytest.raises(Conflict, match=r"127\.0\.0\.1:4222 is one of the cluster already; .* remove"):
        made.engine("leaf", "home", "127.0.0.1:4222")
    with pytest.raises(
        NotFound, match=r"no server nats9\.example:4222 that was added to it; there are: 127\.0\.0\.1:4222"
    ):
        made.engine("remove", "nats9.example")
    assert there() == before and len(made.added().servers) == 1
    made.engine("leaf", "home", "nats.home.example")
    with pytest.raises(Conflict, match="no server that one at a site could dial"):
        made.engine("remove", "127.0.0.1")
    assert len(made.added().servers) == 2 and files(made, "127.0.0.1-4222").exists()
    with made.database.transaction() as tx, pytest.raises(Conflict, match="1 engine server; delete it first"):
        sites.delete(tx, "home")
    (made.directory / "ca" / "engine.seed").unlink()
    with pytest.raises(
        NotFound, match=r"engine\.seed can't be read: No such file or directory; restore it from a backup"
    ):
        made.engine("server", "nats2.example")


def test_a_central_without_an_engine_has_no_servers(tmp_path: Path) -> None:
    vini_central("init", "--dir", tmp_path / "c", "--name", "127.0.0.1", "--admin", "ada@example.org")
    with pytest.raises(Unsupported, match=r'by its own hub, which has no servers. Set "engine": "nats"'):
        vini_central("engine", "--dir", tmp_path / "c", "server", "nats.example")


@pytest.mark.skipif(bool(no_engine()), reason=no_engine() or "-")
def test_files_that_nats_server_does_not_take_are_not_kept(made: EngineBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_files, "_REMOTE", engine_files._REMOTE.replace("urls:", "uris:"))
    made.engine("server", "127.0.0.1")
    with pytest.raises(ViniError, match=r"nats-server does not take .*nats-server\.conf: .*uris"):
        made.engine("leaf", "home", "nats.home.example")
    assert len(made.added().servers) == 1


@pytest.mark.parametrize(
    ("said", "meant"),
    [("Nats1.Example", "nats1.example:4222"), ("n:5", "n:5"), ("192.0.2.1", "192.0.2.1:4222"), ("::1", "[::1]:4222"),
     ("[2001:DB8::1]:5000", "[2001:db8::1]:5000")],
)  # fmt: skip
def test_an_address_is_always_written_the_same_way(said: str, meant: str) -> None:
    assert engine.address(said) == meant == engine.address(meant)
    server = engine.EngineServer(1, meant, "")
    assert server.at(engine.ROUTES).endswith(f":{server.port + 2000}") and "[" not in server.name


@pytest.mark.parametrize(
    "said", ["", ":4222", "a b", "tls://a", "a:0", "a:63000", "a:x", "1.2.3", "a/b", "-a", "[::1", "a\n"]
)
def test_what_is_no_address_of_a_server_is_told(said: str) -> None:
    with pytest.raises(Invalid, match="looks like nats1.example"):
        engine.address(said)
