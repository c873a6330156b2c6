"""The nodes' public keys for WireGuard, and a port for each slice whose tunnels are encrypted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("nodes") as nodes:
        nodes.add_column(sa.Column("wireguard", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "wireguards",
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.CheckConstraint("number BETWEEN 1 AND 12000", name=op.f("ck_wireguards_number")),
        sa.PrimaryKeyConstraint("slice", name=op.f("pk_wireguards")),
        sa.UniqueConstraint("number", name=op.f("uq_wireguards_number")),
    )
