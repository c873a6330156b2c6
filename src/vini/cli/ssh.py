"""SSH into slivers: `vini ssh`, and `vini ssh-config` for plain OpenSSH, scp, sftp and rsync."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from vini.cli.account import remote
from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import count, dump, json_option, line, note
from vini.client import Slices, SshPlace, connect
from vini.client import login as logins
from vini.model import Denied, Topology, Unsupported, ViniError
from vini.rules.nouns import Key
from vini.rules.wishes import Page

_INCLUDE = "Include vini/config"
_PATIENCE_S = 2.0  # until a node counts as one that can't be reached from here


_through = click.option("--through", is_flag=True, help="Through the central, also where the node can be reached.")


@click.command("ssh", context_settings={"ignore_unknown_options": True},
               short_help="Log in to a sliver by SSH, or run a command there.")  # fmt: skip
@slice_option
@_through
@click.argument("sliver")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def ssh_command(slice_: str | None, through: bool, sliver: str, words: tuple[str, ...]) -> None:
    """Log in to a sliver by SSH, or run a command there: `vini ssh denver`, `vini ssh denver uptime`.

    WORDS go to ssh(1), so `vini ssh denver -L 8080:localhost:80` forwards a port.  The node is known by its host key.
    A node that can't be reached from here, as one behind NAT, is reached through the central.
    """
    if shutil.which("ssh") is None:
        raise Unsupported("This needs ssh(1); install it with `apt-get install openssh-client`.")
    client = connect()
    topology = the_slice(client, slice_)
    _check_key()
    at = _place(client, topology, the_sliver(topology, sliver))
    known = logins.path().parent / "known_hosts"
    remember(known, [at])
    identity = client.ssh_identity()
    options = [f"HostKeyAlias={at.alias}", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "CheckHostIP=no"]
    command = ["ssh", "-p", str(at.port), *(["-i", identity] if identity else [])]
    if proxy := _proxies(client, topology.name, [at], through).get(at.sliver):
        options.append(f"ProxyCommand={proxy}")
    command += [word for option in options for word in ("-o", option)]
    sys.stdout.flush()
    os.execvp("ssh", [*command, f"{at.user}@{at.host}", *words])


def _check_key() -> None:
    """Raises Denied where a testbed knows no key of this person: OpenSSH would only say that it was not let in."""
    if logins.current() is None:
        return
    central = remote()
    if not central.call("GET", f"/persons/{central.login.email}/keys", Page[Key]).items:
        raise Denied(
            f"The testbed knows no SSH key of {central.login.email}: `vini key add` adds ~/.ssh/id_ed25519.pub, which "
            "`ssh-keygen -t ed25519` makes."
        )


def _proxies(client: Slices, slice_: str, places: Sequence[SshPlace], through: bool) -> dict[str, str]:
    """Sliver -> its ProxyCommand (ssh_config(5)), of those that are reached through the central: all of them, or those
    whose node does not answer here.  Of the latter the user is told."""
    ways = {p.sliver: client.ssh_through(slice_, p.sliver) for p in places}
    if through:
        if not all(ways.values()):
            raise Unsupported("There is no central to go through: these slivers are on this machine.")
        silent: set[str] = set()
    else:
        dialled = {p.node: (p.host, p.port) for p in places if p.direct and ways[p.sliver]}
        silent = _silent(dialled)
        if silent:
            note(f"No SSH server answers on {', '.join(sorted(silent))} from here; going through the central.")
    chosen = {p.sliver for p in places if through or not p.direct or p.node in silent}
    return {sliver: shlex.join(way).replace("%", "%%") for sliver, way in ways.items() if way and sliver in chosen}


def _silent(nodes: Mapping[str, tuple[str, int]]) -> set[str]:
    """Those of these nodes that can't be dialled."""

    def answers(at: tuple[str, int]) -> bool:
        try:
            socket.create_connection(at, timeout=_PATIENCE_S).close()
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(max(1, min(64, len(nodes)))) as pool:
        return {node for node, well in zip(nodes, pool.map(answers, nodes.values()), strict=True) if not well}


