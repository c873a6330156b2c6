"""`down` leaves nothing of ours and touches nothing of others."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run

from vini import bus
from vini.model import Command, End, Link, NotFound, Routing, Sliver, Topology
from vini.node import cgroup

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]


def pair(name: str, *, furnished: bool = True) -> Topology:
    files = {"/etc/motd": f"{name}\n"} if furnished else {}
    commands = (Command("sleep 1000 & setsid sleep 1000 & exec sleep 1000", service=True),) if furnished else ()
    static = Routing(("static",))
    slivers = {"a": Sliver("a", static, files=files, commands=commands), "b": Sliver("b", static)}
    return Topology(name, slivers, (Link((End("a"), End("b"))),))


def up(own: OwnPlace, topology: Topology) -> None:
    asyncio.run(own.client().up(topology, timeout_s=60))


def down(own: OwnPlace, name: str) -> None:
    report = asyncio.run(own.client().down(name))
    assert report.slivers == ()


def stop(own: OwnPlace) -> None:
    asyncio.run(bus.Line(own.place.run / "agent.socket").ask(bus.Stop()))


def left_but_agent(own: OwnPlace) -> list[str]:
    return [x for x in own.leftovers() if not x.startswith("agent")]


def test_down_leaves_nothing(own):
    up(own, pair("v"))
    assert own.observe("v")
    down(own, "v")
    assert left_but_agent(own) == []
    assert asyncio.run(own.client().greeting()).ended == {"v": 2}


def test_where_no_slice_is_up_an_agent_that_is_told_to_end_leaves_nothing(own):
    up(own, pair("v"))
    down(own, "v")
    own.end_all()
    eventually(lambda: not own.place.run.exists())
    assert not cgroup.of(own.place).exists()


def test_an_agent_that_ends_leaves_a_slice_that_is_up_as_it_is(own):
    up(own, pair("v"))
    before = own.observe("v")
    stop(own)
    eventually(lambda: not own.agents())
    assert own.observe("v") == before and own.is_as_asked("v")
    asyncio.run(own.client().greeting())
    assert own.is_as_asked("v")


def test_an_agent_may_be_wanted_again_while_the_last_one_ends(own):
    up(own, pair("v", furnished=False))
    for _ in range(10):
        (old,) = own.agents()
        stop(own)
        assert asyncio.run(own.client().greeting()).pid != old
        eventually(lambda old=old: old not in own.agents())
        assert len(own.agents()) == 1
    assert own.is_as_asked("v")


def test_of_many_agents_that_begin_at_once_one_stays(own):
    command = [sys.executable, "-m", "vini.node.serve"]
    many = [subprocess.Popen(command, env={**os.environ, **own.environment}, stderr=subprocess.DEVNULL)
            for _ in range(8)]  # fmt: skip
    eventually(lambda: sum(process.poll() is None for process in many) == 1)
    assert own.agents() == [process.pid for process in many if process.poll() is None]
    stop(own)
    assert [process.wait(60) for process in many] == [0] * 8


def test_down_of_what_is_not_up_says_what_is(own):
    up(own, pair("v", furnished=False))
    with pytest.raises(NotFound, match="There is no slice 'w'; there is: v"):
        down(own, "w")
    down(own, "v")
    with pytest.raises(NotFound, match="none is up"):
        down(own, "v")


def test_a_slice_that_ended_does_not_come_back_with_the_next_agent(own):
    up(own, pair("v"))
    down(own, "v")
    own.kill_agent()
    asyncio.run(own.client().greeting())
    asyncio.run(own.client().foresee(pair("w", furnished=False)))  # it waits for the pass that the agent makes first
    assert left_but_agent(own) == []


def test_up_after_down_goes_on_counting(own):
    for generation in (1, 3, 5):
        up(own, pair("v", furnished=False))
        assert own.spec("v").generation == generation
        assert own.is_as_asked("v")
        down(own, "v")


def test_two_slices_of_the_same_sliver_names_do_not_collide(own):
    up(own, pair("v"))
    up(own, pair("w"))
    inodes = {p.name: p.stat().st_ino for p in Path("/run/netns").glob(f"{own.place.mark}.w.*")}
    (group,) = cgroup.of(own.place, "w.a").glob("cmd-*")
    eventually(lambda: len(cgroup.pids(group)) == 3)  # all that the service starts
    pids = cgroup.pids(group)
    before = own.observe("w")
    motd = [run(*own.client().enter(s, "a", ["cat", "/etc/motd"])) for s in "vw"]
    assert motd == ["v\n", "w\n"]
    down(own, "v")
    assert own.observe("w") == before
    assert {p.name: p.stat().st_ino for p in Path("/run/netns").glob(f"{own.place.mark}.*")} == inodes
    assert cgroup.pids(group) == pids
    assert run(*own.client().enter("w", "a", ["cat", "/etc/motd"])) == "w\n"


def test_a_slice_whose_name_begins_like_anothers(own):
    up(own, pair("v", furnished=False))
    up(own, pair("v-2", furnished=False))
    before = own.observe("v-2")
    down(own, "v")
    assert own.observe("v-2") == before


def test_what_exec_started_in_the_background_ends_with_the_sliver(own):
    """`vini exec a -- sleep 1000 &`, and one that detached itself."""
    up(own, pair("v", furnished=False))
    command = ["-m", "vini.cli", "exec", "a", "--", "sh", "-c", "setsid sleep 3210 >/dev/null 2>&1 & sleep 3211"]
    shell = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **own.environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        eventually(lambda: _sleeping(own, "3210") and _sleeping(own, "3211"))
        down(own, "v")
        eventually(lambda: not _sleeping(own, "3210") and not _sleeping(own, "3211"))
        assert left_but_agent(own) == []
    finally:
        shell.kill()
        shell.communicate()
        for pid in _sleeping(own, "3210") + _sleeping(own, "3211"):
            os.kill(pid, 9)


def _sleeping(own: OwnPlace, seconds: str) -> list[int]:
    """`sleep` processes of ours in a network namespace that isn't the machine's."""
    out = []
    home = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]:
                environment = (process / "environ").read_bytes()
                if own.place.mark.encode() in environment and (process / "ns/net").readlink() != home:
                    out.append(int(process.name))
        except OSError:
            continue
    return out


def test_down_with_the_run_directory_gone(own):
    """Somebody emptied /run: what is left is found by the other marks."""
    import shutil

    up(own, pair("v"))
    shutil.rmtree(own.place.sliver("v.a"), ignore_errors=True)
    down(own, "v")
    assert left_but_agent(own) == []


def test_files_of_a_person_beside_ours_survive(own):
    keep = own.place.run / "notes.txt"
    up(own, pair("v"))
    keep.write_text("mine")
    down(own, "v")
    assert keep.read_text() == "mine"
