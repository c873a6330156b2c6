"""Which central a command on its machine is about: the directory where it is."""

from __future__ import annotations

from pathlib import Path

import click

_DIRECTORY = "/var/lib/vini-central"
directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=_DIRECTORY, show_default=True,
    help="Where it keeps its settings, its certificates and, without --database, its data.",
)  # fmt: skip


def hand_on(ctx: click.Context, directory: Path) -> None:
    """Of a group: its subcommands are about the same central where they are not told another one."""
    assert isinstance(ctx.command, click.Group)
    ctx.default_map = {name: {"directory": str(directory)} for name in ctx.command.commands}


def at(directory: Path) -> str:
    """The option that a hint to another command needs; "" for the usual place."""
    return "" if str(directory) == _DIRECTORY else f" --dir {directory}"
