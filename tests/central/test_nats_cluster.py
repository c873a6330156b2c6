"""An engine of several nats-servers, with what `vini central engine` writes: two in a cluster, a third at a site."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from engine_machines import EngineBed, Machine, free_port
from fake_agents import QUICK, QUICK_UPLINK, Central, eventually, no_engine, node, once_there, spec
from msgspec.structs import replace

from vini import bus
from vini.bus import frames, subjects
from vini.bus.nkeys import Key, nkey
from vini.central import natsbus, rights
from vini.central.added import Added
from vini.central.natsbus import NatsBus
from vini.model import ViniError
from vini.node import engined
from vini.node.identity import Identity
from vini.node.reached import trusting
from vini.rules.engine import LEAVES, ROUTES
from vini.rules.wishes import NewSite
from vini.store import sites

pytestmark = pytest.mark.skipif(bool(no_engine()), reason=no_engine() or "-")


class Cluster(Central):
    """A central over an engine of three machines; `far` is the one at the site princeton."""

    def __init__(self, directory: Path):
        ports = [free_port() for _ in range(3)]
        self.testbed = EngineBed(directory / "central", *ports[:2])
        with self.testbed.database.transaction() as tx:
            sites.add(tx, NewSite("princeton"))
        for port in ports[:2]:
            self.testbed.engine("server", f"127.0.0.1:{port}")
        self.told = self.testbed.engine("leaf", "princeton", f"127.0.0.1:{ports[2]}")
        self.servers = [Machine(self.testbed, port, directory / name) for port, name in zip(ports, "ab", strict=False)]
        self.far = Machine(self.testbed, ports[2], directory / "far")
        super().__init__(self.testbed.directory)
        self.rights = rights.read(self.testbed.directory)

    def _bus(self) -> NatsBus:
        made = NatsBus(
            self.desk, self.rights, self.testbed.url, trusting(self.authority.pem), rhythm=QUICK,
            added=self.testbed.added,
        )  # fmt: skip
        self._over_engine = asyncio.create_task(made.serve())
        return made

    def join(self, name: str, site: str) -> Identity:
        """The database knows it, too."""
        made = self.admit(name)
        self.testbed.join(name, site, self.desk.nodes[name].public_key)
        return made


@asynccontextmanager
async def clustered(directory: Path) -> AsyncIterator[Cluster]:
    it = Cluster(directory)
    machines = [*it.servers, it.far]
    try:
        for machine in machines:
            machine.start()
        # else what is said to one of them, the other hears some minutes later
        await eventually(lambda: all("Route connection created" in server.said() for server in it.servers), 60)
        await it.start()
        await eventually(lambda: it.hub._line, 30)
        yield it
    finally:
        await it.stop()
        for machine in machines:
            machine.kill()
        it.testbed.database.close()


async def test_one_of_two_servers_is_killed_and_nothing_is_lost(tmp_path, monkeypatch):
    """One of the nodes is at a server of its site: it finds that by itself."""
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        names = ["a", "b", "c", "far"]
        identities = {name: c.join(name, "princeton" if name == "far" else "home") for name in names}
        c.hub.look()
        held = {n: await stack.enter_async_context(node(tmp_path / n, me)) for n, me in identities.items()}
        await eventually(lambda: c.hub.connected() == set(names), 60)
        known = engined.read(tmp_path / "a", identities["a"])
        assert known and {known.url, *known.more} == set(c.testbed.url.split(","))
        assert c.far.url in held["far"].answers.uplink

        calls, came = [], c.hub._site_came.set
        monkeypatch.setattr(c.hub._site_came, "set", lambda: calls.append(came()))
        for generation, server in enumerate(c.servers, 1):
            server.kill()
            for name in names:  # some are not connected at this moment
                c.desk.put(name, spec("s", generation, "a", f"b{generation}"))
            c.hub.wake(names)
            await eventually(lambda g=generation: all(c.desk.holds(n, "s", g) for n in names), 120)
            assert all(n.slivers() == {"s.a", f"s.b{generation}"} for n in held.values())
            await eventually(lambda: c.hub.connected() == set(names), 90)
            for name in names:
                assert (await once_there(lambda n=name: c.hub.ask(n, bus.Hello()))).node == name
            server.start()

        await eventually(lambda: calls)  # the site's server was connected to one of them: it came to the other
        c.desk.nodes["far"] = replace(c.desk.nodes["far"], allowed=False, why="It was stolen.")
        c.hub.drop("far", "It was stolen.")
        await eventually(lambda: "far" not in c.hub.connected() and "It was stolen." in held["far"].answers.uplink, 60)


async def test_a_server_at_a_site_is_removed_and_added_while_nodes_are_at_it(tmp_path):
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        me = c.join("far", "princeton")
        c.hub.look()
        rhythm = replace(QUICK_UPLINK, alone=1.0, deaf=3.0)  # the old server of its site hears no central
        far = await stack.enter_async_context(node(tmp_path / "n", me, rhythm=rhythm))
        await eventually(lambda: c.far.url in far.answers.uplink, 60)
        assert "is cut off as soon as" in c.testbed.engine("remove", f"127.0.0.1:{c.far.port}")
        c.hub.look()
        await eventually(lambda: "connected to" in far.answers.uplink and c.far.url not in far.answers.uplink, 60)
        await eventually(lambda: c.hub.connected() == {"far"})
        await eventually(lambda: "Authorization Violation" in c.far.said(), 60)

        c.testbed.engine("leaf", "princeton", f"127.0.0.1:{c.far.port}")  # with keys of its own
        c.hub.look()
        c.far.kill()
        c.far.start()
        await eventually(lambda: c.far.url in far.answers.uplink, 90)
        c.desk.put("far", spec("s", 1, "a"))
        c.hub.wake(["far"])
        await eventually(lambda: c.desk.holds("far", "s", 1), 60)


async def test_nodes_of_a_site_are_in_the_cluster_until_its_server_is_there_and_while_it_is_away(tmp_path):
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        me, port = c.join("h", "home"), free_port()
        c.hub.look()
        n = await stack.enter_async_context(node(tmp_path / "n", me))
        await eventually(lambda: c.hub.connected() == {"h"}, 60)
        c.testbed.engine("leaf", "home", f"127.0.0.1:{port}")
        c.hub.look()
        await eventually(lambda: (known := engined.read(tmp_path / "n", me)) and known.near == 1, 60)
        c.desk.put("h", spec("s", 1, "a"))
        c.hub.wake(["h"])
        await eventually(lambda: c.desk.holds("h", "s", 1), 60)
        site = Machine(c.testbed, port, tmp_path / "site")
        for generation in (2, 3):
            site.start()
            stack.callback(site.kill)
            await eventually(lambda: f"over {site.url}" in n.answers.uplink, 90)
            site.kill()
            c.desk.put("h", spec("s", generation, "a", f"b{generation}"))
            c.hub.wake(["h"])
            await eventually(lambda g=generation: c.desk.holds("h", "s", g), 60)
            assert site.url not in n.answers.uplink


async def test_a_server_at_a_site_that_reaches_no_cluster_is_left(tmp_path):
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        c.far.kill()
        conf = c.far._from / "nats-server.conf"
        conf.write_text(re.sub(r"urls: \[.*?\]", 'urls: ["tls://127.0.0.1:9"]', conf.read_text()))
        c.far.start()
        me = c.join("far", "princeton")
        c.hub.look()
        far = await stack.enter_async_context(node(tmp_path / "n", me, rhythm=replace(QUICK_UPLINK, alone=1.0)))
        await eventually(lambda: c.hub.connected() == {"far"} and c.far.url not in far.answers.uplink, 60)
        assert c.far.url in far.uplink._deaf


async def test_a_node_that_no_server_lets_in_yet_says_so_and_tries_on(tmp_path, monkeypatch):
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        run = engined.Engined.run

        async def refused(_: engined.Engined) -> None:
            raise engined.Unknown("the engine refuses this identity.")

        monkeypatch.setattr(engined.Engined, "run", refused)
        me = c.join("h", "home")
        n = await stack.enter_async_context(node(tmp_path / "n", me))
        await eventually(lambda: "does not let it in yet" in n.answers.uplink, 60)
        monkeypatch.setattr(engined.Engined, "run", run)
        await eventually(lambda: "connected to" in n.answers.uplink and "not connected" not in n.answers.uplink, 60)


async def test_a_server_of_a_site_that_was_removed_while_no_central_ran_is_out(tmp_path):
    async with clustered(tmp_path / "e") as c:
        c.join("far", "princeton")
        c.hub.look()
        c.far.kill()  # the thief has its disk
        (number,) = [s.number for s in c.testbed.added().servers if s.site]
        key = c.rights._of("user", f"user of server {number}")
        jwt = (c.far.place / "site.creds").read_text().splitlines()[1]
        inside = Leaf(c, key, jwt)
        await inside.dial()
        await eventually(lambda: b"PONG" in inside.heard, 60)
        await c.stop()
        assert "as soon as a central runs" in c.testbed.engine("remove", f"127.0.0.1:{c.far.port}")
        await c.start()
        await eventually(lambda: inside.ended, 60)
        again = Leaf(c, key, jwt)
        await again.dial()
        await eventually(lambda: again.ended, 60)
        assert b"Authorization Violation" in again.heard


async def test_which_servers_there_are_is_asked_again_where_the_database_did_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(natsbus, "_AGAIN_S", 0.2)
    async with clustered(tmp_path / "e") as c:
        read, asked = c.hub._read_added, []

        def fails_once() -> Added:
            asked.append(1)
            if len(asked) == 1:
                raise ViniError("The database is away.")
            return read()

        c.hub._read_added = fails_once
        c.testbed.engine("remove", f"127.0.0.1:{c.far.port}")
        c.hub.look()
        await eventually(lambda: not any(s.site for s in c.hub._added.servers), 30)
        await eventually(lambda: "Authorization Violation" in c.far.said(), 60)


async def test_both_lines_of_a_central_are_at_one_server(tmp_path):
    """Also where servers don't know each other yet: claims that go over one of them hold for who is on the other."""
    async with clustered(tmp_path / "e") as c:
        for _ in range(8):  # each server is one by chance
            await c.stop()
            await c.start()
            await eventually(lambda: c.hub._line and c.hub._system, 30)
            assert c.hub._line.url == c.hub._system.url


