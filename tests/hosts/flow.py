"""A flow of echo requests through a slice, and the account of each that was lost: where, when, and what else was then.

What a loss means can only be told beside what happened at that moment.  So besides the flow are recorded, by programs
that are none of ours: the packets that each sliver saw (tcpdump), what changed in each sliver's and each host's kernel
(`ip monitor`), and a second flow between two namespaces that have nothing of ours.  Whoever kills, starts or asks for
something notes it in the diary.

**What the machine loses.**  All packets of a machine that go into a namespace wait in one queue for each of its CPUs
(`net.core.netdev_max_backlog`, 1000 packets).  Whoever floods it, in whatever namespace, costs everybody packets: other
tests beside this one do.  The kernel counts that, for the CPU (/proc/net/softnet_stat) and for the device where the
packet would have come in.  `Recorder.overrun` finds the losses for which both counters account, while nothing of a
slice changed.  No other loss is excused.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from own_place import NETNS, run

from vini.layout import address, layout
from vini.model import Topology

if TYPE_CHECKING:
    from testbed import Host

PERIOD_S = 0.05  # between two echo requests
_SAMPLE_S = 0.1  # between two looks at the machine's counters
_AROUND_S = 1.0  # what happened so long before and after a loss is told with it
_MOST = 40  # losses, and lines of a diary about each group of them
_SEEN = re.compile(r"^(\d+\.\d+) (\S+) +(\S+) +IP \S+ > \S+ ICMP echo (request|reply), id \d+, seq (\d+)", re.MULTILINE)
_STAMP = re.compile(r"^\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)\] (.*)$")


class Diary:
    """Who was killed, came back or was asked for something, and when; by several threads."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str]] = []

    def note(self, what: str) -> None:
        self._lines.append((time.time(), what))

    def lines(self) -> list[tuple[float, str]]:
        return list(self._lines)


