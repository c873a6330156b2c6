"""Topology files: import, schema."""

from __future__ import annotations

import click

from vini import formats
from vini.cli.choose import bound_files, read_text
from vini.cli.out import dump, line, note
from vini.experiment import keys as experiments
from vini.topology import dump as topology_text
from vini.topology import schema


@click.command("import", short_help="Translate another tool's file into a topology file.")
@click.argument("file")
def import_command(file: str) -> None:
    """Translate another tool's file into a topology file, on standard output.

    GraphML and GML (Internet Topology Zoo), SNDlib, containerlab, PL-VINI.  What can't be carried
    over is listed on standard error:  vini import Abilene.graphml > abilene.yaml
    """
    text = read_text(file)
    found = formats.read(text, file, bound_files(file, text))
    line(topology_text(found.topology).rstrip())
    for remark in found.notes:
        note(f"note: {remark}")


@click.command("schema")
@click.option("--experiment", is_flag=True, help="That of experiment files.")
def schema_command(experiment: bool) -> None:
    """Print the JSON Schema of topology files, for editors."""
    dump(experiments.schema() if experiment else schema())
