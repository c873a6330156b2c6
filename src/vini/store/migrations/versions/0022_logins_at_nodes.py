"""How far each node has told who logged in there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logins_told",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_logins_told_node_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", name="pk_logins_told"),
    )
