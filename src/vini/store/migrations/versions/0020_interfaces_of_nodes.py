"""The network interfaces of nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "interfaces",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mac", sa.Text(), server_default="", nullable=False),
        sa.Column("mtu", sa.Integer(), nullable=False),
        sa.Column("addresses", sa.Text(), server_default="", nullable=False),
        sa.Column("speed_mbit", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_interfaces_node_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", "name", name="pk_interfaces"),
    )
