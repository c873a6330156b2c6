"""The programs in examples/programs forward between slivers whose kernels are asked not to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run
from pings import status, up

from vini.client import Client
from vini.embed import embed
from vini.layout import layout
from vini.model import Node, Process, Sysctl, Topology
from vini.node import cgroup
from vini.plan import plan
from vini.plugins import process_program
from vini.topology import parse

PROGRAMS = Path(__file__).parents[2] / "examples/programs"
pytestmark = pytest.mark.root
COUNTERS = "program.counters.json"
BRIDGED = """
name: {name}
slivers:
  a: {{commands: [ip address add 172.31.7.1/24 dev to-m]}}
  m: {{forward: false, commands: [{{run: "{run}", service: true}}]}}
  b: {{commands: [ip address add 172.31.7.2/24 dev to-m]}}
links: [a -- m, m -- b]
"""
ROUTED = """
name: {name}
routing: {{protocols: [{protocols}], daemon: {daemon}}}
slivers:
  a:
  m: {{forward: false, commands: [{{run: "{run}", service: true}}]}}
  b: {{commands: [{{run: "exec {{python}} -m http.server 8000 --directory {served}", service: true}}]}}
links: [a -- m, m -- b]
expect: [{{from: a, to: m}}, {{from: b, to: m}}]  # what lies behind m isn't told from the kernels' tables
"""
HOSTS = """
name: {name}
slivers:
  a: {{routes: [{{to: default, via: m}}]}}
  m: {{forward: false, commands: [{{run: "{run}", service: true}}]}}
  b: {{routes: [{{to: default, via: m}}]}}
links: [a -- m, m -- b]
"""
FETCH = "import sys, urllib.request; print(len(urllib.request.urlopen(sys.argv[1], timeout=30).read()))"


def python(program: str) -> str:
    return f"VINI_COUNTERS={{run}}/{COUNTERS} exec {{python}} -u {PROGRAMS / program}"


def topology(text: str, **words: object) -> Topology:
    return parse(text.format(**words), source="test", default_name="test")


async def pinged(client: Client, wanted: Topology, to: str, *options: str) -> bool:
    return await status(client, wanted, "a", ["ping", "-nq", "-c1", "-W1", *options, to]) == 0


async def soon(check: Callable) -> None:
    """A condition with commands in it, until it holds."""
    async with asyncio.timeout(60):
        while not await check():
            await asyncio.sleep(0.05)


def address(wanted: Topology, sliver: str, family: int) -> str:
    """Of its vif to m."""
    cidrs = layout(wanted).vifs[sliver][0].addresses
    return next(c.partition("/")[0] for c in cidrs if (":" in c) == (family == 6))


@pytest.mark.parametrize("program", ["hub.py", "learning-switch.py"])
def test_frames_pass_from_vif_to_vif(ours: OwnPlace, program: str):
    wanted = topology(BRIDGED, name=program.partition(".")[0], run=python(program))

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, _):
            await soon(lambda: pinged(client, wanted, "172.31.7.2"))
            counted = eventually(lambda: counters(ours, f"{wanted.name}.m"))
            assert counted["to-a"]["packets_in"] and counted["to-b"]["packets_out"]

    asyncio.run(live())


def counters(ours: OwnPlace, ns: str) -> dict[str, dict[str, int]]:
    """By vif, once something came in."""
    vifs: dict[str, dict[str, int]] = json.loads((ours.place.sliver(ns) / COUNTERS).read_text())["vifs"]
    return vifs if any(v["packets_in"] for v in vifs.values()) else {}


def test_a_program_that_stands_still_forwards_nothing_and_one_that_is_killed_is_started_again(ours: OwnPlace):
    wanted = topology(BRIDGED, name="killed", run=python("hub.py"))

    def pids() -> list[int]:
        processes = [o for o in ours.spec(wanted.name).objects if isinstance(o, Process) and o.ns == "killed.m"]
        return [pid for p in processes for pid in cgroup.pids(cgroup.of(ours.place, p.ns, p.name))]

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, _):
            await soon(lambda: pinged(client, wanted, "172.31.7.2"))
            (first,) = pids()
            os.kill(first, signal.SIGSTOP)
            assert not await pinged(client, wanted, "172.31.7.2")
            os.kill(first, signal.SIGKILL)
            await soon(lambda: pinged(client, wanted, "172.31.7.2"))
            assert pids() != [first]

    asyncio.run(live())


@pytest.mark.parametrize("forward", ["true", "false"])
def test_a_tun_device_gets_what_routes_lead_into_it_where_the_kernel_forwards(ours: OwnPlace, forward: str):
    wanted = topology(
        """
