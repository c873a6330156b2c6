"""A testbed's nodes, sites, people and slices."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

import click
import msgspec
from msgspec import structs

from vini.cli.account import remote
from vini.cli.each import each
from vini.cli.out import count, dump, json_option, line, note, table
from vini.cli.people import import_command, password_command
from vini.cli.ways import show_ways
from vini.rules.expiry import DAY_S, REMIND_S
from vini.rules.nouns import Guest, NodeRow, Person, Site, Slice
from vini.rules.quota import Taken
from vini.rules.wishes import Page

_WRONG_S = 2.0  # by which no clock is off that something keeps right
_MOST_REMINDERS = 10  # of slices that end soon, one by one
_SILENT_S = 30.0  # a node that wasn't heard for so long is away, where the central doesn't say


_SAID = {"boot": "enabled", "safeboot": "drained"}  # PlanetLab's words -> those of our commands


def _shown(row: NodeRow) -> tuple[str, ...]:
    """With its state by the command's word; the other states are called what they are."""
    return _node(structs.replace(row, boot_state=_SAID.get(row.boot_state, row.boot_state)))


_emails = click.argument("emails", nargs=-1, required=True, metavar="EMAIL...")
_slices = click.argument("names", nargs=-1, required=True, metavar="NAME...")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}" if seconds else "-"


@click.command("nodes")
@click.option("--site", default="", help="Only those of this site.")
@click.option("--rtt", is_flag=True, help="How long packets take between them and back, as they measured it.")
@json_option
def nodes_command(site: str, rtt: bool, as_json: bool) -> None:
    """The nodes of the testbed.

    \b
    vini nodes
    vini nodes --rtt     each from each, in ms; a link can't ask for a delay of less than half of that
    """
    if rtt:
        show_ways(site, as_json)
        return
    rows = remote().pages("/nodes", Page[NodeRow], site=site)
    if as_json:
        dump([_fields(row) for row in rows])
        return
    table(("NODE", "SITE", "STATE", "HEARD", "ADDRESS", "CORES", "MEMORY", "CLOCK"), [_shown(row) for row in rows])
    for row in rows:
        for sentence in (*_clock(row), *row.failing):
            note(f"{row.name}: {sentence}")
    if not rows:
        note("No machine has joined; `vini node token --site SITE` makes a token for one.")


def _clock(row: NodeRow) -> list[str]:
    """What follows from a clock that is wrong."""
    off = row.clock_offset_s
    if abs(off) < _WRONG_S:
        return []
    ends = "end earlier" if off > 0 else "end later"
    way = "ahead of" if off > 0 else "behind"
    return [
        f"its clock is {_long(abs(off))} {way} the central's, so slices {ends} there; set the one that is wrong: "
        "`timedatectl set-ntp true`."
    ]


def _long(seconds: float) -> str:
    for length, word in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {word}"
    return f"{seconds:.0f} seconds"


def _fields(row: NodeRow) -> dict[str, object]:
    fields = {f: getattr(row, f) for f in row.__struct_fields__}
    return {**fields, "public_key": row.public_key.hex(), "capabilities": sorted(row.capabilities)}


def _node(row: NodeRow) -> tuple[str, ...]:
    ago = time.time() - row.last_heard
    here = ago < _SILENT_S if row.connected is None else row.connected
    heard = "now" if here else f"{ago:.0f} s ago" if row.last_heard else "never"
    clock = f"{row.clock_offset_s * 1000:+.1f} ms"
    return row.name, row.site, row.boot_state, heard, row.address, f"{row.cores:g}", f"{row.memory_mib} MiB", clock


@click.group("site", invoke_without_command=True)
@json_option
@click.pass_context
def site_command(ctx: click.Context, as_json: bool) -> None:
    """Sites: the places that have nodes, people and slices.

    \b
    vini site add princeton --name "Princeton University"
    vini site quota princeton                     what its slices take, and may take
    vini site quota princeton --slices 120        an admin lets it have more
    """
    if not ctx.invoked_subcommand:
        _show_sites(as_json)


@click.command("sites")
@json_option
def sites_command(as_json: bool) -> None:
    """The sites of the testbed, as `vini site` lists them."""
    _show_sites(as_json)


def _show_sites(as_json: bool) -> None:
    rows = remote().pages("/sites", Page[Site])
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    shown = [(s.login_base, s.name, f"{s.max_slices}", "yes" if s.enabled else "no") for s in rows]
    table(("SITE", "NAME", "SLICES AT MOST", "ENABLED"), shown)


