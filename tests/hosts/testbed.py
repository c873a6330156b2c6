"""A testbed of a test's own: a real central over TLS, and test hosts on one wire, each with a real agent process.

A test host is a network namespace and a place of its own; all of them and the central are on one bridge.  The central
and the user's commands are at home in the machine's own namespace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import httpx
import msgspec
from flow import Flow
from own_place import NETNS, OwnPlace, difference, eventually, place_below, run

from vini import bus
from vini.central import settings
from vini.client import Login
from vini.client.remote import RemoteClient
from vini.model import AnyObject, SliceSpec, Topology, ViniError
from vini.node import netns
from vini.node.ledger import Ledger

ADMIN, SITE = "ada@example.org", "home"
# Slivers in a row, on two nodes in turn, so that every link is a tunnel.
LINE = """
name: home_line
routing: {protocols: ospf, daemon: bird}
slivers:
  a: {node: n1}
  b: {node: n2}
  c: {node: n1}
  d: {node: n2}
links:
  - a -- b
  - b -- c
  - c -- d
expect: all
"""
_START_S = 120.0  # what a busy machine may need until a process answers


class Central:
    """`vini central run` as a process; it may be killed and started again, as its machine may."""

    def __init__(self, directory: Path, ip: str, port: int = 8443, enter: Sequence[str] = ()):
        self.directory, self.ip, self.port = directory, ip, port
        self._enter = enter  # the command line that runs what follows on its machine; (): this one
        self.log = directory.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://{f'[{self.ip}]' if ':' in self.ip else self.ip}:{self.port}"

    def start(self) -> None:
        """Does not wait; one whose database is away ends at once, and is to be started again."""
        command = ["-m", "vini.cli", "central", "run", "--dir", str(self.directory), "--listen", self.ip]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._enter, sys.executable, "-X", "faulthandler", *command], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=_environment(),
            )  # fmt: skip

    def up(self) -> None:
        """It runs and answers."""

        def answers() -> bool:
            if self._process is None or self._process.poll() is not None:
                self.start()
            with suppress(httpx.HTTPError):
                return httpx.get(f"{self.url}/v1/ca", verify=False, trust_env=False, timeout=5).status_code == 200
            time.sleep(0.1)
            return False

        try:
            eventually(answers, _START_S)
        except AssertionError as e:
            raise AssertionError(f"{self.url} does not answer: {e}; its log:\n{self.hangs()}") from e

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_START_S)
            self._process = None

    def hangs(self) -> str:
        """Ends it; the end of its log then says what each of its threads was at."""
        self.kill(signal.SIGABRT)
        return self.said()[-8000:]

    def said(self) -> str:
        return self.log.read_text()


class Engine:
    """A nats-server as a process, with the files that `vini central engine server` wrote."""

    def __init__(self, central: Central):
        self._directory = central.directory / "engine" / f"{central.ip}-4222"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["nats-server", "-c", "nats-server.conf"], cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_START_S)
            self._process = None


class Host:
    """A test host: its namespace, its place, and the agent that is at home in both."""

    def __init__(self, name: str, own: OwnPlace, ip: str, wire: str):
        self.name, self.own, self.ip, self.wire = name, own, ip, wire
        self.path = NETNS / f"host-{own.place.mark}"
        self.state, self.log = own.place.state, own.place.state / "agent.log"

    def inside(self, *argv: str) -> list[str]:
        """The command line that runs it in its namespace."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def vini(self, *argv: str, check: bool = True, python: Sequence[str] = ("-m", "vini.cli")) -> str:
        """A command that root types on it; he has logged in to no central.  By another `python` it may break off."""
        environment = {**_environment(), **self.own.environment, "VINI_LOGIN": str(self.state / "nobody")}
        return _vini(self.inside(sys.executable, *python, *argv), environment, check)

    def start(self, *python: str) -> None:
        """Its agent; with `python`, by this command line instead of the usual one."""
        command = python or ("-m", "vini.node.serve")
        with self.log.open("ab") as log:
            subprocess.Popen(
                self.inside(sys.executable, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={**_environment(), **self.own.environment},
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL."""
        self.own.kill_agent()

    def end(self) -> None:
        """As its init ends the agent."""
        for pid in self.own.agents():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        eventually(lambda: not self._reaped())

    def _reaped(self) -> list[int]:
        left = self.own.agents()
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return left

    def cut(self) -> None:
        """Its cable is pulled out."""
        run("ip", "link", "set", self.wire, "down")

    def mend(self) -> None:
        """And put back."""
        run("ip", "link", "set", self.wire, "up")

    def forget(self) -> None:
        """Its disk is lost, and all that was on it; what runs is not touched."""
        shutil.rmtree(self.state / "uplink", ignore_errors=True)

    # --- what is there ------------------------------------------------------------------------------

    def said(self) -> str:
        """Its agent's log."""
        return self.log.read_text()

    def uplink(self) -> str:
        """Whether it is connected to its central, and if not why."""
        return str(msgspec.json.decode((self.state / "uplink" / "status.json").read_bytes())["uplink"])

    def is_connected(self) -> bool:
        return self.uplink().startswith("connected")

    def held(self) -> dict[str, int]:
        """Slice -> generation of what the central asked of it, as it is on its disk."""
        out = {}
        for path in (self.state / "uplink" / "ledger").glob("*.json"):
            with suppress(FileNotFoundError):
                out[path.stem] = msgspec.json.decode(path.read_bytes(), type=SliceSpec).generation
        return out

    def slivers(self, slice_: str = "") -> set[str]:
        """`slice.sliver` of the namespaces that are there, by their names."""
        names = (p.name.removeprefix(f"{self.own.place.mark}.") for p in NETNS.glob(f"{self.own.place.mark}.*"))
        return {n for n in names if n.startswith(slice_)}

    def observe(self) -> frozenset[AnyObject]:
        """All that bears its mark."""
        with netns.inside(self.path):
            return self.own.observe()

    def is_as_asked(self) -> bool:
        """Fails with the difference of what is there to what its ledger asks for."""
        specs = Ledger(self.state / "uplink" / "ledger").wanted()
        want: frozenset[AnyObject] = frozenset().union(*(s.objects for s in specs.values()))
        have = self.observe()
        assert have == want, difference(want, have)
        return True

    def enter(self, ns: str, *argv: str) -> list[str]:
        """The command line that runs it in a sliver, and needs no agent for that."""
        return ["nsenter", f"--net={self.own.place.netns(ns)}", "--", *argv]


class Testbed:
    """A central, its administrator, and the hosts."""

    def __init__(self, directory: Path, ip: str):
        self.directory = directory
        self.central = Central(directory / "central", ip)
        self.hosts: dict[str, Host] = {}
        self._login = directory / "login.json"
        self._clients = threading.local()  # one for each thread: a connection is made once
        self.told = ""  # what `vini central init` printed
        self.database = ""  # URL; "": SQLite
        self.engine: Engine | None = None  # where it is NATS, and outlives a central

    # --- an administrator's own machine -----------------------------------------------------------------

    def vini(self, *argv: str, check: bool = True, at: Central | None = None, who: str = "") -> str:
        """A command of the administrator's, of another central where that is named, or of somebody else's, each of whom
        has a login of his own; its output, both channels."""
        login = self.directory / f"login-{who}.json" if who else self._login
        if at:
            login = self.directory / "login-there.json"
            here = msgspec.json.decode(self._login.read_bytes(), type=Login)
            login.write_bytes(msgspec.json.encode(msgspec.structs.replace(here, url=at.url)))
        environment = {**_environment(), "VINI_LOGIN": str(login), "VINI_PASSWORD": self.password}
        return _vini([sys.executable, "-m", "vini.cli", *argv], environment, check)

    def begin(self, *argv: str, out: IO[str]) -> subprocess.Popen[bytes]:
        """A command of the administrator's that goes on; what it says goes to `out`."""
        environment = {**_environment(), "VINI_LOGIN": str(self._login), "VINI_PASSWORD": self.password}
        command = [sys.executable, "-m", "vini.cli", *argv]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def password(self) -> str:
        found = re.search(r"password: (\S+)", self.told)
        return found[1] if found else ""

    @property
    def fingerprint(self) -> str:
        found = re.search(r"--fingerprint (\S+)", self.told)
        assert found, self.told
        return found[1]

    def init(self, database: str = "", nats: bool = False, own_engine: bool = False, strangers: bool = False) -> None:
        """`nats`: over an engine that runs by itself; `own_engine`: over one that the central runs."""
        self.database = database
        more = ("--database", database) if database else ()
        more += ("--strangers",) if strangers else ()
        more += ("--engine", "nats") if nats or own_engine else ()
        # whoever listens at the usual port on all addresses would be in its way
        more += ("--engine-port", str(20000 + os.getpid() % 10000)) if own_engine else ()
        more += ("--engine-url", f"tls://{self.central.ip}:4222") if nats else ()
        self.told = self.vini(
            "central", "init", "--dir", str(self.central.directory), "--name", self.central.ip, "--admin", ADMIN,
            "--port", str(self.central.port), "--site", SITE, *more,
        )  # fmt: skip
        if nats:
            self.vini("central", "engine", "--dir", str(self.central.directory), "server", self.central.ip)

    def login(self) -> None:
        self.vini("login", self.central.url, "--email", ADMIN, "--fingerprint", self.fingerprint)

    def client(self, central: Central | None = None) -> RemoteClient:
        """As the administrator's programs have it; of another central on the same database, by its URL."""
        if not hasattr(self._clients, "of"):
            self._clients.of = {}
        url = (central or self.central).url
        if url not in self._clients.of:
            login = msgspec.json.decode(self._login.read_bytes(), type=Login)
            self._clients.of[url] = RemoteClient(msgspec.structs.replace(login, url=url))
        return cast(RemoteClient, self._clients.of[url])

    def put(self, topology: Topology, what: str = "put", after: int | None = None, wait_s: float = 60.0) -> bus.Report:
        """As `RemoteClient.put`, with all that can be said."""
        headers = {} if after is None else {"If-Match": f'"{after}"'}
        query: dict[str, str | float | None] = {"what": what, "wait_s": wait_s}
        return self.client()._call("PUT", f"/slices/{topology.name}/topology", bus.Report, topology, headers, query)

    def another_central(self) -> Central:
        """One more with the same authority, database and engine."""
        made, file = (
            Central(self.directory / "other", self.central.ip, self.central.port + 1),
            self.directory / "backup",
        )
        self.vini("central", "backup", "--dir", str(self.central.directory), str(file))
        self.vini("central", "restore", "--dir", str(made.directory), "--beside", str(file))
        own = settings.read(made.directory)
        ports = {"port": made.port, "engine_port": own.engine_port + 1}
        settings.change(made.directory, msgspec.structs.replace(own, **ports))
        return made

    def token(self) -> str:
        return self.vini("node", "token", "--site", SITE).split()[0]

    def join(self, host: Host) -> None:
        host.vini("node", "join", self.central.url, self.token(), "--name", host.name)
        eventually(host.is_connected, _START_S)

    # --- what must be so --------------------------------------------------------------------------------

    def settled(self, slice_: str) -> bool:
        """The nodes hold what the central asks for and have what they hold, all of it ready.  Fails with what isn't."""
        client = self.client()
        asked = client._asked(slice_).generation
        for host in self.hosts.values():
            at = host.held().get(slice_, asked)  # a node for which nothing changed stays where it is: see the status
            assert at <= asked, f"{host.name} is at {host.held()}, above {asked}"
            assert host.is_as_asked()
        rows = client.call("GET", f"/slices/{slice_}/status", _Seen)
        assert not rows.away, rows.away
        assert all(r.state == "ready" for r in rows.slivers), rows.slivers
        return True

    def converged(self, slice_: str, within: float = 120.0) -> None:
        import asyncio

        eventually(lambda: self.settled(slice_), within)
        eventually(lambda: asyncio.run(self.client().converged(slice_))[0], within)


class _Row(msgspec.Struct):
    sliver: str
    state: str
    why: str = ""


class _Seen(msgspec.Struct):
    slivers: list[_Row]
    away: dict[str, str] = {}


def _environment() -> dict[str, str]:
    """This process's, without what says where a VINI is."""
    return {k: v for k, v in os.environ.items() if not k.startswith("VINI_")}


def _vini(argv: Sequence[str], environment: dict[str, str], check: bool) -> str:
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=300,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"vini {' '.join(argv[2:])}: exit code {done.returncode}: {done.stdout}"
    return done.stdout


@contextmanager
def wired(names: Sequence[str], directory: Callable[[str], Path], six: bool = False) -> Iterator[Testbed]:
    """A bridge with these hosts on it, and what a central needs; nothing is made or joined yet.  With `six` there is
    no IPv4 between them.

    At the end all of it goes, and it fails where an agent left something or one of the processes broke.
    """
    with ExitStack() as stack:
        net, bridge = _free_net_6() if six else _free_net(), f"vt{os.getpid()}br"
        run("ip", "link", "add", bridge, "type", "bridge")
        stack.callback(run, "ip", "link", "delete", bridge)
        run("ip", "address", "add", *_with_length(f"{net}1"), "dev", bridge)
        for dev in (bridge, "lo"):  # a machine of a test's own has its loopback down
            run("ip", "link", "set", dev, "up")
        bed = Testbed(directory("testbed"), f"{net}1")
        stack.callback(lambda: bed.central.kill())  # a test may put another in its place
        for number, name in enumerate(names, 1):
            own = stack.enter_context(place_below(directory(name)))
            own.place.state.mkdir()
            host = bed.hosts[name] = Host(name, own, f"{net}{10 + number}", f"vt{os.getpid()}v{number}")
            stack.enter_context(_plugged_in(host, bridge))
            stack.callback(host.end)
        yield bed
        logs = [h.log for h in bed.hosts.values()] + ([] if bed.database else [bed.central.log])
        for said in (log.read_text() for log in logs if log.exists()):  # a central's, of a database that was away
            assert "Traceback" not in said, said


@contextmanager
def _plugged_in(host: Host, bridge: str) -> Iterator[None]:
    run("ip", "netns", "add", host.path.name)
    try:
        run("ip", "link", "add", host.wire, "type", "veth", "peer", "name", "eth0", "netns", host.path.name)
        run("ip", "link", "set", host.wire, "master", bridge, "up")
        run("ip", "-n", host.path.name, "address", "add", *_with_length(host.ip), "dev", "eth0")
        for command in ("link set eth0 up", "link set lo up"):
            run("ip", "-n", host.path.name, *command.split())
        yield
    finally:
        run("ip", "netns", "delete", host.path.name, check=False)
        run("ip", "link", "delete", host.wire, check=False)


@contextmanager
def testbed(
    names: Sequence[str], directory: Callable[[str], Path], database: str = "", nats: bool = False,
    own_engine: bool = False, strangers: bool = False, six: bool = False,
) -> Iterator[Testbed]:  # fmt: skip
    """The same with everything that an administrator does on the first day: the central runs, the hosts are nodes."""
    with wired(names, directory, six) as bed, ExitStack() as stack:
        bed.init(database, nats, own_engine, strangers)
        if nats:
            bed.engine = Engine(bed.central)
            bed.engine.start()
            stack.callback(bed.engine.kill)
        bed.central.up()
        bed.login()
        for host in bed.hosts.values():
            bed.join(host)
        yield bed


def _free_net() -> str:
    """What addresses begin with, of a network that nobody here has (RFC 2544 keeps 198.18.0.0/15 for tests)."""
    taken = run("ip", "-o", "address")
    free = (f"198.19.{(os.getpid() + i) % 254 + 1}" for i in range(254))
    return next(f"{net}." for net in free if f"{net}." not in taken)


def _free_net_6() -> str:
    """The same of IPv6 (RFC 4193 keeps fd00::/8 for whoever needs one)."""
    taken = run("ip", "-o", "address")
    free = (f"fd5e:{(os.getpid() + i) % 0xFFFF + 1:x}::" for i in range(254))
    return next(net for net in free if net not in taken)


def _with_length(ip: str) -> tuple[str, ...]:
    return (f"{ip}/64", "nodad") if ":" in ip else (f"{ip}/24",)


testbed.__test__ = False  # type: ignore[attr-defined]
Testbed.__test__ = False  # type: ignore[attr-defined]
__all__ = ["Central", "Engine", "Flow", "Host", "Testbed", "ViniError", "testbed", "wired"]
