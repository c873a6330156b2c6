"""The commands that are before all others in a sliver's PATH, and run those of the same name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import vini.cli

BIN = Path(vini.cli.__file__).parent / "bin"
REAL = """#!/bin/sh
echo "real $* with $PATH"
"""


@pytest.mark.parametrize("tool", ["birdc", "vtysh"])
@pytest.mark.parametrize(
    "path",
    [
        "{own}:{real}:/bin",
        "{other}:{own}:{real}:/bin",
        "{own}:{own}:{real}:{own}:/bin",
        "{real}:/bin:{own}",
        "{own}/:{real}:/bin",
    ],
)
def test_a_tool_finds_the_real_one_wherever_its_own_directory_is(tool: str, path: str, tmp_path: Path) -> None:
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "real" / tool).write_text(REAL)
    (tmp_path / "real" / tool).chmod(0o755)
    paths = path.format(own=BIN, real=tmp_path / "real", other=tmp_path / "other")
    done = subprocess.run(
        [BIN / tool, "show"],
        env={"PATH": paths, "VINI_SLIVER_DIR": "/there"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout.startswith("real ") and " show " in done.stdout and "/there/" in done.stdout, done.stderr
    assert str(BIN) not in done.stdout
