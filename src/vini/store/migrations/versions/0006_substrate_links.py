"""The substrate's links, and what slices take between nodes."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from vini import bandwidth, placement
from vini.model import SliceSpec, Topology

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SPECS = sa.table("specs", sa.column("node_id"), sa.column("slice"), sa.column("body"))
_SLICES = sa.table("slices", sa.column("id"), sa.column("name"), sa.column("topology"))
_CROSSINGS = sa.table("crossings", *(sa.column(c) for c in ("slice_id", "a_id", "b_id", "mbit")))


def _of(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=op.f(f"fk_{table}_{column}_{to}"), ondelete="CASCADE")


def upgrade() -> None:
    ends = [(f"{end}_{kind}_id", f"{kind}s") for end in "ab" for kind in ("node", "site")]
    op.create_table(
        "substrate_links",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *(sa.Column(column, sa.Integer(), nullable=True) for column, _ in ends),
        sa.Column("rate_mbit", sa.Double(), nullable=False),
        sa.Column("delay_ms", sa.Double(), nullable=False),
        sa.Column("down", sa.Text(), server_default="", nullable=False),
        sa.Column("down_since", sa.Double(), nullable=False),
        *(_of("substrate_links", column, to) for column, to in ends),
        *(
            sa.CheckConstraint(
                f"({end}_node_id IS NULL) <> ({end}_site_id IS NULL)", name=op.f(f"ck_substrate_links_{end}")
            )
            for end in "ab"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_substrate_links")),
        sa.UniqueConstraint("name", name=op.f("uq_substrate_links_name")),
    )
    op.create_table(
        "crossings",
        *(sa.Column(c, sa.Integer(), nullable=False) for c in ("slice_id", "a_id", "b_id")),
        sa.Column("mbit", sa.Double(), nullable=False),
        _of("crossings", "slice_id", "slices"),
        _of("crossings", "a_id", "nodes"),
        _of("crossings", "b_id", "nodes"),
        sa.PrimaryKeyConstraint("slice_id", "a_id", "b_id", name=op.f("pk_crossings")),
    )
    for column in ("a_id", "b_id"):
        op.create_index(op.f(f"ix_crossings_{column}"), "crossings", [column])
    tx = op.get_bind()
    for number, name, blob in tx.execute(sa.select(_SLICES.c.id, _SLICES.c.name, _SLICES.c.topology)).all():
        bodies = tx.execute(sa.select(_SPECS.c.node_id, _SPECS.c.body).where(_SPECS.c.slice == name)).all()
        found = _crossing(bytes(blob), {str(node): bytes(body) for node, body in bodies})
        for (a, b), mbit in found.items():
            tx.execute(sa.insert(_CROSSINGS).values(slice_id=number, a_id=int(a), b_id=int(b), mbit=mbit))


def _crossing(blob: bytes, bodies: dict[str, bytes]) -> dict[bandwidth.Pair, float]:
    """By nodes' numbers; nothing of what another version wrote that this one can't read."""
    try:
        topology = msgspec.json.decode(blob, type=Topology)
        specs = {number: msgspec.json.decode(body, type=SliceSpec) for number, body in bodies.items()}
    except msgspec.DecodeError:
        return {}
    return bandwidth.crossing(topology, placement.places(specs))
