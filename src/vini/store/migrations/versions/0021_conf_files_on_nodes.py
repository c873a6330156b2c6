"""Conf files get what PlanetLab's had, and what nodes have of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, default in (("group", "root"), ("preinstall_cmd", ""), ("postinstall_cmd", ""), ("error_cmd", "")):
        op.add_column("conf_files", sa.Column(name, sa.Text(), server_default=default, nullable=False))
    for name in ("ignore_cmd_errors", "always_update"):
        op.add_column("conf_files", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "conf_files_there",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_conf_files_there_node_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", "path", name="pk_conf_files_there"),
    )
