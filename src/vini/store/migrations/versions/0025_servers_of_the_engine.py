"""Servers of the engine besides those that centrals run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "engine_servers",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_engine_servers_site_id_sites", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_engine_servers"),
        sa.UniqueConstraint("address", name="uq_engine_servers_address"),
    )
