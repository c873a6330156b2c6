"""Brings one connected node the conf files that are asked of it, and the desk what the node has of them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from vini import bus
from vini.central.connection import Connection, Misbehaves
from vini.central.delivery import Desks, FilesThere, Rhythm, asked
from vini.model import Unsupported, ViniError
from vini.rules.conf_files import FileState, FileThere
from vini.rules.nouns import ConfFile, ConfFileThere
from vini.store.conf_files_there import There

log = logging.getLogger("vini.hub")
Wanted = tuple[bus.NodeFile, ...]
_encoder = msgspec.json.Encoder(order="deterministic")
_OLD = "The node's agent is of a version that writes no conf files; upgrade it."


def node_file(of: ConfFile) -> bus.NodeFile:
    """What a node is told of it."""
    said = bus.NodeFile(
        of.path, of.text, "", of.mode, of.owner, of.group, of.preinstall_cmd, of.postinstall_cmd, of.error_cmd,
        of.ignore_cmd_errors, of.always_update,
    )  # fmt: skip
    return msgspec.structs.replace(said, version=_digest(said))


def version(wanted: Sequence[bus.NodeFile]) -> str:
    """Of all that a node is asked to have; "" of nothing."""
    return _digest([f.version for f in wanted]) if wanted else ""


def _digest(what: object) -> str:
    return hashlib.sha256(_encoder.encode(what)).hexdigest()[:24]


def there(asked_for: Sequence[ConfFile], said: Mapping[str, There]) -> list[ConfFileThere]:
    """What a node has of each file that is asked for there, and of those that were, by path."""
    rows = {p: ConfFileThere(p, t.state, t.why, t.at) for p, t in said.items() if not t.version}
    for of in asked_for:
        told = said.get(of.path)
        if told is None or told.version != node_file(of).version:
            told = There("", "asked", "The node has not said yet; `vini nodes` tells whether it is connected.")
        rows[of.path] = ConfFileThere(of.path, told.state, told.why, told.at, of.id, of.node, of.nodegroup)
    return [rows[path] for path in sorted(rows)]


class Configuring:
    """One connection's."""

    def __init__(self, connection: Connection, greeting: bus.Greeting, desk: Desks, rhythm: Rhythm):
        self._connection, self._desk, self._rhythm = connection, desk, rhythm
        self._node = connection.node
        self._keeps_to = greeting.conf_files  # the version of what the node was asked for last
        self._changes, self._heard = 0, -1  # of what it has: by its last word, and of what we know
        self._due = asyncio.Event()

    def look(self) -> None:
        """Others may be asked of it."""
        self._due.set()

    def changed(self, changes: int) -> None:
        """That is how often it has something else."""
        if changes != self._changes:
            self._changes = changes
            self._due.set()

    async def run(self) -> None:
        """Until the node has gone."""
        waits = self._rhythm.first
        while True:
            await self._due.wait()
            self._due.clear()
            wanted = await asked(self._desk.conf_files, self._node, self._rhythm)
            known = self._changes == self._heard or not (self._changes or self._keeps_to)  # 0 and "": it has none
            if version(wanted) == self._keeps_to and known:
                continue
            try:
                await self._brought(wanted)
            except bus.NodeAway:
                return
            except (Unsupported, bus.Foreign) as e:
                log.warning("node %s has no conf files: %s", self._node, e)
                self._keeps_to, self._heard = version(wanted), self._changes
                is_ours = isinstance(e, bus.Oversized)
                await self._tell(_all(wanted, "failed", str(e)) if is_ours else _all(wanted, "refused", _OLD))
            except ViniError as e:
                if waits == self._rhythm.first:
                    log.warning("node %s does not take its conf files; it is told again: %s", self._node, e)
                    await self._tell(_all(wanted, "failed", str(e)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(waits * random.uniform(0.5, 1.0)):
                        await self._due.wait()
                waits = min(2 * waits, self._rhythm.longest)
                self._due.set()
            else:
                waits = self._rhythm.first

    async def _brought(self, wanted: Wanted) -> None:
        """The node keeps to these, and what it has is written down."""
        now = version(wanted)
        reply = await self._connection.ask(bus.AskConfFiles() if now == self._keeps_to else bus.Configure(wanted, now))
        if not isinstance(reply, bus.ConfFiles):
            raise Misbehaves(f"Asked for its conf files, the node answered with a {type(reply).__name__}.")
        self._keeps_to, self._heard = now, reply.changes
        if reply.looked:
            await self._tell(reply.files)

    async def _tell(self, files: Sequence[FileThere]) -> None:
        await asked(self._desk.reported, (self._node, FilesThere(tuple(files))), self._rhythm)


def _all(wanted: Wanted, state: FileState, why: str) -> list[FileThere]:
    return [FileThere(f.path, f.version, state, why) for f in wanted]
