"""The Python API on the real machine: networks come up, are used, and leave nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, unspoilt

from vini import AsyncNetwork, CommandFailed, Network, ViniError
from vini.experiment.probes import Path as PathProbe
from vini.experiment.probes import Ping
from vini.model import Conflict

pytestmark = [pytest.mark.root, pytest.mark.needs("bird")]


@pytest.fixture(scope="module")
def place(ours):
    """The module's place, which the API finds by its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ours.environment.items():
            patch.setenv(name, value)
        yield ours


def triangle(name: str | None = None) -> Network:
    net = Network(name, routing="ospf", daemon="bird", hello="1s", dead="2s")
    a, b, c = net.routers("a", "b", "c")
    net.link(a, b)
    net.link(b, c)
    net.link(a, c, cost=50)
    return net


def plain(name: str | None = None) -> Network:
    """Two hosts that need no routing: the quickest network there is."""
    net = Network(name, routing="none")
    net.link(*net.hosts("h1", "h2"))
    return net


@pytest.fixture(scope="module")
def net(place):  # noqa: ARG001
    with triangle() as up:
        yield up


def slices(place: OwnPlace) -> list[str]:
    return list(place.client().topologies())


# --- what a user does -----------------------------------------------------------------------------


def test_run(net):
    a = net["a"]
    done = a.run("ip -br addr show lo; cat", stdin="given")
    assert done.returncode == 0 and a.address in done.stdout and done.stdout.endswith("given")
    assert a.run(["sh", "-c", "exit 3"]).returncode == 3
    with pytest.raises(CommandFailed, match="`ip rotue` in sliver a ended with status 1; it said: .*rotue") as caught:
        a.run("ip rotue", check=True)
    assert caught.value.completed.returncode == 1
    with pytest.raises(CommandFailed, match="did not end within 0.2 s"):
        a.run("sleep 60", timeout_s=0.2)


def test_ping_and_path(net):
    found = net.ping("a", "c", count=2)
    assert found.ok and found.sent == len(found.rtts_ms) == 2
    assert net.path("a", "c") == ("a", "b", "c")
    assert len(net.ping_all()) == 6 and all(p.ok for p in net.ping_all())
    assert net.ping("a", "c", count=1, family=6).sent == 1
    assert any(e.to.startswith(net["c"].address) for e in net.routes("a"))


def test_fail_wait_and_restore(net):
    net.fail("a", "b", how="silent")
    assert [link.fault for link in net.topology.links] == ["silent", "none", "none"]
    net.wait_converged(60)
    assert net.path("a", "b") == ("a", "c", "b")
    assert net.ping("a", "b", count=1).ok
    net.restore("a", "b")
    net.wait_path("a", "b", timeout_s=60)
    net.fail("a--b", how="carrier")
    net.wait_converged(60)
    assert "a has failed" not in net.diagnosis() and "link a--b has failed (carrier)" in net.diagnosis()
    net.restore("a--b")
    net.wait_path("a", "b", "c", timeout_s=60)


def test_cost_and_put(net):
    before = net.topology
    net.cost("a", "c", 1)
    net.wait_path("a", "c", timeout_s=60)
    assert net.put(before) > 0
    net.wait_path("a", "b", "c", timeout_s=60)
    assert net.put(before) == 0


