"""Benchmarks on this machine, as small as can be: they measure, and leave nothing.

Only one runs at a time on a machine, so all of them are in this file; those of which a figure is judged are `alone`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from own_place import eventually, forked

from vini import bus
from vini.bench import (
    attacks,
    fleet,
    fleet_postgres,
    fleet_processes,
    floor,
    isolation,
    lines,
    link,
    mahimahi,
    ours,
    setup,
    slivers,
    two_hosts,
)
from vini.bench.between_hosts import between_hosts, ways
from vini.bench.finished import wait_finished
from vini.bench.result import Missing, Row
from vini.bench.slice_path import line
from vini.embed import embed
from vini.model import Interface, Node, Sysctl
from vini.node import cgroup
from vini.node.drivers.network import NetworkDriver
from vini.node.pins import Pins
from vini.node.place import Place

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
TINY = setup.Sizes(line=3, rounds=1, long_line=4, abilene_rounds=0, grid=(0, 0), edited=5, edits=2)
NETNS = Path("/run/netns")


def _left(mark: str) -> list[str]:
    return sorted(p.name for p in NETNS.glob(f"{mark}*")) if NETNS.is_dir() else []


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_signals_in_quick_succession_leave_nothing(again: signal.Signals) -> None:
    """As timeout(1) sends them: to the process, and at once to its group."""
    argv = [sys.executable, "-m", "vini", "bench", "forward", "--quick"]
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    said = [process.stderr.readline()]
    assert eventually(lambda: _left("vbench"), within=60), "a slice is up"
    os.kill(process.pid, signal.SIGTERM)
    while said[-1] and not said[-1].startswith("Interrupted"):
        said.append(process.stderr.readline())
    os.killpg(process.pid, again)
    said += process.stderr.readlines()
    assert process.wait() == 130, said
    assert sum("is taken away" in text for text in said) == 1, said
    assert (_left("vbench"), _left("vbnative"), ours.PLACE.run.exists(), ours.PLACE.state.exists()) == (
        [],
        [],
        False,
        False,
    )
    assert not cgroup.of(ours.PLACE).exists()


def test_the_floor_makes_the_same_objects_as_vini(tmp_path: Path) -> None:
    """Else its time would be no floor."""
    mark = f"vbtest{os.getpid()}"
    place = Place(mark, tmp_path)
    pins = Pins(place)
    _in_child(mark, 4)
    try:
        pins.adopt()
        seen = NetworkDriver(place).observe([f"bench.r{i + 1}" for i in range(4)])
    finally:
        pins.remove(pins.names())
    wait_finished(mark)
    want = embed(ours.routers("line:4"), [Node("local")])["local"].objects
    assert Counter(type(o) for o in seen) == Counter(type(o) for o in want)
    assert {o.settings for o in seen if isinstance(o, Sysctl)} == {o.settings for o in want if isinstance(o, Sysctl)}
    assert all(o.up for o in seen if isinstance(o, Interface))
    assert _left(mark) == []


def _in_child(mark: str, count: int) -> None:
    """The floor leaves the process that makes it in another namespace."""
    paths = [f"/run/netns/{mark}.bench.r{i + 1}".encode() for i in range(count)]

    def make() -> None:
        assert floor.make(count, f"{mark}.bench.") == paths

    assert forked(make)


@pytest.mark.alone
def test_every_part_measures_and_nothing_is_left() -> None:
    said: list[str] = []
    results = setup.measure(quick=True, say=said.append, sizes=TINY)
    names = {r["name"] for r in msgspec.json.decode(msgspec.json.encode(results))["rows"]}
    assert {"line of 3: up / floor", "line of 3: down / up", "line of 4: a pass with nothing to do"} <= names
    assert all(r["value"] > 0 for r in results["rows"] if r["unit"] != "packets")
    assert {r["value"] for r in results["rows"] if r["unit"] == "packets"} <= {0}
    assert not [m for m in results["missing"] if m["failed"]]
    assert said
    assert _left("vbench") == []
    assert not ours.PLACE.run.exists()
    assert not ours.PLACE.state.exists()


@pytest.mark.alone
def test_two_hosts_are_measured_and_nothing_is_left() -> None:
    """Also where an earlier benchmark was killed, and its agents with it; no link fails by the load on its path."""
    host = two_hosts.HOSTS[0]
    assert {way.topology.substrate for way in ways()} == {"heal"}

    async def killed() -> None:
        async with two_hosts.two_hosts() as made:
            await made.put(line(1), {"a": "host1", "b": "host2", "c": "host2"})
            os.kill(await two_hosts.process_of(host), signal.SIGKILL)
            raise KeyError

    with ours.alone():
        with pytest.raises((KeyError, bus.AgentGone)):
            asyncio.run(killed())
        found = asyncio.run(between_hosts(1, 0.1, lambda _: None))
    assert [r for r in found if not isinstance(r, Row) or r.value <= 0] == []
    assert len(found) == 18
    for h in two_hosts.HOSTS:
        assert _left(h.network.name) == []
        assert not h.place.run.exists()
        assert not h.place.state.exists()


def test_an_agent_that_stood_still_when_its_benchmark_was_killed_goes_on() -> None:
    host = two_hosts.HOSTS[1]

    async def killed() -> None:
        async with two_hosts.two_hosts():
            agent = await two_hosts.process_of(host)
            with two_hosts.still(host, agent):
                pass
            assert Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[0] != "T"
            (host.place.run / "still").write_text(str(agent))
            os.kill(agent, signal.SIGSTOP)
            async with asyncio.timeout(60), two_hosts.two_hosts():  # the next benchmark
                pass

    with ours.alone():
        asyncio.run(killed())
    assert not host.place.run.exists()


@pytest.fixture
def for_everybody() -> Iterator[Path]:
    """A directory that also others than root may read."""
    with tempfile.TemporaryDirectory(prefix="bl-", dir="/run") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_mahimahi_is_measured_where_it_is(for_everybody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian has none, so this one is ours: it delays nothing, and runs the command where it is itself."""
    if shutil.which("iperf3") is None:
        pytest.skip("needs iperf3")
    shell = for_everybody / "mm-delay"
    shell.write_text('#!/bin/sh\ntest "$(id -u)" != 0 || exit 1\nshift\nMAHIMAHI_BASE=127.0.0.1 exec "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setenv("PATH", f"{for_everybody}:{os.environ['PATH']}")
    with mahimahi.namespace(1 << 20):
        assert mahimahi.stream_gbit(1, 0, 1, 1 << 20) > 0
        assert 0 < mahimahi.round_trip_ms(1, 1 << 20) < 1000
        shell.write_text("#!/bin/sh\necho it is broken >&2\n")
        with pytest.raises(ours.ViniError, match="does not work here: it is broken"):
            mahimahi.round_trip_ms(1, 1 << 20)
    assert _left("vbmahimahi") == []


@pytest.mark.needs("cgroup2", "containers")
def test_containers_are_measured_and_nothing_is_left() -> None:
    results = slivers.measure(quick=True, say=lambda _: None, sizes=slivers.Sizes(2, 1, 2, 0))
    assert {r["name"] for r in results["rows"]} >= {"2 containers: up", "a command in a container"}
    assert all(r["value"] > 0 for r in results["rows"] if "beyond" not in r["name"])
    assert results["missing"] == []
    assert _left("vbench") == []
    assert not ours.PLACE.run.exists()


@pytest.mark.needs("cgroup2", "containers", "disks")
def test_what_slices_notice_of_each_other_is_measured_and_nothing_is_left() -> None:
    small = isolation.Sizes(1, 20, 1, attacks.Sizes(rounds=1, seconds=0.2, asked=10, names=("output", "log flood")))
    results = isolation.measure(quick=True, say=lambda _: None, sizes=small)
    assert results["missing"] == []
    names = {r["name"] for r in results["rows"]}
    assert {f"a neighbour of: {name}: TCP that it keeps" for name in small.attacks.names} <= names
    (near,) = [r for r in results["rows"] if r["name"].startswith("busy, with reservation: round trips within")]
    assert near["target"] == 98 and 0 <= near["value"] <= 100
    assert _left("vbench") == []


@pytest.mark.alone
@pytest.mark.needs("cgroup2", "containers", "disks")
def test_a_neighbour_keeps_its_throughput_and_its_round_trips_under_attack() -> None:
    """Of three rounds the best counts: a busy machine takes from some, and an attack would from all."""

    async def found() -> list[Row | Missing]:
        sizes = attacks.Sizes(rounds=3, seconds=0.4, asked=40, names=("processor", "memory bomb", "log flood"))
        async with ours.agent() as client:
            return await attacks.neighbours(client, sizes, lambda _: None)

    with ours.alone():
        rows = asyncio.run(found())
    assert not [r for r in rows if isinstance(r, Missing)], rows
    kept = {r.name: max(r.repetitions) for r in rows if isinstance(r, Row) and r.unit == "%"}
    added = {r.name: min(r.repetitions) for r in rows if isinstance(r, Row) and r.unit == "ms"}
    assert len(kept) == len(added) == 3
    assert min(kept.values()) >= 95, kept
    assert max(added.values()) <= 0.1, added


def test_a_second_benchmark_is_refused() -> None:
    with ours.alone(), pytest.raises(ours.ViniError, match="Another benchmark"), ours.alone():
        pass
    with ours.alone():
        pass


def test_mininet_is_measured_where_it_is() -> None:
    if why := lines.why_no_mininet():
        pytest.skip(why)
    times = lines.mininet(3)
    assert times.up_s > 0
    assert times.down_s > 0


def test_a_peer_that_fails_is_a_sentence_with_its_last_line() -> None:
    with pytest.raises(ours.ViniError, match="its last line: 'x' is wrong"):
        lines._times([sys.executable, "-c", "import sys; sys.exit(\"'x' is wrong\")"])


# --- of links, and of a central with its nodes --------------------------------------------------------


@pytest.mark.needs("element")
def test_links_are_measured_and_nothing_is_left() -> None:
    tiny = link.Sizes(delays_ms=(0, 2), seconds=1, together=2, error_s=0.5, rates_mbit=(20,))
    results = link.measure(quick=True, say=lambda _: None, sizes=tiny)
    names = {r["name"] for r in results["rows"]}
    assert {
        "element, 2 ms each way: one TCP stream",
        "element, 2 ms, 80 % of 20 Mbit/s: one-way error, median",
    } <= names
    assert not [m for m in results["missing"] if m["failed"]]
    fair = next(r for r in results["rows"] if "Jain" in r["name"])
    assert 0.5 <= fair["value"] <= 1
    assert _left("vbench") == [] and not ours.PLACE.run.exists()


FEW = fleet.Sizes(agents=3, slices=2, rounds=2, changes=2, changes_of_all=1, idle_s=0.2, settled_s=0.2, rest_s=0.2)


def _left_of_fleet() -> list[Path]:
    return [p for p in (ours.PLACE.state, ours.PLACE.run, Path("/dev/shm/vbench-fleet")) if p.exists()]


@pytest.mark.parametrize(("postgres", "engine"), [(True, ""), (False, "nats")])
def test_every_figure_of_a_fleet_is_there_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, postgres: bool, engine: str
) -> None:
    if not postgres:
        monkeypatch.setattr(fleet_postgres, "programs", lambda: None)
    elif fleet_postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    if engine and not shutil.which("nats-server"):
        pytest.skip("nats-server is not installed")
    results = fleet.measure(quick=True, say=lambda _: None, sizes=structs.replace(FEW, engine=engine or FEW.engine))
    figures = {r["name"]: r["value"] for r in msgspec.json.decode(msgspec.json.encode(results))["rows"]}
    for figure in ("accepted", "every agent holds its spec", "the node holds it", "a page of 100", "memory of a real"):
        assert any(figure in name for name in figures), figure
    assert not engine or figures["memory of nats-server"] > 1
    assert [m["name"] for m in results["missing"]] == ([] if postgres else ["PostgreSQL"])
    assert {r["name"] for r in results["rows"] if r["target"] is not None} <= {n for n in figures if "real agent" in n}
    assert _left_of_fleet() == []


def test_ctrl_c_in_the_middle_of_a_fleet_leaves_nothing() -> None:
    sizes = msgspec.json.encode(structs.replace(FEW, idle_s=600.0)).decode()
    program = (
        "import msgspec, sys; from vini.bench import fleet\n"
        f"fleet.measure(True, lambda t: print(t, flush=True), msgspec.json.decode({sizes!r}, type=fleet.Sizes))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    assert any(b"nothing to do" in said for said in process.stdout)
    children = fleet_processes.children(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert _left_of_fleet() == []
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
