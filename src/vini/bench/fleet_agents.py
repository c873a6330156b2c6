"""Many agents in one process, for `vini bench fleet`: `python -m vini.bench.fleet_agents ORDER`.

All of an agent is the real one, its loop, its ledgers and its uplink, but for its machine, which is a dict.  Each line
of the output tells that an agent has accepted a spec, or how many are connected; the process ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from vini import bus
from vini.model import SliceSpec, Value
from vini.node.agent import Agent
from vini.node.answers import Answers
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.ledgers import Asker, Ledgers
from vini.node.place import Place
from vini.node.running import Prepared
from vini.node.uplink import Uplink
from vini.node.usage.meter import Meter
from vini.rules.interfaces import NodeInterface
from vini.usage import Look

CAPABILITIES = frozenset({"root", "cgroup2", "vxlan", "netem", "element"})
_LOOK_S = 0.02
_INTERFACES = (  # of each machine
    NodeInterface("eno1", "02:00:00:00:00:01", 1500, ("192.0.2.1/24", "2001:db8::1/64"), 10_000),
    NodeInterface("eno2", "02:00:00:00:00:02", 1500, (), 1000),
)


class Order(Value, frozen=True):
    """What one such process is to do."""

    directory: str  # with a state directory of each agent, which holds its identity
    names: tuple[str, ...]  # of the nodes
    claimed: tuple[str, ...]  # slices that each says it holds at generation 1, and of which it was never sent anything


def states(directory: Path, node: str) -> Path:
    """Where a simulated machine keeps what would be in /var/lib/vini."""
    return directory / node


class _Telling(Ledgers):
    """Says when a spec has reached the ledger."""

    node = ""

    def accept(self, spec: SliceSpec, asker: Asker) -> SliceSpec | None:
        """As `Ledgers.accept`."""
        old = super().accept(spec, asker)
        _tell(f"has {spec.slice} {spec.generation} {self.node} {time.monotonic()}")
        return old


class _Claiming(Answers):
    """Says that it holds more than it does, so that a central has as much to compare as with slices that are there."""

    claimed: dict[str, int] = {}

    def greeting(self, asker: Asker) -> bus.Greeting:
        """As `Answers.greeting`."""
        mine = super().greeting(asker)
        return replace(mine, generations=self.claimed | mine.generations)


def _tell(what: str) -> None:
    os.write(1, f"{what}\n".encode())  # from any thread: a pipe takes a line as a whole (pipe(7), PIPE_BUF)


def _answers(state: Path, claimed: Collection[str]) -> tuple[Agent, Answers]:
    driver = FakeDriver()
    ledgers = _Telling.below(state)
    ledgers.node = state.name
    meter = Meter(Place("fleet", state / "run", state), looked=_looked)
    agent = agent_over(driver, ledgers, meter)
    greeting = bus.Greeting("fleet", os.getpid(), "local", CAPABILITIES, {})
    answers = _Claiming(agent, greeting, _never, asyncio.Event(), meter=meter, interfaces=lambda: _INTERFACES)
    answers.claimed = dict.fromkeys(claimed, 1)
    return agent, answers


def _looked(slivers: Iterable[str]) -> dict[str, Look]:
    """Whenever somebody looks, each sliver has used more."""
    return {ns: Look({"cpu 1": (int(time.monotonic() * 1e3),)}, 1 << 20) for ns in slivers}


def _never(run: bus.Run) -> Prepared:
    raise bus.Foreign(f"Nothing runs in {run.ns}: this machine is a simulated one.")


async def _run(order: Order) -> None:
    made = []
    for name in order.names:
        state = states(Path(order.directory), name)
        made.append((state, *_answers(state, order.claimed)))
    tasks = [asyncio.create_task(Uplink(agent, answers, state).run()) for state, agent, answers in made]
    tasks += [asyncio.create_task(agent.run()) for _, agent, _ in made]
    tasks.append(asyncio.create_task(_count([answers for *_, answers in made])))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
    os._exit(0)  # a thousand threads have nothing to say any more


async def _count(answers: Collection[Answers]) -> None:
    """Tell how many are connected, whenever that changes."""
    told = -1
    while True:
        connected = sum(a.uplink.startswith("connected") for a in answers)
        if connected != told:
            told = connected
            _tell(f"connected {connected}")
        await asyncio.sleep(_LOOK_S)


def main() -> None:
    """Until the input ends."""
    asyncio.run(_run(msgspec.json.decode(sys.argv[1], type=Order)))


if __name__ == "__main__":
    main()
