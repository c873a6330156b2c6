"""What only an engine of its own brings: several centrals, rights that it enforces itself, and its own death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_agents import QUICK, Central, Engine, FakeDesk, central, eventually, no_engine, node, once_there, spec, typed

from vini import bus
from vini.bus import engine, frames, subjects
from vini.bus.nkeys import Key, claimed, nkey, public_key
from vini.central import backup, natsbus, natsserver, rights, settings
from vini.central.ca import Authority
from vini.central.natsbus import NatsBus
from vini.central.rights import Rights
from vini.cli.central import central_command
from vini.model import Denied, NotFound, Unsupported, ViniError
from vini.node.reached import trusting
from vini.rules.engine import LEAVES, EngineServer

pytestmark = pytest.mark.skipif(bool(no_engine()), reason=no_engine() or "-")


@asynccontextmanager
async def another(c: Central, desk: FakeDesk | None = None) -> AsyncIterator[NatsBus]:
    """A second central on the same database and engine."""
    assert c.engine
    made = NatsBus(desk or c.desk, c.engine.rights, c.engine.url, trusting(c.authority.pem), rhythm=QUICK)
    serving = asyncio.create_task(made.serve())
    try:
        yield made
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


class Thief:
    """Has a node's identity, and a NATS client that tries what it likes."""

    def __init__(self, c: Central, name: str):
        self.me = c.admit(name)
        assert c.engine
        self.key, self.c = Key("user", self.me.key), c
        self.jwt = c.engine.rights.node_jwt(name, c.desk.nodes[name].public_key)
        self.errors: list[str] = []
        self.got: list[tuple[str, bytes]] = []

    async def dial(self, name: str = "thief") -> Any:
        from nats.aio.client import Client

        async def failed(error: Exception) -> None:
            self.errors.append(str(error))

        client = Client()
        assert self.c.engine
        await eventually(lambda: self.c.hub._line)
        await client.connect(
            self.c.engine.url, tls=trusting(self.c.authority.pem), user_jwt_cb=self.jwt.encode, name=name,
            signature_cb=lambda nonce: self.key.signed(nonce.encode()), error_cb=failed, allow_reconnect=False,
            max_reconnect_attempts=1, reconnect_time_wait=0,
        )  # fmt: skip
        return client

    async def take(self, message: Any) -> None:
        self.got.append((message.subject, message.data))

    async def introduce(self, client: Any, name: str = "", reply: str = "") -> None:
        """As a node says who it is, and hears what is said to it."""
        name = name or self.me.node
        here = bus.Here(name, "e1", bus.Greeting("", 1, name, frozenset(), {}))
        await client.subscribe(subjects.to_node(self.key.name, "e1", "*"), cb=self.take)
        await client.publish(subjects.greet(self.key.name), msgspec.msgpack.encode(here), reply=reply)