def _place(client: Slices, topology: Topology, sliver: str) -> SshPlace:
    for place in asyncio.run(client.ssh(topology.name)):
        if place.sliver == sliver:
            return place
    raise ViniError(f"Nobody can log in to sliver {sliver!r} at the moment; `vini status` says how its node is.")


@click.command("ssh-config", short_help="What plain ssh, scp, sftp and rsync have to know.")
@slice_option
@_through
@click.option("--write", is_flag=True, help="Into ~/.ssh/vini, and include that in ~/.ssh/config.")
@json_option
def ssh_config_command(slice_: str | None, through: bool, write: bool, as_json: bool) -> None:
    """What OpenSSH has to know to log in to the slivers of a slice, so that `ssh denver.home_abilene`, scp, sftp and
    rsync do.  Printed, or with --write put where they look.

    Slivers of nodes that can't be reached from here get a ProxyCommand, by which they are reached through the central.
    """
    client = connect()
    topology = the_slice(client, slice_)
    places = asyncio.run(client.ssh(topology.name))
    home = Path.home() / ".ssh" / "vini"
    proxies = _proxies(client, topology.name, places, through)
    text = config(topology.name, places, home / "known_hosts", client.ssh_identity(), proxies)
    if as_json:
        dump([{"sliver": p.sliver, "user": p.user, "node": p.node, "host": p.host, "port": p.port,
               "host_key": p.host_key, "proxy_command": proxies.get(p.sliver, "")} for p in places])  # fmt: skip
    elif write:
        _write(home, topology.name, places, text)
        hint = f"; try `ssh {places[0].sliver}.{topology.name}`" if places else ""
        line(f"{count(len(places), 'sliver')} of {topology.name} in {home}/config{hint}.")
    else:
        line(text.rstrip())


def config(
    slice_: str, places: Sequence[SshPlace], known_hosts: Path, identity: str, proxies: Mapping[str, str]
) -> str:
    """For ssh_config(5): of each sliver a host by the name `SLIVER.SLICE`."""
    blocks = []
    for p in places:
        settings = {
            "HostName": p.host, "Port": str(p.port), "User": p.user, "HostKeyAlias": p.alias,
            "UserKnownHostsFile": f'"{known_hosts}"', "StrictHostKeyChecking": "yes",
            **({"IdentityFile": f'"{identity}"'} if identity else {}),
            **({"ProxyCommand": proxies[p.sliver]} if p.sliver in proxies else {}),
        }  # fmt: skip
        blocks.append("\n".join([f"Host {p.sliver}.{slice_}", *(f"    {k} {v}" for k, v in settings.items())]))
    return "\n".join(blocks) + "\n"


def _write(home: Path, slice_: str, places: Sequence[SshPlace], text: str) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        remember(home / "known_hosts", places)
        (home / f"{slice_}.slice").write_text(text)
        (home / "config").write_text("Include vini/*.slice\n")
        ours = home.parent / "config"
        before = ours.read_text() if ours.exists() else ""
        if _INCLUDE not in before.splitlines():  # first, since it would else belong to the last `Host` there
            new = ours.with_name("config.vini-new")
            new.write_text(f"{_INCLUDE}\n\n{before}")
            new.chmod(ours.stat().st_mode & 0o777 if ours.exists() else 0o600)
            new.rename(ours)
    except OSError as e:
        raise ViniError(f"{e.filename} can't be written: {e.strerror}; without --write it is printed.") from e


def remember(known_hosts: Path, places: Iterable[SshPlace]) -> None:
    """What was known of these nodes is replaced by what their central, or this machine, says now."""
    keys = {p.alias: p.host_key for p in places}
    try:
        known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = known_hosts.read_text().splitlines() if known_hosts.exists() else []
        kept = [row for row in before if row.split(" ", 1)[0] not in keys]
        new = known_hosts.with_name(f"{known_hosts.name}.{os.getpid()}")
        new.write_text("".join(f"{row}\n" for row in [*kept, *(f"{a} {k}" for a, k in keys.items())]))
        new.rename(known_hosts)
    except OSError as e:
        raise ViniError(f"The host keys of nodes can't be written to {known_hosts}: {e.strerror}.") from e
