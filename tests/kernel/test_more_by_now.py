"""An agent knows what the machine could do when it was started; whoever follows its advice need not start it anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from own_place import OwnPlace

from vini.model import Unsupported
from vini.node import cgroup
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers")]
LIGHT = "name: more\nslivers: {a: {commands: [{run: sleep 1000, service: true}]}}"
BOTH = f"{LIGHT[:-1]}, b: {{runtime: container}}}}"


def living(own: OwnPlace) -> list[int]:
    return [pid for group in cgroup.of(own.place, "more.a").glob("cmd-*") for pid in cgroup.pids(group)]


def test_what_was_installed_since_the_agent_was_started_is_used(
    own: OwnPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in (p for at in ("/usr/bin", "/usr/sbin") for p in Path(at).iterdir()):
        if program.name not in ("crun", "runc") and not (tmp_path / program.name).is_symlink():
            (tmp_path / program.name).symlink_to(program)
    with monkeypatch.context() as before:
        before.setenv("PATH", str(tmp_path))
        asyncio.run(own.client().up(parse(LIGHT)))
        with pytest.raises(Unsupported, match="apt-get install crun"):
            asyncio.run(own.client().up(parse(BOTH)))
    first = living(own)
    assert first
    asyncio.run(own.client().up(parse(BOTH)))
    assert living(own) == first
    asyncio.run(own.client().down("more"))
