"""A network from Python, synchronously: the face of `AsyncNetwork` for scripts, notebooks and tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from vini.api.blocking import Loop, blocking
from vini.api.blueprint import Blueprint, SliverName
from vini.api.inside import AsyncProcess, Command, Completed
from vini.api.live import AsyncNetwork
from vini.api.measurement import Measurement
from vini.experiment.probe import Probe
from vini.model import Topology, ViniError


class Process:
    """A program that runs in a sliver while other things are done; leaving its `with` block ends it."""

    def __init__(self, real: AsyncProcess, loop: Loop):
        self._real, self._loop = real, loop

    def _behind(self) -> tuple[AsyncProcess, Loop]:
        return self._real, self._loop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id on the machine."""
        return self._real.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._real.returncode

    def output(self) -> str:
        """What it has written so far, to stdout and stderr."""
        return self._real.output()

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started, if it still runs."""
        self._real.signal(number)

    wait = blocking(AsyncProcess.wait)
    wait_for = blocking(AsyncProcess.wait_for)
    stop = blocking(AsyncProcess.stop)


class Sliver:
    """A sliver of a network: what to link, and where to run things."""

    def __init__(self, name: str, network: Network):
        self.name, self._network = name, network

    def __repr__(self) -> str:
        return f"<sliver {self.name} of {self._network.name}>"

    @property
    def address(self) -> str:
        """The IPv4 address that stands for it."""
        return self._network.address(self)

    def run(
        self, command: Command, *, check: bool = False, stdin: str = "", timeout_s: float | None = None
    ) -> Completed:
        """Run a shell command line, or a list of words, to its end.

        `check` raises CommandFailed, with what it said on stderr, when its status is not 0.
        """
        return self._network.run(self, command, check=check, stdin=stdin, timeout_s=timeout_s)

    def popen(self, command: Command) -> Process:
        """Start a program that runs in it while other things are done: `with a.popen("iperf3 -s") as p`."""
        return self._network.popen(self, command)


class Network(Blueprint[Sliver]):
    """A network that comes up, ready and converged, with `with`, and is taken down at the end, also on errors.

    `async with net as live` gives the same network as an AsyncNetwork.
    """

    _real: AsyncNetwork | None = None
    _awaited: AsyncNetwork | None = None

    # --- up and down ----------------------------------------------------------------------------

    def up(self, *, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Bring it up; see AsyncNetwork.up."""
        if self._real is not None:
            raise ViniError(f"Network {self.name} is up already.")
        real, loop = self._asynchronous(), Loop()
        with ExitStack() as undo:
            undo.callback(self._undo_up, real, loop)
            loop.call(real.up(wait=wait, timeout_s=timeout_s))
            self._real, self._loop = real, loop
            undo.pop_all()

    def _undo_up(self, real: AsyncNetwork, loop: Loop) -> None:
        if real.is_up:  # interrupted just after it came up
            loop.call(real.down(), finish=True)
        self._real = None
        loop.close()

    def down(self) -> None:
        """End it: programs that were started in it first, then the slice.  Nothing of it stays."""
        real, loop = self._behind()
        loop.call(real.down(), finish=True)
        self._topology, self._words = real.topology, None
        self._real = None
        loop.close()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._real is not None:
            self.down()

    async def __aenter__(self) -> AsyncNetwork:
        self._awaited = self._asynchronous()
        return await self._awaited.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._awaited is not None and self._awaited.is_up:
            await self._awaited.__aexit__(kind, error, trace)

    def _asynchronous(self) -> AsyncNetwork:
        return AsyncNetwork.of(self.topology, say=self._say)

    @property
    def is_up(self) -> bool:
        """Whether it was brought up, and not taken down since."""
        return self._real is not None

    @property
    def topology(self) -> Topology:
        """All of it, frozen, with every change since it came up."""
        return self._real.topology if self._real is not None else super().topology

    def _behind(self) -> tuple[AsyncNetwork, Loop]:
        if self._real is None:
            raise ViniError(f"Network {self.name} is not up; do this inside `with` it, or after `up()`.")
        return self._real, self._loop

    def _building(self) -> dict[str, Any]:
        return self._real._building() if self._real is not None else super()._building()

    def _sliver(self, name: str) -> Sliver:
        return Sliver(name, self)

    # --- everything else --------------------------------------------------------------------------

    put = blocking(AsyncNetwork.put)
    fail = blocking(AsyncNetwork.fail)
    restore = blocking(AsyncNetwork.restore)
    shape = blocking(AsyncNetwork.shape)
    cost = blocking(AsyncNetwork.cost)
    status = blocking(AsyncNetwork.status)
    converged = blocking(AsyncNetwork.converged)
    wait_converged = blocking(AsyncNetwork.wait_converged)
    wait_path = blocking(AsyncNetwork.wait_path)
    routes = blocking(AsyncNetwork.routes)
    path = blocking(AsyncNetwork.path)
    paths = blocking(AsyncNetwork.paths)
    diagnosis = blocking(AsyncNetwork.diagnosis)
    run = blocking(AsyncNetwork.run)
    ping = blocking(AsyncNetwork.ping)
    ping_all = blocking(AsyncNetwork.ping_all)
    ping_series = blocking(AsyncNetwork.ping_series)
    iperf = blocking(AsyncNetwork.iperf)

    def capabilities(self) -> frozenset[str]:
        """What this machine can do: "netem", "element", "bird", ...; `vini doctor` explains them."""
        return self._behind()[0].capabilities()

    def popen(self, sliver: SliverName, command: Command) -> Process:
        """Start a program that runs in a sliver while other things are done; it ends with the network at the latest."""
        real, loop = self._behind()
        process = real.popen(sliver, command)
        loop.call(process.start())
        return Process(process, loop)

    @contextmanager
    def measure(self, **probes: Probe) -> Iterator[Measurement]:
        """Probes of `vini.experiment.probes` that measure while the `with` block goes on."""
        real, loop = self._behind()
        measurement = real.measure(**probes)
        loop.call(measurement.__aenter__())
        try:
            yield measurement
        finally:
            loop.call(measurement.__aexit__(None, None, None), finish=True)
