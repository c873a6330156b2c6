"""By what each central tells people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("centrals") as changed:
        changed.add_column(sa.Column("channels", sa.Text(), server_default="", nullable=False))
