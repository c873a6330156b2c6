"""What happens inside slivers: how to log in, commands, and questions to the node that one is on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from msgspec.structs import replace

from vini import bus
from vini.bus import Bus
from vini.central.asking import every
from vini.central.slice_rows import held, seen
from vini.model import Netns, NotFound, Value, is_sliver
from vini.reach import hosts
from vini.rules import access
from vini.rules.caller import Caller
from vini.rules.nouns import SliceRow
from vini.store import nodes, slices
from vini.store.database import Database


class SshAddress(Value, frozen=True):
    """How to log in to a sliver by SSH."""

    sliver: str
    user: str
    node: str
    host: str
    port: int
    host_key: str  # "ssh-ed25519 AAAA..."
    direct: bool = True  # False: only through the central, since the node is not reached from outside


class Inside:
    """The slivers of one testbed."""

    def __init__(self, database: Database, talk: Bus):
        self._database, self._bus = database, talk

    def check(self, caller: Caller, name: str, sliver: str, action: str) -> None:
        """Raises NotFound or Denied where he may not do that in a sliver, be it there or not."""
        with self._database.reading() as tx:
            access.may(caller, action, access.of_sliver(seen(tx, caller, name), sliver))

    async def node_of(self, caller: Caller, name: str, sliver: str, action: str = "use slice") -> str:
        """The node that a sliver is on.  Raises NotFound, or Denied where he may not."""
        there = await asyncio.to_thread(held, self._database, caller, name, action, sliver)
        for node, spec in there.items() if is_sliver(f"{name}.{sliver}") else ():
            if Netns(f"{name}.{sliver}").key in {o.key for o in spec.objects if isinstance(o, Netns)}:
                return node
        raise NotFound(f"There is no sliver {sliver!r} in slice {name!r}; `vini status -s {name} -v` lists them.")

    async def ssh(self, caller: Caller, name: str) -> list[SshAddress]:
        """How to log in to its slivers; without those on nodes that are away, or that let nobody in."""
        there = await asyncio.to_thread(held, self._database, caller, name, "enter slice")
        replies = await every(there, lambda node: self._bus.ask(node, bus.AskSsh()))
        addresses, row = await asyncio.to_thread(self._addresses), await asyncio.to_thread(self._slice, name)
        return [
            SshAddress(
                o.ns.partition(".")[2],
                o.ns,
                node,
                addresses.get(node) or node,
                reply.port,
                reply.host_key,
                direct=reply.outside and bool(addresses.get(node)),
            )  # fmt: skip
            for node, reply in replies.items()
            if isinstance(reply, bus.Ssh) and reply.port
            for o in sorted(there[node].objects, key=str)
            if isinstance(o, Netns)
            and is_sliver(o.ns)
            and access.allows(caller, "enter slice", access.of_sliver(row, o.ns.partition(".")[2]))
        ]

    def _slice(self, name: str) -> SliceRow:
        with self._database.reading() as tx:
            return slices.get(tx, name)

    def _addresses(self) -> dict[str, str]:
        with self._database.reading() as tx:
            return {row.name: row.address for row in nodes.all(tx)}

    async def ask_sliver(self, caller: Caller, name: str, sliver: str, request: bus.Request) -> bus.Reply:
        """The reply of the node that a sliver is on."""
        return await self._bus.ask(await self.node_of(caller, name, sliver), request)

    async def run(self, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        """A command in a sliver on that node; it knows the slivers of its slice by their names."""
        if isinstance(command, bus.Run):
            command = replace(command, hosts=await asyncio.to_thread(self._hosts, command.ns))
        async for said in self._bus.run(node, command, typed):
            yield said

    def _hosts(self, ns: str) -> str:
        """For hosts(5); "" where the sliver's image brings its own names and tools."""
        name, _, sliver = ns.partition(".")
        with self._database.reading() as tx:
            topology = slices.get(tx, name).topology
        asked = topology.slivers.get(sliver)
        return "" if asked is None or asked.image else hosts(topology)
