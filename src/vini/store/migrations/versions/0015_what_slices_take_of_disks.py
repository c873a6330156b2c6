"""What slices take of nodes' disks, and of their sites' quota of them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from vini import placement
from vini.model import SliceSpec, Topology

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_SPECS = sa.table("specs", *(sa.column(c) for c in ("node_id", "slice", "body", "disk_mb")))
_SLICES = sa.table("slices", sa.column("id"), sa.column("name"), sa.column("topology"))
_USES = sa.table("uses", sa.column("node_id"), sa.column("disk_mb"))
_TAKINGS = sa.table("takings", sa.column("slice_id"), sa.column("disk_mb"))


def upgrade() -> None:
    for table, kind in (("sites", sa.Integer()), ("nodes", sa.Integer()), ("specs", sa.Double()),
                        ("uses", sa.Double()), ("takings", sa.Double())):  # fmt: skip
        with op.batch_alter_table(table) as changed:
            changed.add_column(sa.Column("disk_mb", kind, server_default="0", nullable=False))
    tx = op.get_bind()
    sums: dict[int, float] = {}
    for slice_id, name, blob in tx.execute(sa.select(_SLICES.c.id, _SLICES.c.name, _SLICES.c.topology)).all():
        bodies = tx.execute(sa.select(_SPECS.c.node_id, _SPECS.c.body).where(_SPECS.c.slice == name)).all()
        taken = _taken(bytes(blob), {str(number): bytes(body) for number, body in bodies})
        for number, disk_mb in taken.items():
            of = (_SPECS.c.slice == name) & (_SPECS.c.node_id == number)
            tx.execute(sa.update(_SPECS).where(of).values(disk_mb=disk_mb))
            sums[number] = sums.get(number, 0.0) + disk_mb
        if total := sum(taken.values()):
            tx.execute(sa.update(_TAKINGS).where(_TAKINGS.c.slice_id == slice_id).values(disk_mb=total))
    for number, disk_mb in sums.items():
        tx.execute(sa.update(_USES).where(_USES.c.node_id == number).values(disk_mb=disk_mb))


def _taken(blob: bytes, bodies: dict[str, bytes]) -> dict[int, float]:
    """By the node's number; nothing of what another version wrote that this one can't read."""
    try:
        topology = msgspec.json.decode(blob, type=Topology)
        specs = {number: msgspec.json.decode(body, type=SliceSpec) for number, body in bodies.items()}
    except msgspec.DecodeError:
        return {}
    placed = {s: n for s, n in placement.places(specs).items() if s in topology.slivers}
    return {int(n): use.disk_mb for n, use in placement.use(topology, placed).items() if use.disk_mb}
