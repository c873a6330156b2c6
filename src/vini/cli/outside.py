"""What a slice may do in the world: who runs the machines says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import click
from msgspec.structs import asdict

from vini.cli.out import dump, json_option, line, table
from vini.client import connect
from vini.model import OutsideGrant, ViniError
from vini.text import units
from vini.text.mistakes import Wrong


@click.group("outside", short_help="What a slice may do in the world.")
def outside_command() -> None:
    """What a slice may do in the world.

    A sliver with `outside: true` in its topology has a vif `outside`, by which it reaches what its slice is granted:
    that, within budgets, and nothing else.  Grants are an admin's to give, on one machine root's.

    \b
    vini outside grant lab --to 0.0.0.0/0 --allow tcp/443 --allow udp/53
    vini outside show lab
    vini outside revoke lab
    """


@outside_command.command("grant")
@click.argument("slice_", metavar="SLICE")
@click.option(
    "--to", multiple=True, required=True, metavar="PREFIX",
    help="Where to; may be repeated. 0.0.0.0/0 and ::/0 are the public Internet; private networks are named by "
    "themselves.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, default=("tcp", "udp", "icmp"), show_default=True, metavar="PROTOCOL",
    help="tcp, udp, icmp, or with ports: tcp/443, udp/5000-5999; may be repeated.",
)  # fmt: skip
@click.option("--rate", default="10mbit", show_default=True, help="Each way, all of the slice's slivers on one node.")
@click.option("--packets", type=int, default=2000, show_default=True, help="Per second, each way; likewise.")
@click.option("--flows", type=int, default=1000, show_default=True, help="At a time; likewise.")
@click.option("--new-flows", type=int, default=100, show_default=True, help="Per second; likewise.")
@click.option("--daily", type=int, default=1000, show_default=True, help="10**6 bytes a day (UTC); 0: not bounded.")
def _grant(
    slice_: str, to: tuple[str, ...], allow: tuple[str, ...], rate: str, packets: int, flows: int, new_flows: int,
    daily: int,
) -> None:  # fmt: skip
    """Let a slice do that in the world, and nothing else; at once, where it is up."""
    grant = OutsideGrant(to, allow, _kbit(rate), packets, flows, new_flows, daily)
    asyncio.run(connect().grant_outside(slice_, grant))
    line(f"{slice_} may reach {', '.join(to)} by {', '.join(allow)}.")


@outside_command.command("revoke")
@click.argument("slice_", metavar="SLICE")
def _revoke(slice_: str) -> None:
    """Let a slice do nothing in the world any more; at once."""
    asyncio.run(connect().grant_outside(slice_, None))
    line(f"{slice_} may reach nothing of the world.")


@outside_command.command("show")
@click.argument("slice_", metavar="SLICE")
@json_option
def _show(slice_: str, as_json: bool) -> None:
    """What a slice is granted."""
    grant = connect().granted(slice_)
    if as_json:
        dump(None if grant is None else asdict(grant))
        return
    if grant is None:
        line(f"{slice_} may reach nothing of the world.")
        return
    table(("WHAT", "GRANTED"), list(_told(grant).items()))


def _kbit(rate: str) -> int:
    try:
        return round(units.read_mbit(rate) * 1000)
    except Wrong as e:
        raise ViniError(f"{e} {e.hint.capitalize()}.") from e


def _told(grant: OutsideGrant) -> Mapping[str, str]:
    return {
        "to": ", ".join(grant.to),
        "by": ", ".join(grant.allow),
        "rate": f"{grant.rate_kbit / 1000:g} Mbit/s, {grant.packets_per_s} packets/s, each way",
        "flows": f"{grant.flows} at a time, {grant.new_flows_per_s} new ones/s",
        "a day": f"{grant.daily_mb} MB" if grant.daily_mb else "not bounded",
    }
