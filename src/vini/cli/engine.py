"""The engine's servers besides the one that a central runs itself: `vini central engine`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from vini.cli.at import at, directory_option, hand_on
from vini.cli.out import called, dump, json_option, line, note, table
from vini.model import Unsupported
from vini.rules.engine import LEAVES, PORT, ROUTES, address
from vini.rules.errors import Invalid

if TYPE_CHECKING:
    from vini.central.engine_files import Files, Written
    from vini.central.settings import Settings
    from vini.rules.engine import EngineServer
    from vini.store.database import Tx


@click.group("engine", invoke_without_command=True, short_help="Servers of the engine NATS, and those at sites.")
@directory_option
@json_option
@click.pass_context
def engine_command(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """The engine's servers besides the one that a central runs itself: others of its cluster, and those at sites.

    \b
    vini central engine server nats1.example
    vini central engine leaf princeton nats.princeton.example
    """
    if ctx.invoked_subcommand:
        hand_on(ctx, directory)
        return
    from vini.store import engine_servers

    with _open(directory) as (settings, files, tx):
        servers = engine_servers.all(tx)
    own = [] if settings.engine_url else [settings.nats_url.removeprefix("tls://")]
    if as_json:
        dump([{"address": a, "site": "", "files": None} for a in own]
             + [{"address": s.address, "site": s.site, "files": str(files.directory(s))} for s in servers])  # fmt: skip
        return
    rows = [(a, "cluster", "this central runs it") for a in own]
    rows += [(s.address, f"site {s.site}" if s.site else "cluster", str(files.directory(s))) for s in servers]
    table(("ADDRESS", "OF", "FILES"), rows)
    _warn_of_strangers(settings, servers)


@engine_command.command("server")
@directory_option
@click.argument("wanted", metavar="ADDRESS")
def _server(directory: Path, wanted: str) -> None:
    """Write what one more server of the cluster needs; ADDRESS: NAME or NAME:PORT.

    Centrals and nodes reach it there, and learn of it by themselves.
    """
    from vini.store import engine_servers

    found = address(wanted)
    _, written = _change(directory, lambda tx: engine_servers.add(tx, found), "add engine server")
    line(
        f"{found} is a server of the engine's cluster. Centrals and nodes must reach its port {_port(found)}, its "
        f"other servers {_port(found) + ROUTES}, and servers at sites {_port(found) + LEAVES}."
    )
    _say_written(directory, written)


@engine_command.command("leaf")
@directory_option
@click.argument("site")
@click.argument("wanted", metavar="ADDRESS")
def _leaf(directory: Path, site: str, wanted: str) -> None:
    """Write what a server at SITE needs, a leaf node of the cluster: the site's nodes then dial it, and it the cluster.

    ADDRESS: NAME or NAME:PORT, by which the site's nodes reach it.  Nothing passes through it but what these nodes say
    and are told.
    """
    from vini.store import engine_servers

    found = address(wanted)
    _, written = _change(directory, lambda tx: engine_servers.add(tx, found, site), "add engine server")
    line(f"{found} is the engine's server at site {site}. The site's nodes must reach its port {_port(found)}, and it "
         f"port {PORT + LEAVES} of the cluster's servers (where theirs is not {PORT}, {LEAVES} above it).")  # fmt: skip
    _say_written(directory, written)


@engine_command.command("remove")
@directory_option
@click.argument("wanted", metavar="ADDRESS")
def _remove(directory: Path, wanted: str) -> None:
    """Have the server at ADDRESS belong to the engine no more.

    One at a site is cut off at once, if a central runs.  One of the cluster is when the others have their new files.
    """
    from vini.central import settings
    from vini.store import engine_servers

    found = address(wanted)
    removed, written = _change(directory, lambda tx: engine_servers.remove(tx, found), "remove engine server")
    if removed.site:
        line(f"{found} is cut off as soon as a central runs; nodes of site {removed.site} dial the cluster, or another "
             "server there. If somebody else may have it, have these nodes join again: who plays the central to them "
             "is believed until then.")  # fmt: skip
    else:
        line(f"{found} is no server of the cluster any more. Stop it; until the others have their new files they would "
             "let in who has its key.")  # fmt: skip
        if found in _named(settings.read(directory)):
            line("Centrals and nodes still dial it: take it out of `engine_url` in "
                 f"{directory / 'settings.json'}, on each central, and start that again.")  # fmt: skip
    _say_written(directory, written)


@engine_command.command("write")
@directory_option
@click.option("--all", "every", is_flag=True, help="Say of all of them what to copy, not only of those that change.")
def _again(directory: Path, every: bool) -> None:
    """Write the files of all servers again: those whose certificate ends within 200 days get a new one."""
    from vini.store import engine_servers

    with _open(directory) as (_, files, tx):
        written = files.write(engine_servers.all(tx))
    _say_written(directory, written, every)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextmanager
def _open(directory: Path) -> Iterator[tuple[Settings, Files, Tx]]:
    """Raises ViniError where there is no central, no engine, or its seed or authority is away."""
    from vini.central import rights, settings
    from vini.central.ca import Authority
    from vini.central.engine_files import Files
    from vini.rules.engine import EngineServer
    from vini.store.database import Database

    found = settings.read(directory)
    if found.engine != "nats":
        raise Unsupported(
            f'This central reaches its nodes by its own hub, which has no servers. Set "engine": "nats" in '
            f"{directory / 'settings.json'} and start the central again, or make one with `vini central init --engine "
            "nats`."
        )
    own = None if found.engine_url else EngineServer(0, found.nats_url.removeprefix("tls://"), "")
    files = Files(directory, rights.read(directory), Authority(directory / "ca"), own)
    database = Database(found.database_url(directory))
    try:
        database.check()
        with database.transaction() as tx:
            yield found, files, tx
    finally:
        database.close()


def _change(directory: Path, change: Callable[[Tx], EngineServer], what: str) -> tuple[EngineServer, list[Written]]:
    """The files are written before it is so: what can't be written was not asked for."""
    from vini.store import engine_servers, events

    with _open(directory) as (_, files, tx):
        changed = change(tx)
        events.add(tx, at=time.time(), who="central", what=what, kind="central", target=changed.address,
                   detail=f"site {changed.site}" if changed.site else "cluster")  # fmt: skip
        written = files.write(engine_servers.all(tx))
    return changed, written