async def test_a_leaf_that_comes_and_goes_has_nodes_called_a_few_times_only(tmp_path, monkeypatch):
    monkeypatch.setattr(natsbus, "_SITE_S", (0.1, 0.2))
    async with clustered(tmp_path / "e") as c:
        c.far.kill()
        (number,) = [s.number for s in c.testbed.added().servers if s.site]
        key = c.rights._of("user", f"user of server {number}")
        jwt = (c.far.place / "site.creds").read_text().splitlines()[1]
        calls, came, say, come = [], [], c.hub._say, c.hub._site_came.set

        async def said(subject: str, body: bytes, unheard: str = "") -> None:
            if subject == subjects.CALL:
                calls.append(time.monotonic())
            await say(subject, body, unheard)

        monkeypatch.setattr(c.hub, "_say", said)
        monkeypatch.setattr(c.hub._site_came, "set", lambda: came.append(come()))
        while len(came) < 10:
            thief = Leaf(c, key, jwt)
            await thief.dial()
            await eventually(lambda t=thief: b"PONG" in t.heard or t.ended, 10)
            thief.say.close()
            thief.reading.cancel()
        await eventually(lambda: len(calls) >= 2, 30)
        rounds = 1 + (calls[-1] - calls[0]) / natsbus._SITE_AGAIN_S
        assert len(calls) <= 2 * rounds + 2, "two each, not two for each of ten"


