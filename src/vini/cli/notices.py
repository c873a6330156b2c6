"""Whom a central tells what happens, by mail and by webhook: `vini central mail`, `vini central webhook`."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from msgspec.structs import replace

from vini.cli.account import asked_for_password
from vini.cli.at import at, directory_option, hand_on
from vini.cli.out import called, dump, json_option, line, table
from vini.model import NotFound
from vini.rules import notices as rules
from vini.rules.errors import Invalid
from vini.rules.words import EMAIL, SAID

if TYPE_CHECKING:
    from vini.central.settings import Settings
    from vini.store.notices import Held, Lane

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
what_option = click.option(
    "--what", multiple=True, metavar="EVENT", help="Of these events; * stands for any text; may be repeated."
)


@click.group("mail", invoke_without_command=True, short_help="The server through which members are mailed.")
@directory_option
@json_option
@click.pass_context
def mail_command(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """The mail server through which members of slices are told what happens, and how many mails wait for it.

    \b
    vini central mail set --server smtp.example.org --sender vini@example.org --user vini
    vini central mail test ada@example.org
    """
    if ctx.invoked_subcommand:
        hand_on(ctx, directory)
        return
    from vini.store.notices import Lane

    settings = _read(directory)
    mail, held = settings.mail, _held(directory, settings).get(Lane("mail"))
    if as_json:
        shown = {f: getattr(mail, f) for f in mail.__struct_fields__ if f != "password"} if mail else None
        dump({"mail": shown, **_counts(held)})
    elif mail is None:
        line(called("Nobody is told anything by mail; `vini central mail set` names a server."))
    else:
        user = f" as {mail.user}" if mail.user else ""
        line(f"Mails go through {mail.server}:{mail.port} ({mail.security}){user}, from {mail.sender}.")
        line(f"They tell of: {', '.join(mail.what)}. {_waiting(held)}")


@mail_command.command("set")
@directory_option
@click.option("--server", required=True, help="Its name, as its certificate has it.")
@click.option("--sender", required=True, metavar="EMAIL", help="The address that mails come from.")
@click.option("--security", type=click.Choice(get_args(rules.Security)), default="starttls", show_default=True,
              help="tls: from the first byte on; none: mails and the password can be read on the way.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 587, with tls 465, with none 25.")
@click.option("--user", default="", help="As whom we come; the password is asked for, or read from VINI_PASSWORD.")
@click.option("--password-file", type=_FILE, help="The password is its first line; -: standard input.")
@what_option
def _set_mail(
    directory: Path, server: str, sender: str, security: rules.Security, port: int | None, user: str,
    password_file: str | None, what: tuple[str, ...],
) -> None:  # fmt: skip
    """Have mails go through this server, in place of the one before."""
    before = _read(directory)
    password = _password(password_file) if user else ""
    _check_sayable(server, user, password)
    mail = rules.Mail(server, sender, port or _PORTS[security], security, user, password, what or rules.MAILED)
    _change(directory, replace(before, mail=mail))
    line(f"Mails go through {mail.server}:{mail.port} when the central is started again.")
    line(called(f"Next: vini central mail test{at(directory)} EMAIL"))


def _check_sayable(server: str, user: str, password: str) -> None:
    """Raises Invalid for what can't be said to a mail server."""
    try:
        server.encode("idna")
    except UnicodeError as e:
        raise Invalid(f"No mail server can be called {server!r} ({e}); name it as its certificate does.") from e
    if not (user + password).isascii():
        raise Invalid("Mail servers take a user and a password of ASCII letters, digits and signs only; choose others.")


@mail_command.command("test")
@directory_option
@click.argument("email")
def _test_mail(directory: Path, email: str) -> None:
    """Send a mail to EMAIL now, by what is set; whether the central runs or not."""
    from vini.central import mailing

    settings = _read(directory)
    if settings.mail is None:
        raise NotFound("No mail server is set; `vini central mail set` names one.")
    if not re.fullmatch(EMAIL, email):
        raise Invalid(SAID[EMAIL])
    mailing.send(settings.mail, email, rules.trial(time.time(), email), settings.url)
    line(f"{settings.mail.server} has taken a mail for {email}; see that it arrives.")


@mail_command.command("off")
@directory_option
def _no_mail(directory: Path) -> None:
    """Tell nobody anything by mail any more."""
    _change(directory, replace(_read(directory), mail=None))
    line("Nobody is told anything by mail when the central is started again.")


