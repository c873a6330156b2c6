"""The routing daemon of examples/daemon-plugin: found as if it were installed, and really running, beside BIRD."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest
from own_place import run
from pings import unanswered, up

from vini import daemons
from vini.embed import router
from vini.layout import layout
from vini.plugins import router_plugin
from vini.topology import parse

EXAMPLE = Path(__file__).parents[2] / "examples/daemon-plugin"
pytestmark = [pytest.mark.root, pytest.mark.needs("bird")]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What `pip install` leaves: the package on the path, and its entry points in a dist-info directory."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = "".join(
        f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for g, p in project["entry-points"].items()
    )
    info = tmp_path / f"vini_pyrip-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(points)
    for path in (tmp_path, EXAMPLE):
        monkeypatch.syspath_prepend(str(path))
    daemons.forget()
    yield
    daemons.forget()


@pytest.mark.usefixtures("installed")
def test_a_daemon_of_another_package_converges_beside_bird(ours):
    topology = parse((EXAMPLE / "rip.yaml").read_text(), "rip.yaml")

    async def live() -> None:
        async with up(ours.client(), topology) as (client, _):
            await client.wait_converged(topology.name)
            assert await unanswered(client, topology) == []
            west, east = router(topology, layout(topology), "west"), client.address(topology, "east")
            assert f"{east} via" in (routes := run(*client.enter(topology.name, "west", ["ip", "route"])))
            assert "proto rip" in routes
            ((_, asked),) = router_plugin("pyrip").adjacencies_argv(west)
            place = str(client.place.sockets(west.ns))
            said = run(*client.enter(topology.name, "west", [a.replace("{run}", place) for a in asked]))
            assert [a.dev for a in router_plugin("pyrip").adjacencies("rip", said)] == ["to-middle"]

    asyncio.run(live())
