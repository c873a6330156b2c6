"""The agent's systemd unit as text; tests/kernel/test_systemd_uml.py sees it work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vini.node import service
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


def test_its_path_is_that_of_who_wrote_it_and_another_shells_is_no_reason_to_write_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(service, "_UNITS", tmp_path)
    monkeypatch.setattr(service, "has_systemd", lambda: True)
    monkeypatch.setattr(service, "_is_active", lambda _: True)
    monkeypatch.setattr(service, "_systemctl", lambda *words: asked.append(words[0]))
    place, unit = Place(state=tmp_path / "state"), tmp_path / "vini-agent.service"
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def path() -> list[str]:
        return [line for line in unit.read_text().splitlines() if "PATH" in line]

    monkeypatch.setenv("PATH", '/opt/100% mine/bin:.:/bin:/a"b')
    service.start(place)
    assert path() == [f'Environment="PATH={usual}:/opt/100%% mine/bin"']
    monkeypatch.setenv("PATH", "/opt/other")
    assert service.is_current(place)
    service.start(place)
    assert asked == ["enable", "daemon-reload", "restart"]
    for _ in range(2):
        service.learn_path(place)
        assert path() == [f'Environment="PATH={usual}:/opt/100%% mine/bin:/opt/other"']
    assert asked[3:] == ["daemon-reload"] and service.is_current(place)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (`apt-get install systemd`)")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    python = tmp_path / "50% of my networks"
    python.symlink_to("/bin/true")
    unit = tmp_path / "vini-agent.service"
    unit.write_text(unit_text(Place(), str(python), ["/bin", "/opt/100% mine/bin"]))
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True)
    about = [line for line in done.stderr.splitlines() if "vini-agent" in line or str(tmp_path) in line]
    assert about == []
