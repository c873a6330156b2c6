"""Accounts, slices, specs: the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "ended",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ended")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_at"), ["at"], unique=False)
        batch_op.create_index("ix_events_kind_target_id", ["kind", "target", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_who"), ["who"], unique=False)

    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", "who", name=op.f("pk_idempotency")),
    )
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_at"), ["at"], unique=False)

    op.create_table(
        "initscripts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("script", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_initscripts")),
        sa.UniqueConstraint("name", name=op.f("uq_initscripts_name")),
    )
    op.create_table(
        "key_blacklist",
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_key_blacklist")),
    )
    op.create_table(
        "nodegroups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodegroups")),
        sa.UniqueConstraint("name", name=op.f("uq_nodegroups_name")),
    )
    op.create_table(
        "persons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("password", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_persons")),
        sa.UniqueConstraint("email", name=op.f("uq_persons_email")),
    )
    op.create_table(
        "sites",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("login_base", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("max_slices", sa.Integer(), nullable=False),
        sa.Column("max_slivers", sa.Integer(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("link_mbit", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
        sa.UniqueConstraint("login_base", name=op.f("uq_sites_login_base")),
    )
    op.create_table(
        "tunnels",
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("vni", sa.Integer(), nullable=False),
        sa.CheckConstraint("vni BETWEEN 1 AND 16777215", name=op.f("ck_tunnels_vni")),
        sa.PrimaryKeyConstraint("slice", "link", name=op.f("pk_tunnels")),
        sa.UniqueConstraint("vni", name=op.f("uq_tunnels_vni")),
    )
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_join_tokens_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_tokens")),
        sa.UniqueConstraint("secret", name=op.f("uq_join_tokens_secret")),
    )
    with op.batch_alter_table("join_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_join_tokens_site_id"), ["site_id"], unique=False)

    op.create_table(
        "keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"], name=op.f("fk_keys_person_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("person_id", "key", name=op.f("uq_keys_person_id_key")),
    )
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_keys_person_id"), ["person_id"], unique=False)

    op.create_table(
        "nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("boot_state", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("capabilities", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("mtu", sa.Integer(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), server_default="", nullable=False),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.Column("last_heard", sa.Double(), nullable=False),
        sa.Column("clock_offset_s", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "boot_state IN ('boot', 'safeboot', 'reinstall', 'disabled')", name=op.f("ck_nodes_boot_state")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_nodes_site_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("name", name=op.f("uq_nodes_name")),
        sa.UniqueConstraint("public_key", name=op.f("uq_nodes_public_key")),
    )
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_nodes_site_id"), ["site_id"], unique=False)

    op.create_table(
        "roles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'pi', 'tech', 'user')", name=op.f("ck_roles_word")),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"], name=op.f("fk_roles_person_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_roles_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("person_id", "role", "site_id", name=op.f("uq_roles_person_id_role_site_id")),
    )
    with op.batch_alter_table("roles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_roles_site_id"), ["site_id"], unique=False)
        batch_op.create_index(
            "uq_roles_everywhere",
            ["person_id", "role"],
            unique=True,
            sqlite_where=sa.text("site_id IS NULL"),
            postgresql_where=sa.text("site_id IS NULL"),
        )

    op.create_table(
        "slices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.Column("creator", sa.Text(), server_default="", nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("max_slivers", sa.Integer(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("topology", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_slices_site_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slices")),
        sa.UniqueConstraint("name", name=op.f("uq_slices_name")),
    )
    with op.batch_alter_table("slices", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slices_expires"), ["expires"], unique=False)
        batch_op.create_index(batch_op.f("ix_slices_generation"), ["generation"], unique=False)
        batch_op.create_index(batch_op.f("ix_slices_site_id"), ["site_id"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"], name=op.f("fk_tokens_person_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret", name=op.f("uq_tokens_secret")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tokens_person_id"), ["person_id"], unique=False)

    op.create_table(
        "conf_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=True),
        sa.Column("nodegroup_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("node_id IS NULL OR nodegroup_id IS NULL", name=op.f("ck_conf_files_target")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_conf_files_node_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["nodegroup_id"], ["nodegroups.id"], name=op.f("fk_conf_files_nodegroup_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conf_files")),
    )
    with op.batch_alter_table("conf_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_conf_files_node_id"), ["node_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_conf_files_nodegroup_id"), ["nodegroup_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_conf_files_path"), ["path"], unique=False)

    op.create_table(
        "leases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slice_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.CheckConstraint('"end" > start', name=op.f("ck_leases_order")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_leases_node_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["slice_id"], ["slices.id"], name=op.f("fk_leases_slice_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index("ix_leases_node_id_end", ["node_id", "end"], unique=False)
        batch_op.create_index(batch_op.f("ix_leases_slice_id"), ["slice_id"], unique=False)

    op.create_table(
        "slice_members",
        sa.Column("slice_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"], ["persons.id"], name=op.f("fk_slice_members_person_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_slice_members_slice_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", "person_id", name=op.f("pk_slice_members")),
    )
    with op.batch_alter_table("slice_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slice_members_person_id"), ["person_id"], unique=False)

    op.create_table(
        "specs",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("ends", sa.Boolean(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sa.Column("reported_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_specs_node_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", "slice", name=op.f("pk_specs")),
    )
    with op.batch_alter_table("specs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_specs_seq"), ["seq"], unique=False)
        batch_op.create_index(batch_op.f("ix_specs_slice"), ["slice"], unique=False)

    op.create_table(
        "tags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("slice_id", sa.Integer(), nullable=True),
        sa.Column("node_id", sa.Integer(), nullable=True),
        sa.Column("nodegroup_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "nodegroup_id IS NULL OR (slice_id IS NOT NULL AND node_id IS NULL)", name=op.f("ck_tags_one_target")
        ),
        sa.CheckConstraint("slice_id IS NOT NULL OR node_id IS NOT NULL", name=op.f("ck_tags_has_target")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_tags_node_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["nodegroup_id"], ["nodegroups.id"], name=op.f("fk_tags_nodegroup_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["slice_id"], ["slices.id"], name=op.f("fk_tags_slice_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("slice_id", "node_id", "name", name=op.f("uq_tags_slice_id_node_id_name")),
        sa.UniqueConstraint("slice_id", "nodegroup_id", "name", name=op.f("uq_tags_slice_id_nodegroup_id_name")),
    )
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.create_index("ix_tags_name_value", ["name", "value"], unique=False)
        batch_op.create_index(batch_op.f("ix_tags_node_id"), ["node_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_tags_nodegroup_id"), ["nodegroup_id"], unique=False)
        batch_op.create_index(
            "uq_tags_node",
            ["node_id", "name"],
            unique=True,
            sqlite_where=sa.text("slice_id IS NULL"),
            postgresql_where=sa.text("slice_id IS NULL"),
        )
        batch_op.create_index(
            "uq_tags_slice",
            ["slice_id", "name"],
            unique=True,
            sqlite_where=sa.text("node_id IS NULL AND nodegroup_id IS NULL"),
            postgresql_where=sa.text("node_id IS NULL AND nodegroup_id IS NULL"),
        )
