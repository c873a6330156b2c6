"""The agent as it is installed, on this machine: it joins, gets a slice from its central, and runs commands in it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from fake_agents import central, eventually, typed
from msgspec.structs import replace
from own_place import OwnPlace
from strategies import CAPABLE

from vini import bus
from vini.embed import embed
from vini.model import End, Link, NotFound, SliceSpec, Sliver, Topology
from vini.node import cgroup
from vini.node import identity as identities

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]
PAIR = Topology("s_pair", {"a": Sliver("a"), "b": Sliver("b")}, (Link((End("a"), End("b"))),))


def spec(generation: int, topology: Topology = PAIR) -> SliceSpec:
    return replace(embed(topology, [CAPABLE], generation)["local"], node="one")


def start(own: OwnPlace) -> subprocess.Popen[bytes]:
    log = (own.place.state / "agent.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "vini.node.serve"], env={**os.environ, **own.environment}, stdout=log, stderr=log
    )


async def said(it) -> tuple[bytes, int]:
    out = b""
    async for message in it:
        if isinstance(message, bus.Exited):
            return out, message.code
        out += message.data
    raise AssertionError("no end")


async def test_a_slice_from_the_central_and_commands_in_it(own: OwnPlace, tmp_path):
    own.place.state.mkdir(exist_ok=True)
    async with central(tmp_path) as c:
        identities.write(own.place.state, c.admit("one"))
        c.desk.put("one", spec(1))
        agent = start(own)
        try:
            await eventually(lambda: c.desk.holds("one", "s_pair", 1))
            run = bus.Run("s_pair.a", ("ip", "-br", "link"))
            out, code = await said(c.hub.run("one", run, typed()))
            assert (b"to-b" in out, code) == (True, 0)
            await _names_and_tools(c)
            await _ends_with_its_asker(c, own)
            with pytest.raises(NotFound, match="'nobody' of 's_pair' is not there"):
                await said(c.hub.run("one", bus.Run("s_pair.nobody", ("true",)), typed()))
            agent.send_signal(signal.SIGKILL)
            await asyncio.to_thread(agent.wait)
            agent = start(own)
            await eventually(lambda: c.desk.said("one", bus.Greeting)[-1].generations == {"s_pair": 1})
            c.desk.put("one", SliceSpec("s_pair", "one", 2))
            c.hub.wake(["one"])
            await eventually(lambda: c.desk.holds("one", "s_pair", 2))
            assert own.observe() == frozenset()
        finally:
            agent.terminate()
            await asyncio.to_thread(agent.wait)
        log = (own.place.state / "agent.log").read_text()
        assert "Traceback" not in log, log


async def _names_and_tools(c) -> None:
    run = bus.Run(
        "s_pair.a", ("sh", "-c", "hostname; getent hosts b; tty; echo $VINI_SLIVER"), tty=True, hosts="192.0.2.7 b\n"
    )
    out, code = await said(c.hub.run("one", run, typed()))
    assert code == 0, out
    words = out.decode().split()
    assert words[0] == "a"
    assert "192.0.2.7" in words
    assert words[-1] == "s_pair.a"


async def _ends_with_its_asker(c, own: OwnPlace) -> None:
    """Also what left its process group."""
    it = c.hub.run("one", bus.Run("s_pair.a", ("sh", "-c", "setsid sleep 1000 & echo .; wait")), typed())
    await anext(it)
    group = cgroup.of(own.place, "s_pair.a", "exec")
    await eventually(lambda: cgroup.populated(group))
    await it.aclose()
    await eventually(lambda: not cgroup.populated(group))
