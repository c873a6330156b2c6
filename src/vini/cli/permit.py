"""What the central may do to files of this machine, as its administrator says."""

from __future__ import annotations

import os
from pathlib import Path

import click
from msgspec import structs

from vini.cli.out import dump, json_option, line, note
from vini.model import Denied
from vini.node.files import permit
from vini.node.files.permit import Permit
from vini.node.files.record import Record
from vini.node.place import from_environment


@click.command("permit")
@click.option("--below", multiple=True, metavar="DIR",
              help="Conf files may be below this directory; may be repeated; `none`: nowhere.")  # fmt: skip
@click.option("--commands/--no-commands", default=None, help="Whether they may come with commands, which root runs.")
@json_option
def permit_command(below: tuple[str, ...], commands: bool | None, as_json: bool) -> None:
    """What the central may do to files of this machine; what isn't named stays as it was."""
    if os.geteuid() != 0:
        raise Denied("Only root says what the central may do to this machine's files; run this with sudo.")
    state = from_environment().state
    said = permit_files(state, below, commands) if below or commands is not None else permit.read(state)
    written = sorted(Record(state).book)
    if as_json:
        dump(structs.asdict(said) | {"written": written})
        return
    where = f"below {', '.join(said.below)}" if said.below else "nowhere"
    line(f"The central may write conf files {where}, {'with' if said.commands else 'without'} commands.")
    if written:
        note(f"The agent wrote: {', '.join(written)}.")


def permit_files(state: Path, below: tuple[str, ...], commands: bool | None) -> Permit:
    """Write down what is permitted from now on; what isn't named stays as it was."""
    said = permit.read(state)
    if below:
        said = structs.replace(said, below=() if below == ("none",) else tuple(str(Path(d).resolve()) for d in below))
    if commands is not None:
        said = structs.replace(said, commands=commands)
    permit.write(state, said)
    return said
