"""What a central is made with, as `vini central init` writes it and `vini central run` reads it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from vini.central import settings
from vini.central.run import _bound
from vini.cli import vini
from vini.model import ViniError
from vini.rules.oidc import Oidc


def test_who_says_no_name_gets_this_machines_and_who_says_no_administrator_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "central.example")
    told = CliRunner().invoke(vini, ["central", "init", "--dir", str(tmp_path / "a")])
    assert told.exit_code == 2 and "Who administers it? `vini central init --admin EMAIL`." in told.output
    assert not (tmp_path / "a").exists()
    told = CliRunner().invoke(vini, ["central", "init", "--dir", str(tmp_path / "a"), "--admin", "ada@example.org"])
    assert told.exit_code == 0 and "The central https://central.example:8443 is made" in told.output
    assert f"`vini central rename NAME --dir {tmp_path / 'a'}` gives it another" in told.output


def init(directory: Path, *more: str) -> int:
    asked = ["central", "init", "--dir", str(directory), "--name", "central.example", "--admin", "ada@example.org"]
    return CliRunner().invoke(vini, [*asked, *more]).exit_code


def test_the_kind_of_tunnels_is_what_was_asked_for_and_vxlan_where_nothing_was(tmp_path: Path) -> None:
    assert init(tmp_path / "a") == init(tmp_path / "b", "--tunnel", "wireguard") == 0
    assert settings.read(tmp_path / "a").tunnel == "vxlan"
    assert settings.read(tmp_path / "b").tunnel == "wireguard"
    assert init(tmp_path / "c", "--tunnel", "geneve") == 2
    assert not (tmp_path / "c").exists()


def test_a_file_of_an_earlier_version_has_vxlan_and_a_kind_that_is_none_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"names": ["central.example"], "port": 8443}')
    assert settings.read(tmp_path).tunnel == "vxlan"
    file.write_text('{"names": ["central.example"], "tunnel": "geneve"}')
    with pytest.raises(ViniError, match=r"geneve.*mend the file"):
        settings.read(tmp_path)


def test_an_issuer_is_named_with_all_that_is_needed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    way = ["--oidc-issuer", "https://login.example", "--oidc-client", "vini", "--oidc-secret-file", str(secret)]
    assert init(tmp_path / "a", *way, "--oidc-newcomers", "home") == 0
    assert settings.read(tmp_path / "a").oidc == Oidc("https://login.example", "vini", str(secret), "home")
    assert init(tmp_path / "b", "--oidc-client", "vini") == 2
    assert init(tmp_path / "c", "--oidc-issuer", "http://login.example", "--oidc-client", "vini") == 1
    assert init(tmp_path / "d", *way[:-1], str(tmp_path / "none")) == 1
    assert not any((tmp_path / name).exists() for name in "bcd"), "nothing half-made"


def test_strangers_are_a_choice(tmp_path: Path) -> None:
    assert init(tmp_path / "a") == init(tmp_path / "b", "--strangers") == 0
    assert [settings.read(tmp_path / name).strangers for name in "ab"] == [False, True]


def test_strangers_have_encrypted_tunnels_unless_others_that_keep_them_apart_are_chosen(tmp_path: Path) -> None:
    assert init(tmp_path / "a", "--strangers") == 0
    assert settings.read(tmp_path / "a").tunnel == "wireguard"
    for kind in ("wireguard", "vxlan", "gretap"):
        assert init(tmp_path / kind, "--strangers", "--tunnel", kind) == 0
        assert settings.read(tmp_path / kind).tunnel == kind
    assert init(tmp_path / "c", "--strangers", "--tunnel", "vxlan-xdp") == 2
    assert not (tmp_path / "c").exists()


def test_a_central_is_renamed_and_a_name_that_is_none_changes_nothing(tmp_path: Path) -> None:
    def rename(*names: str) -> int:
        return CliRunner().invoke(vini, ["central", "rename", "--dir", str(tmp_path / "a"), *names]).exit_code

    assert rename("new.example") == 1, "there is none"
    assert init(tmp_path / "a") == 0
    before = settings.read(tmp_path / "a")
    assert rename("https://new.example") == rename("new.example", "a b") == 1
    assert settings.read(tmp_path / "a") == before
    assert rename("new.example", "192.0.2.7") == 0
    after = settings.read(tmp_path / "a")
    assert (after.names, after.url) == (("new.example", "192.0.2.7"), "https://new.example:8443")
    assert [p.name for p in (tmp_path / "a").glob("*.new")] == []


def test_by_which_address_other_centrals_reach_it_goes_with_the_name_that_it_has_no_more() -> None:
    old = settings.Settings(("old.example", "10.0.0.2"), internal="https://10.0.0.2:8443")
    assert settings.renamed(old, ("new.example", "10.0.0.2")).internal == old.internal
    assert settings.renamed(old, ("new.example",)).internal == ""


def test_a_second_central_in_the_same_place_is_told_so_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert init(tmp_path / "a", "--port", str(port)) == 0
        done = CliRunner().invoke(vini, ["central", "run", "--dir", str(tmp_path / "a"), "--listen", "127.0.0.1"])
    assert isinstance(done.exception, ViniError)
    assert f"can't listen at 127.0.0.1, port {port} (Address already in use): does another one run" in str(
        done.exception
    )
    assert "answers at" not in done.output


def test_it_is_reached_by_both_versions_of_ip_at_one_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = _bound(["127.0.0.1", "::1"], port)
    try:
        for one in made:
            one.listen()
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=5).close()
        with pytest.raises(ViniError, match=f"can't listen at ::1, port {port}"):
            _bound(["127.0.0.2", "::1"], port)
    finally:
        for one in made:
            one.close()
    for one in _bound(["127.0.0.2"], port):  # what was bound before the refusal is free again
        one.close()


async def test_answers_do_not_wait_for_the_other_sides_acknowledgement() -> None:
    """TCP_NODELAY at what is accepted: without it each answer in two writes takes 40 ms (Nagle, and delayed ACKs)."""
    (bound,) = _bound(["127.0.0.1"], 0)
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(accepted, sock=bound) as server:
        socket.create_connection(server.sockets[0].getsockname(), timeout=5).close()
        assert await asyncio.wait_for(told, 30) == 1


def test_a_central_that_is_there_is_not_made_again_and_its_own_directory_is_in_the_hint(tmp_path: Path) -> None:
    assert init(tmp_path / "a") == 0
    done = CliRunner().invoke(
        vini, ["central", "init", "--dir", str(tmp_path / "a"), "--name", "x.example", "--admin", "ada@example.org"]
    )
    assert f"`vini central run --dir {tmp_path / 'a'}` starts it" in str(done.exception)
