"""Has one connected node tell who logged in there by SSH, past the central, and the desk write it down."""

from __future__ import annotations

import asyncio
import logging

from vini import bus
from vini.central.connection import Connection, Misbehaves
from vini.central.delivery import Desks, Rhythm, asked, calm
from vini.model import ViniError
from vini.rules.logins import MOST_NUMBER, Login

log = logging.getLogger("vini.hub")


class LoginsHeard:
    """One connection's.  How far a node has told is written down with what it told, so nothing is written twice."""

    def __init__(self, connection: Connection, desk: Desks, rhythm: Rhythm):
        self._connection, self._desk, self._rhythm = connection, desk, rhythm
        self._newest, self._due = 0, asyncio.Event()

    def changed(self, newest: int) -> None:
        """The number of its newest."""
        if newest > self._newest:
            self._newest = newest
            self._due.set()

    async def run(self) -> None:
        """Until the node has gone."""
        while True:
            await self._due.wait()
            self._due.clear()
            node = self._connection.node
            until = await asked(self._desk.logins_until, node, self._rhythm, calm(self._rhythm))
            try:
                while until < self._newest and (rows := await self._rows(until)):
                    await asked(self._desk.reported, (node, bus.Logins(rows)), self._rhythm, calm(self._rhythm))
                    until = rows[-1].number
            except bus.NodeAway:
                return
            except ViniError as e:
                log.info("node %s does not tell who logged in there: %s", node, e)

    async def _rows(self, after: int) -> tuple[Login, ...]:
        reply = await self._connection.ask(bus.AskLogins(after))
        if not isinstance(reply, bus.Logins):
            raise Misbehaves(f"Asked who logged in, the node answered with a {type(reply).__name__}.")
        rows = {r.number: r for r in reply.rows if after < r.number < MOST_NUMBER}
        if len(rows) < len(reply.rows):
            log.warning(
                "node %s tells of logins again, or of none that can be; these are passed over", self._connection.node
            )
        return tuple(rows[number] for number in sorted(rows))