async def test_a_stolen_identity_reads_and_writes_nothing_but_its_own(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "v", c.admit("victim")) as victim:
        c.desk.put("victim", spec("secret", 1, "a"))
        await eventually(lambda: c.desk.holds("victim", "secret", 1))
        thief = Thief(c, "thief")
        client = await thief.dial()
        other = nkey("user", c.desk.nodes["victim"].public_key)
        forbidden = [
            ">", "*.>", "vini.>", "vini.to.>", "vini.to.*.*.*", subjects.to_node(other, "*", "*"), subjects.here("*"),
            subjects.to_central("*", "*", "*"), subjects.to_central(thief.key.name, "*", "*"), subjects.greet("*"),
            subjects.WAKE, "_INBOX.>", "$SYS.>", "$JS.>", "$KV.>",
        ]  # fmt: skip
        for subject in forbidden:
            await client.subscribe(subject, cb=thief.take)
        await client.flush()
        await eventually(lambda: len(thief.errors) == len(forbidden))
        assert all("permissions violation for subscription" in e for e in thief.errors), thief.errors

        thief.errors.clear()
        lie = frames.encode(0, bus.Report((), slice="secret", generation=99))
        (epoch,) = [v.epoch for v in c.hub._visits.values() if v.node == "victim"]
        said = [
            subjects.to_central(other, epoch, c.hub._epoch), subjects.to_node(other, epoch, c.hub._epoch),
            subjects.here(other), subjects.greet(other), subjects.WAKE, subjects.CALL, "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.SERVER.PING", "$JS.API.INFO", "$JS.API.STREAM.CREATE.x", "$JS.API.STREAM.MSG.GET.x",
            "$JS.API.CONSUMER.CREATE.x", "$JS.API.CONSUMER.DURABLE.CREATE.x.y", "$JS.API.DIRECT.GET.x", "_INBOX.x.y",
        ]  # fmt: skip
        for subject in said:
            await client.publish(subject, lie)
        await client.flush()
        await eventually(lambda: len(thief.errors) == len(said))
        assert all("permissions violation for publish" in e for e in thief.errors), thief.errors

        # what it may say bears its own name; what it claims in it is not believed
        await thief.introduce(client, "victim")
        await eventually(lambda: client.is_closed)  # who tries that is out, perhaps before he reads why
        assert all(b"not the key with which node 'victim' joined" in refusal for _, refusal in thief.got), thief.got
        assert c.hub.connected() == {"victim"} and victim.slivers() == {"secret.a"}
        assert c.desk.last("victim", "secret").generation == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [("max_payload: 1048576", "takes no messages of more than 1048576 bytes; set `max_payload: 17825792`"),
     ("max_connections: 1", "as many connections as it takes; its log says so, then raise its `max_connections`")],
)  # fmt: skip
async def test_an_engine_that_takes_too_little_is_told_with_what_to_do(tmp_path, line, says):
    it = Central(tmp_path, engine="nats")
    text = it.engine.configuration.read_text()
    it.engine.configuration.write_text(
        "\n".join(x for x in text.splitlines() if "max_payload" not in x) + f"\n{line}\n"
    )
    if "max_payload" not in line:
        it.engine.configuration.write_text(f"{text}{line}\n")
    it.engine.start()
    try:
        await it.start()
        await eventually(lambda: says in it.hub._told, 30)
    finally:
        await it.stop()
        it.engine.kill()


async def test_the_same_client_may_do_what_a_node_may(tmp_path):
    """So that the test above fails for the right reason."""
    async with central(tmp_path, engine="nats") as c:
        me = Thief(c, "one")
        client = await me.dial("e1")
        await me.introduce(client)
        await eventually(lambda: b"welcome" in b"".join(body for _, body in me.got))
        report = frames.encode(0, bus.Report((), slice="s", generation=3))
        await client.publish(subjects.to_central(me.key.name, "e1", c.hub._epoch), report)
        await eventually(lambda: c.desk.last("one", "s"))
        assert me.errors == []
        await client.close()
        await eventually(lambda: not c.hub.connected())


async def test_a_reply_subject_leads_nobody_to_speak_to_another(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "v", c.admit("victim")) as victim:
        await eventually(lambda: c.hub.connected() == {"victim"})
        thief = Thief(c, "thief")
        client = await thief.dial()
        other = nkey("user", c.desk.nodes["victim"].public_key)
        (epoch,) = [v.epoch for v in c.hub._visits.values()]
        over = subjects.to_node(other, epoch, c.hub._epoch)
        await thief.introduce(client, reply=over)
        await eventually(lambda: c.hub.connected() == {"victim", "thief"})
        assert isinstance(await c.hub.ask("victim", bus.Hello()), bus.Greeting)
        assert "connected" in victim.answers.uplink
        await client.close()


