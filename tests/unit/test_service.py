"""The agent's systemd unit as text; tests/kernel/test_systemd_uml.py sees it work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vini.node.place import Place
from vini.node.service import unit_text

ODD = "/home/joe/50% of my networks/.venv/bin/python3"


def test_odd_paths_stay_one_word() -> None:
    lines = unit_text(Place(), ODD).splitlines()
    word = '"/home/joe/50%% of my networks/.venv/bin/python3"'
    assert f"ExecStart={word} -m vini.node.serve" in lines
    assert f'RequiresMountsFor={word} "/var/lib/vini"' in lines


def test_the_place_is_passed_on() -> None:
    place = Place("vini", Path("/run/elsewhere"), Path("/srv/vini"))
    lines = unit_text(place, ODD).splitlines()
    assert "Environment=VINI_MARK=vini VINI_RUN=/run/elsewhere VINI_STATE=/srv/vini" in lines
    assert "StandardOutput=append:/srv/vini/agent.log" in lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (`apt-get install systemd`)")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    python = tmp_path / "50% of my networks"
    python.symlink_to("/bin/true")
    unit = tmp_path / "vini-agent.service"
    unit.write_text(unit_text(Place(), str(python)))
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True)
    about = [line for line in done.stderr.splitlines() if "vini-agent" in line or str(tmp_path) in line]
    assert about == []
