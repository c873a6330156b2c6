"""Logging in through an OpenID Connect issuer: a real one over HTTP, that is right, and wrong in every way."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from oidc_issuer import CLIENT, SECRET, FakeIssuer, issuer
from own_place import eventually
from testbed_api import Api, email, populated

from vini.central import issuer as issuers
from vini.central.issuer import Issuer
from vini.cli import account, vini
from vini.model import Denied, ViniError
from vini.rules import Invalid
from vini.rules.oidc import Oidc, check, is_safe
from vini.rules.wishes import BegunLogin, Secret
from vini.store import events, logins, persons
from vini.store.database import Database

ADA = email("user")


@pytest.fixture
def fake() -> Iterator[FakeIssuer]:
    with issuer() as made:
        yield made


@pytest.fixture
def api(database: Database, fake: FakeIssuer) -> Api:
    made = populated(database)
    made.app.state.issuer = Issuer(Oidc(fake.url, CLIENT, newcomers="princeton"), SECRET, patience_s=5.0)
    return made


def begin(api: Api) -> str:
    answer = api("", "POST", "/oidc/logins")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["login"])


def end(api: Api, login: str) -> httpx.Response:
    return api("", "POST", "/oidc/sessions", {"login": login})


def told(api: Api, who: str) -> list[tuple[str, str]]:
    """What happened to him, and with what result."""
    with api.database.reading() as tx:
        return [(e.what, e.result) for e in events.some(tx, None, 100, who=who)[0]]


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert "secret" not in answer.json()
    return str(answer.json()["sentence"])


def test_who_confirms_in_a_browser_is_logged_in_as_with_a_password(api: Api, fake: FakeIssuer) -> None:
    begun = api("", "POST", "/oidc/logins").json()
    assert (begun["user_code"], begun["page"]) == ("WDJB-MJHT", f"{fake.url}/go")
    waiting = end(api, begun["login"])
    assert (waiting.status_code, waiting.json()["secret"]) == (200, "")
    fake.confirm(ADA.upper())
    done = end(api, begun["login"])
    assert done.status_code == 200 and done.json()["expires"] == api.now[0] + 12 * 3600
    assert api(done.json()["secret"], "GET", "/me").json()["email"] == ADA
    assert ("log in by OIDC", "ok") in told(api, ADA)
    assert "used already" in refused(end(api, begun["login"]), 401), "it is good once"
    assert api("admin", "PATCH", f"/persons/{ADA}", {"enabled": False}).status_code == 200
    assert api(done.json()["secret"], "GET", "/me").status_code == 401, "a session as any other"


def test_the_secret_of_the_client_and_the_device_code_stay_at_the_central(api: Api, fake: FakeIssuer) -> None:
    begun = api("", "POST", "/oidc/logins")
    assert "device-" not in begun.text
    path, form, auth = fake.asked[0]
    assert path == "/device" and form["scope"] == "openid email profile" and auth.startswith("Basic ")
    assert SECRET not in str(form)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "another"}, "it was made for another client"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "for another client"),
        ({"iss": "https://evil.example"}, "it is of another issuer"),
        ({"exp": int(time.time()) - 3600}, "it has expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"nonce": "of another login"}, "for another login"),
    ],
)
def test_what_was_not_made_for_this_login_is_not_believed(
    api: Api, fake: FakeIssuer, claims: dict[str, Any], why: str
) -> None:
    login = begin(api)
    fake.claims = claims
    fake.confirm(ADA)
    assert why in refused(end(api, login), 401)
    fake.claims = {}
    fake.confirm(ADA)
    assert "used already" in refused(end(api, login), 401), "nor is anything else in its place"
    assert ("log in by OIDC", "Denied") in told(api, "oidc") and ("log in by OIDC", "ok") not in told(api, ADA)


def test_a_wrong_signature_none_and_one_by_what_everybody_knows_are_refused(api: Api, fake: FakeIssuer) -> None:
    for alg, why in (("none", "not signed as ID tokens are"), ("HS256", "not signed as ID tokens are")):
        login, fake.alg = begin(api), alg
        fake.confirm(ADA)
        assert why in refused(end(api, login), 401)
    login, fake.alg = begin(api), "RS256"
    fake.steal()
    fake.confirm(ADA)
    assert "its signature is wrong" in refused(end(api, login), 401)


def test_an_issuer_may_change_its_keys(api: Api, fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        login = begin(api)
        fake.confirm(ADA)
        assert end(api, login).json()["secret"]
        fake.roll()
        monkeypatch.setattr(issuers, "_ANEW_S", -1.0)


def test_an_address_that_nobody_verified_opens_no_account(api: Api, fake: FakeIssuer) -> None:
    for claims, why in (
        ({"email_verified": False}, "has not verified"),
        ({"email_verified": None}, "has not verified"),
        ({"email_verified": 1.5}, "has not verified"),
        ({"email": None}, "tells no e-mail address"),
        ({"email": "a@b\n"}, "tells no e-mail address"),
    ):
        login, fake.claims = begin(api), claims
        fake.confirm(ADA)
        assert why in refused(end(api, login), 403)


def test_a_newcomer_waits_for_a_pi(api: Api, fake: FakeIssuer) -> None:
    new = "new@elsewhere.example"
    for _ in range(2):
        login = begin(api)
        fake.confirm(new)
        assert f"waits for a PI's approval; ask a PI of site princeton (`vini person enable {new}`" in refused(
            end(api, login), 403
        )
    assert [e for e in told(api, new) if e[0] == "ask for account"] == [("ask for account", "ok")]
    shown = api("pi", "GET", f"/persons/{new}").json()
    assert (shown["enabled"], shown["roles"]) == (False, [{"role": "user", "site": "princeton"}])
    assert api("outsider", "PATCH", f"/persons/{new}", {"enabled": True}).status_code == 404
    assert api("pi", "PATCH", f"/persons/{new}", {"enabled": True}).status_code == 200
    login = begin(api)
    fake.confirm(new)
    assert end(api, login).json()["secret"]


def test_without_a_place_for_newcomers_they_are_refused(api: Api, fake: FakeIssuer) -> None:
    api.app.state.issuer = Issuer(Oidc(fake.url, CLIENT), SECRET)
    login = begin(api)
    fake.confirm("new@elsewhere.example")
    assert "has no account here; ask a PI" in refused(end(api, login), 403)
    api.app.state.issuer = Issuer(Oidc(fake.url, CLIENT, newcomers="nowhere"), SECRET)
    login = begin(api)
    fake.confirm("new@elsewhere.example")
    assert "the site for newcomers, 'nowhere', is not there" in refused(end(api, login), 403)
    with api.database.reading() as tx, pytest.raises(ViniError):
        persons.get(tx, "new@elsewhere.example")


def test_the_user_may_refuse_or_take_too_long_and_the_issuer_is_not_pestered(api: Api, fake: FakeIssuer) -> None:
    for answer, why in (("access_denied", "was refused at"), ("expired_token", "has expired")):
        login, fake.answer = begin(api), answer
        assert why in refused(end(api, login), 403)
    login, fake.answer = begin(api), "slow_down"
    asked = len(fake.asked)
    for seconds, more in ((0.0, 1), (4.0, 1), (1.5, 2), (5.0, 2)):
        api.now[0] += seconds
        assert end(api, login).json()["secret"] == ""
        assert len(fake.asked) - asked == more, "five seconds more between two, after each time"
    api.now[0] += 3600
    assert "has expired" in refused(end(api, login), 401)


def test_not_more_wait_than_people_need_and_one_leaves_as_many_places_as_he_takes(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_MOST", 40)
    for _ in range(20):
        begin(api)
    assert "Too many logins wait" in refused(api("", "POST", "/oidc/logins"), 403)
    with api.database.transaction() as tx:
        for i in range(10):
            logins.reserve(tx, "", f"2001:db8::{i}", api.now[0])
        with pytest.raises(Denied, match="Too many"):
            logins.reserve(tx, "", "2001:db8::ffff:1", api.now[0])
        logins.reserve(tx, "", "192.0.2.1", api.now[0])
    api.now[0] += 3600
    begin(api)


def test_a_place_is_taken_before_the_issuer_is_asked_and_given_back_where_it_does_not_answer(
    api: Api, fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_MOST", 6)
    with ThreadPoolExecutor(12) as pool:
        statuses = [a.status_code for a in pool.map(lambda _: api("", "POST", "/oidc/logins"), range(12))]
    assert (statuses.count(201), statuses.count(403)) == (3, 9), statuses
    assert len(fake.asked) == 3, "nobody has it asked for what he can't have"
    api.now[0] += 3600
    fake.metadata = {"device_authorization_endpoint": ""}
    api.app.state.issuer = Issuer(Oidc(fake.url, CLIENT), SECRET)
    for _ in range(5):
        refused(api("", "POST", "/oidc/logins"), 502)


def test_a_letter_that_becomes_another_one_makes_nobody_somebody_else(api: Api, fake: FakeIssuer) -> None:
    with api.database.transaction() as tx:
        persons.add(tx, "kelvin@princeton.example")
    for address in ("\u212aelvin@princeton.example", "kelvin@princeton.example\u0130"):
        login = begin(api)
        fake.confirm(address)
        assert "capital letters beyond A to Z" in refused(end(api, login), 403)
    login = begin(api)
    fake.confirm("KELVIN@Princeton.example")
    assert end(api, login).json()["secret"]


def test_a_token_that_names_no_key_is_believed_by_any_that_signs(api: Api, fake: FakeIssuer) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = {**json.loads(RSAAlgorithm.to_jwk(other.public_key())), "kid": "0"}
    elliptic = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    fake.more_keys = [{**jwk, "use": "enc"}, jwk, elliptic]
    for kid in (None, "1"):
        login, fake.named = begin(api), kid
        fake.confirm(ADA)
        assert end(api, login).json().get("secret"), kid
    login, fake.named = begin(api), "0"
    fake.confirm(ADA)
    assert "its signature is wrong" in refused(end(api, login), 401)
    login, fake.named = begin(api), None
    fake.steal()
    fake.confirm(ADA)
    assert "its signature is wrong" in refused(end(api, login), 401)


def test_an_issuer_that_is_down_or_is_none_is_told_in_a_sentence(api: Api, fake: FakeIssuer) -> None:
    login = begin(api)
    fake.answer = "server_is_on_fire"
    assert "refuses to say who logged in (server_is_on_fire)" in refused(end(api, login), 502)
    fake.answer = None
    fake.confirm(ADA)
    assert end(api, login).json()["secret"], "that was no end of it"
    for metadata, status, why in (
        ({"issuer": "https://evil.example"}, 502, "says that it is 'https://evil.example'"),
        ({"device_authorization_endpoint": ""}, 502, "has no device authorization grant"),
        ({"device_authorization_endpoint": "http://evil.example/x"}, 502, "no safe"),
    ):
        fake.metadata = metadata
        api.app.state.issuer = Issuer(Oidc(fake.url, CLIENT), SECRET)
        assert why in refused(api("", "POST", "/oidc/logins"), status)
    api.app.state.issuer = Issuer(Oidc(fake.url, "another"), SECRET)
    fake.metadata = {}
    assert "is its client id right?" in refused(api("", "POST", "/oidc/logins"), 502)
    api.app.state.issuer = Issuer(Oidc("http://127.0.0.1:1", CLIENT))
    assert "can't be reached" in refused(api("", "POST", "/oidc/logins"), 502)
    api.app.state.issuer = None
    assert "knows no OIDC issuer" in refused(api("", "POST", "/oidc/logins"), 404)


def test_an_issuer_is_spoken_to_in_secret(tmp_path: Path) -> None:
    for url, safe in (
        ("https://login.example", True), ("http://127.0.0.1:8080/x", True), ("http://[::1]/", True),
        ("http://login.example", False), ("ftp://127.0.0.1", False), ("https://", False), ("x", False),
        ("http://[::1", False), ("https://a\x1b[2J", False),
    ):  # fmt: skip
        assert is_safe(url) == safe, url
    with pytest.raises(Invalid, match="no address of an OIDC issuer"):
        check(Oidc("login.example", CLIENT))
    with pytest.raises(Invalid, match="--oidc-client"):
        check(Oidc("https://login.example", ""))
    with pytest.raises(ViniError, match="can't be read from .*No such file"):
        issuers.read(Oidc("https://login.example", CLIENT, str(tmp_path / "none")))


def test_a_login_outlives_a_central_that_is_away_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = [ViniError("The central does not answer."), Secret("", 0.0), Secret("it", 1.0), Denied("No.")]

    class Stranger:
        def call(self, _: str, path: str, *__: object) -> Any:
            if path == "/oidc/logins":
                return BegunLogin("l", "WDJB-MJHT", "https://login.example/go", "", 0.0, 0.0)
            if isinstance(answer := said.pop(0), Exception):
                raise answer
            return answer

    assert account._confirmed(Stranger()) == "it"  # type: ignore[arg-type]
    with pytest.raises(Denied):
        account._confirmed(Stranger())  # type: ignore[arg-type]
    said.append(ViniError("It is away for good."))
    monkeypatch.setattr(account, "_LONGEST_S", -1.0)
    with pytest.raises(ViniError, match="for good"):
        account._confirmed(Stranger())  # type: ignore[arg-type]


def test_the_whole_way_from_the_command_line(fake: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A central as a process, over TLS; a newcomer; a PI who approves of him; and who was let in is put out again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret, bob, url = tmp_path / "secret", "bob@example.org", f"https://127.0.0.1:{port}"
    secret.write_text(SECRET)

    def vini_(who: str, *words: str) -> Result:
        monkeypatch.setenv("VINI_LOGIN", str(tmp_path / f"{who}.json"))
        return CliRunner().invoke(vini, list(words))

    made = vini_(
        "ada", "central", "init", "--dir", str(tmp_path / "c"), "--name", "127.0.0.1", "--port", str(port), "--admin",
        "ada@example.org", "--oidc-issuer", fake.url, "--oidc-client", CLIENT, "--oidc-secret-file", str(secret),
        "--oidc-newcomers", "home",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    monkeypatch.setenv("VINI_PASSWORD", made.output.split("password: ")[1].split()[0])
    fingerprint = made.output.split("--fingerprint ")[1].split()[0]
    with subprocess.Popen(
        [sys.executable, "-m", "vini", "central", "run", "--dir", str(tmp_path / "c"), "--listen", "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            eventually(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), within=60)
            login = ("login", url, "--fingerprint", fingerprint)
            assert vini_("ada", *login, "--email", "ada@example.org").exit_code == 0
            fake.confirm_all(bob)
            refused_ = vini_("bob", *login, "--oidc")
            assert f"Open {fake.url}/go in any browser, and type the code WDJB-MJHT" in refused_.output
            assert isinstance(refused_.exception, Denied) and not (tmp_path / "bob.json").exists()
            assert vini_("ada", "person", "enable", bob).output == f"{bob} may log in.\n"
            assert f"You are {bob} at {url}" in vini_("bob", *login, "--oidc").output
            assert "user at home" in vini_("bob", "person").output
            (shown,) = json.loads(vini_("bob", "person", "--json").output)
            assert (shown["email"], shown["roles"]) == (bob, [{"role": "user", "site": "home"}])
            assert vini_("ada", "person", "revoke", bob, "user", "--site", "home").exit_code == 0
            assert "user at home" not in vini_("bob", "person").output
            assert vini_("ada", "person", "disable", bob).exit_code == 0
            assert isinstance(vini_("bob", "person").exception, Denied)
            assert vini_("ada", "person", "delete", bob).exit_code == 0
            assert bob not in vini_("ada", "person").output
            assert vini_("bob", *login, "--oidc", "--token", "x").exit_code == 2
        finally:
            process.terminate()