name: tunnelled
slivers:
  a: {{routes: [{{to: 10.77.0.0/16, via: m}}]}}
  m: {{forward: {forward}, program: {{process: "exec python3 {script} 10.77.0.0/16"}}}}
links: [a -- m]
""",
        forward=forward,
        script=PROGRAMS / "tun-echo.py",
    )

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, _):
            inside = ["ping", "-nq", "-c1", "-W1", "10.77.3.4"]
            assert await status(client, wanted, "m", inside) == 0, "its own sliver reaches the device anyhow"
            assert await pinged(client, wanted, "10.77.1.2", "-s", "1001") == (forward == "true")

    asyncio.run(live())


def test_a_forwarding_table_of_ones_own(ours: OwnPlace):
    plain = topology(HOSTS, name="static", run="true")
    ends = [address(plain, sliver, family) for sliver in "ab" for family in (4, 6)]
    table = " ".join(f"{a}/{128 if ':' in a else 32}={a}" for a in ends)
    wanted = topology(HOSTS, name="static", run=f"{python('static-router.py')} {table}")

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, _):
            for family in (4, 6):
                to = address(wanted, "b", family)
                await soon(lambda to=to: pinged(client, wanted, to))
                assert not await pinged(client, wanted, to, "-t1")

    asyncio.run(live())


@pytest.fixture(scope="module")
def ring_forwarder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The C program, compiled."""
    program = tmp_path_factory.mktemp("ring") / "ring-forwarder"
    source = PROGRAMS / "ring-forwarder.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return f"exec {program}"


@pytest.mark.parametrize(
    ("language", "daemon", "protocols"),
    [
        pytest.param("python", "bird", "ospf, ospf6", marks=pytest.mark.needs("bird")),
        pytest.param("python", "frr", "ospf, ospf6", marks=pytest.mark.needs("frr")),
        pytest.param("c", "bird", "ospf, ospf6", marks=pytest.mark.needs("bird")),
    ],
)
def test_a_daemon_writes_the_table_by_which_a_process_forwards(
    ours: OwnPlace, ring_forwarder: str, tmp_path: Path, language: str, daemon: str, protocols: str
):
    program = python("ospf-router.py") if language == "python" else ring_forwarder
    (tmp_path / "large").write_bytes(bytes(5_000_000))
    words = {"name": f"by-{daemon}-{language}", "daemon": daemon, "protocols": protocols, "served": tmp_path}
    wanted = topology(ROUTED, run=program, **words)

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, _):
            for family in (4, 6):
                to = client.address(wanted, "b", family)  # its loopback, which only the daemons know the way to
                await soon(lambda to=to: pinged(client, wanted, to))
                assert not await pinged(client, wanted, to, "-t1")
            url = f"http://{client.address(wanted, 'b', 4)}:8000/large"
            fetched = await asyncio.to_thread(run, *client.enter(wanted.name, "a", ["python3", "-c", FETCH, url]))
            assert fetched.strip() == "5000000"
            if language == "python":  # frames of 1514 bytes at most, had the segments been cut
                await soon(lambda: asyncio.to_thread(mean_length_exceeds, ours, f"{wanted.name}.m", 1514))

    asyncio.run(live())


def mean_length_exceeds(ours: OwnPlace, ns: str, length: int) -> bool:
    to_a = counters(ours, ns).get("to-a", {"bytes_out": 0, "packets_out": 1})
    return to_a["bytes_out"] > length * to_a["packets_out"] and not to_a["dropped_out"]


def test_the_objects_of_a_python_program(own: OwnPlace):
    """Without an agent: one pass makes a hub of a sliver; its counters are where they belong."""
    plain = topology(BRIDGED, name="objects", run="true")
    (spec,) = embed(plain, [Node("here", frozenset({"root", "cgroup2"}))]).values()
    made = process_program.objects("objects.m", "python", (PROGRAMS / "hub.py").read_text())
    replaced = {o for o in spec.objects if isinstance(o, Sysctl | Process) and o.ns == "objects.m"}
    want = (spec.objects - replaced) | {*made}
    try:
        machine = own.machine()
        assert machine.apply(plan(want, frozenset())) == {}

        def answers() -> bool:
            place = own.place.netns("objects.a")
            return "1 received" in run("nsenter", f"--net={place}", "ping", "-nqc1", "-W1", "172.31.7.2", check=False)

        eventually(answers)
        eventually(lambda: counters(own, "objects.m"))
        assert own.observe("objects") == want
    finally:
        own.sweep("objects")
