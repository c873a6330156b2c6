"""What a central is started with: one file in its directory, written by `vini central init`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from vini import durable
from vini.model import Conflict, Denied, NotFound, Value, ViniError
from vini.plugins.tunnels import TunnelKind
from vini.rules.errors import Invalid
from vini.rules.notices import Mail, Webhook
from vini.rules.oidc import Oidc

DIRECTORY = Path("/var/lib/vini-central")
PORT = 8443
ENGINE_PORT = 4222


class Settings(Value, frozen=True):
    """The file may be edited by hand; `vini central run` reads it once."""

    names: tuple[str, ...]  # by which others reach it: DNS names and addresses; the first is told to them
    port: int = PORT
    database: str = ""  # a URL of SQLAlchemy's; "": SQLite in the same directory
    tunnel: TunnelKind = "vxlan"  # what links between nodes are made of, in slices that don't say
    strangers: bool = False  # its people don't know each other: slivers must be containers (`rules.strangers`)
    mail: Mail | None = None
    webhooks: tuple[Webhook, ...] = ()
    internal: str = ""  # https://NAME:PORT by which other centrals on the same database reach it; "": by the first name
    engine: Literal["hub", "nats"] = "hub"  # between centrals and nodes
    engine_url: str = (
        ""  # of a nats-server that somebody else runs, tls://name:port, or several; "": the central runs one
    )
    engine_port: int = ENGINE_PORT  # of the one that the central runs
    usage_s: float = 600.0  # between two questions to each node what slivers used there
    oidc: Oidc | None = None  # who vouches for people besides their passwords

    @property
    def url(self) -> str:
        """What nodes and people are told."""
        return f"https://{self._name}:{self.port}"

    @property
    def nats_url(self) -> str:
        """Where nodes find the engine."""
        return self.engine_url or f"tls://{self._name}:{self.engine_port}"

    @property
    def _name(self) -> str:
        return f"[{self.names[0]}]" if ":" in self.names[0] else self.names[0]

    def database_url(self, directory: Path) -> str:
        """Where accounts and slices are."""
        return self.database or f"sqlite:///{directory / 'central.db'}"


def _path(directory: Path) -> Path:
    return directory / "settings.json"


def read(directory: Path) -> Settings:
    """Raises NotFound where there is no central, Denied where it is somebody else's."""
    path = _path(directory)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except PermissionError as e:
        raise Denied(f"The central in {directory} is not yours to use; run this with sudo, or as whose it is.") from e
    except FileNotFoundError as e:
        raise NotFound(
            f"There is no central in {directory}; `vini central init` makes one, `--dir` names another place."
        ) from e
    except (OSError, msgspec.DecodeError) as e:
        raise ViniError(f"The central's settings {path} can't be read ({e}); mend the file.") from e


def renamed(settings: Settings, names: tuple[str, ...]) -> Settings:
    """The same central, reached by other names: also by other centrals, where it isn't by one of them already.

    Raises ViniError where one is neither a DNS name nor an address.
    """
    for name in names:
        if not re.fullmatch(r"[0-9A-Za-z.:-]+", name) or name.startswith("-"):
            raise ViniError(
                f"{name!r} is neither a DNS name nor an address; it looks like central.example or 192.0.2.7."
            )
    parts = urlsplit(settings.internal)
    return msgspec.structs.replace(settings, names=names, internal=settings.internal if parts.hostname in names else "")


def checked(settings: Settings) -> Settings:
    """The same, where `read` would take it.  Raises Invalid where not: so nothing is written that no central starts
    with."""
    try:
        return msgspec.json.decode(_text(settings), type=Settings)
    except msgspec.DecodeError as e:
        raise Invalid(f"The central can't be set so ({e}); nothing was changed.") from e


def change(directory: Path, settings: Settings) -> None:
    """Write them in place of those that are there: all of the old ones are on the disk, or all of the new ones."""
    path = _path(directory)
    try:
        durable.write(path, _text(settings))
    except OSError as e:
        raise ViniError(f"The central's settings {path} can't be written ({e.strerror}); nothing was changed.") from e


def _text(settings: Settings) -> bytes:
    return msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"


def write(directory: Path, settings: Settings) -> None:
    """Of a new central, which whoever calls this makes alone (`vini.central.making`): all of them are on the disk, or
    none.  Raises Conflict where there is a central already."""
    path = _path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            raise Conflict(f"There is a central in {directory} already; `vini central run` starts it.")
        durable.write(path, _text(settings))
    except OSError as e:
        raise ViniError(f"The central's settings {path} can't be written: {e.strerror}; choose another --dir.") from e
