"""A teacher's first day and last day: the commands against a real central's API."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from testbed_api import KEY, PASSWORD, Api, email, populated

from vini.bus import Report
from vini.cli import account, people, slices, ssh, testbed, vini
from vini.client import login as logins
from vini.client.login import Login
from vini.client.remote import RemoteClient
from vini.model import Topology
from vini.rules.errors import Unauthenticated
from vini.store import persons
from vini.store.database import Database

Typed = Callable[..., Result]
CLASS = "email,name,slice\n" + "".join(f"s{i}@uni.example,Student {i},princeton_lab{i % 2}\n" for i in range(4))


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


@pytest.fixture
def typed(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """A command as one of the testbed's persons types it; whose central is the API of this test."""
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "login.json"))
    monkeypatch.setattr(
        account, "_client", lambda login: RemoteClient(login, transport=api.http._transport)  # type: ignore[arg-type]
    )  # fmt: skip
    (tmp_path / "class.csv").write_text(CLASS)
    monkeypatch.chdir(tmp_path)

    def run(who: str, words: str, code: int = 0, said: str = "") -> Result:
        if who:
            login_of(api, who, words)
        done = CliRunner().invoke(vini, words.split(), input=said, standalone_mode=False)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            got = getattr(done.exception, "exit_code", None)
            assert got == code, (done.output, done.exception)
        else:
            assert (done.return_value or 0) == code, done.output
        return done

    return run


def login_of(api: Api, who: str, words: str) -> list[str]:
    """The words of a command of his."""
    logins.keep(Login("http://testserver", email(who), api.secrets[who]))
    return words.split()


def test_a_class_gets_accounts_and_slices_and_doing_it_again_makes_nothing(api: Api, typed: Typed) -> None:
    shown = typed("pi", "person import class.csv --site princeton --dry-run")
    assert "s0@uni.example" in shown.stdout and "princeton_lab0 (new)" in shown.stdout
    assert "4 accounts, 2 slices" in shown.stderr and "nothing was made yet" in shown.stderr
    assert api("admin", "GET", "/persons/s0@uni.example").status_code == 404
    made = list(csv.DictReader(io.StringIO(typed("pi", "person import class.csv --site princeton").stdout)))
    assert [row["email"] for row in made] == [f"s{i}@uni.example" for i in range(4)]
    for row in made:
        got = api("", "POST", "/sessions", {"email": row["email"], "password": row["password"]})
        assert got.status_code == 201
        assert row["slice"] in api(got.json()["secret"], "GET", "/slices").text
    assert api("pi", "GET", "/slices/princeton_lab1").json()["members"] == [
        email("pi"), "s1@uni.example", "s3@uni.example",
    ]  # fmt: skip
    again = typed("pi", "person import class.csv --site princeton")
    assert again.stdout == "" and "0 accounts, 0 slices, 0 roles and 0 memberships" in again.stderr


def test_a_longer_list_adds_to_what_is_there_also_who_has_an_account_elsewhere(api: Api, typed: Typed) -> None:
    typed("pi", "person import class.csv --site princeton")
    more = CLASS + f"s9+x@uni.example,Late,princeton_lab0\n{email('outsider')},Guest,princeton_lab0\n"
    Path("class.csv").write_text(more + f"{email('user')},,princeton_lab1\n")
    made = list(csv.DictReader(io.StringIO(typed("pi", "person import class.csv --site princeton").stdout)))
    assert [(row["email"], bool(row["password"])) for row in made] == [
        ("s9+x@uni.example", True), (email("outsider"), True), (email("outsider"), False),
    ]  # fmt: skip
    assert {"s9+x@uni.example", email("outsider")} <= set(api("pi", "GET", "/slices/princeton_lab0").json()["members"])
    assert email("user") in api("pi", "GET", "/slices/princeton_lab1").json()["members"]
    roles = api("admin", "GET", f"/persons/{email('outsider')}").json()["roles"]
    assert {"role": "user", "site": "princeton"} in roles and {"role": "pi", "site": "mit"} in roles


