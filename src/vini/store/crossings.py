"""What each slice takes between nodes: kept beside it, so that nobody has to look into topologies."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, insert, select
from sqlalchemy import delete as delete_rows

from vini.bandwidth import Pair
from vini.store import nodes
from vini.store.database import Tx
from vini.store.tables import crossings

_OF = select(crossings.c.a_id, crossings.c.b_id, crossings.c.mbit).where(crossings.c.slice_id == bindparam("of"))


def put(tx: Tx, slice_id: int, taken: Mapping[Pair, float]) -> None:
    """The slice has links between these nodes from now on, which take that together, in Mbit/s."""
    numbers = nodes.numbers(tx, {node for pair in taken for node in pair}) if taken else {}
    now = {(numbers[a], numbers[b]): mbit for (a, b), mbit in taken.items()}
    if now == {(a, b): mbit for a, b, mbit in tx.execute(_OF, {"of": slice_id})}:
        return
    tx.execute(delete_rows(crossings).where(crossings.c.slice_id == slice_id))
    if now:
        rows = [{"slice_id": slice_id, "a_id": a, "b_id": b, "mbit": mbit} for (a, b), mbit in now.items()]
        tx.execute(insert(crossings), rows)
