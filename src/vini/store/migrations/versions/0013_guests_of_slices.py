"""Guests of slices: whom a member lets in, into which slivers and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slice_guests",
        sa.Column("slice_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("slivers", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_slice_guests_slice_id_slices"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["persons.id"], name=op.f("fk_slice_guests_person_id_persons"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", "person_id", name=op.f("pk_slice_guests")),
    )
    op.create_index(op.f("ix_slice_guests_person_id"), "slice_guests", ["person_id"])
