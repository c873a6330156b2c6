"""Killed at any step, by SIGKILL, the next agent's one pass makes it whole; no packet of a running slice is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from own_place import OwnPlace, difference, eventually, forked, run
from strategies import CAPABLE, OTHER, spec_of

from vini import bus
from vini.embed import embed
from vini.model import AnyObject, Command, End, Link, Netns, Routing, SliceSpec, Sliver, Topology, ViniError
from vini.node import cgroup, netns
from vini.node.ledger import Ledger
from vini.node.netlink import Socket
from vini.plan import plan

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]


STATIC = Routing(("static",))


def line(*slivers: str, name: str = "v", routing: Routing | None = STATIC) -> Topology:
    links = tuple(Link((End(a), End(b))) for a, b in zip(slivers, slivers[1:], strict=False))
    return Topology(name, {n: Sliver(n, routing=routing) for n in slivers}, links)


SMALL = line("a", "b")
FURNISHED = replace(
    SMALL.slivers["a"], files={"/etc/motd": "hi\n"}, commands=(Command("true"), Command("sleep 1000", service=True))
)
BEFORE = replace(SMALL, slivers={**SMALL.slivers, "a": FURNISHED})
EDITED = replace(
    line("a", "b", "c"),
    slivers={
        "a": replace(FURNISHED, files={"/etc/motd": "ho\n"}, commands=(Command("sleep 2000", service=True),)),
        "b": Sliver("b", routing=Routing(("static",))),
        "c": Sliver("c"),
    },
    links=(Link((End("a"), End("b")), mtu=1400), Link((End("b"), End("c")))),
)
NOTHING = Topology("v")


# --- killed at every step ------------------------------------------------------------------------------


CHANGES = frozenset({
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.kill", "os.truncate", "os.utime",
    "shutil.rmtree", "shutil.chown", "subprocess.Popen",
})  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_before(n: int) -> None:
    """This process kills itself before the nth thing that it would change: a file, a mount, a namespace, a message to
    the kernel, a process.  The interpreter's audit events tell (sys.addaudithook); the product knows nothing of it."""
    count = itertools.count()

    def step() -> None:
        if next(count) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event: str, arguments: tuple) -> None:
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            step()

    def counted(owner: object, name: str) -> None:
        act = getattr(owner, name)

        def counting(*arguments):
            step()
            return act(*arguments)

        setattr(owner, name, counting)

    counted(netns, "_check")  # right after unshare(2), setns(2), mount(2)
    counted(netns, "unmount")
    counted(Socket, "_exchange")
    sys.addaudithook(heard)


def one_pass(own: OwnPlace, spec: SliceSpec, last: int = -1) -> bool:
    """As an agent makes it, in a child process of its own; False when it was killed before change number `last`."""

    def make() -> None:
        if last >= 0:
            die_before(last)
        machine, traces = own.machine(), own.namespaces()
        wanted = {ns for o in spec.objects for ns in o.slivers}
        have = machine.observe(wanted & traces).objects | {Netns(ns) for ns in traces - wanted}
        failures = machine.apply(plan(spec.objects, have))
        assert not failures, failures

    return forked(make)


def is_whole(own: OwnPlace, spec: SliceSpec) -> bool:
    have = own.observe()
    assert have == spec.objects, difference(spec.objects, have)
    for ns in own.namespaces():  # what no object tells of: a namespace is born with its settings, or not at all
        with netns.inside(own.place.netns(ns)):
            for setting in ("ipv6/conf/all/keep_addr_on_down", "ipv4/fib_multipath_hash_policy"):
                assert Path(f"/proc/sys/net/{setting}").read_text() == "1\n", f"{ns} {setting}"
    return True


@pytest.mark.parametrize(
    ("before", "after"), [(NOTHING, BEFORE), (BEFORE, EDITED), (EDITED, NOTHING)], ids=["up", "edit", "down"]
)
def test_killed_at_every_step_the_next_pass_makes_it_whole(own, before, after):
    killed_at_every_step(own, spec_of(before, 1), spec_of(after, 2))


VNI = 0x570000 + os.getpid() % 0x10000  # numbers of tunnels are the whole machine's: this one is the test process's own


