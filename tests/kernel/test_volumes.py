"""Volumes: what outlives a container, and where no name in it leads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually

from vini.node import cgroup, netns
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers")]
FILE = """
name: kept
slivers: {box: {runtime: container, resources: {cores: 0.5}, volumes: {data: /data, more: /var/lib/more}}}
"""


def vini(own: OwnPlace, *words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "vini.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own.environment}, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def inside(own: OwnPlace, command: str) -> str:
    argv = own.client().enter("kept", "box", ["sh", "-c", command])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode()


def test_a_volume_outlives_restart_reset_and_slice_until_it_is_removed(own: OwnPlace, tmp_path: Path) -> None:
    client = own.client()
    asyncio.run(client.up(parse(FILE)))
    assert inside(own, "echo 1 > /data/x; echo 1 > /root/x; stat -c %u:%g /data /data/x") == "0:0\n0:0\n"
    on_disk = own.place.state / "volumes/kept.box/data/x"
    assert (on_disk.stat().st_uid, on_disk.read_text()) == (0, "1\n")
    assert (own.place.state / "volumes").stat().st_mode & 0o777 == 0o700
    vini(own, "sliver", "reset", "box")
    eventually(lambda: inside(own, "cat /data/x; ls /root") == "1\n")
    assert "is in use" in vini(own, "volume", "remove", "kept.box", "data", code=1)
    asyncio.run(client.down("kept"))
    found = {v["name"]: v for v in json.loads(vini(own, "volume", "list", "--json"))}
    assert (found["data"]["files"], found["data"]["used"], found["more"]["files"]) == (1, False, 0)
    asyncio.run(client.up(parse(FILE)))
    assert inside(own, "cat /data/x") == "1\n"
    asyncio.run(client.down("kept"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (on_disk.parent / "link").symlink_to(outside)
    assert "is gone" in vini(own, "volume", "remove", "kept.box", "data")
    assert "has no volume 'data'" in vini(own, "volume", "remove", "kept.box", "data", code=1)
    vini(own, "volume", "remove", "kept.box", "more")
    assert not list((own.place.state / "volumes").iterdir())
    assert (outside / "secret").read_text() == "s"


def test_no_link_in_a_volume_leads_a_copy_out(own: OwnPlace, tmp_path: Path) -> None:
    """He swaps a directory for a link, back and forth, while files come."""
    asyncio.run(own.client().up(parse(FILE)))
    outside, sent = tmp_path / "outside", tmp_path / "sent"
    outside.mkdir()
    (outside / "there").write_text("s")
    (sent / "d").mkdir(parents=True)
    for n in range(20):
        (sent / f"d/{n}").write_text("sent")
    (sent / "out").symlink_to(outside)
    swaps = f"cd /data; while :; do mkdir sent sent/d; rm -rf sent/d; ln -s {outside} sent/d; rm -rf sent; done"
    argv = own.client().enter("kept", "box", ["sh", "-c", swaps])
    racer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = {**os.environ, **own.environment}
    for _ in range(2):  # whether it succeeds is his own loss
        subprocess.run([sys.executable, "-m", "vini.cli", "cp", str(sent), "box:/data/"], env=env, capture_output=True)
    cgroup.kill(cgroup.of(own.place, "kept.box", "exec"))
    racer.wait()
    inside(own, f"rm -rf /data/*; ln -s {outside} /data/link; ln -s {outside} /data/way")
    vini(own, "cp", sent / "d/1", "box:/data/link")  # it leads nowhere inside, and is replaced
    assert inside(own, "cat /data/link") == "sent"
    assert "can't cd" in vini(own, "cp", "box:/data/way/there", tmp_path / "got", code=1)
    assert [p.name for p in outside.iterdir()] == ["there"]
    asyncio.run(own.client().down("kept"))


BOUNDED = """
name: kept
slivers: {box: {runtime: container, resources: {cores: 0.5}, volumes: {data: VOLUME}}}
"""


def bring_up(own: OwnPlace, volume: str) -> None:
    asyncio.run(own.client().up(parse(BOUNDED.replace("VOLUME", volume))))


def listed(own: OwnPlace) -> dict[str, object]:
    (found,) = json.loads(vini(own, "volume", "list", "--json"))
    return found


@pytest.mark.needs("disks")
def test_a_volume_of_a_size_holds_no_more_and_is_there_again_however_it_went(own: OwnPlace) -> None:
    bring_up(own, "{at: /data, size: 16MB, inodes: 200}")
    at = own.place.state / "volumes/kept.box/data"
    image = at.with_suffix(".img")
    assert image.stat().st_size == 16 * 10**6 // 4096 * 4096
    assert "No space left" in inside(own, "dd if=/dev/zero of=/data/big bs=1M count=99; rm /data/big")
    full = inside(own, "cd /data; mkdir many; for n in $(seq 300); do touch many/$n || break; done; ls many | wc -l")
    assert "No space left" in full
    assert int(full.split()[-1]) < 200
    inside(own, "rm -r /data/many; echo 1 > /data/x")
    row = listed(own)
    assert (row["files"], row["used"]) == (1, True)
    assert 12e6 < row["most"] < 16e6
    (top,) = json.loads(vini(own, "top", "-n", "1", "-d", "0.1", "--json"))
    assert [(v["name"], 11 < v["most_mib"] < 16) for v in top["volumes"]] == [("data", True)]
    assert "FULLEST VOLUME MiB" in vini(own, "top", "-n", "1", "-d", "0.1")

    asyncio.run(own.client().down("kept"))
    assert not at.is_mount()
    assert image.exists()
    assert listed(own) == {**row, "used": False}
    assert own.observe() == frozenset()

    bring_up(own, "{at: /data, size: 16MB, inodes: 200}")
    assert inside(own, "cat /data/x") == "1\n"
    netns.unmount(at)  # by hand
    eventually(lambda: at.is_mount() and own.is_as_asked("kept"))
    eventually(lambda: inside(own, "cat /data/x") == "1\n")
    for volume, most in (("{at: /data, size: 20MB}", 20e6), ("/data", 0), ("{at: /data, size: 30MB}", 30e6)):
        bring_up(own, volume)
        eventually(lambda: inside(own, "cat /data/x") == "1\n")
        assert most * 0.75 <= listed(own)["most"] <= most
        assert image.exists() == bool(most)
    asyncio.run(own.client().down("kept"))
    vini(own, "volume", "remove", "kept.box", "data")
    assert not list((own.place.state / "volumes").iterdir())


DIG = """
import os
for top, depth in (("/data", 20_000), ("/root", 3_000)):
    os.chdir(top)
    for n in range(depth):
        os.mkdir("d")
        os.chdir("d")
"""


def test_directories_of_any_depth_are_counted_reset_and_removed(own: OwnPlace) -> None:
    """A tenant who digs: deeper than a path may be long, than a process may have files open, than Python recurses."""
    bring_up(own, "/data")
    assert inside(own, f"/usr/bin/python3 -c '{DIG}' && echo dug") == "dug\n"
    assert listed(own)["files"] == 20_000
    assert "deeper than a path can say" in vini(own, "sliver", "snapshot", "box", "dug", code=1)
    vini(own, "sliver", "reset", "box")
    eventually(lambda: inside(own, "ls /root") == "")
    assert inside(own, f"/usr/bin/python3 -c '{DIG.replace('20_000', '2_000').replace('/data', '/srv')}'") == ""
    asyncio.run(own.client().down("kept"))
    assert not own.place.sliver("kept.box").exists()
    assert own.observe() == frozenset()
    assert "is gone" in vini(own, "volume", "remove", "kept.box", "data")