class Ping:
    """Twenty echo requests a second; no process of ours takes part in it."""

    def __init__(self, out: Path, enter: Sequence[str], source: str, to: str):
        self._out = out
        argv = ("ping", "-n", "-D", "-O", "-i", str(PERIOD_S), "-I", source, to)
        with out.open("wb") as said:
            self._process = subprocess.Popen((*enter, *argv), stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def end(self) -> tuple[int, list[int]]:
        """How many were answered, and which were not, of those before the last answer."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
        answered = set(self.answers())
        return len(answered), sorted(set(range(1, max(answered, default=1))) - answered)

    def answers(self) -> dict[int, float]:
        """Which were answered, and when (s since the epoch)."""
        found = re.findall(r"^\[(\d+\.\d+)\] .* icmp_seq=(\d+) ttl", self._out.read_text(), re.MULTILINE)
        return dict(zip(unwrapped(int(n) for _, n in found), (float(at) for at, _ in found), strict=True))

    def complaints(self) -> list[tuple[float, str]]:
        """What it said of others than answers and late ones: that it could not send, or a router's refusal."""
        out, at = [], 0.0
        for line in self._out.read_text().splitlines():
            stamp = re.match(r"\[(\d+\.\d+)\] (.*)", line)
            at, said = (float(stamp[1]), stamp[2]) if stamp else (at, line)
            if not re.search(r" ttl=|^no answer yet|^PING |^---|packets transmitted|^rtt |^$", said):
                out.append((at, f"ping: {said}"))
        return out

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Sight(NamedTuple):
    """A packet of the flow as one sliver saw it."""

    at: float
    sliver: str
    where: str  # "to-b Out request"


class Flow(Ping):
    """From one sliver, which is on this host, to another."""

    def __init__(self, host: Host, topology: Topology, source: str, to: str):
        made, out = layout(topology), host.own.place.state.parent / f"ping-{source}-{to}"
        super().__init__(out, host.enter(f"{topology.name}.{source}"), address(made, source, 4), address(made, to, 4))


class Recorder:
    """What else happened to a slice, from its beginning to its end."""

    def __init__(self, directory: Path, hosts: Collection[Host], topology: Topology):
        self._directory, self._layout = directory, layout(topology)
        self._hosts = {host.name: host for host in hosts}
        self._on = {sliver.name: self._hosts[str(sliver.node)] for sliver in topology.slivers.values()}
        self._enter = {name: host.enter(f"{topology.name}.{name}") for name, host in self._on.items()}
        self._processes: list[subprocess.Popen[bytes]] = []
        monitor = ("ip", "-ts", "monitor", "link", "address", "route")
        for sliver, enter in self._enter.items():
            self._begin(f"{sliver}.monitor", enter, *monitor)
            self._begin(f"{sliver}.packets", enter, "tcpdump", "-n", "-l", "-tt", "-s", "96", "-i", "any", "icmp")
        for host in hosts:
            self._begin(f"{host.name}.monitor", host.inside(), *monitor, "neigh")
        self._before, self._full, self._stop = self._dropped(), list[tuple[float, int]](), threading.Event()
        self._growth: dict[str, int] = {}
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()

    def _begin(self, name: str, enter: Sequence[str], *argv: str) -> None:
        with (self._directory / name).open("wb") as out:
            self._processes.append(
                subprocess.Popen((*enter, *argv), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
            )

    def end(self) -> None:
        """Once; later ones do nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._sampler.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self._growth = {where: n - self._before.get(where, 0) for where, n in self._dropped().items()}

    # --- what the machine's queues did not take -------------------------------------------------

    def _dropped(self) -> dict[str, int]:
        """Place -> packets that were dropped where they would have come in."""
        places = {"": (), **self._enter, **{host.name: host.inside() for host in self._hosts.values()}}
        wires = {host.wire for host in self._hosts.values()}
        return {
            f"{name} {link['ifname']}": link["stats64"]["rx"]["dropped"]
            for name, enter in places.items()
            for link in json.loads(run(*enter, "ip", "-s", "-j", "link"))
            if name or link["ifname"] in wires
        }

    def grown(self) -> dict[str, int]:
        """Device -> packets that it was not given."""
        return {where: n for where, n in self._growth.items() if n}

    def _way(self, sliver: str, dev: str) -> list[str]:
        """Where a packet that a sliver has sent comes in, one after the other: of a link between hosts."""
        (vif,) = (v for v in self._layout.vifs[sliver] if v.dev == dev)
        return [f" {self._on[sliver].wire}", f"{self._on[vif.peer].name} eth0", f"{vif.peer} {vif.peer_dev}"]

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            lines = Path("/proc/net/softnet_stat").read_text().splitlines()
            self._full.append((time.time(), sum(int(line.split()[1], 16) for line in lines)))

    def full(self, at: float) -> int:
        """How many packets, of anybody, the machine's queues did not take about then."""
        first = max(0, bisect_left(self._full, (at - _SAMPLE_S, 0)) - 1)
        last = min(len(self._full) - 1, bisect_left(self._full, (at + _SAMPLE_S, 0)))
        return self._full[last][1] - self._full[first][1] if self._full else 0

    def overrun(self, lost: list[int]) -> dict[int, str]:
        """Those of the lost that the machine's full queues account for, and before which device."""
        sights, changed = self.sights(), [at for at, what in self.changes() if what.partition(":")[0] in self._on]
        left, out = dict(self._growth), dict[int, str]()
        for number in lost:
            last = sights[number][-1] if number in sights else None
            if not last or " Out " not in last.where or any(abs(at - last.at) < _AROUND_S for at in changed):
                continue
            way = [where for where in self._way(last.sliver, last.where.split()[0]) if left.get(where, 0) > 0]
            if self.full(last.at) and way:
                left[way[0]] -= 1
                out[number] = way[0]
        return out

    def changes(self) -> list[tuple[float, str]]:
        """What the kernel told of links, addresses and routes, by namespace."""
        out = []
        for name in (*self._on, *self._hosts):
            at = 0.0
            for line in (self._directory / f"{name}.monitor").read_text().splitlines():
                if stamp := _STAMP.match(line):
                    at = _seconds(stamp[1])
                    out.append((at, f"{name}: {stamp[2]}"))
        return out

    def sights(self) -> dict[int, list[Sight]]:
        """Number of an echo request -> where it, and its answer, was seen."""
        out: dict[int, list[Sight]] = {}
        for sliver in self._on:
            found = _SEEN.findall((self._directory / f"{sliver}.packets").read_text())
            numbers = unwrapped(int(f[4]) for f in found)
            for number, (at, vif, way, what, _) in zip(numbers, found, strict=True):
                out.setdefault(number, []).append(Sight(float(at), sliver, f"{vif} {way} {what}"))
        return {number: sorted(seen) for number, seen in out.items()}


def unwrapped(numbers: Iterable[int]) -> Iterator[int]:
    """Numbers of 16 bits that grow, but for small disorder."""
    above, last = 0, 0
    for number in numbers:
        if number < last - (1 << 15):
            above += 1 << 16
        elif number > last + (1 << 15) and above:
            yield number + above - (1 << 16)
            continue
        last = number
        yield number + above


def _seconds(stamp: str) -> float:
    """Of iproute2's local time."""
    whole, _, part = stamp.partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{part}")


@contextmanager
def unbroken(
    directory: Path, hosts: Collection[Host], topology: Topology, source: str, to: str, diary: Diary | None = None
) -> Iterator[Flow]:
    """Meanwhile a flow runs from one sliver to another; fails with the account of each request that was lost."""
    records = Path(tempfile.mkdtemp(prefix="records-", dir=directory))
    (host,) = (h for h in hosts if h.name == topology.slivers[source].node)
    with ExitStack() as stack:
        beside = stack.enter_context(bare(records))
        recorder = Recorder(records, hosts, topology)
        stack.callback(recorder.end)
        flow = Flow(host, topology, source, to)
        stack.callback(flow.kill)
        yield flow
        answered, lost = flow.end()
        recorder.end()
        excused = recorder.overrun(lost)
        told = account(lost, excused, flow, beside, recorder, diary or Diary()) if lost else ""
    print(f"{answered} echo requests answered, {len(lost)} lost; by the machine's full queues: {excused}")
    assert answered and not set(lost) - set(excused), told


def account(
    lost: list[int], excused: dict[int, str], flow: Flow, beside: Ping, recorder: Recorder, diary: Diary
) -> str:
    """Each group of lost requests: when, where each was seen last, what the bare flow lost, what happened then."""
    answers, sights, bare = flow.answers(), recorder.sights(), beside.end()[1]
    bare_answers = beside.answers()
    bare_at = [_sent(n, bare_answers) for n in bare]
    notes = sorted([*diary.lines(), *recorder.changes(), *flow.complaints()])
    out = [
        f"{len(lost)} echo requests of {len(answers) + len(lost)} lost, {len(excused)} of them by the machine's full "
        f"queues; of the flow beside it, with nothing of ours, {len(bare)} of {len(bare_answers) + len(bare)}"
    ]
    out.append(f"packets that did not come in for full queues: {recorder.grown()}")
    for group in list(_groups([n for n in lost if n not in excused]))[:_MOST]:
        times = [sights[n][0].at if n in sights else _sent(n, answers) for n in group]
        start, stop = times[0] - _AROUND_S, times[-1] + _AROUND_S
        out.append(
            f"\n{len(group)} lost, from {_clock(times[0])} on for {times[-1] - times[0]:.3f} s; "
            f"the bare flow lost {sum(start <= at <= stop for at in bare_at)} then:"
        )
        out += [
            f"  {_clock(at)} number {n}: {_trail(sights.get(n, []))}; full queues took not {recorder.full(at)} packets"
            for n, at in zip(group, times, strict=True)
        ]
        about = notes[bisect_left(notes, (start, "")) : bisect_left(notes, (stop, ""))]
        out += [f"    {_clock(at)} {what}" for at, what in about[:_MOST]]
        out += [f"    ... and {len(about) - _MOST} more"] if len(about) > _MOST else []
    return "\n".join(out)


def _groups(lost: list[int]) -> Iterator[list[int]]:
    """Those that were lost within a second of each other belong together."""
    if not lost:
        return
    cuts = [i for i, (a, b) in enumerate(pairwise(lost), 1) if (b - a) * PERIOD_S > _AROUND_S]
    for first, last in pairwise((0, *cuts, len(lost))):
        yield lost[first:last]


def _trail(seen: list[Sight]) -> str:
    return ", then ".join(f"{s.sliver} {s.where} {(s.at - seen[0].at) * 1000:+.1f} ms" for s in seen) or "never seen"


def _sent(number: int, answers: dict[int, float]) -> float:
    """About when: as long after the answer before it as its number says."""
    before = max((n for n in answers if n < number), default=None)
    return answers[before] + (number - before) * PERIOD_S if before is not None else 0.0


def _clock(at: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{at % 1 * 1000:03.0f}"


@contextmanager
def bare(directory: Path) -> Iterator[Ping]:
    """A flow between two namespaces on a veth pair: what it loses, the machine loses."""
    names = [f"vt{os.getpid()}bare{n}" for n in "12"]
    for name in names:
        run("ip", "netns", "add", name)
    try:
        run("ip", "-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, ip in zip(names, ("192.0.2.1", "192.0.2.2"), strict=True):
            run("ip", "-n", name, "address", "add", f"{ip}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        ping = Ping(directory / "ping-bare", ["nsenter", f"--net={NETNS / names[0]}", "--"], "192.0.2.1", "192.0.2.2")
        try:
            yield ping
        finally:
            ping.kill()
    finally:
        for name in names:
            run("ip", "netns", "delete", name)
