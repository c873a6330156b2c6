"""Routes that a lab's commands set, carried over to the topology.

Left in commands they would clash: a host has a default route of VINI's, so `ip route add default` fails there, and one
that replaces it is put back by the next pass.
"""

from __future__ import annotations

import re
import shlex
from ipaddress import ip_address, ip_network

import msgspec

from vini.formats.clab_slivers import Notes
from vini.formats.imported import several
from vini.model import Command, Sliver, StaticRoute
from vini.topology.slivers import DEFAULT_ROUTES

_IP = r"ip(?: -(?:4|6|f\w* inet6?))? (?:r|ro|route) "
_SET = re.compile(_IP + r"(?:a|add|replace|change|append) (?:unicast )?(\S+) via (?:inet6? )?(\S+)(?: dev \S+)?")
_UNSET_DEFAULT = re.compile(_IP + r"(?:d|del|delete) (?:default|0\.0\.0\.0/0|::/0)(?: (?:via|dev) \S+)*")
_FLUSH = re.compile(_IP + r"flush (?:default|0\.0\.0\.0/0|::/0)(?: dev \S+)?")
_SHELL = re.compile(r"(?:/bin/)?(?:ba|a|da)?sh -c .*", re.DOTALL)
_ADD = re.compile(rf"({_IP})(?:a|add) (.*)")
_OTHER = re.compile(r"ip(?: -[46])? (?:(?:l|link) set (?:dev )?\S+ up|(?:a|addr|address) (?:a|add) \S+ dev \S+)")

_NO_MANAGEMENT = "`exec` takes away the default route to containerlab's management network; there is none here."
_REPLACED = "`ip route add` in `exec` is `ip route replace` now: VINI may have a route there already."

NextHops = dict[str, str]  # address of a neighbour in the lab -> what a route of the topology goes via


def plain(command: str) -> list[str]:
    """The commands of a line that sets addresses and routes by several; another line is one command, as it is."""
    text = command.strip()
    if _SHELL.fullmatch(text):
        try:
            words = shlex.split(text)
        except ValueError:
            return [command]
        text = words[2] if len(words) == 3 else text
    pieces = [" ".join(p.split()) for p in re.split(r"&&|;|\n", text) if p.strip()]
    known = (_SET, _UNSET_DEFAULT, _FLUSH, _OTHER)
    return pieces if pieces and all(any(k.fullmatch(p) for k in known) for p in pieces) else [command]


def carry_routes(sliver: Sliver, hops: NextHops, notes: Notes) -> Sliver:
    """The sliver with the routes of its commands that go via a neighbour, and without those commands."""
    routes: dict[str, StaticRoute] = {}
    kept: list[Command] = []
    remarks: dict[str, None] = {}
    for command in sliver.commands:
        line = " ".join(command.run.split())
        if route := _route(line, hops):
            routes[route.to] = route
        elif _UNSET_DEFAULT.fullmatch(line) or _FLUSH.fullmatch(line):
            remarks[_NO_MANAGEMENT] = None
        elif (match := _SET.fullmatch(line)) and _destination(match[1], match[2]) in DEFAULT_ROUTES.values():
            remarks[f"`{line}` left out: no neighbour in the lab has that address."] = None
        elif match := _ADD.fullmatch(line):
            kept.append(Command(f"{match[1]}replace {match[2]}", command.service))
            remarks[_REPLACED] = None
        else:
            kept.append(command)
    if routes:
        notes.add(sliver.name, f"{several(len(routes), 'route')} that `exec` sets became routes of the topology.")
    for remark in remarks:
        notes.add(sliver.name, remark)
    return msgspec.structs.replace(sliver, commands=tuple(kept), routes=tuple(routes.values()))


def _route(line: str, hops: NextHops) -> StaticRoute | None:
    match = _SET.fullmatch(line)
    if not match:
        return None
    to, via = _destination(match[1], match[2]), _address(match[2])
    return StaticRoute(to, hops[via]) if to and via in hops and (":" in to) == (":" in via) else None


def _destination(to: str, via: str) -> str:
    """A canonical prefix; "" for what is none."""
    if to in ("default", "0/0", "any"):
        return DEFAULT_ROUTES[6 if ":" in via else 4]
    try:
        return str(ip_network(to))
    except ValueError:
        return ""


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
