"""Run by test_systemd_uml.py after first_boot.py and a reboot, with the same disk."""

from __future__ import annotations

from first_boot import PLACE, UNIT, agent, inside, shown, vini
from own_place import eventually, run

from vini.node import cgroup


def test_the_service_and_its_slices_come_back_without_a_command() -> None:
    assert (shown("ActiveState"), shown("NRestarts")) == ("active", "0")
    eventually(lambda: "proto ospf" in run(*inside("left", "ip", "route")), within=60)


def test_down_and_stop_leave_nothing() -> None:
    assert agent() == int(shown("MainPID"))
    vini("down", "--all")
    vini("agent", "stop")
    assert run("systemctl", "is-active", UNIT, check=False).strip() == "inactive"
    assert shown("LoadState") == "not-found"
    assert not list(PLACE.netns("x").parent.glob("vini.*"))
    assert not cgroup.populated(cgroup.of(PLACE))
