"""Conf files get what PlanetLab's had, and what nodes have of them; of several with one path for the same nodes the
first one stays, as it is the one that was changed.  And how many events nodes' words may be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


_ONE = "path, COALESCE(node_id, 0), COALESCE(nodegroup_id, 0)"  # there is one conf file of these


def upgrade() -> None:
    op.execute(f"DELETE FROM conf_files WHERE id NOT IN (SELECT MIN(id) FROM conf_files GROUP BY {_ONE})")
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
    op.create_table(
        "event_budgets",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("more", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_event_budgets_node_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", "what", name="pk_event_budgets"),
    )