def test_what_the_central_would_refuse_is_told_before_anything_is_made(api: Api, typed: Typed) -> None:
    Path("class.csv").write_text(CLASS.replace("lab1", "lab7") + "t@uni.example,T,princeton_lab8\n")
    full = typed("pi", "person import class.csv --site princeton", code=3)
    assert "`vini site quota princeton --slices 4`" in str(full.exception)
    assert "a PI of the site or an admin may" in str(
        typed("user", "person import class.csv --site princeton", code=4).exception
    )
    Path("people.csv").write_text("email\nbob@uni.example\n")
    nowhere = typed("admin", "person import people.csv --site prinston", code=1).exception
    assert "There is no site 'prinston' that you may see; `vini sites` lists" in str(nowhere)
    Path("class.csv").write_bytes("email,name\nbob@uni.example,Bj\xf8rn\n".encode("latin-1"))
    assert "CSV UTF-8" in str(typed("pi", "person import class.csv --site princeton", code=2).exception)
    assert "can't be read" in str(typed("pi", "person import clas.csv --site princeton", code=2).exception)
    Path("class.csv").write_text(CLASS)
    wrong = typed("pi", "person import class.csv --site princeton --url uni.example/n101 --dry-run", code=2).exception
    assert str(wrong) == "--url: A URL begins with https:// or http://."
    api("admin", "PATCH", "/sites/princeton", {"enabled": False})
    shut = typed("admin", "person import class.csv --site princeton", code=2).exception
    assert "Site 'princeton' is disabled" in str(shut) and "`vini site enable princeton`" in str(shut)
    assert "uni.example" not in api("admin", "GET", "/persons").text