def _say_written(directory: Path, written: Sequence[Written], every: bool = False) -> None:
    """What is to be done with files that are others now."""
    from vini.central import settings
    from vini.central.engine_files import can_check

    for one in written:
        if one.changed or every:
            _say_next(one)
    if not any(one.changed for one in written):
        line("No server's files change.")
        if written and not every:
            line(called(f"Say once more what to copy: vini central engine{at(directory)} write --all"))
    elif not can_check():
        note("There is no nats-server on this machine: whether one takes these files was not checked.")
    _warn_of_strangers(settings.read(directory), [one.server for one in written])


def _say_next(one: Written) -> None:
    from vini.central.engine_files import PLACE, UNIT

    host = one.server.name
    line(f"Next, for {one.server.address}, which needs nats-server 2.11 or newer:")
    # not by scp: whoever may not read that directory has no names of files for it
    line(f"  sudo tar -C {quote(str(one.directory))} -c . | "
         f"ssh root@{host} 'mkdir -p -m 700 {PLACE} && tar -C {PLACE} -x'")  # fmt: skip
    line(f"  ssh root@{host} 'cp {PLACE}/{UNIT} /etc/systemd/system/ && systemctl daemon-reload && "
         f"systemctl enable {UNIT} && systemctl restart {UNIT}'")  # fmt: skip


def _warn_of_strangers(settings: Settings, servers: Sequence[EngineServer]) -> None:
    ours = {server.address for server in servers if not server.site}
    for found in _named(settings) if servers else ():
        if found not in ours:
            note(
                f"{found}, which `engine_url` in settings.json names, is none of this cluster: either "
                f"`vini central engine server {found}` adds it, or it is taken out there, on each central, and that is "
                "started again."
            )


def _named(settings: Settings) -> list[str]:
    """The addresses that `engine_url` names."""
    urls = settings.engine_url.split(",") if settings.engine_url else []
    return [_written(url.removeprefix("tls://")) for url in urls]


def _written(said: str) -> str:
    try:
        return address(said)
    except Invalid:  # a name that none of ours can have, but that centrals and nodes may find
        return said
