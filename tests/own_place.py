"""A place of a test's own on the real machine: its mark, its agents, and what is left of both."""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from vini import bus
from vini.client import Client
from vini.model import AnyObject, Netns, SliceSpec, ViniError
from vini.node import cgroup, netns, trees
from vini.node.container import limits
from vini.node.drivers.container import ContainerDriver
from vini.node.drivers.contents import FileDriver, RootDriver
from vini.node.drivers.disk import DiskDriver
from vini.node.drivers.halt import HaltDriver
from vini.node.drivers.network import NetworkDriver
from vini.node.drivers.outside import OutsideDriver
from vini.node.drivers.process import ProcessDriver
from vini.node.drivers.program import ProgramDriver
from vini.node.drivers.shape import ShapeDriver
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.volume import VolumeDriver
from vini.node.drivers.vxlan_xdp import VxlanXdpDriver
from vini.node.drivers.wireguard import WireguardDriver
from vini.node.ledger import Ledger
from vini.node.machine import Machine
from vini.node.place import Place
from vini.node.ssh.place import running as ssh_server
from vini.node.trace import Traces
from vini.plan import plan

T = TypeVar("T")
NETNS = Path("/run/netns")
# Where it is mounted, in memory as /run is on most machines: ext4 takes 2 ms to delete a file or a directory.
MEMORY = Path("/dev/shm") if " /dev/shm tmpfs rw" in Path("/proc/mounts").read_text() else None
_count = itertools.count()


def eventually(check: Callable[[], T], within: float = 120.0) -> T:
    """The first true value of `check`; fails with its last value, or its last error, when there is none in time.

    The time is what a busy machine may need, not what it should.  Between two looks it rests for as long as the last
    one took: a look may be a whole command, and what is waited for needs the processor, too.
    """
    deadline = time.monotonic() + within
    while True:
        began = time.monotonic()
        last: object = None
        with suppress_all() as errors:
            found = last = check()
            if found:
                return found
        ended = time.monotonic()
        if ended > deadline:
            raise AssertionError(f"not within {within:g} s; last: {errors[0] if errors else last!r}")
        time.sleep(min(max(ended - began, 0.02), 0.5))


@contextmanager
def suppress_all() -> Iterator[list[Exception]]:
    errors: list[Exception] = []
    try:
        yield errors
    except (AssertionError, OSError, ViniError, LookupError) as e:
        errors.append(e)


def unspoilt(measure: Callable[[], T], good: Callable[[T], bool], tries: int = 5) -> T:
    """The first good one of some measurements, each of which other load on the machine may spoil; fails with all."""
    found: list[T] = []
    while len(found) < tries:
        found.append(measure())
        if good(found[-1]):
            return found[-1]
    raise AssertionError(f"none of {tries} measurements is good: {found}")


def run(*argv: str | Path, check: bool = True, both: bool = False) -> str:
    """A program's output; of one that failed, and with `both`, what it wrote to standard error, too.

    Not of others: ip(8) complains of a namespace that somebody else makes or deletes at that moment.
    """
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if both or done.returncode else "")


def forked(act: Callable[[], object], within: float = 120.0) -> bool:
    """Done in a child of this process; False: SIGKILL ended it.  Fails where anything else did.

    The child ends here in any case: as a second pytest it would read what the first one is told.
    """
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        finally:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    process = os.pidfd_open(child)
    try:
        ended = select.select([process], [], [], within)[0]
    finally:  # also where this test's own time is over
        signal.pidfd_send_signal(process, signal.SIGKILL)  # of one that has ended, it changes nothing
        os.close(process)
        status = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert ended, f"the child has not ended within {within:g} s"
    assert code in (0, -signal.SIGKILL), "the child failed; standard error says how"
    return code == 0


