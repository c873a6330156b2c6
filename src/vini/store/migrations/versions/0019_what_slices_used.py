"""What slices used, by day and node."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
_COUNTED = (
    "outside_out",
    "outside_in",
    "tunnel_out",
    "tunnel_in",
    "exempt_out",
    "cpu_us",
    "memory_byte_s",
    "memory_most",
    "disk_byte_s",
    "disk_most",
    "up_s",
)


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), server_default="", nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTED),
        sa.Column("slivers", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("node", "day", "slice", name="pk_usage"),
    )
    op.create_index("ix_usage_day_site", "usage", ["day", "site"])
    op.create_index("ix_usage_slice_day", "usage", ["slice", "day"])
    with op.batch_alter_table("ended") as changed:
        changed.add_column(sa.Column("person", sa.Text(), server_default="", nullable=False))
