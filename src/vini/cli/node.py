"""Nodes of a testbed: a machine joins, and administrators look after them."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from msgspec import structs

from vini.cli.account import remote
from vini.cli.out import called, dump, json_option, line, note, table
from vini.cli.permit import named_below, permit_command, permit_files, sentence, warn
from vini.client import Client
from vini.model import Denied, NotFound, ViniError
from vini.names import slug
from vini.node import attempt, identity, probe, service
from vini.node.files import permit
from vini.node.place import from_environment
from vini.node.version import digest
from vini.text import units
from vini.text.mistakes import Wrong

if TYPE_CHECKING:
    from vini.rules.nouns import InterfaceRow


@click.group("node")
def node_command() -> None:
    """Nodes of a testbed: join, and look after them.

    \b
    vini node token --site home                       on your machine: a token, good once
    sudo vini node join https://central:8443 TOKEN    on the machine that joins
    vini nodes                                        which there are, and how
    vini node drain n1                                before its maintenance; `enable` afterwards
    vini node disable n1                              when you don't trust it any more
    """


@node_command.command("token")
@click.option("--site", required=True, help="The site that the machine will belong to.")
@click.option("--hours", type=click.FloatRange(0.01, 168), default=1.0, show_default=True, help="How long it is good.")
@json_option
def _token(site: str, hours: float, as_json: bool) -> None:
    """Make a token with which one machine may join, once.

    \b
    vini node token --site princeton --hours 24
    """
    from vini.bus.joining import Token
    from vini.cli.account import authority_of
    from vini.rules.wishes import Secret

    client = remote()
    made = client.call("POST", "/join-tokens", Secret, {"site": site, "lifetime_s": hours * 3600})
    token = str(Token(made.secret, authority_of(client.login)))
    if as_json:
        dump({"token": token, "expires": made.expires})
        return
    line(token)
    note(f"Next, on the machine that joins: sudo vini node join {client.login.url} TOKEN")


@node_command.command("join")
@click.argument("url")
@click.argument("token")
@click.option("--name", help="The node's name; default: this machine's.")
@click.option("--address", default="", help="By which other nodes reach it; default: the one towards the central.")
@click.option(
    "--permit-below",
    multiple=True,
    metavar="DIR",
    help="Where the central may write conf files here, as `vini node permit --below` says later.",
)
@click.option("--permit-commands", is_flag=True, help="Let conf files come with commands, which root runs.")
@click.option("--ssh-port", type=click.IntRange(0, 65535), default=2222, show_default=True,
              help="Where members of slices log in; 0: only through the central.")  # fmt: skip
def _join(
    url: str, token: str, name: str | None, address: str, permit_below: tuple[str, ...], permit_commands: bool,
    ssh_port: int,
) -> None:  # fmt: skip
    """Let this machine join the testbed of the central at URL.  TOKEN is what `vini node token` printed.

    Its agent then keeps a connection to the central; nothing connects to this machine for that.

    \b
    sudo vini node join https://central.example:8443 vini1.3T3M...
    sudo vini node join https://central.example:8443 vini1.3T3M... --name n1 --address 192.0.2.7
    """
    from vini.node.join import join

    if os.geteuid() != 0:
        raise Denied("A node makes network namespaces, which only root may; run this with sudo.")
    named = named_below(permit_below)  # before the token is spent
    place = from_environment()
    place.state.mkdir(parents=True, exist_ok=True)
    attempt.may(place.state, token)
    address = address or _own_address(url)

    def said(asked: object) -> object:
        from msgspec.structs import replace

        return replace(
            asked, capabilities=probe.capabilities(), address=address, mtu=_mtu(address), version=digest(),
            cores=float(os.cpu_count() or 0), memory_mib=_memory_mib(),
            disk_mb=shutil.disk_usage(place.state).free // 10**6,
        )  # type: ignore[type-var]  # fmt: skip

    key = attempt.key_for(place.state, token)
    made = asyncio.run(join(url, token, name or slug(platform.node()), key, said))  # type: ignore[arg-type]
    made = structs.replace(made, ssh_port=ssh_port)
    permitted = permit_files(place.state, made.owner, named, permit_commands or None)  # before the central may ask
    identity.write(place.state, made)
    greeting = asyncio.run(Client(say=note).greeting())
    attempt.over(place.state)
    line(f"This machine is node {made.node} of site {made.site} now; its agent runs as process {greeting.pid}.")
    note(f"{sentence(permitted)}  `vini node permit` says otherwise.")
    warn(permitted.below)
    if not service.has_systemd():
        note("There is no systemd here: after a reboot, `vini agent start` brings the agent back.")


@node_command.command("follow")
@click.argument("url")
def _follow(url: str) -> None:
    """Go to the central at URL: it is the one that this machine joined, and has moved there.

    Whoever answers there is believed only by the authority that this machine knows; what runs here is not touched.
    """
    from vini.node import engined
    from vini.node.join import follow

    state = from_environment().state
    before = identity.read(state)
    if before is None:
        raise NotFound("This machine is no node of a testbed; `vini node join URL TOKEN` makes it one.")
    after = asyncio.run(follow(url, before))
    engined.forget(state)  # the engine may have moved, too: the central tells where it is
    identity.write(state, after)
    line(f"Node {after.node} goes to {after.central} now.")


@node_command.command("leave")
def _leave() -> None:
    """Leave the testbed: what its slices have here ends."""
    state = from_environment().state
    left = identity.forget(state)
    permit.forget(state)  # it was for that central
    if left:
        line("This machine is no node any more; what slices of the testbed had here ends.")
        note("The central still lists it as away: `vini node delete NODE`, by who is logged in there, forgets it.")
    else:
        line(called("This machine is no node of a testbed; `vini node join URL TOKEN` makes it one."))


@node_command.command("uplink")
@click.option("--rate", help="What all slivers here may send together: 1gbit, or `unlimited`.")
@click.option(
    "--exempt", multiple=True, metavar="PREFIX",
    help="What is sent there is not counted against a day's bytes; may be repeated; `none`: nowhere.",
)  # fmt: skip
@click.option("--exempt-rate", help="What all slivers here may send there together: 500mbit, or `unlimited`.")
@json_option
def _uplink(rate: str | None, exempt: tuple[str, ...], exempt_rate: str | None, as_json: bool) -> None:
    """What this machine's uplink carries for slivers; what isn't named stays as it was."""
    from vini.node.shares import settings

    place = from_environment()
    said = before = settings.read(place.state)
    if rate is not None:
        said = structs.replace(said, rate_mbit=_mbit(rate))
    if exempt:
        said = structs.replace(said, exempt=() if exempt == ("none",) else exempt)
    if exempt_rate is not None:
        said = structs.replace(said, exempt_mbit=_mbit(exempt_rate))
    if said != before:
        if os.geteuid() != 0:
            raise Denied("Only root says what this machine's uplink carries; run this with sudo.")
        settings.write(place.state, said)
    if as_json:
        dump(structs.asdict(said))
        return
    free = f"to {', '.join(said.exempt)} uncounted, {_rate(said.exempt_mbit)}" if said.exempt else "all of it counts"
    line(f"Slivers here may send {_rate(said.rate_mbit)} together; {free}.")


node_command.add_command(permit_command)


@node_command.command("conf-files")
@click.argument("node")
@json_option
def _conf_files(node: str, as_json: bool) -> None:
    """What a node has of the conf files that hold for it, and why not."""
    from vini.rules.nouns import ConfFileThere
    from vini.rules.wishes import Page

    rows = remote().pages(f"/nodes/{node}/conf-files-there", Page[ConfFileThere])
    if as_json:
        dump([structs.asdict(row) for row in rows])
        return
    shown = [
        (row.path, str(row.number or "-"), row.state, f"{datetime.fromtimestamp(row.at):%Y-%m-%d %H:%M}" * bool(row.at))
        for row in rows
    ]
    table(("PATH", "NUMBER", "STATE", "SINCE"), shown, right=("NUMBER",))
    for row in rows:
        if row.why:
            note(f"{row.path}: {row.why}")
    if not rows:
        note(f"No conf file holds for node {node}; `vini conffile set PATH FILE` makes one.")


@node_command.command("interfaces")
@click.argument("node")
@json_option
def _interfaces(node: str, as_json: bool) -> None:
    """The network interfaces of a node's machine; `*`: it has the address by which other nodes reach it."""
    from vini.rules.nouns import InterfaceRow
    from vini.rules.wishes import Page

    rows = remote().pages(f"/nodes/{node}/interfaces", Page[InterfaceRow])
    if as_json:
        dump([structs.asdict(row) for row in rows])
        return
    if not rows:
        note(f"Node {node} has not told of any; an agent of an older version does not.")
        return
    table(("INTERFACE", "MAC", "MTU", "MBIT/S", "ADDRESSES"), map(_interface, rows), right=("MTU", "MBIT/S"))