@site_command.command("quota")
@click.argument("login_base")
@click.option("--slices", "max_slices", type=click.IntRange(0), help="How many slices it may have; 0: none.")
@click.option(
    "--slivers",
    type=click.IntRange(0),
    help="How many slivers all its slices may have together; 0: any number, as below.",
)
@click.option("--per-slice", "max_slivers", type=click.IntRange(0), help="How many slivers one slice may have.")
@click.option("--cores", type=click.FloatRange(0), help="How many processors' time they may take.")
@click.option("--memory-mib", type=click.IntRange(0), help="How much memory.")
@click.option(
    "--link-mbit", type=click.FloatRange(0), help="How much of the network between nodes; each link needs a rate then."
)
@click.option("--vnis", type=click.IntRange(0), help="How many links between nodes.")
@click.option("--disk-mb", type=click.IntRange(0), help="How much of nodes' disks for disks and volumes, 10^6 bytes.")
@json_option
def _quota(login_base: str, as_json: bool, **asked: float | None) -> None:
    """Set what all slices of a site may take together, as an admin; without options, show it.

    What they have already stays, also where it is more.

    \b
    vini site quota princeton --slices 120 --per-slice 10 --cores 16
    """
    wish = {k: v for k, v in asked.items() if v is not None}
    client, path = remote(), f"/sites/{login_base}"
    site = client.call("PATCH", path, Site, wish) if wish else client.call("GET", path, Site)
    taken = client.call("GET", f"{path}/taken", Taken)
    quota = {f: (getattr(taken, f), getattr(site, f)) for f in taken.__struct_fields__}
    if as_json:
        one = {"slices": {"most": site.max_slices}, "per_slice": {"most": site.max_slivers}}
        dump({f: {"taken": has, "most": most} for f, (has, most) in quota.items()} | one)
        return
    table(
        ("OF", "TAKEN", "AT MOST"), [(f, f"{has:g}", f"{most:g}" if most else "-") for f, (has, most) in quota.items()]
    )
    each_ = f"each up to {count(site.max_slivers, 'sliver')}" if site.max_slivers else "each with any number of slivers"
    note(f"It may have {count(site.max_slices, 'slice')}, {each_}.")


@site_command.command("add")
@click.argument("login_base")
@click.option("--name", default="", help="For people.")
@click.option("--max-slices", type=click.IntRange(0), default=10, show_default=True, help="How many it may have.")
def _add_site(login_base: str, name: str, max_slices: int) -> None:
    """Add a site, as an admin: `vini site add princeton`.

    Its name is what the names of its slices begin with: princeton_iias.
    """
    body = {"login_base": login_base, "name": name, "max_slices": max_slices}
    line(f"Site {remote().call('POST', '/sites', Site, body).login_base} is there.")


@site_command.command("enable")
@click.argument("login_base")
def _enable_site(login_base: str) -> None:
    """Let a site's people use their roles there again, as an admin."""
    remote().call("PATCH", f"/sites/{login_base}", Site, {"enabled": True})
    line(f"Site {login_base} is enabled.")


@site_command.command("disable")
@click.argument("login_base")
def _disable_site(login_base: str) -> None:
    """Make roles at a site worth nothing, as an admin: its slices go on until their time is over."""
    remote().call("PATCH", f"/sites/{login_base}", Site, {"enabled": False})
    line(f"Site {login_base} is disabled: no slice of it is made or renewed, and roles there are worth nothing.")


@site_command.command("delete")
@click.argument("login_base")
def _delete_site(login_base: str) -> None:
    """Delete a site without nodes and slices, as an admin."""
    remote().call("DELETE", f"/sites/{login_base}", type(None))
    line(f"Site {login_base} is deleted.")


@click.group("person", invoke_without_command=True)
@json_option
@click.pass_context
def person_command(ctx: click.Context, as_json: bool) -> None:
    """People: who has an account, and which role where.

    \b
    vini person add bob@example.org --site home              asks for his first password
    vini person import class.csv --site home --dry-run       many at once, with slices
    vini person grant bob@example.org pi --site home         he may add people and make slices there
    vini person password                                     change your own
    """
    if ctx.invoked_subcommand:
        return
    rows = remote().pages("/persons", Page[Person])
    if as_json:
        dump(msgspec.to_builtins(rows))
        return
    roles = {p.email: ", ".join(f"{h.role} at {h.site}" if h.site else h.role for h in p.roles) for p in rows}
    shown = [(p.email, p.name, "yes" if p.enabled else "no", roles[p.email]) for p in rows]
    table(("E-MAIL", "NAME", "ENABLED", "ROLES"), shown)