class Leaf:
    """Speaks as nats-server does that is a leaf node, and tries what it likes.

    The protocol is https://docs.nats.io/reference/reference-protocols/leafnodes-protocol.
    """

    def __init__(self, c: Cluster, key: Key, jwt: str):
        self._c, self._key, self._jwt = c, key, jwt
        self.heard = b""
        self.ended = False

    async def dial(self) -> None:
        port, ca = self._c.servers[0].port + LEAVES, self._c.authority.pem
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        assert info["tls_required"], info
        await writer.start_tls(trusting(ca), server_hostname="127.0.0.1")
        connect = {"jwt": self._jwt, "sig": self._key.signed(info["nonce"].encode()).decode(), "name": "thief",
                   "tls_required": True, "cluster": "", "headers": True}  # fmt: skip
        self.say, self._reader = writer, reader
        await self.tell(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while more := await self._reader.read(65536):
                self.heard += more
                if more.endswith(b"PING\r\n"):
                    await self.tell(b"PONG\r\n")
        except (ConnectionError, ssl.SSLError):
            pass
        self.ended = True

    async def tell(self, what: bytes) -> None:
        self.say.write(what)
        await self.say.drain()


async def test_a_stolen_server_of_a_site_reaches_the_nodes_of_that_site_only(tmp_path):
    async with clustered(tmp_path / "e") as c, AsyncExitStack() as stack:
        c.far.kill()  # the thief has its disk
        mine, other = c.join("mine", "princeton"), c.join("other", "home")
        c.hub.look()
        victim = await stack.enter_async_context(node(tmp_path / "other", other))
        await eventually(lambda: c.hub.connected() == {"other"}, 60)
        visit = next(iter(c.hub._visits.values()))
        (number,) = [s.number for s in c.testbed.added().servers if s.site]
        key = c.rights._of("user", f"user of server {number}")
        jwt = (c.far.place / "site.creds").read_text().splitlines()[1]
        thief = Leaf(c, key, jwt)
        await thief.dial()
        await eventually(lambda: b"PONG" in thief.heard)
        theirs, mine_key = nkey("user", c.desk.nodes["other"].public_key), Key("user", mine.key).name

        for subject in (">", "vini.>", "vini.to.*.*.*", subjects.to_node(theirs, "*", "*"), subjects.here("*"),
                        subjects.greet("*"), subjects.to_central("*", "*", "*")):  # fmt: skip
            await thief.tell(f"LS+ {subject}\r\n".encode())
        await thief.tell(f"LS+ {subjects.to_node(mine_key, 'e1', '*')}\r\nPING\r\n".encode())
        over = frames.encode(frames.UNASKED, bus.Over(1000, "A lie."))
        for subject in (
            subjects.to_node(theirs, visit.epoch, c.hub._epoch), subjects.to_central(theirs, visit.epoch, c.hub._epoch),
            subjects.WAKE, subjects.CALL,
        ):  # fmt: skip
            await thief.tell(f"LMSG {subject} {len(over)}\r\n".encode() + over + b"\r\n")
        # what it may: a node of its own site
        here = msgspec.msgpack.encode(bus.Here("mine", "e1", bus.Greeting("", 1, "mine", frozenset(), {})))
        await thief.tell(
            f"LMSG {subjects.greet(mine_key)} | {subjects.CENTRALS} {len(here)}\r\n".encode() + here + b"\r\n"
        )
        await eventually(lambda: "mine" in c.hub.connected(), 60)
        await eventually(lambda: mine_key.encode() in thief.heard, 60)

        c.desk.put("other", spec("s", 1, "a"))
        c.hub.wake(["other"])
        await eventually(lambda: c.desk.holds("other", "s", 1), 60)
        assert "connected to" in victim.answers.uplink and visit.epoch in {v.epoch for v in c.hub._visits.values()}
        assert theirs.encode() not in thief.heard.replace(b"LS+", b""), thief.heard
        thief.reading.cancel()


async def test_a_stolen_node_is_no_leaf_and_no_route(tmp_path):
    async with clustered(tmp_path / "e") as c:
        for site, says in (
            ("home", b"maximum account active connections exceeded"),
            ("princeton", b"Authorization Violation"),
        ):
            me = c.join(f"thief-{site}", site)
            c.hub.look()
            of = "" if site == "home" else site
            jwt = c.rights.node_jwt(me.node, c.desk.nodes[me.node].public_key, of)
            thief = Leaf(c, Key("user", me.key), jwt)
            await thief.dial()
            await eventually(lambda t=thief: t.ended, 60)
            assert says in thief.heard
        context = trusting(c.authority.pem)  # a route needs a certificate, by a key that the others know
        for certificate in (None, c.testbed.directory / "ca" / "server", c.far.place / "server"):
            if certificate:
                context.load_cert_chain(f"{certificate}.pem", f"{certificate}.key")
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, AssertionError)):
                await _route(c.servers[0].port + ROUTES, context)


async def _route(port: int, context: ssl.SSLContext) -> None:
    """Raises where it is not let in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    await writer.start_tls(context, server_hostname="127.0.0.1")
    writer.write(b'CONNECT {"name":"x","lang":"go","version":"2.9.10"}\r\nPING\r\n')
    await writer.drain()
    assert await reader.read(4096)
