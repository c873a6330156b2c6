"""Events in a chain, those that are there in the order of their numbers; and what may leave slices for the world."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vini.store import chain

revision = "0012"
down_revision = "0009"
branch_labels = None
depends_on = None

_PAGE = 5000
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_EVENTS = sa.table("events", *map(sa.column, (
    "id", "at", "who", "what", "kind", "target", "source", "result", "detail", "duration_s",
)))  # fmt: skip
_COUNTERS = sa.table("counters", sa.column("name"), sa.column("value"))


def upgrade() -> None:
    links = op.create_table(
        "event_chain",
        sa.Column("place", _BIG, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_event_chain")),
    )
    op.create_index(op.f("ix_event_chain_event_id"), "event_chain", ["event_id"])
    op.create_table(
        "outside_grants",
        sa.Column("slice_id", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_outside_grants_slice_id_slices"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", name=op.f("pk_outside_grants")),
    )
    tx = op.get_bind()
    place, before, last = 0, chain.START, -1
    page = sa.select(_EVENTS).order_by(_EVENTS.c.id).limit(_PAGE)
    while rows := tx.execute(page.where(_EVENTS.c.id > last)).all():
        made = []
        for row in rows:
            place, before = place + 1, chain.linked(before, row)
            made.append({"place": place, "event_id": row.id, "hash": before})
        tx.execute(sa.insert(links), made)
        last = rows[-1].id
    if place:
        tx.execute(sa.insert(_COUNTERS).values(name="event chain", value=place))
