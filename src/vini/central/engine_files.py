"""What the machines of added servers of the engine are given: for each a directory with all that its nats-server needs.

It follows from the database, the engine's seed and the authority: so any central of the testbed may write it, at any
time.  Paths in it are relative: nats-server is started in the directory, wherever that was copied to.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from vini import durable
from vini.central.ca import Authority, Served
from vini.central.natsserver import PROGRAM, Ports, clustered, configuration, refusal
from vini.central.rights import Rights, Site
from vini.model import Conflict, Value, ViniError
from vini.rules.engine import LEAVES, ROUTES, EngineServer

log = logging.getLogger("vini.engine")
CONFIGURATION = "nats-server.conf"
UNIT = "vini-engine.service"
PLACE = "/var/lib/vini-engine"  # where they are on their machines, as the unit says
_UNIT = f"""\
[Unit]
Description=VINI's engine (nats-server)
Wants=network-online.target
After=network-online.target

[Service]
WorkingDirectory={PLACE}
ExecStart=/usr/bin/env nats-server -c {CONFIGURATION}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
_CREDENTIALS = "site.creds"
_REMOTE = """\
leafnodes {{
  remotes: [
    {{ urls: [{urls}], account: {account}, credentials: "{credentials}", tls {{ ca_file: "ca.pem", timeout: 10 }} }}
  ]
}}
"""
_WARNED = timedelta(days=60)  # before its end
_RENEWED = timedelta(days=200)  # before its end: whoever writes each half year never has one that ended
_SERVED = Served(Path("server.pem"), Path("server.key"))


class Written(Value, frozen=True):
    """A server's directory, and whether something in it is another now."""

    server: EngineServer
    directory: Path
    changed: bool


class Files:
    """Of all added servers, below a central's directory.  `own`: the one that this central runs itself, if it does."""

    def __init__(self, directory: Path, rights: Rights, authority: Authority, own: EngineServer | None):
        self._below = directory / "engine"
        self._rights, self._authority, self._own = rights, authority, own

    def directory(self, server: EngineServer) -> Path:
        """Where its files are; a name without colons, which scp takes for a host's."""
        return self._below / f"{server.name.replace(':', '_')}-{server.port}"

    def write(self, servers: Sequence[EngineServer]) -> list[Written]:
        """Those of all; of others nothing is left.  Raises ViniError where they can't be written, or nats-server would
        not take them."""
        if self._own and servers:
            _check_own(self._own, servers)
        members = [*([self._own] if self._own else []), *(s for s in servers if not s.site)]
        written = [self._write(server, members) for server in servers]
        kept = {one.directory for one in written}
        for old in self._below.glob(f"*/{CONFIGURATION}"):
            if old.parent not in kept:
                shutil.rmtree(old.parent, ignore_errors=True)
        return written

    def _write(self, server: EngineServer, members: Sequence[EngineServer]) -> Written:
        at = self.directory(server)
        try:
            at.mkdir(parents=True, exist_ok=True, mode=0o700)
            before = _contents(at)
            self._authority.issue(
                Served(at / _SERVED.certificate, at / _SERVED.key), [server.name], self._rights.tls_key(server.number),
                dials=not server.site, early=_RENEWED,
            )  # fmt: skip
            for name, text in self._texts(server, members).items():
                if before.get(name) != text.encode():
                    durable.write(at / name, text.encode())
        except OSError as e:
            raise ViniError(f"{at} can't be written: {e.strerror}; check the disk and whose directory it is.") from e
        _check(at)
        return Written(server, at, _contents(at) != before)

    def _texts(self, server: EngineServer, members: Sequence[EngineServer]) -> dict[str, str]:
        """File -> what is in it."""
        rights, at = self._rights, Ports("::" if ":" in server.name else "0.0.0.0", server.port)
        files = {"ca.pem": self._authority.pem, UNIT: _UNIT}
        if server.site:
            files[_CREDENTIALS] = rights.site_credentials(server.number, server.site)
            account = rights.site_account(server.site)
            claims = rights.site_jwt(server.site, Site((server.number,)), {}, fixed=True)
            base = configuration(rights, at, _SERVED, None, [(rights.system, rights.system_jwt()), (account, claims)])
            more = self._remote(account, members)
        else:
            base = configuration(rights, at, _SERVED, Path("accounts"), [(rights.system, rights.system_jwt())])
            more = clustered(server, members, rights, at, _SERVED, Path("ca.pem"))
        return files | {CONFIGURATION: base + more}

    def _remote(self, account: str, members: Sequence[EngineServer]) -> str:
        if not members:
            raise Conflict(
                "The engine has no server that one at a site could dial; `vini central engine server ADDRESS` adds one."
            )
        urls = ", ".join(f'"tls://{member.at(LEAVES)}"' for member in members)
        return _REMOTE.format(urls=urls, account=account, credentials=_CREDENTIALS)


def _check_own(own: EngineServer, servers: Sequence[EngineServer]) -> None:
    """Raises Conflict where these can't be added to the one that this central runs itself."""
    if own.port > 65535 - LEAVES:
        raise Conflict(
            f"With other servers the one that this central runs itself listens {ROUTES} and {LEAVES} above its port "
            f'{own.port}, too, and there are no ports above 65535; choose a lower "engine_port" in settings.json, and '
            "start the central again."
        )
    if any((server.name, server.port) == (own.name.lower(), own.port) for server in servers):
        raise Conflict(
            f"{own.address} is the server that this central runs itself; it belongs to the cluster without being added."
        )


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


async def watch(directory: Path) -> None:
    """Warn each day of files below a central's directory whose certificate ends soon; until cancelled."""
    while True:
        for sentence in await asyncio.to_thread(ending, directory, time.time()):
            log.warning("%s", sentence)
        await asyncio.sleep(86400)


def ending(directory: Path, now: float) -> list[str]:
    """A sentence for each server whose certificate, as it was written here last, ends within two months."""
    out = []
    for path in sorted((directory / "engine").glob(f"*/{_SERVED.certificate}")):
        try:
            ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        except (OSError, ValueError):
            continue  # `write` makes it anew
        if ends.timestamp() - now < _WARNED.total_seconds():
            out.append(
                f"The certificate of the engine's server in {path.parent} ends on {ends:%Y-%m-%d}, and nobody is let "
                "in there any more; `vini central engine write` makes another one, and says what to copy."
            )
    return out


def can_check() -> bool:
    """Whether this machine has a nats-server that could look at what is written."""
    return shutil.which(PROGRAM) is not None


def _check(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as copy:  # it makes directories also where it only looks
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        refused = refusal(Path(CONFIGURATION), Path(copy))
    if refused:
        raise ViniError(f"nats-server does not take {directory / CONFIGURATION}: {refused}")