@click.group("webhook", invoke_without_command=True, short_help="Programs elsewhere that are told what happens.")
@directory_option
@json_option
@click.pass_context
def webhook_command(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """Programs elsewhere that are told what happens, each by a signed POST; and how many wait to be told to each.

    \b
    vini central webhook add https://chat.example.org/hook --secret-file secret --what "path *"
    vini central webhook test https://chat.example.org/hook
    """
    if ctx.invoked_subcommand:
        hand_on(ctx, directory)
        return
    from vini.store.notices import Held, Lane

    settings = _read(directory)
    held = _held(directory, settings)
    of = {hook: held.get(Lane("webhook", hook.url)) or Held() for hook in settings.webhooks}
    if as_json:
        dump([{"url": h.url, "what": h.what, **_counts(n)} for h, n in of.items()])
        return
    rows = [(h.url, ", ".join(h.what), str(n.waiting), str(n.tries)) for h, n in of.items()]
    table(("URL", "EVENTS", "WAITING", "TRIES"), rows, right=("WAITING", "TRIES"))


@webhook_command.command("add")
@directory_option
@click.argument("url")
@click.option("--secret-file", type=_FILE, required=True,
              help="Its first line is the secret that both know; -: standard input.")  # fmt: skip
@what_option
def _add_hook(directory: Path, url: str, secret_file: str, what: tuple[str, ...]) -> None:
    """Have what answers at URL told, in place of what was set for that URL before."""
    before = _read(directory)
    secret = _first_line(secret_file)
    if not secret:
        raise Invalid("The secret is empty; put one into the first line of the file.")
    hook = rules.Webhook(url, secret, what or rules.CHOSEN)
    _change(directory, replace(before, webhooks=(*_others(before, url), hook)))
    line(f"{url} is told when the central is started again.")
    line(called(f"Next: vini central webhook test{at(directory)} {url}"))


@webhook_command.command("test")
@directory_option
@click.argument("url")
def _test_hook(directory: Path, url: str) -> None:
    """Tell what answers at URL of an event `test` now, by what is set; whether the central runs or not."""
    from vini.central import hooks

    hook = _hook(_read(directory), url)
    now = time.time()
    hooks.post(hook, rules.trial(now, url), now)
    line(f"{url} has taken it.")


@webhook_command.command("delete")
@directory_option
@click.argument("url")
def _delete_hook(directory: Path, url: str) -> None:
    """Tell what answers at URL nothing any more."""
    before = _read(directory)
    _hook(before, url)
    _change(directory, replace(before, webhooks=_others(before, url)))
    line(f"{url} is told nothing when the central is started again.")


def _hook(settings: Settings, url: str) -> rules.Webhook:
    """Raises NotFound."""
    found = [hook for hook in settings.webhooks if hook.url == url]
    if not found:
        known = ", ".join(hook.url for hook in settings.webhooks) or "none"
        raise NotFound(f"There is no webhook {url}; there are: {known}.")
    return found[0]


def _others(settings: Settings, url: str) -> tuple[rules.Webhook, ...]:
    return tuple(hook for hook in settings.webhooks if hook.url != url)


def _read(directory: Path) -> Settings:
    from vini.central import settings

    return settings.read(directory)


def _change(directory: Path, wanted: Settings) -> None:
    from vini.central import settings

    settings.change(directory, settings.checked(wanted))
    if wanted.database:
        line(
            called("Of several centrals on one database each tells what it is set to; this is the setting of this one.")
        )


def _first_line(file: str) -> str:
    with click.open_file(file) as text:
        return str(text.readline().rstrip("\r\n"))


def _password(file: str | None) -> str:
    if file is not None:
        return _first_line(file)
    return os.environ.get("VINI_PASSWORD") or asked_for_password()


def _held(directory: Path, settings: Settings) -> dict[Lane, Held]:
    from vini.store import notices
    from vini.store.database import Database

    database = Database(settings.database_url(directory))
    try:
        database.check()
        with database.reading() as tx:
            return notices.held(tx)
    finally:
        database.close()


def _counts(held: Held | None) -> dict[str, int]:
    return {"waiting": held.waiting if held else 0, "tries": held.tries if held else 0}


def _waiting(held: Held | None) -> str:
    if not held:
        return "None waits."
    return f"{held.waiting} wait; the one that was tried most, {held.tries} times: the central's log says why."