def _interface(row: InterfaceRow) -> tuple[str, ...]:
    speed = str(row.speed_mbit) if row.speed_mbit else "?"
    return row.name + " *" * row.primary, row.mac or "-", str(row.mtu), speed, " ".join(row.addresses) or "-"


def _mbit(text: str) -> float:
    try:
        return units.read_mbit(text)
    except Wrong as e:
        raise ViniError(f"{e} {e.hint.capitalize()}.") from e


def _rate(mbit: float) -> str:
    return f"{mbit:g} Mbit/s" if mbit else "what the uplink carries"


def _own_address(url: str) -> str:
    """The one from which packets to the central would leave (no packet is sent: connect(2) of UDP)."""
    parts = urlsplit(url)
    with suppress(OSError, ValueError):
        for family, *_, to in socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM):
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.connect(to)
                return str(s.getsockname()[0])
    return ""


def _mtu(address: str) -> int:
    """Of the interface that has that address."""
    from vini.node.underlay import mtu_of

    return mtu_of(address)


def _memory_mib() -> int:
    """What slivers may be promised."""
    from vini.placement import for_slivers

    text = Path("/proc/meminfo").read_text()
    return for_slivers(int(text.split("MemTotal:")[1].split()[0]) // 1024)


def _add_state_command(word: str, state: str, said: str, help_: str) -> None:
    """One that puts a node into a state, and tells what that means."""

    @node_command.command(word, help=help_)
    @click.argument("name")
    def _set(name: str) -> None:
        from vini.rules.nouns import NodeRow

        row = remote().call("PATCH", f"/nodes/{name}", NodeRow, {"boot_state": state})
        line(f"Node {row.name} {said}.")


_add_state_command(
    "disable", "disabled", "is disabled: it is cut off, and gets no slivers",
    "Cut a node off at once: it gets nothing new.  What runs there runs on until it expires.",
)  # fmt: skip
_add_state_command(
    "enable", "boot", "is enabled: it may be given slivers",
    "Let a node be used (again).",
)  # fmt: skip
_add_state_command(
    "drain", "safeboot", "gets no new slivers",
    "Give a node no new slivers; those that it has stay until their slices change.",
)  # fmt: skip
_add_state_command(
    "reinstall", "reinstall", "may join anew, with a new token",
    "Let a machine join anew under this name, with a key of its own.",
)  # fmt: skip


@node_command.command("delete")
@click.argument("name")
def _delete(name: str) -> None:
    """Forget a node, and what slices have on it."""
    remote().call("DELETE", f"/nodes/{name}", type(None))
    line(f"Node {name} is deleted.")
