"""The agents of `vini bench fleet`: processes full of them, and what they tell."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec

from vini.bench import fleet_store
from vini.bench.fleet_agents import Order, states
from vini.bench.fleet_central import Central
from vini.bench.fleet_processes import PATIENCE_S, cpu_s, running
from vini.model import ViniError
from vini.node import identity as identities

_EACH = 500  # agents in one process
_IDLE = 0.25  # of a core: with less the central has nothing to do but to keep its nodes


class Fleet:
    """Processes full of agents, and what they tell."""

    def __init__(self, count: int, processes: Sequence[subprocess.Popen[bytes]]):
        self.pids, self._count, self._started = [p.pid for p in processes], count, time.monotonic()
        self._news = threading.Condition()
        self._connected = dict.fromkeys(self.pids, 0)
        self._has: dict[tuple[str, int], dict[str, float]] = {}  # slice, generation -> node -> when
        for process in processes:
            assert process.stdout
            threading.Thread(target=self._listen, args=(process.pid, process.stdout), daemon=True).start()

    @staticmethod
    @contextmanager
    def running(directory: Path, central: Central, keys: dict[str, bytes], claimed: int) -> Iterator[Fleet]:
        names = sorted(keys)
        for name in names:
            identities.write(states(directory, name), central.identity(name, keys[name]))
        with ExitStack() as stack:
            processes = []
            for at in range(0, len(names), _EACH):
                order = Order(str(directory), tuple(names[at : at + _EACH]), fleet_store.filled(claimed))
                argv = [sys.executable, "-m", "vini.bench.fleet_agents", msgspec.json.encode(order).decode()]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                processes.append(stack.enter_context(running(argv, directory / "log", **pipes)))
            yield Fleet(len(names), processes)

    def _listen(self, pid: int, said: IO[bytes]) -> None:
        for line in said:
            match line.decode().split():
                case ["connected", count]:
                    with self._news:
                        self._connected[pid] = int(count)
                        self._news.notify_all()
                case ["has", slice_, generation, node, at]:
                    with self._news:
                        self._has.setdefault((slice_, int(generation)), {})[node] = float(at)
                        self._news.notify_all()
                case _:
                    pass
        with self._news:
            self._connected[pid] = -self._count  # it has ended
            self._news.notify_all()

    def connect(self) -> float:
        """Wait until all are connected; the seconds since they were started."""
        with self._news:
            if not self._news.wait_for(lambda: sum(self._connected.values()) >= self._count, PATIENCE_S):
                raise ViniError(f"Of {self._count} agents {sum(self._connected.values())} could connect.")
        return time.monotonic() - self._started

    def settle(self, central: Central, settled_s: float) -> float:
        """Wait until the central has nothing more to do; the seconds since the agents were started."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            before = cpu_s(central.pid)
            time.sleep(settled_s)
            if cpu_s(central.pid) - before < _IDLE * settled_s:
                break
        return time.monotonic() - self._started

    def arrived(self, slice_: str, generation: int, nodes: Sequence[str], least: int = 0) -> dict[str, float]:
        """When each of these nodes had it; with `least`, when so many of them had."""
        least = least or len(nodes)
        with self._news:
            found = self._has.setdefault((slice_, generation), {})
            if not self._news.wait_for(lambda: len(found.keys() & set(nodes)) >= least, PATIENCE_S):
                raise ViniError(f"{len(found)} of {len(nodes)} nodes got slice {slice_} generation {generation}.")
            return {node: found[node] for node in nodes if node in found}
