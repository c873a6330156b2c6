"""The central of `vini bench fleet`: `vini central run`, and what its administrator asks of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from vini import bus
from vini.bench import fleet_store
from vini.bench.fleet_processes import PATIENCE_S, read, running
from vini.central.ca import Authority
from vini.model import Topology, ViniError
from vini.node import identity as identities
from vini.node.reached import trusting
from vini.store.database import Database

NICE = -10  # of the central and its database: the agents would not be on their machine, nor other people's work
_JSON = {"Content-Type": "application/json"}


class Central:
    """`vini central run`, and what its administrator asks of it."""

    def __init__(self, directory: Path, port: int, database: Database, pid: int):
        self.pid, self.database = pid, database
        self.url = f"https://127.0.0.1:{port}"
        self._ca = Authority(directory / "ca").pem
        token = fleet_store.people(database)
        self._http = httpx.Client(
            base_url=f"{self.url}/v1", verify=trusting(self._ca), timeout=PATIENCE_S, trust_env=False,
            limits=httpx.Limits(keepalive_expiry=2.0),
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    @staticmethod
    @contextmanager
    def running(directory: Path, url: str, engine: str) -> Iterator[Central]:
        port, engine_port = _free_port(), _free_port()
        vini = [sys.executable, "-m", "vini.cli", "central"]
        made = subprocess.run(
            [*vini, "init", "--dir", str(directory), "--name", "127.0.0.1", "--port", str(port), "--admin",
             fleet_store.ADMIN, "--site", fleet_store.SITE, *(["--database", url] if url else []),
             *(["--engine", engine, "--engine-port", str(engine_port)] if engine != "hub" else [])],
            capture_output=True,
        )  # fmt: skip
        if made.returncode:
            raise ViniError(f"The benchmark's central could not be made: {made.stderr.decode().strip()}")
        run = [*vini, "run", "--dir", str(directory), "--listen", "127.0.0.1"]
        database = Database(url or f"sqlite:///{directory / 'central.db'}")
        log = directory / "log"
        try:
            with running(run, log) as process:
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
                central = Central(directory, port, database, process.pid)
                with central._http:
                    central._wait(process, log)
                    yield central
        finally:
            database.close()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(httpx.TransportError):
                self.get("sites")
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise ViniError(f"The benchmark's central did not start: {read(log).decode()[-1000:]}")
            time.sleep(0.05)

    def identity(self, node: str, key: bytes) -> identities.Identity:
        """What a machine got when it joined."""
        return identities.Identity(node, fleet_store.SITE, self.url, key, self._ca)

    def add_slice(self, name: str) -> None:
        """One without anything in it."""
        self._told(self._http.post("/slices", content=msgspec.json.encode({"name": name}), headers=_JSON))

    def put(self, topology: Topology) -> tuple[int, float, float]:
        """Ask for it; its generation, and the moments before the request and after the answer."""
        self.get("sites")  # the connection is open
        body, path = msgspec.json.encode(topology), f"/slices/{topology.name}/topology"
        started = time.monotonic()
        answer = self._http.put(path, content=body, headers=_JSON)
        answered = time.monotonic()
        report = msgspec.json.decode(self._told(answer), type=bus.Report)
        return report.generation, started, answered

    def asked(self, name: str) -> Topology:
        """What is asked of a slice now."""
        body = msgspec.json.decode(self.get(f"slices/{name}/topology"))
        return msgspec.convert(body["topology"], Topology)

    def get(self, path: str) -> bytes:
        """The answer."""
        return self._told(self._http.get(f"/{path}"))

    def until_reported(self, name: str, generation: int) -> float:
        """The moment when the store has heard of this generation from all nodes of a slice."""
        from vini.store import specs

        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self.database.reading() as tx:
                behind = [n for n in specs.behind(tx, name).values() if n.wanted <= generation]
            if not behind:
                return time.monotonic()
            if time.monotonic() > deadline:
                raise ViniError(f"{len(behind)} nodes did not report of slice {name} generation {generation}.")
            time.sleep(0.02)

    @staticmethod
    def _told(answer: httpx.Response) -> bytes:
        if answer.is_error:
            raise ViniError(f"The benchmark's central refused: {answer.status_code} {answer.text[:1000]}")
        return answer.content


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
