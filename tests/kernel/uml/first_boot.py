"""Run by test_systemd_uml.py on a machine that systemd runs: the agent as a service.  The tests build on each other."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from own_place import eventually, run

from vini import bus
from vini.dataplane.element import Element
from vini.node import cgroup
from vini.node.place import Place

HERE = Path.cwd()
UNIT = "vini-agent.service"
PLACE = Place()
NS = ("two-routers.left", "two-routers.right")


def vini(*words: str, python: str = sys.executable) -> str:
    return run(python, "-m", "vini.cli", *words, both=True)


def shown(name: str) -> str:
    """A property of the unit, systemctl(1)."""
    return run("systemctl", "show", "--value", "--property", name, UNIT).strip()


def agent() -> int:
    """Its process id, by its own word; AgentGone while it doesn't answer."""
    reply = asyncio.run(bus.Line(PLACE.run / "agent.socket").ask(bus.Hello()))
    assert isinstance(reply, bus.Greeting)
    return reply.pid


def element() -> int:
    """The process id of the link element; it may not die with the agent."""
    with Element(PLACE.run) as running:
        return running.state()["pid"]


def inside(sliver: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", PLACE.netns(f"two-routers.{sliver}").name, *words]


def slivers() -> dict[str, list[int]]:
    """The processes in slivers by cgroup."""
    groups = {str(g): cgroup.pids(g) for ns in NS for g in cgroup.of(PLACE, ns).iterdir() if g.is_dir()}
    return {group: pids for group, pids in groups.items() if pids}


def test_a_command_installs_and_starts_the_service() -> None:
    vini("up", "examples/two-routers.yaml")
    assert (shown("ActiveState"), shown("UnitFileState")) == ("active", "enabled")
    assert int(shown("MainPID")) == agent()
    assert "active (running)" in run("systemctl", "status", UNIT)
    assert "yes  systemd" in vini("doctor")


def test_slivers_live_outside_of_the_service_as_from_a_plain_daemon() -> None:
    group = cgroup.mount() / shown("ControlGroup").lstrip("/")
    service = set(cgroup.pids(group))  # also commands that the agent runs
    processes = {pid for pids in slivers().values() for pid in pids}
    assert {int(shown("MainPID")), element()} <= service
    assert not service & processes
    assert len(processes) >= 2 * 2  # zebra and ospfd
    assert {Path(f"/proc/{pid}/oom_score_adj").read_text().strip() for pid in processes} == {"0"}


def test_restarts_and_a_kill_lose_neither_a_process_nor_a_packet() -> None:
    before, shaping, address = slivers(), element(), run(*inside("right", "hostname", "-I")).split()[0]
    with subprocess.Popen(inside("left", "ping", "-i", "0.1", address), stdout=subprocess.PIPE, text=True) as pinging:
        for _ in range(7):  # by default, systemd gives up after five starts in ten seconds
            run("systemctl", "restart", UNIT)
        last = eventually(agent)
        os.kill(last, signal.SIGKILL)
        eventually(lambda: agent() != last)
        assert shown("NRestarts") == "1"
        run("systemctl", "daemon-reexec")
        pinging.send_signal(signal.SIGINT)
        out, _ = pinging.communicate()
    answered = [int(number) for number in re.findall(r"icmp_seq=(\d+)", out)]
    sent = int(re.findall(r"(\d+) packets transmitted", out)[0])
    # the last one may have been under way when that was ended
    assert answered == list(range(1, len(answered) + 1)) and len(answered) >= sent - 1, out
    assert (slivers(), element()) == (before, shaping)


def test_a_checkout_that_moved_takes_the_service_along() -> None:
    before, last = slivers(), agent()
    moved = Path("/run/a moved checkout")  # its unit file needs quotes
    moved.symlink_to(Path(sys.prefix))
    vini("status", python=f"{moved}/bin/python")
    assert str(moved) in shown("ExecStart")
    assert int(shown("MainPID")) == agent() != last
    vini("status")
    assert str(moved) not in shown("ExecStart")
    assert slivers() == before


def test_stopped_it_stays_stopped_until_it_is_needed() -> None:
    before = slivers()
    assert "The agent ends" in vini("agent", "stop")
    assert (shown("ActiveState"), shown("LoadState")) == ("inactive", "not-found")
    assert slivers() == before
    vini("agent", "start")
    assert (shown("ActiveState"), shown("UnitFileState")) == ("active", "enabled")


def test_an_agent_of_a_second_place_is_no_service(monkeypatch) -> None:
    monkeypatch.setenv("VINI_MARK", "second")
    vini("agent", "start")
    assert run("systemctl", "is-enabled", "second-agent.service", check=False).strip() != "enabled"
    vini("agent", "stop")
