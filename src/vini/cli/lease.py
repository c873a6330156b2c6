"""Leases: a node for one slice, for whole hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.rules.leases import AHEAD_S, GRAIN_S
from vini.rules.nouns import Lease
from vini.rules.wishes import Page


class _Moment(click.DateTime):
    """click's, but a mistake is answered by an example, and what refusals say, in UTC, can be written as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As in `click.ParamType`."""
        try:
            if isinstance(value, str) and value.endswith(_UTC):
                return super().convert(value.removesuffix(_UTC), param, ctx).replace(tzinfo=UTC)
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f'{value!r} is no date and time; write "2026-12-01 10:00", or 2026-12-01 for its midnight.', param, ctx
            )


_UTC = " UTC"
_FORMATS = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]


@click.group("lease", invoke_without_command=True)
@click.option("--node", default="", help="Only those of this node.")
@click.option("--slice", "slice_", default="", help="Only those of this slice.")
@json_option
@click.pass_context
def lease_command(ctx: click.Context, node: str, slice_: str, as_json: bool) -> None:
    """Leases: who has which node for himself, and when.

    \b
    vini lease                                              the calendar: all that are not over
    vini lease add n1 --slice home_lab --from "2026-12-01 10:00" --hours 2
    vini lease end 7
    """
    if ctx.invoked_subcommand:
        return
    rows = sorted(remote().pages("/leases", Page[Lease], node=node, slice=slice_), key=lambda r: (r.start, r.node))
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    shown = [(f"{r.id}", r.node, r.slice, _time(r.start), _time(r.end)) for r in rows]
    table(("LEASE", "NODE", "SLICE", "FROM", "UNTIL"), shown)
    if not rows:
        note("Nobody has leased a node; `vini lease add NODE --slice SLICE` does.")


@lease_command.command("add")
@click.argument("node")
@click.option("--slice", "slice_", required=True, help="Whose it is then.")
@click.option(
    "--from",
    "start",
    type=_Moment(_FORMATS),
    metavar="TIME",
    help='Local time, or with " UTC" behind it that; default: the next whole hour.',
)
@click.option("--hours", type=click.IntRange(1, AHEAD_S // GRAIN_S), default=1, show_default=True, help="How long.")
@json_option
def _add(node: str, slice_: str, start: datetime | None, hours: int, as_json: bool) -> None:
    """Lease a node: no other slice has slivers there in that time.  It is for whole hours of UTC."""
    begins = (start or _next_hour()).timestamp()
    wish = {"slice": slice_, "node": node, "start": begins, "end": begins + hours * GRAIN_S}
    row = remote().call("POST", "/leases", Lease, wish)
    if as_json:
        dump({f: getattr(row, f) for f in row.__struct_fields__})
        return
    line(f"Node {row.node} is for slice {row.slice} from {_time(row.start)} to {_time(row.end)}: lease {row.id}.")
    if (row.start, row.end) != (wish["start"], wish["end"]):
        note("Leases are for whole hours of UTC: the start is rounded up, the end down.")


@lease_command.command("end")
@click.argument("number", type=click.IntRange(1))
def _end(number: int) -> None:
    """Give a node back, before or in its time."""
    remote().call("DELETE", f"/leases/{number}", type(None))
    line(f"Lease {number} is ended.")


def _next_hour() -> datetime:
    return (datetime.now() + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
