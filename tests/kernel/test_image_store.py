"""Slivers of images that must be unpacked, and `vini image`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually

from vini.model import ViniError
from vini.topology import parse

BUSYBOX = Path("/bin/busybox")
pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("cgroup2", "containers"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs the package busybox-static"),
]
FILE = """
name: boxed
slivers:
  a: {{runtime: container, image: {archive}}}
  b: {{runtime: container, image: box}}
  c: {{image: box}}
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("image")
    root = directory / "root"
    for name in ("bin", "etc", "proc", "sys", "dev", "run", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin")
    for name in ("sh", "cat", "sleep", "ls", "id"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/motd").write_text("image")
    with tarfile.open(directory / "box.tar.gz", "w:gz") as tar:
        tar.add(root, arcname=".")
    return directory / "box.tar.gz"


def vini(own: OwnPlace, *words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "vini.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own.environment}, timeout=120)
    assert done.returncode == code, done.stderr
    assert "bug in VINI" not in done.stderr
    return done.stderr if code else done.stdout


def inside(own: OwnPlace, sliver: str, *argv: str) -> str:
    return subprocess.run(own.client().enter("boxed", sliver, argv), capture_output=True, text=True, timeout=60).stdout


def test_slivers_live_in_archives_and_in_images_of_the_store(own: OwnPlace, archive: Path) -> None:
    made = json.loads(vini(own, "image", "import", archive, "--json"))
    assert made["names"] == ["box"]
    client = own.client()
    asyncio.run(client.up(parse(FILE.format(archive=archive))))
    for sliver in "abc":
        assert inside(own, sliver, "cat", "/etc/motd") == "image"
    inside(own, "a", "sh", "-c", "echo mine > /etc/motd")
    assert inside(own, "b", "cat", "/etc/motd") == "image"
    assert (Path(made["root"]) / "etc/motd").read_text() == "image"
    assert "box.tar.gz" in vini(own, "image", "list")
    assert json.loads(vini(own, "image", "show", "box", "--json"))["used"]
    assert "is a running sliver's" in vini(own, "image", "remove", "box", code=1)
    asyncio.run(client.down("boxed"))
    assert "and the image with it" in vini(own, "image", "remove", "box")
    assert "no image yet" in vini(own, "image", "list")


def test_what_is_no_image_is_told_of(own: OwnPlace, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_text("no archive " * 1000)
    text = f"""
name: boxed
defaults: {{sliver: {{runtime: container}}}}
slivers: {{a: {{image: {tmp_path}/bad.tar}}, b: {{image: nothing}}}}
"""
    with pytest.raises(ViniError) as told:
        asyncio.run(own.client().up(parse(text)))
    assert "bad.tar is refused. It is no tar archive" in str(told.value)
    assert "There is no image 'nothing' on this node" in str(told.value)


def test_the_disk_of_a_sliver_becomes_an_image_with_all_that_it_is_and_nothing_of_the_node(
    own: OwnPlace, tmp_path: Path
) -> None:
    client = own.client()
    (tmp_path / "secret").write_text("secret of the node")
    asyncio.run(client.up(parse("name: boxed\nslivers: {a: {runtime: container}}")))
    inside(
        own, "a", "sh", "-c",
        "echo mine > /root/x; chown 100:7 /root/x; rm /etc/protocols; rm -r /etc/pam.d; mkdir /etc/pam.d;"
        "echo > /etc/pam.d/new;"
        f"ln -s {tmp_path}/secret /root/link; mkfifo /root/pipe; echo > /run/passing",
    )  # fmt: skip
    inside(own, "a", "truncate", "-s", "30G", "/root/holes")  # of which nothing is on the disk
    assert "root/holes has 32212254720 bytes, holes counted" in vini(own, "sliver", "snapshot", "a", "kept", code=1)
    inside(own, "a", "rm", "/root/holes")
    made = json.loads(vini(own, "sliver", "snapshot", "a", "kept", "--json"))
    vini(own, "sliver", "stop", "a")
    assert json.loads(vini(own, "sliver", "snapshot", "a", "kept", "--json"))["id"] == made["id"]
    asyncio.run(client.down("boxed"))
    asyncio.run(client.up(parse("name: boxed\nslivers: {b: {runtime: container, image: kept}}")))
    look = "cat /root/x; stat -c %u:%g /root/x; ls /etc/pam.d /etc/protocols /root /run/passing"
    look += "; cat /root/link; tar --help"
    said = inside(own, "b", "sh", "-c", f"{{ {look}; }} 2>&1")
    assert said.startswith("mine\n100:7\n")
    assert "/etc/pam.d:\nnew\n" in said
    assert "/root:\nlink\nx\n" in said
    assert "cannot access '/etc/protocols'" in said
    assert "cannot access '/run/passing'" in said
    assert "secret of the node" not in said
    assert "Usage: tar" in said  # the node's own programs, as before
    asyncio.run(client.down("boxed"))


BUILDS = """#!/bin/sh
echo "I: extracting archives..." >&2
for a; do case $a in *.tar) [ "$SLOW" ] && sleep 100; cp {archive} $a;; esac; done
"""


def test_a_built_image_is_kept_by_its_recipe_and_an_interrupted_build_leaves_nothing(
    own: OwnPlace, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmdebstrap").write_text(BUILDS.format(archive=archive))
    (tmp_path / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    one = json.loads(vini(own, "image", "build", "router", "--json"))
    monkeypatch.setenv("SLOW", "1")  # would not end
    two = json.loads(vini(own, "image", "build", "again", "--json"))
    assert (one["id"], one["recipe"]) == (two["id"], two["recipe"])
    assert two["names"] == ["again", "router"]
    command = [sys.executable, "-m", "vini.cli", "image", "build", "other", "--package", "nano"]
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **own.environment}, start_new_session=True
    )
    assert child.stderr
    assert "extracting archives" in child.stderr.readline()
    rooms = set(Path("/var/tmp").glob("vini-image-*"))
    os.killpg(child.pid, signal.SIGINT)
    assert "Interrupted" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    eventually(lambda: not any(r.exists() for r in rooms))
    assert "other" not in vini(own, "image", "list")