async def test_who_is_disabled_is_off_the_engine_at_once_and_stays_out_until_readmitted(tmp_path):
    async with central(tmp_path, engine="nats") as c:
        me = Thief(c, "one")
        client = await me.dial("e1")
        await me.introduce(client)
        await eventually(c.hub.connected)
        started = time.monotonic()
        c.hub.drop("one", "because")
        await eventually(lambda: client.is_closed)
        print(f"cut off after {1000 * (time.monotonic() - started):.1f} ms")
        with pytest.raises(Exception, match="Authorization Violation"):
            await me.dial()
        await c.stop()  # a central that restarts learns from the server whom it keeps out
        await c.start()
        await eventually(lambda: c.hub._line)
        assert set(c.hub._revoked) == {me.key.name}
        c.hub.readmit([c.desk.nodes["one"].public_key])
        await eventually(lambda: not c.hub._revoked and not c.hub._claims_changed.is_set())
        await (await until_let_in(me)).close()


async def until_let_in(me: Thief) -> Any:
    """A claim that was pushed is in force when the server has said so; that has no event here."""
    for _ in range(100):
        try:
            return await me.dial()
        except Exception:
            await asyncio.sleep(0.02)
    raise AssertionError(me.errors)


async def test_any_central_asks_any_node_and_one_of_them_attends_to_it(tmp_path):
    async with AsyncExitStack() as stack:
        c = await stack.enter_async_context(central(tmp_path / "c", engine="nats"))
        other = await stack.enter_async_context(another(c))
        await eventually(lambda: c.hub._line and other._line)
        names = ["a", "b", "c", "d"]
        nodes = {n: await stack.enter_async_context(node(tmp_path / n, c.admit(n))) for n in names}
        await eventually(lambda: c.hub.connected() == other.connected() == set(names))
        await eventually(lambda: sum(bool(v.attendance) for b in (c.hub, other) for v in b._visits.values()) == 4)
        for b in (c.hub, other):
            for n in names:
                assert (await once_there(lambda b=b, n=n: b.ask(n, bus.Hello()))).node == n
                c.desk.put(n, spec("s", 1, "a"))
            b.wake(names)  # whichever it is: those who attend hear of it
        await eventually(lambda: all(n.slivers() == {"s.a"} for n in nodes.values()))
        for b in (c.hub, other):

            async def said(b: NatsBus = b) -> list[Any]:
                return [m async for m in b.run("a", bus.Run("s.a", ("echo", "hi")), typed())]

            assert await once_there(said) == [bus.Output(1, b"hi\n"), bus.Exited(0)]
        for generation, b in enumerate((c.hub, other), 2):
            for n in names:
                c.desk.put(n, spec("s", generation, "a", f"b{generation}"))
            b.wake(names)
            await eventually(lambda g=generation: all(c.desk.holds(n, "s", g) for n in names))


async def test_a_central_that_dies_is_followed_by_another_and_its_commands_end(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        async with another(c) as other:
            await eventually(other.connected)
            assert not next(iter(other._visits.values())).attendance
            said = c.hub.run("one", bus.Run("s.a", ("sh", "-c", "echo $$; exec sleep 1000")), typed())
            process = Path(f"/proc/{int((await anext(said)).data)}")
            assert process.exists()
            c._over_engine.cancel()
            with pytest.raises(bus.NodeAway):
                await anext(said)
            await eventually(lambda: next(iter(other._visits.values())).attendance)
            await eventually(lambda: not process.exists())
            c.desk.put("one", spec("s", 2, "a", "b"))
            other.wake(["one"])
            await eventually(lambda: c.desk.holds("one", "s", 2))
            assert n.slivers() == {"s.a", "s.b"}


async def test_a_central_that_is_cut_from_its_database_leaves_nodes_to_others(tmp_path, monkeypatch):
    monkeypatch.setattr(natsbus, "_BLIND_S", 0.5)
    monkeypatch.setattr(natsbus, "_SIGHT_S", 0.1)
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "n", c.admit("one")):
        await eventually(c.hub.connected)
        desk = FakeDesk()
        desk.__dict__ |= {name: what for name, what in vars(c.desk).items() if name not in ("broken", "asked")}
        async with another(c, desk) as other:
            await eventually(other.connected)
            assert next(iter(c.hub._visits.values())).attendance
            c.hub.others = lambda: True
            c.desk.broken = True
            desk.put("one", spec("s", 1, "a"))
            other.wake(["one"])
            await eventually(lambda: desk.holds("one", "s", 1), 60)
            assert not c.hub.connected() and "the disk is full" in c.hub._told
            assert "database is away" in c.hub._told and "engine" not in c.hub._told
            c.desk.broken = False
            await eventually(c.hub.connected, 60)
            assert (await c.hub.ask("one", bus.Hello())).node == "one"