def led_away(remote: str, generation: int) -> SliceSpec:
    """What this node holds of SMALL, with b on another one."""
    other = replace(OTHER, address=remote)
    placed, vnis = {"a": CAPABLE.name, "b": other.name}, {"a--b": VNI}
    return embed(SMALL, [CAPABLE, other], generation, placed=placed, vnis=vnis)[CAPABLE.name]


@pytest.mark.needs("vxlan")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (spec_of(SMALL, 1), led_away("192.0.2.2", 2)),
        (led_away("192.0.2.2", 1), led_away("192.0.2.3", 2)),
        (led_away("192.0.2.2", 1), spec_of(SMALL, 2)),
        (led_away("192.0.2.2", 1), spec_of(NOTHING, 2)),
    ],
    ids=["away", "elsewhere", "back", "down"],
)
def test_killed_at_every_step_of_a_change_to_a_tunnel(own, old, new):
    killed_at_every_step(own, old, new, at_least=3)


def killed_at_every_step(own: OwnPlace, old: SliceSpec, new: SliceSpec, at_least: int = 20) -> None:
    step = 0
    while True:
        assert one_pass(own, old)
        if step == 0:  # later the same pass makes the same, and a look at all takes as long as a pass
            eventually(lambda: is_whole(own, old))
        survived = one_pass(own, new, last=step)
        assert one_pass(own, new), step
        if not new.objects:
            assert own.leftovers() == []
        eventually(lambda: is_whole(own, new))
        if survived:
            break
        step += 1
    assert step > at_least, "it was never killed"
    assert one_pass(own, spec_of(NOTHING, 3))


def test_what_a_killed_pass_left_is_swept_by_a_down(own):
    """Killed anywhere in an `up`, and then nobody wants the slice any more."""
    new = spec_of(BEFORE)
    step = 0
    while not one_pass(own, new, last=step):
        assert one_pass(own, spec_of(NOTHING, 2))
        assert own.leftovers() == [], step
        step += 1
    assert step > 20, "it was never killed"
    assert one_pass(own, spec_of(NOTHING, 2))


# --- real agents, real clients -----------------------------------------------------------------------------


def up(own: OwnPlace, topology: Topology) -> None:
    asyncio.run(own.client().up(topology, timeout_s=60))


def test_an_agent_killed_in_the_middle_of_an_up_is_replaced_and_the_up_succeeds(own):
    many = line(*(f"r{i}" for i in range(60)))

    async def kill_meanwhile() -> None:
        seen = []

        def progress(p: bus.Progress) -> None:
            if not seen and 0 < p.done < p.total:
                seen.append(p)
                own.kill_agent()

        await own.client().put(many, progress=progress)
        assert seen, "it was over before it could be killed"

    asyncio.run(kill_meanwhile())
    assert own.is_as_asked("v")


