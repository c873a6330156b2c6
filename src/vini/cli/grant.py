"""What processes of a slice may have of its nodes, by the broker in each sliver."""

from __future__ import annotations

import os

import click

from vini.cli.choose import slice_option, the_slice
from vini.cli.out import dump, json_option, line, note
from vini.client import connect


@click.command("grant", short_help="What a slice's processes may have of its nodes.")
@slice_option
@click.option("--none", is_flag=True, help="Take back all that was granted.")
@json_option
@click.argument("grants", nargs=-1)
def grant_command(slice_: str | None, none: bool, as_json: bool, grants: tuple[str, ...]) -> None:
    """What processes of a slice may have of its nodes: `vini grant -s home_web tcp:8000-8010`.

    GRANTS replace what was granted before; without any it is shown.  A port is had by `vini-ask port` in a sliver.
    On a testbed only an admin grants.
    """
    if grants and none:
        raise click.UsageError("--none takes all back; give it, or what to grant.")
    client = connect()
    name = slice_ or os.environ.get("VINI_SLICE") or the_slice(client, None).name
    if grants or none:
        client.grant(name, grants)
    have = client.grants(name)
    if as_json:
        dump({"slice": name, "grants": have})
    elif have:
        line(f"{name} may have {' '.join(have)} of its nodes.")
    else:
        note(f"Nothing of its nodes is granted to {name}.")
