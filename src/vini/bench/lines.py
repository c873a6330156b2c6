"""Lines of routers without daemons: against the floor and against Mininet, and a long one by itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from vini.bench import ours
from vini.bench.finished import wait_finished
from vini.bench.floor import FloorTimes
from vini.bench.result import Found, Missing, ratios, row
from vini.client import Client
from vini.model import ViniError

Say = Callable[[str], None]
_MININET = Path(__file__).with_name("mininet_line.py")
_PYTHON = Path("/usr/bin/python3")  # Debian's, which sees Debian's mininet
_IDLE_S = 3.0  # long enough for the agent's own passes over what has just come up
_NOOP_PASSES = 5


async def compare(client: Client, count: int, rounds: int, say: Say) -> Found:
    """`up` and `down` of a line beside the same by the floor and by Mininet, in turns."""
    topology = ours.routers(f"line:{count}")
    without = why_no_mininet()
    laps, floors, peers = [], [], []
    for i in range(rounds):
        say(f"line of {count}, round {i + 1} of {rounds}: raw netlink, VINI" + ("" if without else ", Mininet"))
        floors.append(floor(count, client.place.mark))
        wait_finished(client.place.mark)
        laps.append(await ours.lap(client, topology))
        if not without:
            peers.append(mininet(count))
            wait_finished(client.place.mark)
    up, down = [x.up_s for x in laps], [x.down_s for x in laps]
    out: Found = [
        row(f"line of {count}: up", up, "s"),
        row(f"line of {count}: up by raw netlink (the floor)", [f.up_s for f in floors], "s"),
        row(f"line of {count}: up / floor", ratios(up, [f.up_s for f in floors]), "x", 1.3),
        row(f"line of {count}: down returned", down, "s"),
        row(f"line of {count}: down / up", ratios(down, up), "x", 0.1),
        row(f"line of {count}: down by raw netlink (the floor)", [f.down_s for f in floors], "s"),
        row(f"line of {count}: the floor's own down / up", ratios([f.down_s for f in floors], [f.up_s for f in floors]),
            "x", note="it pins each namespace by a mount of its own"),
        row(f"line of {count}: kernel finished after down", [x.gone_s for x in laps], "s",
            note="the kernel takes namespaces down after `down` has returned"),
    ]  # fmt: skip
    if without:
        return [*out, Missing(f"line of {count}: Mininet", without)]
    return [
        *out,
        row(f"line of {count}: up by Mininet", [m.up_s for m in peers], "s"),
        row(f"line of {count}: Mininet up / our up", ratios([m.up_s for m in peers], up), "x", 4.0, "at least"),
        row(f"line of {count}: down by Mininet", [m.down_s for m in peers], "s"),
        row(f"line of {count}: Mininet down / our down", ratios([m.down_s for m in peers], down), "x"),
    ]


def floor(count: int, mark: str) -> FloorTimes:
    """The floor, in a process of its own: it leaves its namespace."""
    return _times([sys.executable, "-m", "vini.bench.floor", str(count), mark])


def mininet(count: int) -> FloorTimes:
    """The same by Mininet."""
    return _times([str(_PYTHON), str(_MININET), str(count)])


def _times(argv: Sequence[str]) -> FloorTimes:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "(none)").splitlines()[-1]
        raise ViniError(f"`{' '.join(argv)}` failed; its last line: {last}")
    return msgspec.json.decode(done.stdout, type=FloorTimes)


def why_no_mininet() -> str:
    """Why Mininet can't be measured here; "" when it can."""
    if not _PYTHON.exists():
        return "there is no Debian python3 on this machine"
    if shutil.which("mnexec") is None:
        return "Mininet is not installed; `apt-get install mininet` adds it"
    tried = subprocess.run([_PYTHON, _MININET, "2"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"Mininet does not run here: {tried.stderr.strip().splitlines()[-1]}"


async def long(client: Client, count: int, say: Say) -> Found:
    """One long line: up, passes that have nothing to do, the agent's memory, down."""
    counted = count == 1000  # the size that the targets speak of
    topology = ours.routers(f"line:{count}")
    say(f"line of {count}: raw netlink, VINI")
    least = floor(count, client.place.mark)
    wait_finished(client.place.mark)
    up_s = await ours.put(client, topology)
    time.sleep(_IDLE_S)
    say(f"line of {count}: {_NOOP_PASSES} passes with nothing to do")
    looks, again = [], []
    for _ in range(_NOOP_PASSES):
        started = time.perf_counter()
        rows = await client.status(topology.name)
        looks.append(time.perf_counter() - started)
        if unwell := [r for r in rows if r.state != "ready"]:
            raise ViniError(f"{len(unwell)} slivers are not ready, e.g. {unwell[0].sliver}: {unwell[0].why}")
        again.append(await ours.put(client, topology))
    memory = _memory((await client.greeting()).pid)
    say(f"line of {count}: down")
    started = time.perf_counter()
    await client.down(topology.name)
    down_s = time.perf_counter() - started
    wait_finished(client.place.mark)
    gone_s = time.perf_counter() - started
    return [
        row(f"line of {count}: up", [up_s], "s", 10.0 if counted else None),
        row(f"line of {count}: up by raw netlink (the floor)", [least.up_s], "s"),
        row(f"line of {count}: a pass with nothing to do", looks, "s", 1.0 if counted else None,
            note="as `vini status`: look at everything, plan, report every sliver"),
        row(f"line of {count}: up again with the same file", again, "s"),
        row(f"line of {count}: agent's memory (PSS)", [memory["Pss"]], "MB", 150.0 if counted else None),
        row(f"line of {count}: agent's memory (RSS)", [memory["Rss"]], "MB"),
        row(f"line of {count}: agent's largest memory ever (RSS)", [memory["VmHWM"]], "MB"),
        row(f"line of {count}: down returned", [down_s], "s"),
        row(f"line of {count}: down by raw netlink (the floor)", [least.down_s], "s"),
        row(f"line of {count}: kernel finished after down", [gone_s], "s"),
    ]  # fmt: skip


def _memory(pid: int) -> dict[str, float]:
    """MB (10**6 bytes) of one process: proportional set, resident set, and the most that this ever was."""
    found = {}
    for name in ("smaps_rollup", "status"):
        for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
            word, _, rest = line.partition(":")
            if word in ("Pss", "Rss", "VmHWM"):
                found[word] = int(rest.split()[0]) * 1024 / 1e6
    return found
