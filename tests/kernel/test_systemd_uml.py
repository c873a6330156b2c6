"""The agent as a systemd service: a disk that is booted twice by systemd, inside user-mode Linux."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from user_mode_linux import boot, needed

from vini.dataplane import element

# No netem: so the link element runs, which the agent starts and must outlive it.
LINKS = ["drivers/net/veth.ko", "drivers/net/tun.ko", "net/sched/sch_ingress.ko", "net/sched/cls_bpf.ko"]
IPV6 = ["lib/crc-ccitt.ko", "net/ipv6/ipv6.ko"]
SYSTEMD = Path("/lib/systemd/systemd")
MKE2FS = shutil.which("mke2fs", path="/usr/sbin:/sbin")

pytestmark = [
    *needed,
    pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd (`apt-get install systemd`)"),
    pytest.mark.skipif(MKE2FS is None, reason="needs mke2fs (`apt-get install e2fsprogs`)"),
    pytest.mark.needs("frr", "element"),
    pytest.mark.other_kernel,
]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """What outlives a reboot: the directories `units` and `lib`, empty."""
    for name in ("units", "lib"):
        (tmp_path / "content" / name).mkdir(parents=True)
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run([str(MKE2FS), "-q", "-t", "ext4", "-d", tmp_path / "content", path], check=True)
    return path


def test_the_service_survives_what_happens_to_services(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked stands in the two files; each has a boot of its own, the second as after a reboot."""
    monkeypatch.delenv("VINI_CACHE", raising=False)
    element.build()  # in there, nothing can be written where it is kept
    pytest_here = [sys.executable, "-m", "pytest", "--color=no", "-x", "-p", "no:cacheprovider"]
    for file in ("first_boot.py", "second_boot.py"):
        check = [*pytest_here, f"tests/kernel/uml/{file}"]
        status, output = boot(tmp_path, LINKS + IPV6, check, "systemd_init.py", f"ubd0={disk}", "systemd.show_status=0")
        assert status == 0, output
        assert re.search(r"\d+ passed", output), output
