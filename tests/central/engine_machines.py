"""Machines on loopback with the files that `vini central engine` writes for them, and a nats-server on each."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

from vini.central import natsserver, settings
from vini.central.added import Added
from vini.cli.central import central_command
from vini.rules.engine import LEAVES, ROUTES
from vini.rules.nouns import NodeSaid
from vini.store import engine_servers, nodes
from vini.store.database import Database


def free_port() -> int:
    """One, with the other two that follow from it."""
    while True:
        port = random.randrange(10000, 30000)
        try:
            for each in (port, port + ROUTES, port + LEAVES):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


def vini_central(*words: str | Path) -> str:
    """A command of an operator; what it says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        central_command.main([str(w) for w in words], standalone_mode=False)
    return out.getvalue()


class EngineBed:
    """What `vini central init` made for an engine whose servers run elsewhere, and its database."""

    def __init__(self, directory: Path, *ports: int):
        self.directory = directory
        urls = ",".join(f"tls://127.0.0.1:{port}" for port in ports)
        self.said = vini_central(
            "init", "--dir", directory, "--name", "127.0.0.1", "--admin", "ada@example.org", "--engine", "nats",
            "--engine-url", urls,
        )  # fmt: skip
        self.url = urls
        self.database = Database(settings.read(directory).database_url(directory))

    def engine(self, *words: str) -> str:
        """`vini central engine ...`"""
        return vini_central("engine", "--dir", self.directory, *words)

    def added(self) -> Added:
        """As a central reads it."""
        with self.database.reading() as tx:
            return Added(engine_servers.all(tx), engine_servers.nodes_at(tx))

    def join(self, name: str, site: str, public_key: bytes) -> None:
        with self.database.transaction() as tx:
            nodes.join(tx, name, site, public_key, NodeSaid())


class Machine:
    """One server's."""

    def __init__(self, testbed: EngineBed, port: int, place: Path):
        self.url, self.port, self.place = f"tls://127.0.0.1:{port}", port, place
        self._from = testbed.directory / "engine" / f"127.0.0.1-{port}"
        self._process: subprocess.Popen[bytes] | None = None
        place.mkdir(parents=True)

    def copy(self) -> None:
        """As by scp."""
        shutil.copytree(self._from, self.place, dirs_exist_ok=True)

    def start(self) -> None:
        self.copy()
        log = self.place / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [natsserver.PROGRAM, "-c", "nats-server.conf"], cwd=self.place, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out,
            )  # fmt: skip
        while not self._listens():
            assert self._process.poll() is None, log.read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as dialled:
            return dialled.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def said(self) -> str:
        """Its log."""
        return (self.place / "log").read_text()
