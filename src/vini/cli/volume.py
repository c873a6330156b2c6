"""Volumes of slivers on this machine."""

from __future__ import annotations

import os

import click
import msgspec

from vini.cli.out import dump, json_option, line, table
from vini.model import Denied
from vini.node.container import volumes
from vini.node.place import Place, from_environment


@click.group("volume", short_help="What slivers keep on this machine's disk: list, remove.")
def volume_command() -> None:
    """Directories of containers on this machine that outlive them (`volumes:` in a topology file)."""


@volume_command.command("list", short_help="The volumes of this machine.")
@json_option
def _list(as_json: bool) -> None:
    """The volumes of this machine, of slices that are up and of others."""
    found = volumes.volumes(_place())
    if as_json:
        dump([msgspec.structs.asdict(v) for v in found])
        return
    rows = [(v.sliver, v.name, _size(v), str(v.files), "yes" if v.used else "") for v in found]
    table(("SLIVER", "VOLUME", "SIZE", "FILES", "USED"), rows, right=("SIZE", "FILES"))


def _size(kept: volumes.Kept) -> str:
    return f"{kept.bytes / 10**6:.1f}" + (f"/{kept.most / 10**6:.0f} MB" if kept.most else " MB")


@volume_command.command("remove", short_help="Delete a volume and all that is in it.")
@click.argument("sliver", metavar="SLICE.SLIVER")
@click.argument("volume")
def _remove(sliver: str, volume: str) -> None:
    """Delete VOLUME of SLICE.SLIVER and all that is in it: `vini volume remove tenants.east data`.

    Refused while a container has it.
    """
    gone = volumes.remove(_place(), sliver, volume)
    line(f"The volume {gone.name} of {gone.sliver} is gone, with {gone.bytes / 10**6:.1f} MB.")


def _place() -> Place:
    if os.geteuid() != 0:
        raise Denied("Volumes belong to root on this machine; run this with sudo.")
    return from_environment()