def test_changes_of_other_people_stay(net, place):
    """An edit goes on top of what is asked for now, not of what this program last knew."""
    environment = {**os.environ, **place.environment}
    command = [sys.executable, "-m", "vini.cli", "link", "-s", net.name, "b", "c", "--cost", "12"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    net.cost("a", "c", 60)
    assert [link.cost for link in net.topology.links] == [10, 12, 60]
    net.cost("b", "c", 10)
    net.cost("a", "c", 50)


def test_mistakes_leave_the_network_as_it_is(net):
    before = net.topology
    for wrong, says in [
        (lambda: net.fail("a", "d"), "There is no sliver d"),
        (lambda: net.fail("a", "b", how="loudly"), "'silent' or 'carrier', not 'loudly'"),
        (lambda: net.shape("a", "b", delay="long"), "'long' is not a duration"),
        (lambda: net["a"].popen("true") and net.popen("d", "true"), "There is no sliver 'd'"),
        (lambda: net.link("a", "b", name="new"), "is up; add slivers and links before that"),
        (lambda: net.up(), "is up already"),
    ]:
        with pytest.raises(ViniError, match=says):
            wrong()
    assert net.topology == before


def test_popen(net):
    with net["a"].popen("echo started; exec sleep 1000") as sleeper:
        assert sleeper.wait_for("^start") == "start"
        assert sleeper.returncode is None and Path(f"/proc/{sleeper.pid}").exists()
        inside = Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino
        assert inside != Path("/proc/self/ns/net").stat().st_ino
    assert sleeper.returncode == -signal.SIGTERM and sleeper.output() == "started\n"
    with (
        net["a"].popen("echo no; exit 4") as ended,
        pytest.raises(CommandFailed, match="should say 'yes', but ended with status 4; it said: no"),
    ):
        ended.wait_for("yes")
    assert ended.wait() == 4


@pytest.mark.skipif(not shutil.which("iperf3"), reason="needs iperf3: apt-get install iperf3")
def test_iperf(net):
    found = net.iperf("a", "c", seconds=1, rate="5mbit")
    assert 1 < found.mbit < 7 and found.seconds == pytest.approx(1, abs=0.7)


def test_ping_series_is_a_table(net):
    found = net.ping_series("a", "c", count=5, every="20ms")
    assert found.num_rows == 5 and found.column("seq").to_pylist() == [1, 2, 3, 4, 5]
    assert found.column("t").to_pylist() == sorted(found.column("t").to_pylist())


def test_measure_while_a_link_fails(net):
    with net.measure(rtt=Ping("a", "b", every_s=0.02), way=PathProbe("a", "b", every_s=0.1)) as m:
        eventually(lambda: m.rows("way"))
        net.fail("a", "b")
        net.wait_converged(60)
        net.wait_path("a", "c", "b", timeout_s=60)
        back = m.now()
        eventually(lambda: m.rows("way")[-1]["t"] > back)
        net.restore("a", "b")
        net.wait_path("a", "b", timeout_s=60)
    rtt = m.summary("rtt")
    assert rtt["sent"] == m.table("rtt").num_rows > 20 and 0 < rtt["lost"] < rtt["sent"]
    assert m.notes("rtt") == ()
    assert {"a c b"} <= {w.replace(">", "").replace("  ", " ") for w in m.table("way").column("there").to_pylist()}
    with pytest.raises(ViniError, match="under the name 'x'; there are: rtt, way"):
        m.rows("x")


def test_shape(net):
    net.shape("a", "b", delay="20ms")
    assert net.ping("a", "b", count=3).median_ms >= 40
    net.shape("a", "b", delay="0ms")
    net.shape("a", "b", one_way=True, delay="20ms")
    assert unspoilt(lambda: min(net.ping("a", "b", count=10).rtts_ms), lambda found: found < 40) >= 20
    net.shape("a", "b", delay="0ms")


# --- the end --------------------------------------------------------------------------------------


def test_nothing_stays_after_an_error_in_the_body(place):
    net = plain()
    with pytest.raises(ZeroDivisionError), net:
        process = net["h1"].popen("sleep 1000")  # never stopped by us
        pid = process.pid
        assert net.name in slices(place)
        _ = 1 / 0
    assert not net.is_up and net.name not in slices(place) and process.returncode is not None
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert not any(ns.startswith(net.name) for ns in place.namespaces())


@pytest.mark.usefixtures("place")
def test_a_network_can_come_up_again():
    net = plain()
    for _ in range(2):
        with net:
            assert net.ping("h1", "h2", count=1).ok


def test_nothing_stays_when_it_does_not_come_up(place):
    net = Network("fails", routing="none")
    net.host("h", commands="echo the cause >&2; exit 7")
    with pytest.raises(ViniError) as caught:
        net.up(timeout_s=3)
    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert "the cause" in told and not net.is_up and "fails" not in slices(place)


@pytest.mark.usefixtures("place")
def test_a_slice_that_is_up_is_not_touched():
    with plain("mine") as first:
        with pytest.raises(Conflict, match="A slice 'mine' is up already. .*vini down -s mine"):
            triangle("mine").up()
        assert first.ping("h1", "h2", count=1).ok


SCRIPT = """
import sys
from vini import Network
net = Network("interrupted", routing="none")
net.link(*net.hosts("h1", "h2"))
with net:
    print("up", flush=True)
    net["h1"].run("sleep 1000")
"""


def test_nothing_stays_after_an_interrupt(place, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, **place.environment}
    argv = [sys.executable, str(script)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
    assert child.returncode == -signal.SIGINT and said.strip().endswith("KeyboardInterrupt")
    assert "interrupted" not in slices(place)


# --- asyncio --------------------------------------------------------------------------------------


async def test_async_network(place):
    net = AsyncNetwork(routing="none")
    h1, h2 = net.hosts("h1", "h2")
    net.link(h1, h2)
    async with net:
        found, done = await asyncio.gather(net.ping(h1, h2, count=1), h1.run("hostname -I || true", check=True))
        assert found.ok and done.sliver == "h1"
        async with h2.popen("echo there; exec sleep 1000") as process:
            await process.wait_for("there")
        assert process.returncode == -signal.SIGTERM
    assert net.name not in slices(place)


async def test_async_with_a_network(place):
    net = plain()
    async with net as live:
        assert (await live.ping("h1", "h2", count=1)).ok
    assert net.name not in slices(place)


async def test_cancelled_async_network_is_taken_down(place):
    net = plain()
    up = asyncio.Event()

    async def body() -> None:
        async with net as live:
            up.set()
            await live.run("h1", "sleep 1000")

    task = asyncio.create_task(body())
    await asyncio.wait_for(up.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert net.name not in slices(place)
