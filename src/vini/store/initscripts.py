"""Initscripts: what slivers that name them run at each of their boots."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace
from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, update

from vini import initscript
from vini.model import NotFound, Sliver, Topology
from vini.rules.access import absent
from vini.rules.errors import Invalid
from vini.rules.nouns import InitScript
from vini.store import tags
from vini.store.database import Tx
from vini.store.tables import initscripts


def put(tx: Tx, name: str, script: str, enabled: bool = True) -> InitScript:
    """There is this one afterwards, whether or not there was one of its name.  Raises Invalid where none could name
    it."""
    if not initscript.is_name(name):
        raise Invalid(f"{name!r} is no name of an initscript; begin it with a letter or a digit.")
    values = {"script": script, "enabled": enabled}
    if not tx.execute(update(initscripts).where(initscripts.c.name == name).values(values)).rowcount:
        tx.execute(insert(initscripts).values(name=name, **values))
    return get(tx, name)


def get(tx: Tx, name: str) -> InitScript:
    """Raises NotFound."""
    row = tx.execute(select(initscripts).where(initscripts.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(absent("initscript", name))
    return InitScript(**row._mapping)


def all(tx: Tx) -> list[InitScript]:
    """By name."""
    return [InitScript(**row._mapping) for row in tx.execute(select(initscripts).order_by(initscripts.c.name))]


def resolved(tx: Tx, topology: Topology, placed: Mapping[str, str]) -> Topology:
    """The same with the scripts themselves: where a sliver names one, and where it has none and a tag `initscript` of
    its slice names one for its node (sliver > nodegroup > slice).  Raises NotFound where there is none of that name,
    or where it is not enabled."""
    tagged: dict[str, str] = {}
    texts: dict[str, str] = {}
    any_tag = tags.says(tx, topology.name, initscript.NAME)

    def script(sliver: Sliver) -> str:
        node = placed[sliver.name]
        if any_tag and not sliver.initscript and node not in tagged:
            tagged[node] = tags.of_sliver(tx, topology.name, node).get(initscript.NAME, "")
        name = sliver.initscript or tagged.get(node, "")
        if not name or not initscript.is_name(name):
            return name
        if name not in texts:
            found = get(tx, name)
            if not found.enabled:
                what = f"The initscript {name!r}, which sliver {sliver.name!r} names, is not enabled"
                raise NotFound(f"{what}; name another one of `vini initscript`, or ask an admin.")
            # A script of one word, such as "reboot", is none of that name.
            texts[name] = f"{found.script}\n" if initscript.is_name(found.script) else found.script
        return texts[name]

    slivers = {name: replace(s, initscript=script(s)) for name, s in topology.slivers.items()}
    return topology if slivers == topology.slivers else replace(topology, slivers=slivers)


def delete(tx: Tx, name: str) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(initscripts).where(initscripts.c.name == name)).rowcount:
        raise NotFound(absent("initscript", name))
