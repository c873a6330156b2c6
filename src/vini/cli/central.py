"""A testbed of one's own: the central."""

from __future__ import annotations

import platform
import re
import secrets
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vini.cli.at import at, directory_option
from vini.cli.engine import engine_command
from vini.cli.notices import mail_command, webhook_command
from vini.cli.out import called, json_option, line, note
from vini.cli.password import password_command
from vini.cli.verdict import head_option, parsed_head, show_verdict
from vini.model import ViniError

if TYPE_CHECKING:
    from vini.central.settings import Settings
    from vini.plugins.tunnels import TunnelKind
    from vini.rules.oidc import Oidc
    from vini.store.database import Database


@click.group("central")
def central_command() -> None:
    """The central of a testbed of your own.

    It has the accounts and knows what is asked for; nodes join it.

    \b
    vini central init --name central.example --admin ada@example.org
    vini central run
    """


central_command.add_command(engine_command)
central_command.add_command(mail_command)
central_command.add_command(webhook_command)
central_command.add_command(password_command)


@central_command.command("init")
@directory_option
@click.option(
    "--name", "names", multiple=True,
    help="A DNS name or address that others reach it by; may be repeated; default: this machine's name.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=8443, show_default=True)
@click.option("--database", default="", help="URL, e.g. postgresql+psycopg:///vini; default: SQLite in --dir.")
@click.option(
    "--tunnel",
    type=click.Choice(["vxlan", "vxlan-xdp", "gretap", "wireguard"]),
    help="What links between nodes are made of, in slices that don't say; default: vxlan, for strangers wireguard.",
)
@click.option(
    "--strangers",
    is_flag=True,
    help="People who don't know each other will use it: all slivers must be containers, and tunnels encrypted.",
)
@click.option(
    "--engine",
    type=click.Choice(["hub", "nats"]),
    default="hub",
    show_default=True,
    help="Between central and nodes: a hub inside this one central, or NATS, over which several centrals serve.",
)
@click.option(
    "--engine-url",
    default="",
    help="Of a nats-server that runs elsewhere, or several of one cluster: A,B; default: the central runs one.",
)
@click.option(
    "--engine-port",
    type=click.IntRange(1, 65535),
    default=4222,
    show_default=True,
    help="Of the nats-server that the central runs.",
)
@click.option(
    "--oidc-issuer", default="", metavar="URL", help="Of an OpenID Connect issuer: people may log in through it."
)
@click.option("--oidc-client", default="", metavar="ID", help="As which client the issuer knows this central.")
@click.option("--oidc-secret-file", default="", metavar="FILE", help="The client's secret, where the issuer wants one.")
@click.option(
    "--oidc-newcomers",
    default="",
    metavar="SITE",
    help="Whoever logs in so without an account gets one there, and waits for a PI's approval; default: is refused.",
)
@click.option("--admin", default="", metavar="EMAIL", help="Who administers it; asked for where it is not given.")
@click.option("--site", default="home", show_default=True, help="The first site.")
def _init(
    directory: Path, names: tuple[str, ...], port: int, database: str, tunnel: TunnelKind | None, strangers: bool,
    engine: Literal["hub", "nats"], engine_url: str, engine_port: int, admin: str, site: str,
    oidc_issuer: str, oidc_client: str, oidc_secret_file: str, oidc_newcomers: str,
) -> None:  # fmt: skip
    """Make a central: settings, certificates, the database, an administrator and a site.

    \b
    sudo vini central init --name central.example --admin ada@example.org
    """
    from vini.central import settings

    taken = _check_new(directory)
    admin = admin or _asked_admin()
    _check_words(admin, site)
    if not names:
        names = (_own_name(),)
        note(f"It has this machine's name, {names[0]}; `vini central rename NAME{at(directory)}` gives it another.")
    wanted = settings.Settings(
        names, port, database, tunnel=_tunnel(tunnel, strangers), strangers=strangers, engine=engine,
        engine_url=engine_url, engine_port=engine_port,
        oidc=_issuer(oidc_issuer, oidc_client, oidc_secret_file, oidc_newcomers),
    )  # fmt: skip
    settings.renamed(wanted, names)  # raises where one is no name
    _check_engine(wanted.engine_url)
    password = secrets.token_urlsafe(12)
    fingerprint = _make(directory, wanted, taken, admin, password, site)
    line(f"The central {wanted.url} is made in {directory}.")
    line(f"Administrator: {admin}, password: {password}")
    line("The password is shown once. Next:")
    for url in engine_url.split(",") if engine_url else ():
        line(called(f"  vini central engine{at(directory)} server {url.removeprefix('tls://')}"))
    line(called(f"  vini central run{at(directory)}"))
    line(called(f"  vini login {wanted.url} --email {admin} --fingerprint {fingerprint}"))
    line(called(f"  vini node token --site {site}"))


def _make(directory: Path, wanted: Settings, taken: str, admin: str, password: str, site: str) -> str:
    """All of it; its authority's fingerprint."""
    from contextlib import closing

    from vini.central import natsserver, rights
    from vini.central.ca import Authority
    from vini.central.making import making
    from vini.store.database import Database

    with making(directory, wanted, taken) as made, closing(Database(made.url)) as database:
        made.look(
            database,
            f"The database {database} is not empty.  One more central beside those that have it is made of a backup: "
            "`vini central backup` there, `vini central restore --beside` here.  A new central takes an empty one: "
            "--database.",
        )
        made.begin({})
        made.fill(database)
        authority = Authority(directory / "ca")
        _fill(database, admin, password, site)
        authority.serve(wanted.names)
        if wanted.engine == "nats":
            seed = rights.make(directory)
            if not wanted.engine_url:
                ports = natsserver.Ports("0.0.0.0", wanted.engine_port)
                natsserver.Own(directory, seed, authority, wanted.names, wanted.nats_url, ports).write()
        made.done()
    return authority.fingerprint


def _own_name() -> str:
    """By which this machine may be known to others; `localhost` it is to itself alone."""
    full = socket.getfqdn()
    return platform.node() if full.partition(".")[0] == "localhost" else full


def _asked_admin() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("Who administers it? `vini central init --admin EMAIL`.")
    return str(click.prompt("E-mail address of its administrator", err=True))


def _check_words(admin: str, site: str) -> None:
    """Raises Invalid: by what the API does not take nobody could log in, or name the site."""
    from vini.rules.errors import Invalid
    from vini.rules.words import EMAIL, LOGIN_BASE, SAID

    for text, shape in ((admin, EMAIL), (site, LOGIN_BASE)):
        if not re.fullmatch(shape, text):
            raise Invalid(f"{text!r} is not good here: {SAID[shape]}")


def _tunnel(asked: TunnelKind | None, strangers: bool) -> TunnelKind:
    """UsageError where strangers would not be kept apart by it."""
    from vini.rules.strangers import TUNNELS

    if strangers and asked not in (None, *TUNNELS):
        raise click.UsageError(
            f"By tunnels of kind {asked} strangers could flood what others send; leave --tunnel out, which means "
            f"{TUNNELS[0]} with --strangers, or choose {' or '.join(TUNNELS[1:])}."
        )
    return asked or (TUNNELS[0] if strangers else "vxlan")


def _issuer(url: str, client: str, secret_file: str, newcomers: str) -> Oidc | None:
    """Raises Invalid, or ViniError where the secret can't be read."""
    if not url:
        if client or secret_file or newcomers:
            raise click.UsageError("--oidc-client, --oidc-secret-file and --oidc-newcomers say more of --oidc-issuer.")
        return None
    from vini.central.issuer import read
    from vini.rules.oidc import Oidc

    oidc = Oidc(url, client, str(Path(secret_file).resolve()) if secret_file else "", newcomers)
    read(oidc)
    return oidc


def _check_engine(urls: str) -> None:
    for url in urls.split(",") if urls else ():
        if re.fullmatch(r"tls://[^\s/]+:\d+", url):
            continue
        raise ViniError(f"{url!r} is no address of an engine; it looks like tls://nats.example:4222.")


def _check_new(directory: Path) -> str:
    """The sentence for whoever makes one where one is; raises Conflict with it where that is so now."""
    from vini.model import Conflict

    taken = (
        f"There is a central in {directory} already; `vini central run{at(directory)}` starts it, and "
        f"`vini central password EMAIL{at(directory)}` makes a new password for its administrator.  "
        "Another --dir makes another central."
    )
    if (directory / "settings.json").exists():
        raise Conflict(taken)
    return taken


def _fill(database: Database, admin: str, password: str, site: str) -> None:
    """One without tables of ours."""
    from vini.central.passwords import hashed
    from vini.rules.wishes import NewSite
    from vini.store import events, persons, roles, sites

    database.migrate()
    kept = hashed(password)
    with database.transaction() as tx:
        sites.add(tx, NewSite(site))
        person = persons.add(tx, admin, password_hash=kept)
        roles.grant(tx, person.id, "admin")
        roles.grant(tx, person.id, "pi", site)
        events.add(tx, at=time.time(), who=person.email, what="init", kind="central", target="")


@central_command.command("run")
@directory_option
@click.option("--listen", default="", help="The address to listen at; default: all that this machine has.")
def _run(directory: Path, listen: str) -> None:
    """Run it, until Ctrl-C or SIGTERM.  Slices run on while it is away."""
    import logging

    from vini.central.repeats import Repeats
    from vini.central.run import run

    shown = logging.StreamHandler(sys.stderr)
    shown.addFilter(Repeats())
    logging.basicConfig(level=logging.INFO, handlers=[shown], format="%(asctime)s %(levelname)s %(message)s")
    for talkative in ("alembic", "httpx"):  # a webhook's URL may be a secret
        logging.getLogger(talkative).setLevel(logging.WARNING)
    with suppress(KeyboardInterrupt):  # how it is told to end
        run(directory, listen, note)
    note("The central has ended; slices run on.")


@central_command.command("backup")
@directory_option
@click.argument("file", type=click.Path(path_type=Path))
def _backup(directory: Path, file: Path) -> None:
    """Write settings, authority and database to FILE, as they are at one moment.  The central may run meanwhile.

    Whoever has the file has the authority: keep it as you keep keys.
    """
    from vini.central.backup import save

    size = save(directory, file)
    line(f"{file}: {size / 1024:.0f} KiB.")


@central_command.command("restore")
@directory_option
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--database", default="", help="Into this empty database, instead of the one that it was in.")
@click.option("--name", "names", multiple=True, help="Others reach it by this, not by its old names ; --beside: both.")
@click.option("--beside", is_flag=True, help="One more central on its database, beside those that serve it now.")
def _restore(directory: Path, file: Path, database: str, names: tuple[str, ...], beside: bool) -> None:
    """Make a central of a backup, on this machine.

    Nodes find it again by themselves where it has the name that it had, and `vini node follow URL` on them where not.
    """
    from vini.central.backup import restore

    made = restore(file, directory, database, names, beside)
    line(f"The central {made.settings.url} is in {directory}.")
    if made.at:
        note(
            f"It is as it was at {datetime.fromtimestamp(made.at):%Y-%m-%d %H:%M}, and knows nothing of what came "
            "later: a slice made since then ends on its nodes when they come here; a node that joined has to join "
            "again; who was disabled, or lost a key or a token, has it again.  See that the one before does not run."
        )
    _say_next(directory, made.settings, moved=bool(names) and not beside)


@central_command.command("rename")
@directory_option
@click.argument("names", nargs=-1, required=True)
def _rename(directory: Path, names: tuple[str, ...]) -> None:
    """Have others reach the central by NAMES, DNS names or addresses, instead of those that it had.

    What runs goes on with the old ones until it is started again.
    """
    from vini.central import settings

    made = settings.renamed(settings.read(directory), names)
    settings.change(directory, made)
    line(f"The central in {directory} is {made.url} when it is started again.")
    _say_next(directory, made, moved=True)


def _say_next(directory: Path, settings: Settings, moved: bool) -> None:
    from vini.central.ca import Authority

    line(called(f"Next: vini central run{at(directory)}"))
    if moved:
        login = f"vini login {settings.url} --fingerprint {Authority(directory / 'ca').fingerprint}"
        if settings.engine == "nats" and not settings.engine_url:
            line(called(f"Where the engine has more servers, these dial the old name until they have new files: "
                        f"vini central engine{at(directory)} write"))  # fmt: skip
        line(called(f"Then, on each node: sudo vini node follow {settings.url}; and people: {login}"))


@central_command.command("audit")
@directory_option
@head_option
@json_option
def _audit(directory: Path, head: str, as_json: bool) -> None:
    """Check that no event was changed, taken out or put in since it happened.

    Every event holds a hash of itself and of the one before.  Who can write the database could make all hashes anew: so
    keep the head that this prints elsewhere, and give it the next time.  Exit code 1: something is wrong, and what.
    """
    from vini.central import settings
    from vini.store import chain
    from vini.store.database import Database

    database = Database(settings.read(directory).database_url(directory))
    try:
        database.check_filled()
        database.check()
        with database.reading() as tx:
            found = chain.check(tx, parsed_head(head))
    finally:
        database.close()
    show_verdict(found, as_json)
