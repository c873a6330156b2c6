"""A machine joins: it knows whom it talks to before it believes anything, and each failure says what to do."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import ssl
import time

import httpx
import pytest
from fake_agents import Central, central, eventually, node, spec

from vini.bus.joining import JoinAsked, Joined, Token, parse_token
from vini.central.ca import Authority, fingerprint
from vini.central.hub import Identity
from vini.client import Login
from vini.client.remote import RemoteClient
from vini.model import Conflict, Denied, ViniError
from vini.node import identity as identities
from vini.node.join import join as joined_with
from vini.node.reached import trusting

SECRET = "a-secret-of-24-characters"


class Registry:
    """Tokens and nodes in dicts."""

    def __init__(self) -> None:
        self.secrets = {SECRET: "princeton"}
        self.asked: list[JoinAsked] = []
        self.nodes: dict[str, bytes] = {}

    def take(self, asked: JoinAsked) -> Joined:
        self.asked.append(asked)
        if self.nodes.get(asked.name) == asked.key:
            return Joined(asked.name, "princeton")
        if asked.secret not in self.secrets:
            raise Denied("This join token was used already; make another: `vini node token --site SITE`.")
        if asked.name in self.nodes:
            raise Conflict(f"There is a node {asked.name!r} already; choose another name.")
        self.nodes[asked.name] = asked.key
        return Joined(asked.name, self.secrets.pop(asked.secret))


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
async def c(tmp_path, registry):
    async with central(tmp_path, take=registry.take) as it:
        yield it


async def join(url, token, name, said=lambda asked: asked):
    """With a key of its own each time."""
    return await joined_with(url, token, name, os.urandom(32), said)


def token(c: Central, secret: str = SECRET) -> str:
    return str(Token(secret, c.authority.fingerprint))


async def test_a_machine_that_joins_is_a_node(c, registry, tmp_path):
    def said(asked):
        from msgspec.structs import replace

        return replace(asked, capabilities=frozenset({"netem"}), mtu=9000, cores=4.0, memory_mib=2048, version="0.1")

    me = await join(c.url, token(c), "one", said)
    (asked,) = registry.asked
    assert (asked.name, asked.mtu, asked.capabilities, asked.address) == ("one", 9000, {"netem"}, "127.0.0.1")
    assert (me.node, me.site, me.central, me.ca) == ("one", "princeton", c.url, c.authority.pem)
    assert identities.public_half(me.key) == registry.nodes["one"]
    c.desk.nodes["one"] = Identity(registry.nodes["one"])
    async with node(tmp_path / "n", me):
        await eventually(c.hub.connected)


async def test_a_token_is_good_once_but_a_lost_answer_may_be_asked_for_again(c):
    key = b"k" * 32
    first = await joined_with(c.url, token(c), "one", key)
    assert await joined_with(c.url, token(c), "one", key) == first
    with pytest.raises(Denied, match="used already; make another"):
        await join(c.url, token(c), "two")


async def test_a_name_that_is_taken(c, registry):
    registry.nodes["one"] = b""
    with pytest.raises(Conflict, match="a node 'one' already"):
        await join(c.url, token(c), "one")
    assert registry.secrets, "the token is still good"


async def test_another_central_than_the_one_that_made_the_token(c, registry):
    with pytest.raises(Denied, match="is not the central that made this token"):
        await join(c.url, str(Token(SECRET, "0" * 64)), "one")
    assert registry.asked == [], "it was told nothing"


@pytest.mark.parametrize("text", ["", "vini1", "vini1.x.y", f"vini2.{SECRET}.{'0' * 64}", f"vini1.{SECRET}.{'0' * 63}",
                                  f"vini1.{SECRET}.{'0' * 64}extra", f"vini1.{'ü' * 30}.{'0' * 64}"])  # fmt: skip
async def test_what_is_no_token(text):
    with pytest.raises(ViniError, match="That is no join token"):
        await join("https://central.example", text, "one")


def test_a_token_survives_being_copied():
    t = Token(SECRET, "ab" * 32)
    assert parse_token(f"  {t}\n") == t


@pytest.mark.parametrize(
    "url", ["", "central", "http://central", "https://", "https://c/x", "https://c:port", "ftp://c"]
)
async def test_what_is_no_address_of_a_central(url):
    with pytest.raises(ViniError, match="is no address of a central; it looks like https://central.example"):
        await join(url, str(Token(SECRET, "0" * 64)), "one")


@pytest.mark.parametrize("name", ["", "local", "UPPER", "a b", "a.b", "-", "x" * 41, "../x"])
async def test_what_can_be_no_name(name):
    with pytest.raises(ViniError, match="can't be a node's name"):
        await join("https://central.example", str(Token(SECRET, "0" * 64)), name)


async def test_nobody_listens():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ViniError, match="nobody listens there; is the central running"):
            await join(f"https://127.0.0.1:{bound.getsockname()[1]}", str(Token(SECRET, "0" * 64)), "one")


async def test_no_such_name():
    with pytest.raises(ViniError, match="there is no way to it"):
        await join("https://nobody.invalid", str(Token(SECRET, "0" * 64)), "one")


async def test_something_that_does_not_speak_tls():
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 10)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ViniError, match="does not speak TLS"):
        await join(f"https://127.0.0.1:{port}", str(Token(SECRET, "0" * 64)), "one")
    server.close()


async def test_a_web_server_that_is_no_central(tmp_path):
    authority = Authority(tmp_path / "other")
    served = authority.serve(["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate, served.key)

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ViniError, match="is no VINI central; check the address"):
        await join(f"https://127.0.0.1:{port}", str(Token(SECRET, authority.fingerprint)), "one")
    server.close()


@pytest.mark.parametrize(
    "off, says", [(400 * 86400, "not valid yet by this machine's clock; set the clock"), (-400 * 86400, "has expired")]
)
async def test_a_clock_that_is_wrong(tmp_path, registry, off, says):
    """The other way round: the certificate was made by a clock that is ahead, or behind, of this machine's."""
    c = Central(tmp_path, take=registry.take)
    old = time.time() - 500 * 86400
    c.authority = Authority(tmp_path / "long ago", clock=lambda: old)
    c.authority._clock = lambda: time.time() + off
    c.authority.serve(["127.0.0.1", "localhost"])
    await c.start()
    try:
        with pytest.raises(ViniError, match=says):
            await join(c.url, token(c), "one")
    finally:
        await c.stop()


