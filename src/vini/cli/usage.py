"""What was used, by day: the account of a testbed, or of this machine."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Sequence

import click
from msgspec.structs import asdict

from vini.cli.out import dump, json_option, note, table
from vini.client import connect
from vini.rules.nouns import UsageRow
from vini.rules.usage import PER, SHOWN_DAYS, UsageAsked
from vini.usage import DAY_S

_COUNTED = ("OUT MB", "IN MB", "TO NODES MB", "FROM NODES MB", "EXEMPT MB", "CPU h", "MEMORY GBh", "DISK GBh", "UP h")


@click.command("usage", short_help="Network, CPU, memory and disk that were used, by day.")
@click.option("-s", "--slice", "slice_", default="", help='Only these slices; in all names "*" is any text.')
@click.option("--site", default="", help="Only slices of these sites.")
@click.option("--person", default="", help="Only slices that these persons are responsible for.")
@click.option("--node", default="", help="Only on these nodes.")
@click.option(
    "--since", default="", metavar="DAY", help=f"From this day (UTC) on; default: the last {SHOWN_DAYS} days."
)
@click.option("--until", default="", metavar="DAY", help="To this day, that included.")
@click.option("--per", type=click.Choice(PER), default="slice", show_default=True, help="What is summed up.")
@click.option("--daily", is_flag=True, help="A line for each day.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV (RFC 4180), with a head.")
def usage_command(
    slice_: str, site: str, person: str, node: str, since: str, until: str, per: str, daily: bool, as_json: bool,
    as_csv: bool,
) -> None:  # fmt: skip
    """Network, CPU, memory and disk that slices used, from when nodes count it.

    \b
    vini usage                                  each slice in the last 30 days
    vini usage --per site --since 2026-11-01    each site this month
    vini usage -s home_lab --per sliver --daily
    """
    asked = UsageAsked(per, daily, since, until, slice_, site, person, node)  # type: ignore[arg-type]
    rows = asyncio.run(connect().used(asked))
    if as_json:
        dump([asdict(row) for row in rows])
    elif as_csv:
        _write(rows)
    else:
        _print(rows, per, daily)


def _write(rows: Sequence[UsageRow]) -> None:
    out = csv.writer(sys.stdout)
    out.writerow(UsageRow.__struct_fields__)
    out.writerows(asdict(row).values() for row in rows)


def _print(rows: Sequence[UsageRow], per: str, daily: bool) -> None:
    if not rows:
        note("Nothing that you may see was used in these days; nodes tell it every ten minutes.")
        return
    head = (*(("DAY",) if daily else ()), per.upper(), *_COUNTED)
    table(head, [(*((row.day,) if daily else ()), row.name or "-", *_cells(row)) for row in rows], right=_COUNTED)


def _cells(row: UsageRow) -> tuple[str, ...]:
    sent = (row.outside_out, row.outside_in, row.tunnel_out, row.tunnel_in, row.exempt_out)
    hour = DAY_S / 24
    hours = (row.cpu_s / hour, row.memory_byte_s / hour / 1e9, row.disk_byte_s / hour / 1e9)
    return (*(f"{n / 1e6:.1f}" for n in sent), *(f"{h:.3f}" for h in hours), f"{row.up_s / hour:.1f}")
