"""Experiments: run, compare."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
from msgspec import structs, to_builtins

from vini.cli.choose import read_text, renamed
from vini.cli.out import Ticker, complain, dump, json_option, line, note
from vini.client import connect
from vini.model import NotFound


@click.command("run")
@click.argument("file")
@click.option(
    "-o", "--out", "out", default="runs", show_default=True, help="Directory of runs; each run is a new one in it."
)
@click.option("-s", "--slice", "slice_", help="The slice that it runs in; default: the topology's `name:`.")
@click.option("--keep", is_flag=True, help="Leave the slice up afterwards.")
@json_option
def run_command(file: str, out: str, slice_: str | None, keep: bool, as_json: bool) -> None:
    """Run an experiment: a timeline and probes.  Ends in a run directory with report.html.

    The exit code is 1 when the run is not trustworthy or a probe failed.
    """
    from vini.experiment import load, run

    read_text(file)  # says what is wrong with the path, and which file may be meant
    experiment = load(Path(file))
    experiment = structs.replace(experiment, topology=renamed(experiment.topology, slice_))
    ticker = Ticker(experiment.name)
    before = _records(Path(out), experiment.name)
    try:
        with ticker.shown():
            directory = asyncio.run(run(experiment, connect(ticker.say), Path(out), ticker.say, keep=keep))
    except KeyboardInterrupt:  # before t = 0, or again while the record was being finished
        complain(_left(_records(Path(out), experiment.name) - before, experiment.topology.name))
        raise click.exceptions.Exit(130) from None
    summary = json.loads((directory / "summary.json").read_text())
    if as_json:
        dump({"directory": str(directory), **summary})
    else:
        _tell(directory, summary)
    raise click.exceptions.Exit(0 if summary["trustworthy"] else 1)


def _records(out: Path, name: str) -> set[Path]:
    """The runs of that name, finished or not."""
    return set(out.glob(f"{name}-*"))


def _left(records: set[Path], slice_: str) -> str:
    """What an interrupted run has left."""
    if not records:
        said = "Interrupted before t = 0: nothing was measured, and no record is kept."
    elif any(r.name.endswith(".partial") for r in records):
        where = ", ".join(map(str, sorted(records)))
        said = (
            f"Interrupted while the record was being finished: what there is of it, without a summary, is in {where}."
        )
    else:
        said = f"Interrupted, but the record was finished: {', '.join(map(str, sorted(records)))}."
    try:
        asyncio.run(connect().topology(slice_))
    except NotFound:
        return f"{said} The slice is down."
    return f"{said} Slice {slice_!r} is up; `vini status` shows it, `vini down -s {slice_}` ends it."


def _tell(directory: Path, summary: dict[str, object]) -> None:
    from vini.experiment import digest

    for text in digest(summary):
        line(text)
    line(f"Report: {directory / 'report.html'}")
    note(f"Next: open it in a browser | vini compare {directory} OTHER_RUN")


@click.command("compare", short_help="What differs between two runs.")
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def compare_command(a: Path, b: Path, as_json: bool) -> None:
    """What differs between two runs: inputs, versions, conditions, results."""
    from vini.experiment import compare, describe

    found = compare(a, b)
    if as_json:
        dump(to_builtins(found))
    else:
        line(describe(found))