person_command.add_command(import_command)
person_command.add_command(password_command)


@person_command.command("add")
@click.argument("email")
@click.option("--site", required=True, help="Where he is.")
@click.option("--role", type=click.Choice(["user", "pi", "tech"]), default="user", show_default=True, help="There.")
@click.option("--name", default="", help="For people.")
@click.option("--password-file", type=click.File(), help="The password is its first line; -: standard input.")
def _add_person(email: str, site: str, role: str, name: str, password_file: TextIO | None) -> None:
    """Make an account; the password is asked for, or read from --password-file or VINI_PASSWORD.

    A user works in slices that he is a member of; a PI also adds people and makes slices at the site; a technical
    contact looks after its nodes.

    \b
    vini person add bob@example.org --site home --role pi
    """
    password = _new_password(password_file)
    body = {"email": email, "name": name, "password": password, "site": site, "role": role}
    line(f"{remote().call('POST', '/persons', Person, body).email} has an account.")


def _new_password(file: TextIO | None) -> str:
    if file is not None:
        return file.readline().rstrip("\r\n")
    if given := os.environ.get("VINI_PASSWORD"):
        return given
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is here to be asked for the password; give --password-file, or VINI_PASSWORD.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@person_command.command("grant")
@click.argument("email")
@click.argument("role", type=click.Choice(["user", "pi", "tech", "admin"]))
@click.option("--site", default="", help="Where; of an admin: nowhere.")
def _grant(email: str, role: str, site: str) -> None:
    """Give somebody a role at a site, or (admin) everywhere."""
    remote().call("POST", f"/persons/{email}/roles", Person, {"role": role, **({"site": site} if site else {})})
    line(f"{email} is {role}{f' at {site}' if site else ''} now.")


@person_command.command("revoke")
@click.argument("email")
@click.argument("role", type=click.Choice(["user", "pi", "tech", "admin"]))
@click.option("--site", default="", help="Where; of an admin: nowhere.")
def _revoke(email: str, role: str, site: str) -> None:
    """Take a role at a site, or (admin) everywhere, from somebody."""
    remote().call("DELETE", f"/persons/{email}/roles/{role}", Person, site=site or None)
    line(f"{email} is {role}{f' at {site}' if site else ''} no more.")


@person_command.command("enable")
@_emails
def _enable(emails: tuple[str, ...]) -> None:
    """Let people in: who waits for approval, or was disabled."""
    client = remote()

    def enable(email: str) -> None:
        client.call("PATCH", f"/persons/{email}", Person, {"enabled": True})
        line(f"{email} may log in.")

    each(emails, enable)


@person_command.command("disable")
@_emails
def _disable(emails: tuple[str, ...]) -> None:
    """Keep people out, at once and until `enable`; slices and keys stay."""
    client = remote()

    def disable(email: str) -> None:
        client.call("PATCH", f"/persons/{email}", Person, {"enabled": False})
        line(f"{email} may not log in any more.")

    each(emails, disable)


@person_command.command("delete")
@_emails
def _delete_person(emails: tuple[str, ...]) -> None:
    """Delete accounts, with their keys, tokens and memberships."""
    client = remote()

    def delete(email: str) -> None:
        client.call("DELETE", f"/persons/{email}", type(None))
        line(f"The account {email} is deleted.")

    each(emails, delete)


@click.group("slice", invoke_without_command=True)
@json_option
@click.pass_context
def slice_command(ctx: click.Context, as_json: bool) -> None:
    """Slices of the testbed, and who may use them.

    \b
    vini slice create princeton_iias --share bob@example.org
    vini up examples/abilene.yaml --slice princeton_iias
    vini slice describe princeton_iias --description "the paper's experiment" --url https://example.org/iias
    vini slice renew princeton_iias                          it needs both, to live longer than two weeks
    """
    if ctx.invoked_subcommand:
        return
    client = remote()
    rows = client.pages("/slices", Page[Slice])
    if as_json:
        dump(msgspec.to_builtins(rows))
        return
    table(("SLICE", "EXPIRES", "GENERATION", "MEMBERS"), [
        (s.name, _time(s.expires), f"{s.generation}", ", ".join(s.members)) for s in rows])  # fmt: skip
    _remind([s for s in rows if client.login.email.lower() in s.members], time.time())
    if not rows:
        note("There is no slice that you may see; `vini slice create SITE_NAME` makes one.")


