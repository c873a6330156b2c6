"""What this machine's kernel lacks, and user-mode Linux too: the tests that need it, all in one boot of QEMU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kernel_machine import modules, run_in
from qemu import boot, needed

pytestmark = [*needed, pytest.mark.other_kernel]


def test_in_qemu(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    run_in("qemu", lambda command: boot(tmp_path, modules("qemu"), command), record_property)
