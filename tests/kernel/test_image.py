"""A sliver with a root file system of its own: a directory on the node."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from own_place import eventually

from vini.client import Client
from vini.model import ViniError
from vini.topology import parse

BUSYBOX = Path("/bin/busybox")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs the package busybox-static"),
]
FILE = """
name: boxed
slivers:
  a: {{image: {image}, files: {{/etc/hello: "hi"}}, commands: [{{run: "cat /etc/motd /etc/hello > /out; sleep 1000", service: true}}]}}
  b:
links: [a -- b]
"""  # noqa: E501


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "image"
    for directory in ("bin", "etc", "proc", "sys", "dev"):
        (root / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin")
    for name in ("sh", "cat", "sleep", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "motd").write_text("image ")
    return root


def inside(client: Client, *argv: str) -> str:
    return subprocess.run(client.enter("boxed", "a", argv), capture_output=True, text=True, timeout=60).stdout


def test_its_commands_see_the_image_with_the_files_placed_in_it_and_the_image_stays_as_it_was(own, image):
    before = sorted(os.walk(image))
    client = own.client()
    asyncio.run(client.up(parse(FILE.format(image=image))))
    eventually(lambda: inside(client, "cat", "/out") == "image hi")
    assert set(inside(client, "ls", "/").split()) == {"bin", "etc", "proc", "sys", "dev", "out", own.place.run.parts[1]}
    assert "to-b" in inside(client, "ls", "/sys/class/net")
    assert sorted(os.walk(image)) == before


def test_an_image_that_is_not_there_is_named(own, tmp_path):
    client = own.client()
    with pytest.raises(ViniError, match="there is no image .*/nowhere on this node"):
        asyncio.run(client.up(parse(FILE.format(image=tmp_path / "nowhere"))))
