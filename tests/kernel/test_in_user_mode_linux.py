"""What this machine's kernel lacks and user-mode Linux has: the tests that need it, all in one boot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_machine import modules, run_in
from user_mode_linux import boot, module_files, needed

from vini.dataplane import probe

pytestmark = [*needed, pytest.mark.other_kernel]


def test_in_user_mode_linux(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    probe.built()  # in there, all but /run is read-only
    files = module_files(*modules("user-mode-linux"))
    run_in("user-mode-linux", lambda command: boot(tmp_path, files, command), record_property)
