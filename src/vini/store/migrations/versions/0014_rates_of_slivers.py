"""What uplinks of nodes carry, and what slices have of them of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, column in (("nodes", "rate_mbit"), ("specs", "mbit"), ("uses", "mbit")):
        with op.batch_alter_table(table) as changed:
            changed.add_column(sa.Column(column, sa.Double(), server_default="0", nullable=False))
