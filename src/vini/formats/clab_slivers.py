"""Containerlab nodes made slivers: hosts, FRR and BIRD routers, and what only stands in for another system."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from vini.formats.clab_settings import Settings
from vini.formats.daemon_files import (
    FRR_ALWAYS,
    FRR_DAEMONS,
    frr_daemons,
    of_bird_conf,
    of_frr_conf,
)
from vini.formats.imported import listed
from vini.formats.naming import label
from vini.model import Command, Routing, Sliver
from vini.text.mistakes import Wrong
from vini.topology.scalars import FILE_TEXT, PATH

Role = Literal["host", "frr", "bird", "foreign", "outside"]
_OUTSIDE = ("bridge", "ovs-bridge", "host")  # parts of the machine itself, not of the lab
_FRR_IMAGE = re.compile(r"(^|/)(frr|frrouting)([/:@-]|$)")
_BIRD_IMAGE = re.compile(r"(^|/)[\w.-]*\bbird\d*\b[^/]*$")
_FORWARDS = re.compile(r"net[./]ipv4[./](conf[./]all[./]forwarding|ip_forward)\s*=\s*1")


class Notes:
    """Notes that many slivers may share: sentence -> slivers."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = defaultdict(list)

    def add(self, sliver: str, sentence: str) -> None:
        self._of[sentence].append(sliver)

    def sentences(self) -> list[str]:
        return [f"{listed(slivers)}: {sentence}" for sentence, slivers in self._of.items()]


def role(settings: Settings) -> Role:
    """What a node becomes; "outside": it can't be a sliver."""
    if settings.kind in _OUTSIDE:
        return "outside"
    if settings.kind in ("frr", "frrouting"):
        return "frr"
    if settings.kind not in ("linux", ""):
        return "foreign"
    if _FRR_IMAGE.search(settings.image):
        return "frr"
    return "bird" if _BIRD_IMAGE.search(settings.image) else "host"


def wanted(settings: Settings) -> Iterable[str]:
    """The files of the lab's directory that the sliver needs, as the containerlab file writes them."""
    if role(settings) not in ("outside", "foreign"):
        paths = [b.source for b in settings.binds]
        yield from (p for p in [*paths, settings.startup_config] if p and _inside(p))


def _inside(path: str) -> bool:
    """False for what lies outside of the lab's directory: an imported file must not read /etc/shadow."""
    return not posixpath.isabs(path) and not path.startswith("~") and ".." not in path.split("/")


def sliver(name: str, settings: Settings, files: Mapping[str, str], notes: Notes) -> Sliver:
    """The sliver `name` for a node, with the files that were given for its binds."""
    what = role(settings)
    if settings.unread:
        for key in settings.unread:
            notes.add(name, f"`{key}` not carried over.")
    if what == "foreign":
        return _foreign(name, settings, notes)
    bound = _bound(name, settings, files, notes)
    if settings.startup_config and what != "frr":
        notes.add(name, "`startup-config` not carried over.")
    routing = None
    if what == "frr":
        routing = _frr(name, settings, bound, files, notes)
    elif what == "bird":
        routing = _bird(name, bound, notes)
    elif settings.image:
        notes.add(name, f"the image {settings.image} isn't run; a sliver uses this machine's programs.")
    return Sliver(
        name,
        routing,
        files=bound,
        commands=tuple(Command(c) for c in settings.commands),
        forward=True if routing is None and (what != "host" or _forwards(settings)) else None,
        label=label(settings.name) if settings.name != name else "",
    )


def _foreign(name: str, settings: Settings, notes: Notes) -> Sliver:
    image = f" ({settings.image})" if settings.image else ""
    notes.add(
        name,
        f"the system {settings.kind}{image} not carried over; a plain sliver stands in for it, of which nothing is "
        "expected. Give it `routing`, and take `expected: false` away, to make it a router.",
    )
    given = (("exec", settings.commands), ("binds", settings.binds), ("startup-config", settings.startup_config))
    for key, value in given:
        if value:
            notes.add(name, f"`{key}` not carried over, since it is meant for that system.")
    return Sliver(name, label=label(settings.name) if settings.name != name else "", expected=False)


