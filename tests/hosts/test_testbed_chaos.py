"""Central, agents and database are killed (SIGKILL), alone and in pairs, under a stream of requests: nothing is lost.

`--chaos-rounds 100` makes it a long run, with a new seed each time; one that fails has printed it, for `--chaos-seed`.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from flow import Diary, unbroken
from own_place import eventually
from testbed import LINE, Central, Testbed, testbed

from vini import edit
from vini.layout import link_name
from vini.model import Conflict, Topology, ViniError
from vini.topology import parse

sys.path.insert(0, str(Path(__file__).parent.parent / "central"))
import postgres

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]

SLICE = "home_line"
TOPOLOGY = parse(LINE)
ROUNDS = {"sqlite": 9, "postgresql": 4}
USUAL_SEED = 7


class Writer:
    """Asks for other costs of links, one request after the other, and remembers what was answered."""

    def __init__(self, bed: Testbed, rng: random.Random, diary: Diary):
        self._bed, self._rng, self._diary = bed, rng, diary
        self.accepted: dict[int, str] = {}  # generation -> what
        self.unknown: list[str] = []  # what was asked for, and no answer came
        self.costs: dict[str, set[int]] = {}  # link -> what its cost may be now: the last accepted, and what followed
        self._number = 100
        self.refused = ""  # the last error

    def write(self) -> None:
        """One request."""
        client = self._bed.client()
        self._number += 1
        link = self._rng.choice(TOPOLOGY.links)
        name, cost = link_name(link), self._number
        what = f"cost {cost} of {name}"
        try:
            now = client._asked(SLICE)
            wanted = edit.set_cost(now.topology, *(e.sliver for e in link.ends), cost)
        except ViniError as e:  # the central is away: nothing was asked for
            self.refused = str(e)
            time.sleep(0.05)
            return
        try:
            report = self._bed.put(wanted, what, now.generation, self._rng.choice((0, 0, 2)))
        except Conflict:
            raise AssertionError("there is no other writer") from None
        except ViniError as e:
            self.refused = str(e)
            self.unknown.append(what)
            before = next(link.cost for link in now.topology.links if link_name(link) == name)
            self.costs.setdefault(name, {before}).add(cost)
            return
        self._diary.note(f"generation {report.generation} was accepted: {what}")
        self.accepted[report.generation] = what
        self.costs[name] = {cost}


class Watch:
    """Looks all the time which generations there are; none may go back."""

    def __init__(self, bed: Testbed, writer: Writer, diary: Diary):
        self._bed, self._writer, self._diary = bed, writer, diary
        self._newest: dict[str, int] = {}
        self.wrong: list[str] = []

    def look(self) -> None:
        for host in self._bed.hosts.values():
            self._note(host.name, host.held().get(SLICE, 0))
        accepted = max(self._writer.accepted, default=0)
        try:
            stored = self._bed.client()._asked(SLICE).generation
        except ViniError:
            time.sleep(0.05)
            return
        self._note("the central", stored)
        if stored < accepted:
            self.wrong.append(f"the central is at {stored}, and had accepted {accepted}")

    def _note(self, who: str, generation: int) -> None:
        if generation < self._newest.get(who, 0):
            self.wrong.append(f"{who} went from {self._newest[who]} to {generation}")
        if generation != self._newest.get(who, 0):
            self._diary.note(f"{who} holds generation {generation}")
        self._newest[who] = max(generation, self._newest.get(who, 0))


@contextmanager
def repeated(*acts: Callable[[], None]) -> Iterator[None]:
    """Each in a thread, again and again; fails with the first error of any."""
    stop, errors = threading.Event(), []

    def run(act: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                act()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


class Victim:
    """A process that may die at any time, and comes back."""

    def __init__(self, name: str, kill: Callable[[], None], start: Callable[[], None]):
        self.name, self.kill, self.start = name, kill, start


def victims(bed: Testbed, cluster: postgres.Cluster | None) -> list[Victim]:
    out = [Victim("central", bed.central.kill, bed.central.start)]
    out += [Victim(host.name, host.kill, host.start) for host in bed.hosts.values()]
    if cluster:
        out.append(Victim("database", cluster.kill, lambda: bool(eventually(lambda: cluster.start() is None))))
    return out


def seeded(config: pytest.Config, rounds: int) -> random.Random:
    """The same choices in each short run, so that what one finds is new because of a change."""
    usual = random.randrange(1, 1 << 31) if config.getoption("--chaos-rounds") else USUAL_SEED
    seed = config.getoption("--chaos-seed") or usual
    print(f"--chaos-rounds {rounds} --chaos-seed {seed}")
    return random.Random(seed)


def chaos(
    bed: Testbed, every: list[Victim], rounds: int, rng: random.Random, always: str = "", *others: Central
) -> None:
    """The rounds; after each third one, and at the end, all is as asked for.  A central whose database was away when it
    began has ended, so all of them are started again."""
    diary = Diary()
    writer = Writer(bed, rng, diary)
    watch = Watch(bed, writer, diary)
    settled: list[float] = []
    with unbroken(bed.directory, bed.hosts.values(), TOPOLOGY, "a", "d", diary):
        for first in range(0, rounds, 3):
            with repeated(writer.write, watch.look):
                for number in range(first, min(first + 3, rounds)):
                    hit = rng.sample(every, rng.choice((1, 2, 2)))
                    if always and not any(v.name == always for v in hit):
                        hit[0] = next(v for v in every if v.name == always)
                    print(f"round {number}: {' and '.join(v.name for v in hit)}; {len(writer.accepted)} accepted")
                    strike(hit, rng, diary)
                    for central in (bed.central, *others):
                        central.up()
                    served_again(bed, writer)
            started = time.monotonic()
            eventually(lambda: bed.settled(SLICE), 120)
            settled.append(time.monotonic() - started)
            print(f"settled {settled[-1]:.1f} s after the last came back")
        bed.converged(SLICE)
    print(f"{len(writer.accepted)} accepted, {len(writer.unknown)} unanswered")
    print(f"{rounds} rounds; settled after {median(settled):.1f} s (median), {max(settled):.1f} s (most)")
    assert watch.wrong == []
    nothing_is_lost(bed, writer)


def served_again(bed: Testbed, writer: Writer) -> None:
    """Two more requests are accepted."""
    before = len(writer.accepted)
    try:
        eventually(lambda: len(writer.accepted) > before + 1, 120)
    except AssertionError:
        print(writer.refused)
        print(*(f"{h.name}: {h.said()[-1000:]}" for h in bed.hosts.values()), sep="\n")
        print(bed.central.hangs())
        raise


def strike(hit: list[Victim], rng: random.Random, diary: Diary) -> None:
    time.sleep(rng.uniform(0.0, 0.7))
    for victim in hit:
        diary.note(f"{victim.name} is killed")
        victim.kill()
        diary.note(f"{victim.name} is dead")
        time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.3))))
    time.sleep(rng.uniform(0.0, 0.5))
    for victim in rng.sample(hit, len(hit)):
        victim.start()
        diary.note(f"{victim.name} is started")


def nothing_is_lost(bed: Testbed, writer: Writer) -> None:
    """Each request that was accepted has its generation, and the last one's cost is in force on its link."""
    client = bed.client()
    logged = {e.generation: e.what for e in client.events(SLICE, 1000)}
    kept = {g: w for g, w in writer.accepted.items() if g >= min(logged)}  # the log is told of the newest 1000
    assert {g: logged.get(g) for g in kept} == kept
    assert set(logged.values()) <= {"up", *writer.accepted.values(), *writer.unknown}
    final = client.asked(SLICE)
    for link in final.links:
        name = link_name(link)
        if name in writer.costs:
            assert link.cost in writer.costs[name], (name, link.cost, writer.costs[name])
    assert isinstance(final, Topology)


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest) -> Iterator[postgres.Cluster | None]:
    if request.param == "sqlite":
        yield None
        return
    if why := postgres.missing():
        pytest.skip(why)
    made = postgres.Cluster()
    yield made
    made.stop()


def test_whoever_is_killed_no_packet_no_request_and_no_generation_is_lost(
    cluster: postgres.Cluster | None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rounds = request.config.getoption("--chaos-rounds") or ROUNDS["postgresql" if cluster else "sqlite"]
    rng = seeded(request.config, rounds)
    with testbed(("n1", "n2"), tmp_path_factory.mktemp, cluster.create("central") if cluster else "") as bed:
        bed.vini("slice", "create", SLICE)
        bed.put(TOPOLOGY, "up")
        bed.converged(SLICE)
        try:
            chaos(bed, victims(bed, cluster), rounds, rng, "database" if cluster else "")
        except AssertionError:
            print(cluster.said() if cluster else "")
            raise
        finally:
            bed.central.up()
            bed.put(Topology(SLICE), "down")
            eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()), 120)
