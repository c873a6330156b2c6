"""What may happen to a run's slice besides the run's own doing, and who saw it: the seam to log, agent and lock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Protocol

from vini import bus
from vini.client import Client, Slices
from vini.experiment.network import Network
from vini.model import Conflict, Value, ViniError
from vini.node.lock import locked

ANSWER_S = 5.0  # an agent that is well says hello in milliseconds, whatever else it does
MOST = 1000  # lines of a slice's log, of which no more are kept


class Asked(Value, frozen=True):
    """A line of a slice's log: a new desired state."""

    at: float  # Unix time, s
    who: str
    what: str
    generation: int


class Witness(Protocol):
    """Whoever can tell what others do to a slice."""

    def hold(self, slice_: str) -> AbstractContextManager[None]:
        """The slice is one run's while the block runs, and its process lives.  Conflict where it is another's."""

    def asked(self, slice_: str, since: int) -> list[Asked]:
        """What was asked of it after that generation, the oldest first."""

    def happened(self, slice_: str, since: float) -> list[Asked]:
        """What nobody asked for and befell it after that moment (Unix time, s), the oldest first."""

    async def agent(self) -> int | None:
        """The process that keeps it as asked; None where none answers."""


class Here:
    """Of this machine's slices: their log in the store, the agent behind its socket, a lock in the state directory."""

    def __init__(self, client: Client):
        self._client = client
        self._bus = bus.Line(client.place.run / "agent.socket")

    def hold(self, slice_: str) -> AbstractContextManager[None]:
        return self._held(slice_)

    @contextmanager
    def _held(self, slice_: str) -> Iterator[None]:
        assert self._client.store  # opened first: it says who may, and makes the directory
        path = self._client.place.state / f"run-{slice_}.lock"
        with _locked(path, slice_):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # while it is still ours

    def asked(self, slice_: str, since: int) -> list[Asked]:
        newest_first = (Asked(*row) for row in self._client.store.events(slice_, MOST))
        return [a for a in newest_first if a.generation > since][::-1]

    def happened(self, slice_: str, since: float) -> list[Asked]:  # noqa: ARG002
        return []

    async def agent(self) -> int | None:
        with suppress(ViniError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                reply = await self._bus.ask(bus.Hello())
            return reply.pid if isinstance(reply, bus.Greeting) else None
        return None


class There:
    """Of a testbed's slices: their log at the central, which knows who asked.  Agents are the nodes' own affair, and a
    slice that two runs use at once shows in its log."""

    def __init__(self, client: Slices):
        self._client = client

    def hold(self, slice_: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def asked(self, slice_: str, since: int) -> list[Asked]:
        return [a for a in self._log(slice_) if a.generation > since]

    def happened(self, slice_: str, since: float) -> list[Asked]:
        return [a for a in self._log(slice_) if not a.generation and a.at > since]

    def _log(self, slice_: str) -> list[Asked]:
        """The oldest first, by this machine's clock."""
        ahead_s = self._client.central().ahead_s
        return [Asked(e.at - ahead_s, e.who, e.what, e.generation) for e in self._client.events(slice_, MOST)][::-1]

    async def agent(self) -> int | None:
        return None


class Nobody:
    """Of slices elsewhere: nothing is known of what others do to them."""

    def hold(self, slice_: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def asked(self, slice_: str, since: int) -> list[Asked]:  # noqa: ARG002
        return []

    def happened(self, slice_: str, since: float) -> list[Asked]:  # noqa: ARG002
        return []

    async def agent(self) -> int | None:
        return None


def witness(network: Network) -> Witness:
    """The one for a network's slices."""
    match network:
        case Client():
            return Here(network)
        case Slices():
            return There(network)
        case _:
            return Nobody()


def _locked(path: Path, slice_: str) -> IO[str]:
    """The lock, with our process in it."""
    if (file := locked(path)) is None:
        raise Conflict(
            f"A run (process {_word(path) or 'unknown'}) is using slice {slice_!r}. Wait for its end, or give the "
            "topology of this one another `name:`."
        )
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _word(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
