"""An engine of several nats-servers: two in a cluster, and a third at a site, a leaf node of theirs."""

from __future__ import annotations

import base64
import binascii
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from fake_agents import Central, eventually, no_engine, node, once_there, spec
from msgspec.structs import replace

from vini import bus
from vini.bus.nkeys import Key
from vini.central import natsserver, rights
from vini.node import engined

pytestmark = pytest.mark.skipif(bool(no_engine()), reason=no_engine() or "-")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def credentials(path: Path, key: Key, jwt: str) -> Path:
    """As nats-server reads those of a leaf node: a JWT, and the key's seed."""
    user = 20 << 3  # the seed of one: S, then U (https://github.com/nats-io/nkeys)
    raw = bytes([18 << 3 | user >> 5, (user & 31) << 3]) + key._private.private_bytes_raw()
    seed = base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    path.write_text(f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
                    f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n")  # fmt: skip
    path.chmod(0o600)
    return path


class Server:
    """One nats-server, with the configuration that a central writes and some more."""

    def __init__(self, directory: Path, c: Central, of: rights.Rights, port: int, more: str):
        self.url = f"tls://127.0.0.1:{port}"
        served = c.authority.serve(["127.0.0.1", "localhost"])
        self._configuration = natsserver.configure(directory, of, served, "127.0.0.1", port)
        with self._configuration.open("a") as f:
            f.write(f"server_name: {directory.name}\n{more}\n")
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._configuration.with_suffix(".log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [natsserver.PROGRAM, "-c", str(self._configuration)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        while not self._listens():
            assert self._process.poll() is None, log.read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as dialled:
            return dialled.connect_ex(("127.0.0.1", self._port)) == 0

    def knows_rights(self) -> bool:
        """It has been told who may do what: until then it refuses everybody."""
        return len(list((self._configuration.parent / "accounts").glob("**/*.jwt"))) > 1

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class Cluster:
    """Of a central's engine: `url` names both servers."""

    def __init__(self, c: Central, directory: Path):
        self.rights = rights.make(directory)
        one, two, routes_one, routes_two, leaves_one, leaves_two, port = free_ports(7)
        routes = ", ".join(f'"nats://127.0.0.1:{p}"' for p in (routes_one, routes_two))
        self.servers = [
            Server(
                directory / name, c, self.rights, port,
                f'cluster {{ name: vini, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
                f'leafnodes {{ listen: "127.0.0.1:{leaves}" }}',
            )
            for name, port, route, leaves in (
                ("one", one, routes_one, leaves_one), ("two", two, routes_two, leaves_two),
            )
        ]  # fmt: skip
        urls = ", ".join(f'"nats-leaf://127.0.0.1:{p}"' for p in (leaves_one, leaves_two))
        accounts = ((self.rights.account, self.rights.central()), (self.rights.system, self.rights.administrator()))
        remotes = ", ".join(
            f'{{ urls: [{urls}], account: {account}, credentials: "{credentials(directory / account, *who)}" }}'
            for account, who in accounts
        )
        self.leaf = Server(directory / "leaf", c, self.rights, port, f"leafnodes {{ remotes: [{remotes}] }}")
        self.url = ",".join(s.url for s in self.servers)

    def start(self) -> None:
        """The leaf node begins when the testbed's rights are known to the others."""
        for server in self.servers:
            server.start()

    def kill(self) -> None:
        for server in (self.leaf, *self.servers):
            server.kill()


@asynccontextmanager
async def clustered(directory: Path) -> AsyncIterator[tuple[Central, Cluster]]:
    it = Central(directory)
    it.engine = made = Cluster(it, directory)  # type: ignore[assignment]
    try:
        made.start()
        await it.start()
        await eventually(lambda: it.hub._line, 30)
        made.leaf.start()
        await eventually(made.leaf.knows_rights, 60)
        yield it, made
    finally:
        await it.stop()
        made.kill()


async def test_one_of_two_servers_is_killed_and_nothing_is_lost(tmp_path, monkeypatch):
    """One of the nodes is at a leaf node, as at a site of its own."""
    async with clustered(tmp_path / "c") as (c, cluster), AsyncExitStack() as stack:
        names = ["a", "b", "c", "far"]
        identities = {name: c.admit(name) for name in names}
        far = identities["far"]
        (tmp_path / "far" / "uplink").mkdir(parents=True)
        jwt = cluster.rights.node_jwt("far", c.desk.nodes["far"].public_key)
        engined.write(tmp_path / "far", far, bus.Elsewhere(cluster.leaf.url, jwt))
        held = {n: await stack.enter_async_context(node(tmp_path / n, me)) for n, me in identities.items()}
        await eventually(lambda: c.hub.connected() == set(names), 30)
        known = engined.read(tmp_path / "a", identities["a"])
        assert known and {known.url, *known.more} == set(cluster.url.split(","))
        assert cluster.leaf.url in held["far"].answers.uplink

        calls, call = [], c.hub._call_site
        monkeypatch.setattr(c.hub, "_call_site", lambda: calls.append(call()))
        for generation, server in enumerate(cluster.servers, 1):
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

        await eventually(lambda: calls)  # the leaf node's server was among them: it came to another one
        c.desk.nodes["far"] = replace(c.desk.nodes["far"], allowed=False, why="It was stolen.")
        c.hub.drop("far", "It was stolen.")
        await eventually(lambda: "far" not in c.hub.connected() and "It was stolen." in held["far"].answers.uplink, 60)