class OwnPlace:
    """Nobody else's; `place` says where."""

    def __init__(self, directory: Path):
        mark = f"vt{os.getpid()}x{next(_count)}"
        self.place = Place(mark, MEMORY / f"{mark}-run" if MEMORY else directory / "run", directory / "state")
        self.place.run.mkdir()
        self.environment = {
            "VINI_MARK": self.place.mark,
            "VINI_RUN": str(self.place.run),
            "VINI_STATE": str(self.place.state),
        }

    # --- agents ------------------------------------------------------------------------------

    def client(self) -> Client:
        """A new client, as a new command has one."""
        return Client(self.place)

    def agents(self) -> list[int]:
        """Process ids of agents of this place; by its environment, not by a name."""
        want = f"VINI_MARK={self.place.mark}".encode()
        out = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if b"vini.node.serve" in arguments and want in (process / "environ").read_bytes().split(b"\0"):
                    out.append(int(process.name))
        return out

    def kill_agent(self) -> None:
        """SIGKILL, and wait until nothing is left of it."""
        for pid in self.agents():
            with suppress(ProcessLookupError):
                _kill(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        eventually(lambda: not self.agents())

    @contextmanager
    def played_machine(self) -> Iterator[None]:
        """This thread is in a network namespace that plays the machine; eth0 is up, and has no address yet."""
        node = f"host-{self.place.mark}"
        run("ip", "netns", "add", node)
        try:
            with netns.inside(NETNS / node):
                run("sh", "-ec", "ip link add eth0 type veth peer other; ip link set eth0 up; ip link set other up")
                yield
        finally:
            run("ip", "netns", "delete", node)

    # --- the machine, looked at without an agent ---------------------------------------------------

    def machine(self) -> Machine:
        """The real drivers of this place, new ones without a memory."""
        return Machine(self.drivers())

    def drivers(self) -> list:
        p = self.place
        return [
            NetworkDriver(p), WireguardDriver(p), VxlanXdpDriver(p), ShareDriver(p), OutsideDriver(p), ShapeDriver(p),
            DiskDriver(p), VolumeDriver(p), FileDriver(p), RootDriver(p), ContainerDriver(p), ProcessDriver(p),
            ProgramDriver(p), HaltDriver(p),
        ]  # fmt: skip

    def namespaces(self) -> set[str]:
        """Every `slice.sliver` that there is a trace of."""
        return Traces(self.place, ProcessDriver(self.place)).namespaces()

    def observe(self, slice_: str = "") -> frozenset[AnyObject]:
        """All that bears our mark, of one slice or of all."""
        spaces = {ns for ns in self.namespaces() if not slice_ or ns.startswith(slice_ + ".")}
        return self.machine().observe(spaces).objects

    def spec(self, slice_: str) -> SliceSpec:
        """What the agent's ledger asks for."""
        return Ledger(self.place.state / "ledger").specs[slice_]

    def is_as_asked(self, slice_: str) -> bool:
        """Fails with the difference."""
        want, have = self.spec(slice_).objects, self.observe(slice_)
        assert not want ^ have, difference(want, have)
        return True

    def sweep(self, slice_: str) -> None:
        """As an agent does when a slice is not wanted any more."""
        spaces = {ns for ns in self.namespaces() if ns.startswith(slice_ + ".")}
        outliving = Traces(self.place, ProcessDriver(self.place)).outliving(spaces)
        self.machine().apply(plan((), frozenset(map(Netns, spaces)) | outliving))

    # --- the end ---------------------------------------------------------------------------------

    def end_all(self) -> None:
        """As a person ends all: every slice down, then the agent told to stop."""

        async def end() -> None:
            client = self.client()
            for name in client.topologies():
                await client.down(name)
            with suppress(bus.AgentGone):
                await bus.Line(self.place.run / "agent.socket").ask(bus.Stop())

        if (self.place.state / "vini.db").exists():
            asyncio.run(end())
        eventually(lambda: not self.agents())

    def leftovers(self) -> list[str]:
        """Whatever bears our mark: namespaces, cgroups, mounts, processes, directories of slivers."""
        mark, place = self.place.mark, self.place
        out = [f"namespace {p.name}" for p in NETNS.glob(f"{mark}.*")]
        out += [f"cgroup {p}" for p in cgroup.of(place).rglob("*") if p.is_dir()]
        out += [f"cgroup {p}" for p in limits.joined(place, "") if p.exists()]
        out += [f"mount {m}" for m in self._mounts()]
        out += [f"agent {pid}" for pid in self.agents()]
        out += [f"process {pid}" for pid in self._inside_cgroup()]
        if place.run.is_dir():
            out += [
                f"directory {p}"
                for p in place.run.iterdir()
                if p.is_dir() and ("." in p.name or p.name in ("bpf", "tunnels"))
            ]
        return out

    def _mounts(self) -> list[str]:
        points = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [p for p in points if p.startswith((str(self.place.run) + "/", f"{NETNS}/{self.place.mark}."))]

    def _inside_cgroup(self) -> list[str]:
        out = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes()  # a zombie has none
                if command and f"/{self.place.mark}/" in (process / "cgroup").read_text():
                    out.append(f"{process.name} {command!r}")
        return out

    def destroy(self) -> None:
        """Whatever a failed test left, by our mark only."""
        self.kill_agent()
        self._end_element()
        self.end_ssh()
        group = cgroup.of(self.place)
        if group.is_dir():
            cgroup.kill(group)
            eventually(lambda: not cgroup.populated(group))
            for below in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
                below.rmdir()
            group.rmdir()
        for tree in limits.joined(self.place, ""):
            for below in [*tree.glob("*/"), tree]:
                with suppress(OSError):
                    below.rmdir()
        for path in NETNS.glob(f"{self.place.mark}.*"):
            netns.delete(path)
        for point in reversed(self._mounts()):
            run("umount", "-l", point, check=False)
        for directory in (self.place.run, self.place.state):
            if directory.exists():
                trees.remove(directory)

    def end_ssh(self) -> None:
        """The SSH server goes by itself some seconds after the last sliver; this doesn't wait for that."""
        if now := ssh_server(self.place):
            with suppress(ProcessLookupError):
                os.kill(now.pid, signal.SIGKILL)

    def _end_element(self) -> None:
        socket = str(self.place.run / "element.sock").encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if socket in (process / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGTERM)


def _kill(pid: int) -> None:
    """Returns when its files are closed too: its command line is gone before that, and mounts are still busy."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([process], [], [], 60)[0], f"process {pid} does not end"
    finally:
        os.close(process)


@contextmanager
def place_below(directory: Path) -> Iterator[OwnPlace]:
    """A place that nobody else uses, on the real machine; at the end all of it goes, and it fails when any is left."""
    own = OwnPlace(directory)
    try:
        yield own
        own.end_all()
        left = own.leftovers()
    finally:
        own.destroy()
    assert left == [], f"left behind: {left}"
    assert own.leftovers() == []


def difference(want: frozenset[AnyObject], have: frozenset[AnyObject]) -> str:
    """For a person to read."""
    lines = [f"missing: {o}" for o in sorted(want - have, key=str)]
    return "\n".join(lines + [f"too much: {o}" for o in sorted(have - want, key=str)])
