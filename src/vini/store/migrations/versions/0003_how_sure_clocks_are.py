"""How sure a node's clock offset is: by how much it may be wrong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("nodes") as nodes:
        nodes.add_column(sa.Column("clock_error_s", sa.Double(), server_default="0", nullable=False))
