"""What the processes of slivers say."""

from __future__ import annotations

import os
import sys

import click

from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.client import connect

_ALL = 1_000_000


@click.command("logs", short_help="What a sliver's daemons and commands said, and (-f) say.")
@slice_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what they say from now on; Ctrl-C ends it.")
@click.option("-b", "--boot", is_flag=True, help="All that each process said since it was started last.")
@click.option("-n", "lines", type=click.IntRange(0, _ALL), help="How many lines of each process; default 100.")
@click.argument("sliver")
@click.argument("processes", nargs=-1)
def logs_command(slice_: str | None, follow: bool, boot: bool, lines: int | None, sliver: str,
                 processes: tuple[str, ...]) -> None:  # fmt: skip
    """What a sliver's routing daemons and commands said: `vini logs denver`, `vini logs -f denver ospfd`.

    Each line begins with the process that said it; PROCESSES are such names.  Two logs are the node's: `boot` tells
    when the sliver's container and processes were started, `broker` what they asked of the node.
    """
    client = connect()
    topology = the_slice(client, slice_)
    most = lines if lines is not None else _ALL if boot else 100
    command = client.logs(topology.name, the_sliver(topology, sliver), most, follow, processes, boot)
    sys.stdout.flush()
    os.execvp(command[0], command)
