"""The node as a router for what slivers send to the world and for its answers, and for nothing else.

A node that is no router (net.ipv4.ip_forward is 0) forwards what comes in by single interfaces only, and a rule drops
what is neither from nor to a sliver.  A node that is one already, or forwards what comes in by some of its interfaces,
stays as it is.  With IPv6 it is the same by itself; there only Linux 6.17 and newer forward by single interfaces
(force_forwarding), and older ones have to be routers: to make a node one has consequences that are its operator's to
judge, as it may lose its own default route by that.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vini.model import DriverError
from vini.node.outside import nft, rules
from vini.node.outside.record import directory
from vini.node.place import Place

_GUARD = "/"  # begins the digest of the rule among the interfaces that are written down, as no name of one does


class Family(NamedTuple):
    """How an IP version is forwarded."""

    version: int
    conf: Path  # a directory of settings for each interface
    setting: str  # in it: 1 where what comes in there is forwarded
    kept: str  # the file that tells what we have changed; empty where the node is a router


FAMILIES = {
    4: Family(4, Path("/proc/sys/net/ipv4/conf"), "forwarding", "forwarding"),
    6: Family(6, Path("/proc/sys/net/ipv6/conf"), "force_forwarding", "forwarding6"),
}


def can(family: Family) -> bool:
    """Whether the node forwards packets of that version, or would if asked to."""
    return is_router(family) or (family.conf / "default" / family.setting).exists()


def is_router(family: Family) -> bool:
    """Whether the node forwards packets for others, with or without us."""
    ways = [family.conf / "all" / name for name in ("forwarding", family.setting)]
    return any(way.exists() and way.read_text().strip() == "1" for way in ways)  # not every kernel has them


def is_set(place: Place, family: Family) -> bool:
    """Whether it is as it should be, but for the rule; cheap."""
    kept = directory(place) / family.kept
    if not kept.exists():
        return False
    router = is_router(family)
    return (not kept.read_text().split()) == router and (router or not _closed(family))


def is_guarded(place: Place, family: Family) -> bool:
    """Whether the rule stands as we made it, where there is to be one.  Raises DriverError."""
    kept = (directory(place) / family.kept).read_text().split()
    return not kept or _GUARD + _printed(place, family) in kept


def switch_on(place: Place, family: Family) -> None:
    """From now on slivers' packets pass.  What was changed is written down first, and undone by `switch_off`.
    Raises DriverError where the kernel can't."""
    kept = directory(place) / family.kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    if is_router(family):
        nft.load(rules.unguard(place.mark, family.version))
        kept.write_text("")
        return
    if not can(family):
        raise DriverError(
            f"this node forwards no IPv{family.version}, and its kernel has no {family.setting} (Linux 6.17); "
            "make it an IPv6 router, after a look at `vini doctor`"
        )
    closed = _closed(family)
    devs = sorted({*_changed(place, family), *closed})
    kept.write_text("\n".join([_GUARD, *devs]))
    theirs = [dev for dev in _nodes(family) if _read(family, dev) == "1" and dev not in devs]
    nft.load(rules.guard(place.mark, family.version, theirs))  # before anything is forwarded
    kept.write_text("\n".join([_GUARD + _printed(place, family), *devs]))
    for dev in closed:
        _write(family, dev, "1")


def switch_off(place: Place, family: Family) -> None:
    """No sliver has a way to the world any more.  Raises DriverError, and is not over, where nft refuses."""
    kept = directory(place) / family.kept
    if not kept.exists() and not _is_guarded(place, family):  # nor does every kernel have such tables
        return
    for dev in _changed(place, family):
        _write(family, dev, "0")
    nft.load(rules.unguard(place.mark, family.version))
    kept.unlink(missing_ok=True)
    with suppress(OSError):
        kept.parent.rmdir()


def _changed(place: Place, family: Family) -> list[str]:
    """The interfaces that forward because of us.  Where nobody wrote that down, but our rule stands: all that do, as a
    node with that rule was no router."""
    kept = directory(place) / family.kept
    if kept.exists():
        return [word for word in kept.read_text().split() if not word.startswith(_GUARD)]
    if not _is_guarded(place, family):
        return []
    return [dev for dev in _nodes(family) if _read(family, dev) == "1"]


def _is_guarded(place: Place, family: Family) -> bool:
    return bool(_printed(place, family))


def _printed(place: Place, family: Family) -> str:
    return nft.printed_of(rules.GUARDS[family.version], rules.guard_name(place.mark))


def _closed(family: Family) -> list[str]:
    return [dev for dev in _nodes(family) if _read(family, dev) == "0"]


def _nodes(family: Family) -> list[str]:
    """The node's own interfaces."""
    if not family.conf.exists():
        return []
    devs = sorted(d.name for d in family.conf.iterdir())
    return [dev for dev in devs if dev not in ("all", "default", "lo") and not dev.startswith(rules.PREFIX)]


def _read(family: Family, dev: str) -> str:
    try:
        return (family.conf / dev / family.setting).read_text().strip()
    except OSError:  # it vanished meanwhile, or can't
        return ""


def _write(family: Family, dev: str, value: str) -> None:
    with suppress(OSError):
        (family.conf / dev / family.setting).write_text(value)
