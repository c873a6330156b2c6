"""Containers by runc, on a machine without crun."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, place_below

from vini.node import cgroup
from vini.node.container import crun
from vini.topology import parse

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("cgroup2", "containers"),
    pytest.mark.skipif(not shutil.which("runc"), reason="needs the package runc"),
]
FILE = """
name: two
defaults: {sliver: {runtime: container, commands: [{run: "sleep 100000", service: true}]}}
slivers:
  a: {resources: {memory: 64MB, pids: 64}}
  b:
links: [a -- b]
"""
FORKS = """
import os, time
try:
    for n in range(1000):
        os.fork() or (time.sleep(3), os._exit(0))
except OSError as e:
    print(n)
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    """A PATH with everything but crun."""
    bin_ = tmp_path_factory.mktemp("bin")
    for directory in map(Path, os.environ["PATH"].split(":")):
        for file in directory.iterdir() if directory.is_dir() else ():
            if file.name != "crun" and not (bin_ / file.name).is_symlink():
                (bin_ / file.name).symlink_to(file)
    with pytest.MonkeyPatch.context() as patch, place_below(tmp_path_factory.mktemp("own")) as own:
        patch.setenv("PATH", str(bin_))
        asyncio.run(own.client().up(parse(FILE)))
        yield own


def inside(own: OwnPlace, command: str, sliver: str = "a") -> str:
    argv = own.client().enter("two", sliver, ["sh", "-c", command])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode(errors="replace")


def test_it_runs_what_crun_would_and_holds_it_as_well(there: OwnPlace) -> None:
    assert (crun.state(there.place, crun.RUNC) / "two.a").exists()
    assert "1 received" in inside(there, "ping -c 1 -W 5 b")
    assert "sleep 100000" in inside(there, "ps axww")
    for pid in cgroup.pids(cgroup.of(there.place, "two.a", crun.GROUP)):
        assert Path(f"/proc/{pid}").stat().st_uid >= 0x80000
    for what in (
        "mount -t tmpfs x /mnt", "unshare --user true", "nsenter --target 1 --net true", "mknod /tmp/disk b 254 0",
        "echo b > /proc/sysrq-trigger", "touch /usr/x", "head -c 1 /proc/kcore | grep -q .", "ls /mnt/root",
    ):  # fmt: skip
        assert "DONE" not in inside(there, f"{{ {what}; }} && echo DONE"), what
    assert int(inside(there, f"/usr/bin/python3 -c '{FORKS}'")) < 64
    bomb = "/usr/bin/python3 -c 'x = bytearray(300_000_000)'; [ $? = 137 ] && echo Killed"
    eventually(lambda: "Killed" in inside(there, bomb))


def test_what_is_killed_starts_again_and_an_agent_that_is_killed_leaves_it_running(there: OwnPlace) -> None:
    group = cgroup.of(there.place, "two.b", crun.GROUP)
    old = cgroup.pids(group)
    cgroup.kill(group)
    eventually(lambda: (new := cgroup.pids(group)) and not set(new) & set(old))
    eventually(lambda: "1 received" in inside(there, "ping -c 1 -W 5 a", "b"))
    eventually(lambda: there.is_as_asked("two"))
    now = cgroup.pids(group)
    there.kill_agent()
    asyncio.run(there.client().up(parse(FILE)))
    assert cgroup.pids(group) == now
