"""What fails in the agents of nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("nodes") as changed:
        changed.add_column(sa.Column("failing", sa.Text(), server_default="", nullable=False))
