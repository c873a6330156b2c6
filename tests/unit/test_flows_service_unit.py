"""A recorder of flows that fails is not started over and over; one that was killed is at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vini.node.flows.service import FlowsService, keep
from vini.node.place import Place


@pytest.mark.parametrize(("megabytes", "of_one_file"), [("1", 1), ("100", 25), ("4096", 256), ("nonsense", 256)])
def test_the_newest_file_which_is_always_kept_is_a_part_of_what_may_be_kept(
    monkeypatch, megabytes, of_one_file
) -> None:
    monkeypatch.setenv("VINI_FLOWS_MB", megabytes)
    assert keep().part_megabytes == of_one_file


@pytest.mark.parametrize(
    ("ends", "fails"), [("raise SystemExit(1)", True), ("import os; os.kill(os.getpid(), 9)", False)]
)
def test_only_a_failure_holds_back_the_next_start(tmp_path: Path, ends: str, fails: bool) -> None:
    service = FlowsService(Place("u", tmp_path, tmp_path))
    service._child = subprocess.Popen([sys.executable, "-c", ends])
    service._child.wait()
    assert service._failed() is fails
