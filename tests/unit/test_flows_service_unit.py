"""A recorder of flows that fails is not started over and over; one that was killed is at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vini.node.flows.service import FlowsService
from vini.node.place import Place


@pytest.mark.parametrize(
    ("ends", "fails"), [("raise SystemExit(1)", True), ("import os; os.kill(os.getpid(), 9)", False)]
)
def test_only_a_failure_holds_back_the_next_start(tmp_path: Path, ends: str, fails: bool) -> None:
    service = FlowsService(Place("u", tmp_path, tmp_path))
    service._child = subprocess.Popen([sys.executable, "-c", ends])
    service._child.wait()
    assert service._failed() is fails
