"""Many people at once, and their passwords."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote

import click
from msgspec import structs

from vini.cli import roster
from vini.cli.account import remote
from vini.cli.out import complain, count, line, note, table
from vini.cli.roster import Entry
from vini.client import login as logins
from vini.model import CapacityError, Conflict, Denied, Mistake, TopologyError, Value
from vini.rules import Caller, may, of_site
from vini.rules.errors import Invalid, Unauthenticated
from vini.rules.nouns import Person, Site, Slice
from vini.rules.wishes import Page, Secret
from vini.rules.words import SAID, TEXT, URL

if TYPE_CHECKING:
    from vini.client.remote import RemoteClient


class _Plan(Value, frozen=True):
    """What of a list is not there yet."""

    accounts: tuple[Entry, ...]
    joiners: tuple[str, ...]  # who has an account, and no role at the site
    slices: dict[str, tuple[str, ...]]  # name -> who is to be a member from the first moment
    members: tuple[tuple[str, str], ...]  # (slice, e-mail address), of slices that are there

    def __str__(self) -> str:
        return (
            f"{count(len(self.accounts), 'account')}, {count(len(self.slices), 'slice')}, "
            f"{count(len(self.joiners), 'role')} and {count(len(self.members), 'membership')}"
        )


@click.command("import")
@click.argument("file")
@click.option("--site", required=True, help="Where they are users, and whose the slices are.")
@click.option("--description", default="", help="What the slices are for; needed to renew them.")
@click.option("--url", default="", help="Where that is told; needed to renew them.")
@click.option("--dry-run", is_flag=True, help="Check the file, and show what would be made.")
def import_command(file: str, site: str, description: str, url: str, dry_run: bool) -> None:
    """Make accounts, and slices for them, of a CSV file: a class of students.

    Its first line names the columns: `email`, and any of `name`, `password` and `slice`.  Who has no password there
    gets one; it is printed, once: add it to what was printed before (>>), and of two lines about one person the last
    counts.  Several lines with one slice share it; you are a member of each, too.  What is there already stays as it
    is: so after an interruption, or with new lines, do it again.

    \b
    email,name,slice
    bob@example.org,Bob Brown,home_lab1
    eve@example.org,Eve Adams,home_lab1

    \b
    vini person import class.csv --site home --dry-run
    vini person import class.csv --site home >> passwords.csv
    """
    for option, text, shape in (("--url", url, URL), ("--description", description, TEXT)):
        if not re.fullmatch(shape, text):
            raise Invalid(f"{option}: {SAID[shape]}")
    entries = roster.read(_text(file), file, site)
    client = remote()
    plan = _missing(client, entries, site)
    if dry_run:
        _show(entries, plan)
        return
    left_out = _do(client, plan, site, description, url)
    note(f"Made: {plan}.")
    for email, why in left_out.items():
        complain(f"{email} was left out: {why}")
    if left_out:
        raise click.exceptions.Exit(Denied.exit_code)


def _text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise TopologyError([Mistake(0, 0, f"{file!r} is not in UTF-8; save it as `CSV UTF-8`.")]) from e
    except OSError as e:
        raise TopologyError([Mistake(0, 0, f"{file!r} can't be read: {e.strerror}.")]) from e


def _missing(client: RemoteClient, entries: Sequence[Entry], site: str) -> _Plan:
    """Raises what the central would refuse, before anything is made."""
    me = client.call("GET", "/me", Person)
    row = client.call("GET", f"/sites/{site}", Site)
    may(Caller(me.email, frozenset((held.role, held.site) for held in me.roles)), "add person", of_site(site))
    people = {p.email: p for p in client.pages("/persons", Page[Person])}
    there = {s.name: s for s in client.pages("/slices", Page[Slice], site=site)}
    wanted: dict[str, list[str]] = {}
    for entry in entries:
        if entry.slice:
            wanted.setdefault(entry.slice, []).append(entry.email)
    if not row.enabled:
        raise Invalid(f"Site {site!r} is disabled; an admin lets its people work again: `vini site enable {site}`.")
    plan = _Plan(
        tuple(e for e in entries if e.email not in people),
        tuple(e.email for e in entries if e.email in people and not _is_at(people[e.email], site)),
        {name: tuple(who) for name, who in wanted.items() if name not in there},
        tuple((e.slice, e.email) for e in entries if e.slice in there and e.email not in there[e.slice].members),
    )
    _check_room(row, len(there), len(plan.slices))
    return plan


def _is_at(person: Person, site: str) -> bool:
    return any(held.site == site for held in person.roles)


def _check_room(site: Site, has: int, more: int) -> None:
    if more and has + more > site.max_slices:
        raise CapacityError(
            f"Site {site.login_base!r} may have {site.max_slices} slices and has {has}; this asks for {more} more. "
            f"An admin lets it have them: `vini site quota {site.login_base} --slices {has + more}`."
        )


def _show(entries: Sequence[Entry], plan: _Plan) -> None:
    new, joiners = {e.email for e in plan.accounts}, set(plan.joiners)
    account = {e.email: "new" if e.email in new else "joins" if e.email in joiners else "there" for e in entries}
    added = {*plan.members, *((name, who) for name, members in plan.slices.items() for who in members)}
    table(
        ("LINE", "E-MAIL", "ACCOUNT", "SLICE", "MEMBER"),
        [(f"{e.line}", e.email, account[e.email], _slice(e, plan), _member(e, added)) for e in entries],
        right=("LINE",),
    )
    note(f"To make: {plan}; nothing was made yet.")


def _slice(entry: Entry, plan: _Plan) -> str:
    return f"{entry.slice} (new)" if entry.slice in plan.slices else entry.slice or "-"


def _member(entry: Entry, added: set[tuple[str, str]]) -> str:
    return "-" if not entry.slice else "new" if (entry.slice, entry.email) in added else "there"


def _do(client: RemoteClient, plan: _Plan, site: str, description: str, url: str) -> dict[str, str]:
    """Who was left out, and why: what is refused for one stops nobody after him."""
    left_out: dict[str, str] = {}
    if plan.accounts and not _goes_on():
        line(_csv("email", "password", "slice"))
    for entry in plan.accounts:
        try:
            _make(client, entry, site)
        except Unauthenticated:
            raise
        except Denied as e:
            line(_csv(entry.email, "", ""))
            left_out[entry.email] = str(e)
    for email in plan.joiners:
        client.call("POST", f"/persons/{quote(email)}/roles", Person, {"role": "user", "site": site})
    for name, members in plan.slices.items():
        wish = {"name": name, "description": description, "url": url}
        client.call("POST", "/slices", Slice, wish | {"members": [m for m in members if m not in left_out]})
    for name, email in plan.members:
        if email not in left_out:
            client.call("PUT", f"/slices/{name}/members/{quote(email)}", Slice)
    return left_out


def _goes_on() -> bool:
    """Whether what is printed is added to a file that has lines already, the first of which names the columns."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except OSError:  # it has no such number
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _make(client: RemoteClient, entry: Entry, site: str) -> None:
    """His line comes first: whenever this ends, nobody has a password that was never shown."""
    password = entry.password or secrets.token_urlsafe(12)
    line(_csv(entry.email, "" if entry.password else password, entry.slice))
    wish = {"email": entry.email, "name": entry.name, "password": password, "site": site}
    try:
        client.call("POST", "/persons", Person, wish)
    except Conflict:  # at a site whose people this caller may not see
        client.call("POST", f"/persons/{quote(entry.email)}/roles", Person, {"role": "user", "site": site})
        line(_csv(entry.email, "", entry.slice))
        note(f"{entry.email} had an account already, with a password of his own; the one above is nobody's.")


def _csv(*cells: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


@click.command("password")
@click.argument("email", required=False)
@click.option("--password-file", type=click.File(), help="The new one is its first line; -: standard input.")
def password_command(email: str | None, password_file: TextIO | None) -> None:
    """Change a password: your own, or, as an admin, that of EMAIL, who forgot it.

    Whoever is logged in with the old one is logged out, but for yourself here.

    \b
    vini person password
    vini person password bob@example.org
    """
    client = remote()
    who = (email or client.login.email).lower()
    new = _new(password_file)
    client.call("PATCH", f"/persons/{quote(who)}", Person, {"password": new})
    if who == client.login.email.lower():
        _stay(client, new)
    line(f"{who} has a new password.")


def _new(file: TextIO | None) -> str:
    if file is not None:
        return file.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is here to be asked for the password; give --password-file.")
    return str(click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))


def _stay(client: RemoteClient, password: str) -> None:
    """The session of this login has ended with the others; an API token has not."""
    try:
        client.call("GET", "/me", Person)
    except Denied:
        wish = {"email": client.login.email, "password": password}
        made = client.call("POST", "/sessions", Secret, wish)
        logins.keep(structs.replace(client.login, token=made.secret))