@pytest.mark.parametrize(
    "off, says",
    [(400 * 86400, "not valid yet by this machine's clock"), (-400 * 86400, "has expired, by this machine's")],
)
async def test_a_user_is_told_what_is_wrong_with_a_certificate(tmp_path, off, says):
    c = Central(tmp_path)
    old = time.time() - 500 * 86400
    c.authority = Authority(tmp_path / "long ago", clock=lambda: old)
    c.authority._clock = lambda: time.time() + off
    await c.start()
    client = RemoteClient(Login(c.url, "ada@example.org", "a token", c.authority.pem))
    other = RemoteClient(Login(c.url, "ada@example.org", "a token", Authority(tmp_path / "other").pem))
    try:
        with pytest.raises(ViniError, match=f"is not believed: its certificate .*{says}"):
            await asyncio.to_thread(client.call, "GET", "/me", dict)
        with pytest.raises(ViniError, match="is not believed: .* its certificate is of another authority"):
            await asyncio.to_thread(other.call, "GET", "/me", dict)
    finally:
        await c.stop()


async def test_a_name_that_the_certificate_does_not_have(c, tmp_path):
    c.authority.serve(["elsewhere.example"])
    await c.stop()
    serve, c.authority.serve = c.authority.serve, lambda _: serve(["elsewhere.example"])
    await c.start()
    with pytest.raises(ViniError, match="its certificate is not for this name"):
        await join(c.url, token(c), "one")
    assert tmp_path


@pytest.mark.parametrize(
    "body, says",
    [
        (b"", "can't be understood"),
        (b"[]", "can't be understood"),
        (b"\xff" * 100, "can't be understood"),
        (b" " * 100_000, "too long"),
        (json.dumps({"secret": "s", "name": "n", "key": base64.b64encode(b"short").decode()}).encode(), "32 bytes"),
    ],
    ids=["empty", "list", "binary", "long", "short key"],
)
async def test_nonsense_is_answered_by_a_sentence(c, registry, body, says):
    async with httpx.AsyncClient(verify=trusting(c.authority.pem), trust_env=False) as client:
        answer = await client.post(f"{c.url}/v1/join", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["sentence"]
    assert registry.asked == []


# --- the authority ---------------------------------------------------------------------------------


def test_the_authority_is_made_once(tmp_path):
    first = Authority(tmp_path)
    assert Authority(tmp_path).fingerprint == first.fingerprint == fingerprint(first.pem)
    assert [p.name for p in tmp_path.iterdir() if p.stat().st_mode & 0o077 and p.suffix == ".key"] == []


def test_an_authority_that_can_not_be_read_says_what_follows(tmp_path):
    Authority(tmp_path)
    (tmp_path / "ca.key").write_bytes(b"")
    with pytest.raises(ViniError, match="Restore it from a backup; with a new one, every node has to join again"):
        Authority(tmp_path)


def test_the_servers_certificate_is_made_anew_when_it_must_be(tmp_path):
    now = 1.8e9
    authority = Authority(tmp_path, clock=lambda: now)

    def made(*names: str) -> bytes:
        return authority.serve(names).certificate.read_bytes()

    first = made("a.example", "192.0.2.1", "2001:db8::1")
    assert made("a.example", "192.0.2.1", "2001:db8::1") == first
    now += 300 * 86400
    assert made("a.example", "192.0.2.1", "2001:db8::1") == first
    now += 40 * 86400
    second = made("a.example", "192.0.2.1", "2001:db8::1")
    assert second != first
    third = made("b.example")
    assert third != second
    authority.serve(["b.example"]).key.write_bytes(b"")
    assert made("b.example") != third
    (tmp_path / "ca.pem").unlink()
    other = Authority(tmp_path, clock=lambda: now)
    assert other.serve(["b.example"]).certificate.read_bytes() != made("b.example") or other.pem != authority.pem


def test_a_clock_at_which_the_authority_is_not_good_is_told_of(tmp_path):
    now = 1.8e9
    authority = Authority(tmp_path, clock=lambda: now)
    assert authority.check() == ""
    for now in (0.0, 1.8e9 - 7200, 1.8e9 + 3651 * 86400):  # noqa: B007
        with pytest.raises(ViniError, match=r"this machine's clock shows .*set the clock") as told:
            authority.check()
        assert ("if the clock is right, move" in str(told.value)) == (now > 1.8e9)
    now = 1.8e9 + 3284 * 86400
    assert authority.check() == ""
    now += 2 * 86400
    assert re.search(r"ends on 20\d\d-.*before that, move .* every node has to join again", authority.check())


async def test_a_server_that_runs_shows_its_new_certificate(c, tmp_path):
    context = c._server.config.ssl
    before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", c.port))
    assert not c.authority.renew(context, ["127.0.0.1", "localhost"])
    c.authority._clock = lambda: time.time() + 340 * 86400
    assert c.authority.renew(context, ["127.0.0.1", "localhost"])
    after = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", c.port))
    assert before != after
    assert tmp_path and spec
