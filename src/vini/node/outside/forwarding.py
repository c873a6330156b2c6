"""The node as a router for what slivers send to the world and for its answers, and for nothing else.

A node that is no router (net.ipv4.ip_forward is 0) forwards what comes in by single interfaces only, and a rule drops
what is neither from nor to a sliver.  A node that is one already stays as it is.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vini.node.outside import nft, rules
from vini.node.outside.record import directory
from vini.node.place import Place

_CONF = Path("/proc/sys/net/ipv4/conf")


def is_router() -> bool:
    """Whether the node forwards packets for others, with or without us."""
    return (_CONF / "all" / "forwarding").read_text().strip() == "1"


def is_set(place: Place) -> bool:
    """Whether it is as it should be; cheap."""
    kept = directory(place) / "forwarding"
    if not kept.exists():
        return False
    router = is_router()
    return (not kept.read_text().split()) == router and (router or not _closed())


def switch_on(place: Place) -> None:
    """From now on slivers' packets pass.  What was changed is written down first, and undone by `switch_off`."""
    kept = directory(place) / "forwarding"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if is_router():
        nft.load(rules.unguard(place.mark))
        kept.write_text("")
        return
    before, closed = _changed(place), _closed()
    kept.write_text("\n".join(sorted({*before, *closed, "-"})))
    nft.load(rules.guard(place.mark))  # before anything is forwarded
    for dev in closed:
        _write(dev, "1")


def switch_off(place: Place) -> None:
    """No sliver has a way to the world any more.  Raises DriverError, and is not over, where nft refuses."""
    kept = directory(place) / "forwarding"
    for dev in _changed(place):
        _write(dev, "0")
    nft.load(rules.unguard(place.mark))
    kept.unlink(missing_ok=True)
    with suppress(OSError):
        kept.parent.rmdir()


def _changed(place: Place) -> list[str]:
    """The interfaces that forward because of us.  Where nobody wrote that down, but our rule stands: all that do, as a
    node with that rule was no router."""
    kept = directory(place) / "forwarding"
    if kept.exists():
        return kept.read_text().split()
    if not nft.exists(rules.guard_name(place.mark)):
        return []
    return [dev for dev in sorted(d.name for d in _CONF.iterdir()) if _is_the_nodes(dev) and _read(dev) == "1"]


def _closed() -> list[str]:
    return [dev for dev in sorted(d.name for d in _CONF.iterdir()) if _is_the_nodes(dev) and _read(dev) == "0"]


def _is_the_nodes(dev: str) -> bool:
    return dev not in ("all", "default", "lo") and not dev.startswith(rules.PREFIX)


def _read(dev: str) -> str:
    try:
        return (_CONF / dev / "forwarding").read_text().strip()
    except OSError:  # it vanished meanwhile
        return ""


def _write(dev: str, value: str) -> None:
    with suppress(OSError):
        (_CONF / dev / "forwarding").write_text(value)
