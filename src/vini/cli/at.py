"""Which central a command on its machine is about: the directory where it is."""

from __future__ import annotations

from pathlib import Path

import click

_DIRECTORY = "/var/lib/vini-central"
directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=_DIRECTORY, show_default=True,
    help="Where it keeps its settings, its certificates and, without --database, its data.",
)  # fmt: skip


def at(directory: Path) -> str:
    """The option that a hint to another command needs; "" for the usual place."""
    return "" if str(directory) == _DIRECTORY else f" --dir {directory}"