def _remind(mine: Sequence[Slice], now: float) -> None:
    """Of those that end soon; of many at once."""
    soon = [(s.name, left) for s in mine if 0 < (left := s.expires - now) < max(REMIND_S)]
    if len(soon) > _MOST_REMINDERS:
        first = min(left for _, left in soon) / DAY_S
        note(
            f"{len(soon)} slices of yours end, the first in {first:.1f} days; `vini slice renew NAME...` prolongs them."
        )
        return
    for name, left in soon:
        note(f"{name} ends in {left / DAY_S:.1f} days; `vini slice renew {name}` prolongs it.")


@slice_command.command("create")
@click.argument("name")
@click.option("--description", default="", help="What it is for; needed to renew it.")
@click.option("--url", default="", help="Where that is told; needed to renew it.")
@click.option("--share", multiple=True, metavar="EMAIL", help="Who else may use it.")
def _create(name: str, description: str, url: str, share: tuple[str, ...]) -> None:
    """Create a slice, named SITE_NAME; it lives for two weeks, and longer when it is renewed.

    \b
    vini slice create princeton_iias --share bob@example.org --share eve@example.org
    """
    body = {"name": name, "description": description, "url": url, **({"members": share} if share else {})}
    made = remote().call("POST", "/slices", Slice, body)
    line(f"Slice {made.name} is there until {_time(made.expires)}; members: {', '.join(made.members)}.")
    note(f"Next: vini up FILE --slice {made.name}")


@slice_command.command("renew")
@_slices
def _renew(names: tuple[str, ...]) -> None:
    """Let slices live as long as is allowed: eight weeks from now.  Each needs a description and a URL."""
    client = remote()

    def renew(name: str) -> None:
        line(f"Slice {name} lives until {_time(client.call('POST', f'/slices/{name}/renewals', Slice, {}).expires)}.")

    each(names, renew)


@slice_command.command("describe")
@click.argument("name")
@click.option("--description", help="In words.")
@click.option("--url", help="Where more is told.")
def _describe(name: str, description: str | None, url: str | None) -> None:
    """Say what a slice is for."""
    wish = {k: v for k, v in (("description", description), ("url", url)) if v is not None}
    if not wish:
        raise click.UsageError("Say it by --description, --url, or both.")
    remote().call("PATCH", f"/slices/{name}", Slice, wish)
    line(f"Slice {name} is described.")


@slice_command.command("share")
@click.argument("name")
@click.argument("email")
@click.option("--end", is_flag=True, help="He may not any more.")
def _share(name: str, email: str, end: bool) -> None:
    """Let somebody use a slice, or (--end) not any more."""
    made = remote().call("DELETE" if end else "PUT", f"/slices/{name}/members/{email}", Slice)
    line(f"Members of {made.name}: {', '.join(made.members)}.")


@slice_command.command("invite")
@click.argument("name")
@click.argument("email")
@click.option("--sliver", "slivers", multiple=True, help="Only into this one; may be given several times.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="For how long; default: while it lives.")
@click.option("--end", is_flag=True, help="He may not come in any more, and is put out.")
def _invite(name: str, email: str, slivers: tuple[str, ...], hours: float | None, end: bool) -> None:
    """Let somebody into the slivers of a slice, to log in and run commands there, but not to change it."""
    if end:
        if slivers or hours:
            raise click.UsageError("--end takes back all; give it alone.")
        made = remote().call("DELETE", f"/slices/{name}/guests/{email}", Slice)
    else:
        wish = {"slivers": slivers, **({"until": time.time() + 3600 * hours} if hours else {})}
        made = remote().call("PUT", f"/slices/{name}/guests/{email}", Slice, wish)
    line(f"Guests of {made.name}: {'; '.join(map(_guest, made.guests)) or 'none'}.")


def _guest(guest: Guest) -> str:
    where = f" in {', '.join(guest.slivers)}" if guest.slivers else ""
    return f"{guest.email}{where}{f' until {_time(guest.until)}' if guest.until else ''}"


@slice_command.command("delete")
@_slices
def _delete(names: tuple[str, ...]) -> None:
    """End slices on all their nodes, and forget them."""
    client = remote()

    def delete(name: str) -> None:
        client.call("DELETE", f"/slices/{name}", type(None))
        line(f"Slice {name} is deleted.")

    each(names, delete)
