"""How the agent is kept running: a systemd unit where there is systemd, else a plain daemon.

With systemd it also comes back after a crash and after a reboot, and rebuilds every slice from its
ledger.  A plain daemon is found again, or started again, by the next command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from vini.model import ViniError
from vini.node.place import Place

_UNITS = Path("/etc/systemd/system")


def unit_text(place: Place, python: str) -> str:
    """The unit file, systemd.service(5).  Slivers live outside its cgroup and outlive it: KillMode=process."""
    return f"""\
[Unit]
Description=VINI agent: keeps the virtual networks of this machine as asked
After=network.target

[Service]
ExecStart={python} -m vini.node.serve
Environment={_settings(place)}
Restart=always
RestartSec=1
KillMode=process
LimitNOFILE=1048576
OOMScoreAdjust=-500
StandardOutput=append:{place.state}/agent.log
StandardError=append:{place.state}/agent.log

[Install]
WantedBy=multi-user.target
"""


def _settings(place: Place) -> str:
    return f"VINI_MARK={place.mark} VINI_RUN={place.run} VINI_STATE={place.state}"


def has_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def start(place: Place) -> subprocess.Popen[bytes] | None:
    """Start the agent; the child process where it is a plain daemon.  Raises ViniError where systemd refuses."""
    try:
        place.state.mkdir(parents=True, exist_ok=True)
        log = (place.state / "agent.log").open("ab")
    except OSError as e:
        raise ViniError(f"The agent can't write to {place.state}: {e.strerror}; check the disk, or VINI_STATE.") from e
    with log:
        return _start(place, log)


def _start(place: Place, log: BinaryIO) -> subprocess.Popen[bytes] | None:
    if has_systemd():
        _start_unit(place)
        return None
    environment = {**os.environ, **dict(word.split("=", 1) for word in _settings(place).split())}
    return subprocess.Popen(
        [sys.executable, "-m", "vini.node.serve"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, env=environment,
    )  # fmt: skip


def _start_unit(place: Place) -> None:
    path = _UNITS / f"{place.mark}-agent.service"
    text = unit_text(place, sys.executable)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        _systemctl("daemon-reload")
    _systemctl("enable", "--now", path.name)
    _systemctl("restart", path.name)


def stop(place: Place) -> None:
    """Keep systemd from starting it again; a plain daemon is told over its socket."""
    if has_systemd() and (_UNITS / f"{place.mark}-agent.service").exists():
        _systemctl("disable", "--now", f"{place.mark}-agent.service")


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode:
        raise ViniError(f"systemd refused `systemctl {' '.join(words)}`: {done.stderr.strip()}")
