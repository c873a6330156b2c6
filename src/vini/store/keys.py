"""Public SSH keys; and those that nobody may have any more, for ever."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select

from vini.model import Conflict, Denied, NotFound
from vini.rules.access import absent
from vini.rules.nouns import Key
from vini.store import authorized, persons
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import key_blacklist, keys
from vini.store.tables import persons as persons_table

_QUERY = select(keys.c.id, persons_table.c.email.label("person"), keys.c.key, keys.c.comment).select_from(
    keys.join(persons_table)
)


def add(tx: Tx, email: str, line: str) -> Key:
    """Of an `authorized_keys` line.  Raises Denied for one on the blacklist, Conflict for one that he has."""
    key, comment = split(line)
    person = persons.number(tx, email)
    if tx.scalar(select(key_blacklist.c.key).where(key_blacklist.c.key == key)):
        raise Denied(
            "This key is on the blacklist: it is known to others. Make a new one with `ssh-keygen -t ed25519`."
        )
    if tx.scalar(select(keys.c.id).where(keys.c.person_id == person, keys.c.key == key)):
        raise Conflict(f"{email} has this key already.")
    authorized.changed(tx)
    made = tx.execute(insert(keys).values(person_id=person, key=key, comment=comment).returning(keys.c.id))
    return get(tx, made.scalar_one())


def get(tx: Tx, number: int) -> Key:
    """Raises NotFound."""
    row = tx.execute(_QUERY.where(keys.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("key", str(number)))
    return _key(row)


def of(tx: Tx, emails: Collection[str]) -> list[Key]:
    """All keys of these persons, oldest first: who may come into a slice."""
    return [_key(r) for r in tx.execute(_QUERY.where(persons_table.c.email.in_(emails)).order_by(keys.c.id))]


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(keys).where(keys.c.id == number)).rowcount:
        raise NotFound(absent("key", str(number)))
    authorized.changed(tx)


def blacklist(tx: Tx, line: str) -> None:
    """Take it from whoever has it, and never take it again."""
    key, _ = split(line)
    tx.execute(delete_rows(keys).where(keys.c.key == key))
    authorized.changed(tx)
    if not tx.scalar(select(key_blacklist.c.key).where(key_blacklist.c.key == key)):
        tx.execute(insert(key_blacklist).values(key=key))


def blacklisted(tx: Tx) -> Sequence[str]:
    """All, sorted."""
    return tx.scalars(select(key_blacklist.c.key).order_by(key_blacklist.c.key)).all()


def split(line: str) -> tuple[str, str]:
    """Key and comment."""
    kind, key, *comment = line.split(" ", 2)
    return f"{kind} {key}", "".join(comment)


def _key(row: AnyRow) -> Key:
    return Key(**row._mapping)
