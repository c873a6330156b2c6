"""What the hub asks of the database: who a node is, what it lacks; and what the nodes said, written down."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from vini import bus
from vini.central.delivery import Identity
from vini.model import NotFound, SliceSpec
from vini.rules.nouns import NodeSaid
from vini.store import nodes, slices, specs
from vini.store.database import Database

_WHY = {
    "disabled": "An administrator has disabled it; `vini node enable` on the central's side lets it back.",
    "reinstall": "It is to be reinstalled: join it again with a new token.",
}


class StoredDesk:
    """A `delivery.Desk` over the store.  Called in threads; each call is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database, self._clock = database, clock

    def identity(self, node: str) -> Identity | None:
        """None where there is no such node."""
        with self._database.reading() as tx:
            try:
                row = nodes.get(tx, node)
            except NotFound:
                return None
        return Identity(row.public_key, row.boot_state not in _WHY, _WHY.get(row.boot_state, ""))

    def newer(self, node: str, greeting: bus.Greeting) -> list[SliceSpec]:
        """What the node lacks or holds at a lower generation, and the ends of what isn't asked of it any more.

        A node that holds a higher generation than any that is stored, as after the restoring of a backup, is asked
        for what is stored by a generation above that.
        """
        with self._database.reading() as tx:
            wanted = specs.generations_of_node(tx, node)
            ahead = [s for s, g in wanted.items() if greeting.generations.get(s, 0) > g]
            found = [specs.spec(tx, s, node) for s, g in wanted.items() if g > _held(greeting, s)]
            strays = specs.strays(tx, node, greeting.generations)
        if ahead:
            with self._database.transaction() as tx:
                for slice_ in ahead:
                    slices.overtake(tx, slice_, greeting.generations[slice_])
            return self.newer(node, greeting)
        return [s for s in found if s is not None] + strays

    def reported(self, node: str, message: bus.Greeting | bus.Report | bus.Offset) -> None:
        """Write down what a node says.  One that was deleted meanwhile says nothing any more."""
        now = self._clock()
        with self._database.transaction() as tx:
            try:
                row = nodes.get(tx, node)
            except NotFound:
                return
            said = NodeSaid(row.capabilities, row.address, row.mtu, row.cores, row.memory_mib, row.version)
            match message:
                case bus.Greeting():
                    said = msgspec.structs.replace(said, capabilities=message.capabilities, version=message.version)
                    nodes.heard(tx, node, now, said, row.clock_offset_s)
                case bus.Offset():
                    nodes.heard(tx, node, now, said, message.ahead_s)
                case bus.Report():
                    specs.acknowledge(tx, message.slice, node, message.generation, msgspec.json.encode(message), now)


def _held(greeting: bus.Greeting, slice_: str) -> int:
    return max(greeting.generations.get(slice_, 0), greeting.ended.get(slice_, 0))