def test_a_password_is_shown_before_somebody_has_it_and_a_second_run_adds_to_the_file(
    api: Api, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = RemoteClient.call

    def dies(self: RemoteClient, method: str, path: str, *more: object) -> object:
        call(self, method, path, *more)  # type: ignore[arg-type]
        raise KeyboardInterrupt  # it is done, and nobody hears so

    def killed(self: RemoteClient, method: str, path: str, *more: object, **query: object) -> object:
        return (dies if path == "/persons" and method == "POST" else call)(self, method, path, *more, **query)  # type: ignore[operator]

    with monkeypatch.context() as patched:
        patched.setattr(RemoteClient, "call", killed)
        done = CliRunner().invoke(vini, login_of(api, "pi", "person import class.csv --site princeton"))
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    body = {"email": "s0@uni.example", "password": row["password"]}
    assert api("", "POST", "/sessions", body).status_code == 201
    with Path("passwords.csv").open("w+") as file:
        file.write(done.stdout)
        file.flush()
        monkeypatch.setattr(people, "sys", SimpleNamespace(stdout=file))
        added = typed("pi", "person import class.csv --site princeton").stdout
    assert [line.partition(",")[0] for line in added.splitlines()] == [f"s{i}@uni.example" for i in (1, 2, 3)]


def test_somebody_changes_his_password_and_stays_logged_in(api: Api, typed: Typed) -> None:
    secret = api("", "POST", "/sessions", {"email": email("user"), "password": PASSWORD}).json()["secret"]
    logins.keep(Login("http://testserver", email("user"), secret))
    assert (
        "user@princeton.example has a new password."
        in typed("", "person password --password-file -", said="another long one\n").stdout
    )
    assert api("", "GET", "/me", Authorization=f"Bearer {secret}").status_code == 401
    short = typed("", "person password --password-file -", code=2, said="short\n")
    assert "password: This is to have 10 letters at least." in str(short.exception)
    kept = logins.current()
    assert kept is not None and api(kept.token, "GET", "/me").json()["email"] == email("user")
    body = {"email": email("user"), "password": "another long one"}
    assert api("", "POST", "/sessions", body).status_code == 201
    typed("admin", f"person password {email('user')} --password-file -", said="given by an admin\n")
    assert api("", "POST", "/sessions", {**body, "password": "given by an admin"}).status_code == 201
    typed("user", f"person password {email('pi')} --password-file -", code=1, said="stolen by a user\n")
    typed("pi", f"person password {email('user')} --password-file -", code=4, said="stolen by a pi 12\n")


def test_the_end_of_a_term_is_one_command_and_one_wrong_name_stops_no_other(api: Api, typed: Typed) -> None:
    typed("pi", "person import class.csv --site princeton")
    gone = typed("pi", "slice delete princeton_lab0 princeton_lab9 princeton_lab1", code=1)
    assert gone.stdout.splitlines() == ["Slice princeton_lab0 is deleted.", "Slice princeton_lab1 is deleted."]
    assert "There is no slice 'princeton_lab9' that you may see; `vini slice` lists" in gone.stderr
    typed("pi", "person disable s0@uni.example s1@uni.example")
    typed("admin", "person delete s0@uni.example s1@uni.example s2@uni.example s3@uni.example")
    assert "uni.example" not in api("admin", "GET", "/persons").text
    assert "needs a description and a URL" in typed("pi", "slice renew princeton_iias", code=2).stderr


def test_down_all_ends_what_one_is_a_member_of_and_nothing_of_others(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("pi", "person import class.csv --site princeton")
    up = {name: Topology(name) for name in ("princeton_iias", "princeton_lab0", "princeton_lab1")}
    ended: list[str] = []

    async def down(_: RemoteClient, name: str, *__: object) -> Report:
        ended.append(name)
        return Report(())

    monkeypatch.setattr(RemoteClient, "topologies", lambda _: up)
    monkeypatch.setattr(RemoteClient, "down", down)
    monkeypatch.setattr(slices, "connect", lambda *_: account.remote())
    assert "No slice of yours is up" in typed("admin", "down --all").stderr
    assert ended == []
    typed("pi", "down --all")  # who made the slices of his class, and may also end that of `user`
    assert ended == ["princeton_lab0", "princeton_lab1"]


def test_who_has_no_key_is_told_so_before_ssh_says_that_it_was_not_let_in(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "connect", account.remote)
    monkeypatch.setattr(ssh, "the_slice", lambda *_: Topology("princeton_iias"))
    told = typed("user", "ssh west", code=4).exception
    assert "knows no SSH key of user@princeton.example: `vini key add`" in str(told)
    Path("key.pub").write_text(KEY + "\n")
    typed("user", "key add key.pub")
    assert "no sliver 'west'" in str(typed("user", "ssh west", code=1).exception)


def test_one_name_with_a_mistake_in_it_stops_no_other_and_is_named(typed: Typed) -> None:
    typed("pi", "person import class.csv --site princeton")
    gone = typed("pi", "slice delete princeton_lab0 princeton_Lab9 princeton_lab1", code=2)
    assert gone.stdout.splitlines() == ["Slice princeton_lab0 is deleted.", "Slice princeton_lab1 is deleted."]
    assert gone.stderr.startswith("error: princeton_Lab9: ")


def test_a_login_that_is_over_is_told_once(api: Api, typed: Typed) -> None:
    api.secrets["pi"] = "no-such-token"
    over = typed("pi", "slice delete princeton_lab0 princeton_lab1", code=4)
    assert isinstance(over.exception, Unauthenticated) and over.stderr == ""


def test_of_slices_that_end_soon_only_members_are_reminded_and_of_many_at_once(
    api: Api, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbed, "time", SimpleNamespace(time=lambda: api.now[0] + 13 * 86400.0))
    assert "`vini slice renew princeton_iias` prolongs it." in typed("user", "slice").stderr
    for who in ("admin", "pi", "tech"):
        assert typed(who, "slice").stderr == ""
    api("admin", "PATCH", "/sites/princeton", {"max_slices": 20})
    for i in range(11):
        assert api("pi", "POST", "/slices", {"name": f"princeton_s{i}"}).status_code == 201
    told = typed("pi", "slice").stderr
    assert told == "11 slices of yours end, the first in 1.0 days; `vini slice renew NAME...` prolongs them.\n"


def test_who_has_no_role_anywhere_is_left_out_and_stops_nobody(api: Api, typed: Typed) -> None:
    """His first one is an admin's to give."""
    with api.database.transaction() as tx:
        persons.add(tx, "roleless@uni.example", "Role Less", "x")
    Path("class.csv").write_text("email,slice\nroleless@uni.example,princeton_l1\nnext@uni.example,princeton_l1\n")
    done = typed("pi", "person import class.csv --site princeton", code=4)
    assert "roleless@uni.example was left out: " in done.stderr
    last = {row["email"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert last["roleless@uni.example"]["password"] == "" and last["next@uni.example"]["password"]
    assert api("pi", "GET", "/slices/princeton_l1").json()["members"] == sorted(["next@uni.example", email("pi")])
