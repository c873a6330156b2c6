"""What the broker gives to whom: the only place that decides.

A sliver is whose door a request came in by; nothing in a request says so.  All may ask about themselves and use the
tables of their own program.  What reaches beyond the sliver is given where the operator granted it (`rules.grants`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from vini.model import Container, Denied, NotFound, ViniError
from vini.node import loads
from vini.node.agent import Agent
from vini.node.broker import ports, requests
from vini.node.broker.guest import Given
from vini.node.place import Place
from vini.node.programs import Programs
from vini.rules import grants
from vini.rules.errors import Invalid

Note = Callable[[str, str], None]  # of a sliver, that something happened


class Answers:
    """Of one node."""

    def __init__(
        self, place: Place, agent: Agent, granted: Callable[[str], tuple[grants.Ports, ...]],
        node: Callable[[], str], note: Note, clock: Callable[[], float] = time.time,
    ):  # fmt: skip
        """`granted`: what the operator grants to a slice now."""
        self._place, self._agent, self._granted, self._node = place, agent, granted, node
        self._note, self._clock = note, clock
        self._programs = Programs(place)

    async def answer(self, ns: str, request: requests.Request, pid: int) -> Given:
        """Raises ViniError where it can't be given."""
        match request:
            case requests.Help():
                return Given(self._help(ns))
            case requests.Self():
                return Given(self._self(ns))
            case requests.Load():
                found = await asyncio.to_thread(loads.loads, self._place, [ns])
                return Given(msgspec.to_builtins(found.get(ns)))
            case requests.Watch():
                return Given({"watching": ["expires", "link-failed", "link-back", "changed"]})
            case requests.Port(tcp):
                return self._port(ns, tcp, pid)
            case requests.Tables() | requests.Row() | requests.SetRow():
                return Given(await self._agent.work(lambda: self._of_program(ns, request)))

    # --- itself -------------------------------------------------------------------------------

    def _help(self, ns: str) -> object:
        granted = self._granted(ns.partition(".")[0])
        may = ["help", "self", "load", "tables", "row", "set-row", "watch", *(["port"] if granted else [])]
        return {"may": may, "grants": [str(g) for g in granted]}

    def _self(self, ns: str) -> object:
        slice_, _, sliver = ns.partition(".")
        spec = self._agent.wanted.spec(slice_)
        if spec is None:
            raise NotFound(f"Slice {slice_!r} is not wanted on this node any more; it ends this moment.")
        box = next((o for o in spec.objects if isinstance(o, Container) and o.ns == ns), None)
        return {
            "slice": slice_,
            "sliver": sliver,
            "node": self._node(),
            "generation": spec.generation,
            "expires": spec.expires or None,
            "expires_in_s": max(0.0, spec.expires - self._clock()) if spec.expires else None,
            "runtime": "container" if box else "light",
            "limits": {f: getattr(box, f) for f in _LIMITS} if box else {},
            "failed_links": self._agent.wanted.faults(slice_, ns),
            "grants": [str(g) for g in self._granted(slice_)],
        }

    # --- its program --------------------------------------------------------------------------

    def _of_program(self, ns: str, request: requests.Tables | requests.Row | requests.SetRow) -> object:
        match request:
            case requests.Tables():
                return [msgspec.to_builtins(head) for head in self._programs.tables(ns)]
            case requests.Row(table, key):
                values = self._programs.row(ns, table, _bytes(key))
                return None if values is None else [v.hex() for v in values]
            case requests.SetRow(table, key, value):
                if value is not None:
                    self._programs.write(ns, table, _bytes(key), _bytes(value))
                elif not self._programs.delete(ns, table, _bytes(key)):
                    raise NotFound(f"The table {table} has no such key.")
                return None

    # --- the node -----------------------------------------------------------------------------

    def _port(self, ns: str, port: int, pid: int) -> Given:
        granted = self._granted(ns.partition(".")[0])
        asked = f"process {pid} asked for TCP port {port} of the node"
        if not grants.allow_port(granted, port):
            self._note(ns, f"{asked}: denied")
            have = f"it has {grants.words(granted)}" if granted else "it has none"
            raise Denied(f"TCP port {port} of the node is not granted to this slice; {have}. The operator grants them.")
        try:
            made = ports.listening(port)
        except ViniError as e:
            self._note(ns, f"{asked}: {e}")
            raise
        self._note(ns, f"{asked}: given")
        return Given({"tcp": port}, made)


_LIMITS = ("cpu_weight", "cpu_percent", "memory_mb", "memory_high_mb", "pids")


def _bytes(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise Invalid("A key and a value are bytes, each two hexadecimal digits.") from None
