"""The nats-server of a central that brings its own engine: its configuration, and the process."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vini import durable
from vini.bus import subjects
from vini.central.ca import Authority, Served
from vini.central.rights import Rights
from vini.model import Unsupported, Value, ViniError
from vini.rules.engine import LEAVES, ROUTES, EngineServer

log = logging.getLogger("vini.engine")
PROGRAM = "nats-server"
_SOUND = (2, 11)  # older ones have vulnerabilities that are known
_FIRST_S, _LONGEST_S = 0.2, 5.0  # before one that ended is started again
_CONFIGURATION = """\
# Written by VINI.
listen: "{listen}:{port}"
max_payload: {largest}
ping_interval: "10s"
ping_max: 2
write_deadline: "10s"
tls {{
  cert_file: "{certificate}"
  key_file: "{key}"
  timeout: 10
}}
operator: {operator}
system_account: {system}
resolver: {resolver}
resolver_preload {{
{preload}
}}
"""
_CLUSTER = """\
cluster {{
  name: vini
  listen: "{listen}:{routes_port}"
  advertise: "{routes_at}"
  routes: [{routes}]
  tls {{
    cert_file: "{certificate}"
    key_file: "{key}"
    ca_file: "{authority}"
    verify: true
    pinned_certs: [{pins}]
    timeout: 10
  }}
}}
leafnodes {{
  listen: "{listen}:{leaves_port}"
  advertise: "{leaves_at}"
  tls {{
    cert_file: "{certificate}"
    key_file: "{key}"
    timeout: 10
  }}
}}
"""


class Ports(Value, frozen=True):
    """Where a server listens: at an address, at three ports that follow from one."""

    listen: str
    port: int

    @property
    def host(self) -> str:
        """As nats-server writes it."""
        return f"[{self.listen}]" if ":" in self.listen else self.listen


def configuration(
    rights: Rights, at: Ports, served: Served, accounts: Path | None, known: Sequence[tuple[str, str]]
) -> str:
    """What every server of the engine has; `known`: accounts and their claims, of which it knows from the start;
    `accounts`: where it keeps what it learns of others, None: it learns of none."""
    keeps = f'{{ type: full, dir: "{accounts}", allow_delete: false }}'
    return _CONFIGURATION.format(
        listen=at.host, port=at.port, largest=subjects.LARGEST, certificate=served.certificate, key=served.key,
        operator=rights.operator_jwt(), system=rights.system, resolver=keeps if accounts else "MEMORY",
        preload="\n".join(f"  {account}: {jwt}" for account, jwt in known),
    )  # fmt: skip


def clustered(
    own: EngineServer, members: Sequence[EngineServer], rights: Rights, at: Ports, served: Served, authority: Path
) -> str:
    """What those of a cluster have besides.  Others of it are let in by their keys, which are all named here."""
    others = [member for member in members if member.number != own.number]
    return _CLUSTER.format(
        listen=at.host, routes_port=at.port + ROUTES, leaves_port=at.port + LEAVES,
        routes_at=own.at(ROUTES), leaves_at=own.at(LEAVES),  # else others are told its IP addresses: none's certificate
        routes=", ".join(f'"nats-route://{member.at(ROUTES)}"' for member in others),
        pins=", ".join(f'"{rights.pin(member.number)}"' for member in (own, *others)),
        certificate=served.certificate, key=served.key, authority=authority,
    )  # fmt: skip


class Own:
    """The configuration of the nats-server that a central runs itself, below its directory."""

    def __init__(
        self, directory: Path, rights: Rights, authority: Authority, names: Sequence[str], url: str, at: Ports
    ):
        self._authority, self._names, self._rights, self._at = authority, names, rights, at
        self._directory = directory / "engine"
        self.path = self._directory / "nats-server.conf"
        self.server = EngineServer(0, url.removeprefix("tls://"), "")

    def write(self, servers: Sequence[EngineServer] = (), running: bool = False) -> bool:
        """With those others, if there are any, it makes a cluster; whether it was written anew.  `running`: by what is
        there already a nats-server works, so what it could not begin with is refused.  Raises ViniError."""
        rights, served = self._rights, self._authority.serve(self._names)
        text = configuration(
            rights, self._at, served, self._directory / "accounts", [(rights.system, rights.system_jwt())]
        )
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if servers:
                text += self._clustered([s for s in servers if not s.site])
            before = self.path.read_text() if self.path.exists() else ""
            if before == text:
                return False
            if running:
                self._try(text, more=() if not servers or "cluster {" in before else (ROUTES, LEAVES))
            durable.write(self.path, text.encode())
        except OSError as e:
            raise ViniError(
                f"{self.path} can't be written: {e.strerror}; check the disk and whose directory it is."
            ) from e
        return True

    def _try(self, text: str, more: Sequence[int]) -> None:
        """`more`: above its port, others where it shall listen now and did not.  Raises ViniError."""
        for offset in more:
            port = self._at.port + offset
            try:
                with socket.create_server((self._at.listen, port), family=self._family):
                    pass
            except (OSError, OverflowError) as e:
                raise ViniError(
                    f"with other servers it listens at port {port}, too, and can't ({e}); see what else does there, or "
                    'choose another "engine_port" in settings.json, then start the central again.'
                ) from e
        with tempfile.TemporaryDirectory() as there:
            path = Path(there, self.path.name)
            path.write_text(text)
            refused = refusal(path)
        if refused:
            raise ViniError(f"nats-server does not take what {self.path} would be: {refused}")

    @property
    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self._at.listen else socket.AF_INET

    def _clustered(self, members: Sequence[EngineServer]) -> str:
        return clustered(self.server, members, self._rights, self._at, self._routes(), self._authority.path)

    def _routes(self) -> Served:
        at = Served(self._directory / "routes.pem", self._directory / "routes.key")
        return self._authority.issue(at, self._names, self._rights.tls_key(0), dials=True)

    def renew(self) -> bool:
        """The certificate for others of a cluster, where it is in one; whether it is a new one.  Raises ViniError."""
        at = self._directory / "routes.pem"
        if not at.exists():
            return False
        before = at.read_bytes()
        return self._routes().certificate.read_bytes() != before


def refusal(configuration: Path, directory: Path | None = None) -> str:
    """What nats-server has against it, started in that directory, by default in ours; "": nothing, or there is none on
    this machine."""
    if shutil.which(PROGRAM) is None:
        return ""
    done = subprocess.run([PROGRAM, "-t", "-c", configuration], cwd=directory, capture_output=True, text=True)
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (said[-1] if said else "it says nothing") if done.returncode else ""


async def check() -> None:
    """Raises Unsupported where there is none; one with known vulnerabilities is warned of."""
    if shutil.which(PROGRAM) is None:
        raise Unsupported(
            "There is no nats-server on this machine: install one (2.11 or newer, https://nats.io/download), or name "
            "one that runs elsewhere as `engine_url` in the central's settings.json, or set `engine` there to hub."
        )
    process = await asyncio.create_subprocess_exec(PROGRAM, "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    said = (await process.communicate())[0].decode(errors="replace")
    found = re.search(r"v(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _SOUND:
        log.warning("%s has vulnerabilities that are known; where others can reach it, install 2.11 or newer "
                    "from https://nats.io/download.", said.strip())  # fmt: skip


class Server:
    """A nats-server that is started again whenever it ends, and ends with us."""

    def __init__(self, own: Own):
        self._own = own
        self._process: asyncio.subprocess.Process | None = None
        self._anew = False

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Until cancelled."""
        waits = _FIRST_S
        while True:
            started = asyncio.get_running_loop().time()
            await self._once()
            if self._anew:
                self._anew, waits = False, _FIRST_S
                continue
            waits = _FIRST_S if asyncio.get_running_loop().time() - started > 10 else min(2 * waits, _LONGEST_S)
            await asyncio.sleep(waits)

    async def _once(self) -> None:
        log_path = self._own.path.with_suffix(".log")
        with log_path.open("ab") as out:
            # setpriv: when we are killed, it is told to end by the kernel
            process = self._process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "TERM", PROGRAM, "-c", str(self._own.path),
                stdin=DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            code = await process.wait()
            if not self._anew:
                log.warning("nats-server ended with code %d and is started again; its log is %s", code, log_path)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def keep(self, renewed: bool) -> None:
        """Have its certificates be good: the one that the central has, too, which may be `renewed`, and its own."""
        try:
            renewed = self._own.renew() or renewed
        except (OSError, ViniError) as e:
            log.warning("The engine's certificate can't be made anew: %s", e)
        if renewed:
            self.reload()

    def reload(self) -> None:
        """Have it read its certificate anew."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    def follow(self, servers: Sequence[EngineServer]) -> None:
        """These others were added.  It is started anew where that changes anything: where it listens, nats-server does
        not read again while it runs."""
        try:
            changed = self._own.write(servers, running=True)
        except ViniError as e:
            log.warning("The engine's other servers are not known to this central's own: %s", e)
            return
        if changed and self._process and self._process.returncode is None:
            self._anew = True
            with suppress(ProcessLookupError):
                self._process.terminate()
