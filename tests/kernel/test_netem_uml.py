"""The netem backend where the machine's own kernel lacks netem: test_shape.py inside user-mode Linux."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from user_mode_linux import boot, needed

from vini.node.probe import capabilities

pytestmark = [
    *needed,
    pytest.mark.skipif("netem" in capabilities(), reason="this kernel has netem: test_shape.py has run it"),
]


def test_the_netem_backend_means_the_same(tmp_path: Path) -> None:
    modules = ["drivers/net/veth.ko", "net/sched/sch_netem.ko"]
    pytest_netem = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", "-k", "netem"]
    status, output = boot(tmp_path, modules, [*pytest_netem, "tests/kernel/test_shape.py"])
    assert status == 0, output
    assert re.search(r"\d+ passed", output), output
