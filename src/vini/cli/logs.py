"""What the processes of slivers say."""

from __future__ import annotations

import os
import sys

import click

from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.client import connect


@click.command("logs", short_help="What a sliver's daemons and commands said, and (-f) say.")
@slice_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what they say from now on; Ctrl-C ends it.")
@click.option("-n", "lines", type=click.IntRange(0, 1_000_000), default=100, show_default=True,
              help="How many lines of each process.")  # fmt: skip
@click.argument("sliver")
@click.argument("processes", nargs=-1)
def logs_command(slice_: str | None, follow: bool, lines: int, sliver: str, processes: tuple[str, ...]) -> None:
    """What a sliver's routing daemons and commands said: `vini logs denver`, `vini logs -f denver ospfd`.

    Each line begins with the process that said it; PROCESSES are such names.
    """
    client = connect()
    topology = the_slice(client, slice_)
    command = client.logs(topology.name, the_sliver(topology, sliver), lines, follow, processes)
    sys.stdout.flush()
    os.execvp(command[0], command)
