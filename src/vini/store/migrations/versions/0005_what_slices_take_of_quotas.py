"""What each slice takes of its site's quota, and two quotas more: slivers and VNIs."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from vini import placement
from vini.model import SliceSpec, Topology
from vini.rules import quota

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FIELDS = ("slivers", "cores", "memory_mib", "link_mbit", "vnis")  # that there were at that time
_SPECS = sa.table("specs", sa.column("node_id"), sa.column("slice"), sa.column("body"))
_SLICES = sa.table("slices", sa.column("id"), sa.column("name"), sa.column("topology"))
_TAKINGS = sa.table("takings", *(sa.column(c) for c in ("slice_id", *_FIELDS)))


def upgrade() -> None:
    with op.batch_alter_table("sites") as sites:
        sites.add_column(sa.Column("slivers", sa.Integer(), server_default="0", nullable=False))
        sites.add_column(sa.Column("vnis", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "takings",
        sa.Column("slice_id", sa.Integer(), nullable=False),
        sa.Column("slivers", sa.Integer(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Double(), nullable=False),
        sa.Column("link_mbit", sa.Double(), nullable=False),
        sa.Column("vnis", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["slices.id"], name=op.f("fk_takings_slice_id_slices"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slice_id", name=op.f("pk_takings")),
    )
    tx = op.get_bind()
    for number, name, blob in tx.execute(sa.select(_SLICES.c.id, _SLICES.c.name, _SLICES.c.topology)).all():
        bodies = tx.execute(sa.select(_SPECS.c.node_id, _SPECS.c.body).where(_SPECS.c.slice == name)).all()
        found = _taken(bytes(blob), {str(node): bytes(body) for node, body in bodies})
        if found is not None:
            tx.execute(sa.insert(_TAKINGS).values(slice_id=number, **{f: getattr(found, f) for f in _FIELDS}))


def _taken(blob: bytes, bodies: dict[str, bytes]) -> quota.Taken | None:
    """None of what another version wrote that this one can't read, or where a sliver is nowhere."""
    try:
        topology = msgspec.json.decode(blob, type=Topology)
        specs = {number: msgspec.json.decode(body, type=SliceSpec) for number, body in bodies.items()}
    except msgspec.DecodeError:
        return None
    placed = placement.places(specs)
    return quota.taken(topology, placed) if topology.slivers.keys() <= placed.keys() else None
