"""Slivers that are stopped, frozen, started anew and reset; what they are asked to be, they stay."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, place_below

from vini.node import cgroup
from vini.node.container import crun
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers")]
FILE = """
name: life
slivers:
  box: {runtime: container, files: {/etc/given: "given"}, commands: [{run: "sleep 100000", service: true}]}
  light: {commands: [{run: "sleep 200000", service: true}]}
links: [box -- light]
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    with place_below(tmp_path_factory.mktemp("own")) as own:
        (own.place.run / "life.yaml").write_text(FILE)
        asyncio.run(own.client().up(parse(FILE)))
        yield own


def vini(own: OwnPlace, *words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "vini.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own.environment}, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def inside(own: OwnPlace, command: str, sliver: str = "box") -> str:
    argv = own.client().enter("life", sliver, ["sh", "-c", command])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode()


def processes(own: OwnPlace, sliver: str) -> set[int]:
    group = cgroup.of(own.place, f"life.{sliver}")
    return {pid for g in [group, *group.glob("**/")] for pid in cgroup.pids(g)}


def first(own: OwnPlace, sliver: str = "box") -> list[int]:
    """Its container's first processes, or its command's."""
    group = cgroup.of(own.place, f"life.{sliver}")
    return cgroup.pids(group / crun.GROUP if sliver == "box" else next(group.glob("cmd-*")))


def is_frozen(own: OwnPlace, sliver: str) -> bool:
    return "frozen 1" in (cgroup.of(own.place, f"life.{sliver}") / "cgroup.events").read_text()


def test_what_is_stopped_has_no_process_and_stays_so(there: OwnPlace) -> None:
    inside(there, "echo mine > /root/kept")
    networks = [there.place.pin(f"life.{s}").stat().st_ino for s in ("box", "light")]
    left = subprocess.Popen(there.client().enter("life", "light", ["sleep", "300000"]))
    eventually(lambda: len(processes(there, "light")) > 1)
    assert vini(there, "sliver", "stop", "box", "light") == "box, light: stopped.\n"
    assert left.wait(60) != 0
    eventually(lambda: not processes(there, "box") | processes(there, "light"))
    assert "is stopped; `vini sliver start box`" in vini(there, "exec", "box", "--", "true", code=1)
    assert "sliver box is stopped, as asked" in vini(there, "status")
    there.kill_agent()
    vini(there, "agent", "start")
    eventually(lambda: there.is_as_asked("life"))
    assert not processes(there, "box") | processes(there, "light")
    assert json.loads(vini(there, "sliver", "start", "--all", "--json"))[0] == {"sliver": "box", "state": "running"}
    assert inside(there, "cat /root/kept /etc/given; ping -c 1 -W 5 light >/dev/null && echo yes").startswith(
        "mine\ngiven"
    )
    eventually(lambda: "sleep 100000" in inside(there, "ps axww"))
    assert [there.place.pin(f"life.{s}").stat().st_ino for s in ("box", "light")] == networks


def test_what_is_frozen_stands_still_and_goes_on_where_it_was(there: OwnPlace) -> None:
    before = first(there), first(there, "light")
    vini(there, "sliver", "freeze", "box", "light")
    eventually(lambda: is_frozen(there, "box") and is_frozen(there, "light"))
    assert "is frozen; `vini sliver thaw light`" in vini(there, "shell", "light", code=1)
    there.kill_agent()
    vini(there, "agent", "start")
    (cgroup.of(there.place, "life.box") / "cgroup.freeze").write_text("0")  # somebody's hand
    eventually(lambda: is_frozen(there, "box"))
    eventually(lambda: there.is_as_asked("life"))
    vini(there, "sliver", "thaw", "box", "light")
    eventually(lambda: not is_frozen(there, "box") and not is_frozen(there, "light"))
    assert (first(there), first(there, "light")) == before


def test_what_is_started_anew_keeps_its_files_and_the_file_of_the_slice_does_not_start_it_again(
    there: OwnPlace,
) -> None:
    inside(there, "echo mine > /root/kept")
    old = [*first(there), *first(there, "light")]
    vini(there, "sliver", "restart", "box", "light")
    eventually(lambda: (new := [*first(there), *first(there, "light")]) and not set(new) & set(old))
    now = first(there)
    assert inside(there, "cat /root/kept") == "mine\n"
    vini(there, "up", there.place.run / "life.yaml")
    eventually(lambda: there.is_as_asked("life"))
    assert first(there) == now


def test_what_is_reset_has_a_fresh_disk_with_the_slices_files_and_nothing_outside_is_touched(
    there: OwnPlace, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("s")
    inside(
        there, f"echo x > /root/gone; mkdir /srv/d; ln -s {tmp_path} /srv/d/out; echo bad > /etc/given; rm /etc/hosts"
    )
    old = first(there)
    assert "is light" in vini(there, "sliver", "reset", "light", code=1)
    vini(there, "sliver", "reset", "box")
    eventually(lambda: (new := first(there)) and not set(new) & set(old))
    eventually(lambda: inside(there, "ls /root /srv; cat /etc/given") == "/root:\n\n/srv:\ngiven")
    assert "light" in inside(there, "cat /etc/hosts")
    assert (tmp_path / "outside").read_text() == "s"


def test_what_is_frozen_can_be_taken_down(there: OwnPlace) -> None:
    vini(there, "sliver", "freeze", "--all")
    eventually(lambda: is_frozen(there, "box"))
    vini(there, "down")
    assert not cgroup.of(there.place, "life.box").exists()
