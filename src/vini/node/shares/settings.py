"""What this node's uplink carries for slivers, and the networks where what is sent is not counted."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import msgspec

from vini import durable
from vini.model import Value, ViniError
from vini.node.stamp import stamp


class UplinkSettings(Value, frozen=True):
    """Of one node; whoever runs it says so (`vini node uplink`)."""

    rate_mbit: float = 0.0  # 10**6 bit/s for all slivers together; 0: nobody said, so none is guaranteed any of it
    exempt: tuple[str, ...] = ()  # prefixes, IPv4 or IPv6: what goes there is not counted against a day's bytes
    exempt_mbit: float = 0.0  # for all that goes there; 0: what the uplink carries


def _path(state: Path) -> Path:
    return state / "uplink.json"


def version(state: Path) -> tuple[int, int]:
    """Another one whenever what is read may be another."""
    return stamp(_path(state))


def read(state: Path) -> UplinkSettings:
    """The usual where nothing was said, or nothing that can be read."""
    try:
        return msgspec.json.decode(_path(state).read_bytes(), type=UplinkSettings)
    except (OSError, msgspec.DecodeError):
        return UplinkSettings()


def write(state: Path, settings: UplinkSettings) -> None:
    """The agent goes by it from its next look on.  Raises ViniError where it makes no sense, or the disk is full."""
    for prefix in settings.exempt:
        try:
            ip_network(prefix)
        except ValueError as e:
            raise ViniError(f"{prefix!r} is no network: {e}; write it like 192.0.2.0/24.") from e
    path = _path(state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, msgspec.json.encode(settings), 0o644)
    except OSError as e:
        raise ViniError(f"What the uplink carries can't be written to {path}: {e.strerror}; check the disk.") from e