def _forwards(settings: Settings) -> bool:
    as_text = [f"{key}={value}" for key, value in settings.sysctls.items()]
    return any(_FORWARDS.search(line) for line in (*as_text, *settings.commands))


def _bound(name: str, settings: Settings, files: Mapping[str, str], notes: Notes) -> dict[str, str]:
    """Path in the sliver -> text, for the binds whose text was given."""
    bound = {}
    for bind in settings.binds:
        if not bind.source:
            notes.add(name, f"the volume {bind.destination} is not made.")
        elif bind.source not in files:
            why = "is not there, or is a directory" if _inside(bind.source) else "lies outside of the lab's directory"
            notes.add(name, f"the bind {bind.source} not carried over: it {why}.")
        else:
            try:
                bound[PATH.read(posixpath.normpath(bind.destination))] = FILE_TEXT.read(files[bind.source])
            except Wrong as wrong:
                notes.add(name, f"the bind {bind.source} not carried over. {wrong}")
    for key in settings.sysctls:
        if "forward" not in key:
            notes.add(name, f"the sysctl {key} not carried over.")
    return bound


# --- routers ----------------------------------------------------------------------------------------------


def _frr(
    name: str, settings: Settings, bound: dict[str, str], files: Mapping[str, str], notes: Notes
) -> Routing | None:
    """Routing from frr.conf and from the daemons that are switched on; takes both out of `bound`."""
    conf = bound.pop("/etc/frr/frr.conf", None)
    daemons_file = bound.pop("/etc/frr/daemons", None)
    bound.pop("/etc/frr/vtysh.conf", None)  # VINI writes its own
    if settings.startup_config:
        try:
            conf = FILE_TEXT.read(files[settings.startup_config])
        except KeyError:
            notes.add(name, f"the startup-config {settings.startup_config} is not there.")
        except Wrong as wrong:
            notes.add(name, f"the startup-config {settings.startup_config} not carried over. {wrong}")
    daemons = settings.daemons
    if daemons is None and daemons_file is not None:
        daemons = frr_daemons(daemons_file)
    return _routing(name, "frr", conf, daemons, notes)


def _bird(name: str, bound: dict[str, str], notes: Notes) -> Routing | None:
    paths = [p for p in bound if posixpath.basename(p) == "bird.conf"]
    conf = bound.pop(paths[0]) if paths else None
    return _routing(name, "bird", conf, None, notes)


def _routing(name: str, daemon: str, conf: str | None, daemons: tuple[str, ...] | None, notes: Notes) -> Routing | None:
    """A configuration that was given is kept word for word, and decides; daemons alone are an intent.

    None where neither says anything: the sliver then only forwards.
    """
    on = None
    if daemons is not None:
        on = {FRR_DAEMONS[d] for d in daemons if d in FRR_DAEMONS} | {"static"}
        known = {*FRR_DAEMONS, *FRR_ALWAYS, "bfdd"}
        if other := [d for d in daemons if d.endswith("d") and d not in known]:
            notes.add(name, f"daemons that VINI does not run: {listed(other)}.")
    if conf is not None:
        says = of_frr_conf(conf) if daemon == "frr" else of_bird_conf(conf)
        protocols = tuple(p for p in says.protocols if on is None or p in on)
        bfd = says.bfd or "bfdd" in (daemons or ())
        notes.add(name, f"its own {daemon}.conf is used as it is; VINI generates none.")
        if "bgp" in protocols and not says.asn:
            notes.add(name, "no autonomous system found in its configuration; BGP counts as not spoken.")
            protocols = tuple(p for p in protocols if p != "bgp")
        asn = says.asn if "bgp" in protocols else 0
        return Routing(protocols, daemon, asn=asn, bfd=bfd, raw={f"{daemon}.conf": conf})
    if on is None or on == {"static"}:
        notes.add(name, f"without a {daemon}.conf; it forwards, but speaks no routing protocol.")
        return None
    if "bgp" in on:
        notes.add(name, "bgpd is on, but without an frr.conf its autonomous system is unknown; BGP left out.")
    spoken = tuple(p for p in FRR_DAEMONS.values() if p in on - {"bgp", "static"})
    notes.add(name, f"without an frr.conf; VINI generates one for {listed(spoken) or 'no protocol'}.")
    return Routing(spoken, daemon, bfd="bfdd" in (daemons or ())) if spoken else None