async def test_centrals_that_are_all_cut_from_the_database_keep_their_nodes(tmp_path, monkeypatch):
    monkeypatch.setattr(natsbus, "_BLIND_S", 0.5)
    monkeypatch.setattr(natsbus, "_SIGHT_S", 0.1)
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "n", c.admit("one")):
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        async with another(c) as other:
            await eventually(other.connected)
            c.hub.others = other.others = lambda: True  # as it was when they looked last
            said = c.hub.run("one", bus.Run("s.a", ("sh", "-c", "echo hi; exec sleep 1000")), typed())
            assert isinstance(await anext(said), bus.Output)
            lines, c.desk.broken = (c.hub._line, other._line), True
            asked = c.desk.asked
            await eventually(lambda: c.desk.asked > asked + 30)  # both looked for longer than they do without it
            assert lines == (c.hub._line, other._line) and c.hub.connected() == other.connected() == {"one"}
            await said.aclose()


async def test_an_engine_that_is_killed_loses_nothing(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        for generation in (2, 3):
            c.engine.kill()
            await eventually(lambda: not c.hub.connected())
            with pytest.raises(bus.NodeAway, match=r"Node one is not connected \(last heard .*The engine tls://.*"):
                await eventually(lambda: c.hub._told)
                await c.hub.ask("one", bus.Hello())
            c.desk.put("one", spec("s", generation, "a", f"b{generation}"))
            c.hub.wake(["one"])
            assert "s.a" in n.slivers()
            c.engine.start()
            started = time.monotonic()
            await eventually(lambda g=generation: c.desk.holds("one", "s", g))
            print(f"as asked {time.monotonic() - started:.2f} s after the engine came back")
            assert n.slivers() == {"s.a", f"s.b{generation}"}


async def test_a_node_finds_the_engine_with_its_own_central_away(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c, another(c) as other:
        async with node(tmp_path / "n", c.admit("one")):
            await eventually(other.connected)
        await c.stop()
        async with node(tmp_path / "n", None):
            await eventually(other.connected)
            assert (await other.ask("one", bus.Hello())).node == "one"


async def test_an_engine_of_another_testbed_is_refused_with_a_sentence(tmp_path):
    async with central(tmp_path / "c", engine="nats") as c:
        (tmp_path / "d" / "ca").mkdir(parents=True)
        strange = rights.make(tmp_path / "d")
        made = NatsBus(c.desk, strange, c.engine.url, trusting(c.authority.pem), rhythm=QUICK)
        serving = asyncio.create_task(made.serve())
        await eventually(lambda: "the engine refuses this identity" in made._told)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_who_speaks_no_tls_is_told_nothing(tmp_path):
    """A server asks for TLS in the clear, so whoever is in between could leave that out."""
    heard: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.10.0", "nonce": "abc", "auth_required": True, "max_payload": 1 << 20}
        writer.write(b"INFO " + msgspec.json.encode(info) + b"\r\n")
        heard.append(await reader.read(100000))
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with central(tmp_path) as c:
        with pytest.raises(ViniError, match="does not speak TLS as the engine does"):
            await engine.dial([url], trusting(c.authority.pem), Key("user", bytes(32)), "jwt", "x", 5)
    assert b"".join(heard) == b""
    server.close()


async def test_a_server_of_another_authority_is_not_believed(tmp_path):
    import ssl

    async with central(tmp_path / "c", engine="nats") as c, central(tmp_path / "d") as d:
        key, jwt = c.engine.rights.central()
        with pytest.raises(ssl.SSLCertVerificationError):
            await engine.dial([c.engine.url], trusting(d.authority.pem), key, jwt, "x", 5)
        with pytest.raises(Denied):
            await engine.dial([c.engine.url], trusting(c.authority.pem), key, c.engine.rights.central()[1], "x", 5)


def test_keys_are_written_as_nats_writes_them():
    """The seed of RFC 8032's first test as the library `nkeys` writes its public half."""
    key = Key("user", bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.name == "UDLVVGABQKYQVN6VJP7NHSLEA45A5YLS6PNKMIZFV4BBU2HXA5IRUVAL"
    assert nkey("user", public_key(key.name)) == key.name
    for wrong in ("", "A" * 56, key.name[:-1] + ("A" if key.name[-1] != "A" else "B"), nkey("account", bytes(32))):
        with pytest.raises(ValueError, match=r"user's key|padding|decod|base32|digit"):
            public_key(wrong)


def test_what_a_node_may_do_stands_in_the_account_and_not_in_what_it_is_given():
    r = Rights(b"s" * 32, clock=lambda: 7.0)
    (scope,) = claimed(r.account_jwt({"U": 3}))["nats"]["signing_keys"]
    node = claimed(r.node_jwt("one", bytes(32)))
    assert node["iss"] == scope["key"] != r.account and node["nats"]["issuer_account"] == r.account
    assert not {"pub", "sub"} & set(node["nats"])
    may = scope["template"]
    assert all("{{subject()}}" in s for side in ("pub", "sub") for s in may[side]["allow"] if s != subjects.CALL)
    assert subjects.CALL not in may["pub"]["allow"]
    assert claimed(r.account_jwt({"U": 3}))["nats"]["revocations"] == {"U": 3}
    assert Rights(b"s" * 32).account == r.account != Rights(b"t" * 32).account


async def test_a_server_that_ends_is_started_again_and_ends_with_its_central(tmp_path):
    made = central_engine(tmp_path)
    server = natsserver.Server(made.own)
    running = asyncio.create_task(server.run())
    first = await eventually(lambda: server.pid)
    os.kill(first, signal.SIGKILL)
    second = await eventually(lambda: server.pid != first and server.pid)
    server.reload()
    key, jwt = made.rights.administrator()
    trusted = trusting(Authority(tmp_path / "ca").pem)
    while True:
        try:
            line = await engine.dial([made.url], trusted, key, jwt, "x", 5)
            break
        except OSError:  # it does not listen yet
            await asyncio.sleep(0.02)
    await line.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert server.pid is None and not Path(f"/proc/{second}").exists()


def central_engine(directory: Path) -> Engine:
    return Engine(directory, Authority(directory / "ca"))


async def test_the_certificate_for_other_servers_is_made_anew_while_the_central_runs(tmp_path):
    made, now = central_engine(tmp_path), [time.time()]
    server = natsserver.Server(made.own)
    made.own._authority._clock = lambda: now[0]
    made.own.write([EngineServer(1, "127.0.0.1:4000", "princeton")])
    at, reloads = tmp_path / "engine" / "routes.pem", []
    server.reload = lambda: reloads.append(1)
    before = at.read_bytes()
    server.keep(False)
    assert at.read_bytes() == before and not reloads
    now[0] += 340 * 86400
    server.keep(False)
    assert at.read_bytes() != before and reloads


async def test_a_server_that_runs_is_not_given_what_it_could_not_begin_with(tmp_path, caplog):
    made = central_engine(tmp_path)
    server, servers = natsserver.Server(made.own), [EngineServer(1, "127.0.0.1:4000", "princeton")]
    before = made.own.path.read_text()
    with socket.create_server(("127.0.0.1", made.port + LEAVES)):
        server.follow(servers)
    assert made.own.path.read_text() == before and f"at port {made.port + LEAVES}, too" in caplog.text
    server.follow([EngineServer(1, "127.0.0.1:4000", ""), EngineServer(2, '":4000', "")])
    assert made.own.path.read_text() == before and "does not take what" in caplog.text
    server.follow(servers)
    assert "cluster {" in made.own.path.read_text()


async def test_a_machine_without_nats_server_is_told_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match=r"There is no nats-server on this machine: install one .* or set `engine`"):
        await natsserver.check()


async def test_a_testbed_without_its_seed_and_one_whose_seed_is_damaged(tmp_path):
    (tmp_path / "ca").mkdir()
    with pytest.raises(NotFound, match="restore it from a backup"):
        rights.read(tmp_path)
    account = rights.make(tmp_path).account
    assert rights.make(tmp_path).account == account, "the seed that is there stays"
    (tmp_path / "ca" / "engine.seed").write_bytes(b"x")
    with pytest.raises(ViniError, match="is damaged"):
        rights.read(tmp_path)


@pytest.mark.parametrize(
    "url", ["nats.example:4222", "https://nats.example", "tls://nats.example", "tls://a/b:1", "tls://a:1,b:2"]
)
def test_an_address_that_is_no_engines_makes_no_central(tmp_path, url):
    words = [
        "init",
        "--dir",
        str(tmp_path / "c"),
        "--name",
        "c.example",
        "--admin",
        "a@example.org",
        "--engine-url",
        url,
    ]
    with pytest.raises(ViniError, match=r"is no address of an engine; it looks like tls://nats\.example:4222"):
        central_command.main(words, standalone_mode=False)
    assert not (tmp_path / "c").exists()


def test_a_central_over_nats_is_made_whole_and_its_backup_has_the_seed(tmp_path):
    directory = tmp_path / "c"
    words = ["init", "--dir", str(directory), "--name", "127.0.0.1", "--admin", "a@example.org", "--engine", "nats"]
    central_command.main([*words, "--engine-port", "14999"], standalone_mode=False)
    found = settings.read(directory)
    assert (found.engine, found.nats_url) == ("nats", "tls://127.0.0.1:14999")
    done = subprocess.run(["nats-server", "-t", "-c", directory / "engine" / "nats-server.conf"], capture_output=True)
    assert done.returncode == 0, done.stderr
    backup.save(directory, tmp_path / "b.tar.gz")
    assert backup.restore(tmp_path / "b.tar.gz", tmp_path / "d").settings == found
    assert rights.read(tmp_path / "d").account == rights.read(directory).account


async def test_a_line_whose_writes_fail_while_more_waits_is_over_at_once(tmp_path):
    """The library ends its tasks then, and does not call who asked to be called when it closes."""
    async with central(tmp_path / "c", engine="nats") as c:
        thief = Thief(c, "n1")
        assert c.engine
        await eventually(lambda: c.hub._line)
        line = await engine.dial([c.engine.url], trusting(c.authority.pem), thief.key, thief.jwt, "n1", 5)
        await line.hear(subjects.to_node(thief.key.name, "e", "*"), lambda *_: None)
        await line.settle()

        async def fails() -> None:
            await asyncio.sleep(0.1)
            raise ConnectionResetError("Connection lost")

        line._client._transport.drain = fails  # as asyncio's, of a peer that is killed while it takes nothing
        greet = subjects.greet(thief.key.name)
        await line.say(greet, b"x")
        await asyncio.sleep(0.05)
        await line.say(greet, b"x")
        async with asyncio.timeout(5):
            assert "Connection lost" in str(await line.over())
        with pytest.raises(ConnectionError):
            await line.settle()
        await line.close()
