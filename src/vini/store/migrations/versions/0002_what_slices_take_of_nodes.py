"""What each slice takes of each node, and the sums, which were computed from all topologies before."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa
from alembic import op

from vini import placement
from vini.model import SliceSpec, Topology

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SPECS = sa.table("specs", sa.column("node_id"), sa.column("slice"), sa.column("body"), sa.column("cores"),
                  sa.column("memory_mib"))  # fmt: skip
_SLICES = sa.table("slices", sa.column("name"), sa.column("topology"))


def upgrade() -> None:
    with op.batch_alter_table("specs") as specs:
        specs.add_column(sa.Column("cores", sa.Double(), server_default="0", nullable=False))
        specs.add_column(sa.Column("memory_mib", sa.Double(), server_default="0", nullable=False))
    op.create_table(
        "uses",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("cores", sa.Double(), nullable=False),
        sa.Column("memory_mib", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_uses_node_id_nodes"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_uses")),
    )
    tx = op.get_bind()
    sums: dict[int, placement.Use] = {}
    for name, blob in tx.execute(sa.select(_SLICES.c.name, _SLICES.c.topology)).all():
        bodies = tx.execute(sa.select(_SPECS.c.node_id, _SPECS.c.body).where(_SPECS.c.slice == name)).all()
        for number, use in _uses(bytes(blob), {number: bytes(body) for number, body in bodies}).items():
            of = (_SPECS.c.slice == name) & (_SPECS.c.node_id == number)
            tx.execute(sa.update(_SPECS).where(of).values(cores=use.cores, memory_mib=use.memory_mib))
            sums[number] = sums.get(number, placement.Use()) + use
    made = sa.table("uses", sa.column("node_id"), sa.column("cores"), sa.column("memory_mib"))
    rows = [{"node_id": n, "cores": u.cores, "memory_mib": u.memory_mib} for n, u in sums.items()]
    if rows:
        tx.execute(sa.insert(made), rows)


def _uses(blob: bytes, bodies: Mapping[int, bytes]) -> dict[int, placement.Use]:
    """By the node's number; nothing of what another version wrote that this one can't read."""
    try:
        topology = msgspec.json.decode(blob, type=Topology)
        specs = {str(number): msgspec.json.decode(body, type=SliceSpec) for number, body in bodies.items()}
    except msgspec.DecodeError:
        return {}
    placed = {s: n for s, n in placement.places(specs).items() if s in topology.slivers}
    return {int(number): use for number, use in placement.use(topology, placed).items()}