def test_a_client_killed_between_store_and_bus_is_made_good_by_the_next_command(own):
    up(own, SMALL)
    code = (
        "import asyncio, os, signal, vini.client as c, msgspec\n"
        "from vini.model import Topology\n"
        "async def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "c.Client._accept = die\n"
        f"t = msgspec.json.decode({_json(EDITED)!r}, type=Topology)\n"
        "asyncio.run(c.Client().put(t))\n"
    )
    done = subprocess.run([_python(), "-c", code], env={**os.environ, **own.environment}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert own.spec("v").generation == 1
    asyncio.run(own.client().status("v"))
    assert own.spec("v").generation == 2
    assert own.spec("v").objects == spec_of_here(own, EDITED)
    eventually(lambda: own.is_as_asked("v"))


def spec_of_here(own: OwnPlace, topology: Topology) -> frozenset[AnyObject]:
    client = own.client()
    greeting = asyncio.run(client.greeting())
    return client._embed(topology, greeting, 1).objects


def _json(topology: Topology) -> bytes:
    return msgspec.json.encode(topology)


def _python() -> str:
    return sys.executable


def test_after_a_loss_of_everything_but_the_disk_the_agent_rebuilds_from_its_ledger(own):
    """As after a reboot: no process, no namespace, no run directory."""
    up(own, BEFORE)
    own.kill_agent()
    for path in Path("/run/netns").glob(f"{own.place.mark}.*"):
        run("ip", "netns", "delete", path.name)
    group = cgroup.of(own.place)
    cgroup.kill(group)
    eventually(lambda: not cgroup.populated(group))
    for below in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        below.rmdir()
    for point in reversed(own._mounts()):
        run("umount", "-l", point)
    shutil.rmtree(own.place.run)
    assert own.leftovers() == []
    asyncio.run(own.client().greeting())  # any command starts the agent
    eventually(lambda: own.is_as_asked("v"))


def test_an_agent_of_another_version_is_replaced_at_once_also_by_the_process_that_started_it(own, monkeypatch):
    """Our own ended child is a zombie for as long as nobody asks for it: that is not to be waited for."""
    up(own, SMALL)
    [old] = own.agents()
    waited = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        waited.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr("vini.client.agent.digest", lambda: "another")
    monkeypatch.setattr("vini.client.agent.asyncio.sleep", counted)
    asyncio.run(own.client().greeting())
    assert own.agents() != [old]
    assert sum(waited) < 10  # of the 20 s that it would wait for a process that does not end
    assert own.is_as_asked("v")


def test_slices_run_on_while_the_agent_is_dead_or_replaced(own):
    """A flood of pings, a kill, a restart, another pass: nothing is lost."""
    up(own, SMALL)
    client = own.client()
    ip = client.address(SMALL, "b")
    command = client.enter("v", "a", ["ping", "-q", "-i", "0.005", "-c", "800", "-W", "10", ip])
    ping = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    processes = own.observe("v")
    own.kill_agent()
    asyncio.run(own.client().greeting())
    own.kill_agent()
    up(own, line("a", "b", "c"))
    out, _ = ping.communicate(timeout=120)
    assert "800 packets transmitted, 800 received" in out, out
    assert processes <= own.observe("v")


# --- the disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b'{"slice":"v","node":"loc', b"\0" * 100], ids=["empty", "cut", "zeros"])
def test_a_broken_ledger_is_mended_from_the_store_and_the_slice_runs_on_meanwhile(own, content):
    up(own, SMALL)
    up(own, line("x", "y", name="w"))
    inodes = {p.name: p.stat().st_ino for p in Path("/run/netns").glob(f"{own.place.mark}.*")}
    before = own.observe()
    own.kill_agent()
    (own.place.state / "ledger" / "v.json").write_bytes(content)
    own_agent_without_client(own)
    assert "v.json can't be read" in (own.place.state / "agent.log").read_text()
    assert own.observe() == before, "a slice must not fall because its ledger did"
    asyncio.run(own.client().greeting())  # the next command
    assert own.is_as_asked("v")
    assert own.spec("v").generation == 1
    assert {p.name: p.stat().st_ino for p in Path("/run/netns").glob(f"{own.place.mark}.*")} == inodes


def own_agent_without_client(own: OwnPlace) -> None:
    """Start an agent, and wait until it has looked at the machine at least once."""
    from vini.node import service

    service.start(own.place)

    async def hello() -> bool:
        with suppress(bus.AgentGone):
            await bus.Line(own.place.run / "agent.socket").ask(bus.Hello())
            return True
        return False

    eventually(lambda: asyncio.run(hello()))
    asyncio.run(bus.Line(own.place.run / "agent.socket").ask(bus.AskStatus("w")))  # waits for the pass before it


def test_with_a_full_disk_there_is_a_sentence_and_nothing_half_made(own):
    own.place.state.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "vini-test", own.place.state)
    try:
        big = line(*(f"r{i}" for i in range(100)))
        with pytest.raises(ViniError) as caught:
            asyncio.run(own.client().put(big))
        assert "full" in str(caught.value) or "No space left" in str(caught.value)
        assert str(caught.value).endswith((".", "?"))
        assert not [ns for ns in own.namespaces() if ns.startswith("v.")]
        assert not list(own.place.state.glob("ledger/*.new"))
    finally:
        own.kill_agent()
        run("umount", "-l", own.place.state)


def test_a_full_disk_under_the_ledger_keeps_what_was_accepted(own, tmp_path):
    """The store has room, the ledger has none: the agent refuses, and goes on with what it had."""
    directory = tmp_path / "small"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16k", "vini-test", directory)
    try:
        ledger = Ledger(directory)
        ledger.accept(spec_of(line("a")))
        with pytest.raises(ViniError, match="can't be written: No space left on device"):
            ledger.accept(spec_of(line(*(f"r{i}" for i in range(100))), 2))
        assert Ledger(directory).specs == {"v": spec_of(line("a"))}
    finally:
        run("umount", directory)
    assert own.leftovers() == []
