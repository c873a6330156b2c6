"""How the agent is kept running: as a systemd service where there is systemd, else as a plain daemon.

The service also comes back after a crash and after a reboot, and rebuilds every slice from its ledger.
A plain daemon is found again, or started again, by the next command.  So is, under systemd too, the agent of
a second place (VINI_MARK), which is for tries and tests: a machine's boot is not for those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from vini.model import ViniError
from vini.node.place import Place

_UNITS = Path("/etc/systemd/system")
_USUAL = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def unit_text(place: Place, python: str, path: Iterable[str] = _USUAL) -> str:
    """The unit file, systemd.unit(5), systemd.service(5); `path`: the directories where its agent finds programs.

    KillMode=process: slivers live in cgroups of their own, but the link element in this one, and must outlive it.
    No limit of starts: an agent that gave up would leave slices unhealed.  Nothing here may be what slivers
    must not inherit, such as a place at the end of the OOM killer's queue.
    """
    return f"""\
# Written by VINI, and again when it moves; settings of your own belong in `systemctl edit {place.mark}-agent`.
[Unit]
Description=VINI agent: keeps the virtual networks of this machine as asked
After=network.target
RequiresMountsFor={_quoted(python)} {_quoted(str(place.state))}
ConditionPathExists={python.replace("%", "%%")}
StartLimitIntervalSec=0

[Service]
ExecStart={_quoted(python)} -m vini.node.serve
Environment={_settings(place)}
{_PATH}{_quoted(":".join(path))[1:]}
Restart=always
RestartSec=1
KillMode=process
OOMPolicy=continue
LimitNOFILE=1048576
StandardOutput=append:{place.state}/agent.log
StandardError=append:{place.state}/agent.log

[Install]
WantedBy=multi-user.target
"""


def _quoted(path: str) -> str:
    """One word of a unit file, also with spaces, its % no specifiers.  Quotes in a program's path systemd refuses."""
    return f'"{path.replace("%", "%%")}"'


_PATH = 'Environment="PATH='


def _settings(place: Place) -> str:
    return f"VINI_MARK={place.mark} VINI_RUN={place.run} VINI_STATE={place.state}"


def _python() -> str:
    """This Python by the name that it has in every environment, so that one environment means one unit."""
    usual = Path(sys.executable).with_name("python3")
    return str(usual) if usual.exists() and usual.samefile(sys.executable) else sys.executable


def has_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def _is_unit(place: Place) -> bool:
    return place.mark == Place().mark and has_systemd()


def _unit(place: Place) -> Path:
    return _UNITS / f"{place.mark}-agent.service"


def is_current(place: Place) -> bool:
    """Whether a reboot would start this VINI, from where it is now, as far as that is systemd's to do."""
    return not _is_unit(place) or _is_as_written(place)


def _is_as_written(place: Place) -> bool:
    unit = _unit(place)
    if unit.is_symlink():  # masked, or somebody's own: his decision
        return True
    return unit.exists() and unit.read_text() == unit_text(place, _python(), _written_path(unit))


def _written_path(unit: Path) -> list[str]:
    lines = unit.read_text().splitlines() if unit.exists() else []
    return next((p[len(_PATH) : -1].replace("%%", "%").split(":") for p in lines if p.startswith(_PATH)), [])


def _path(unit: Path) -> list[str]:
    """Where this process finds programs, and who wrote the unit before did; the usual places first.

    What would not be one word of a unit file, or depends on the current directory, is left out.
    """
    own = [at for at in os.get_exec_path() if at.startswith("/") and at.isprintable() and not set(at) & set('"\\')]
    return list(dict.fromkeys([*_USUAL, *_written_path(unit), *own]))


def learn_path(place: Place) -> None:
    """Have the service find, from its next start, the programs that this process finds."""
    unit = _unit(place)
    if _is_unit(place) and unit.exists() and not unit.is_symlink() and _written_path(unit) != _path(unit):
        _write(place, unit)
        _systemctl("daemon-reload")


def _write(place: Place, unit: Path) -> None:
    try:
        unit.write_text(unit_text(place, _python(), _path(unit)))
    except OSError as e:
        raise ViniError(
            f"The agent's systemd unit {unit} can't be written: {e.strerror}; make its directory writable, "
            "or use a place without a unit: VINI_MARK=mine."
        ) from e


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
    if _is_unit(place):
        _start_unit(place)
        return None
    environment = {**os.environ, **dict(word.split("=", 1) for word in _settings(place).split())}
    return subprocess.Popen(
        [sys.executable, "-m", "vini.node.serve"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, env=environment,
    )  # fmt: skip


def _start_unit(place: Place) -> None:
    """An agent that runs is left alone unless its unit changes: another command may have started it just now."""
    unit = _unit(place)
    old = not _is_as_written(place)
    if old:
        _write(place, unit)
        _systemctl("enable", "--no-reload", unit.name)
        _systemctl("daemon-reload")
    if old or not _is_active(unit):
        _systemctl("restart", unit.name)  # `start` would wait until systemd itself starts it again


def stop(place: Place) -> bool:
    """End the service and leave nothing of it; whether it ran.  A plain daemon is told over its socket."""
    unit = _unit(place)
    if not _is_unit(place) or not os.path.lexists(unit):
        return False
    ran = _is_active(unit)
    if unit.is_symlink():
        _systemctl("stop", unit.name)
        return ran
    _systemctl("disable", "--no-reload", "--now", unit.name)
    unit.unlink()
    _systemctl("daemon-reload")
    return ran


def _is_active(unit: Path) -> bool:
    return subprocess.run(["systemctl", "--quiet", "is-active", unit.name]).returncode == 0


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode:
        raise ViniError(
            f"systemd refused `systemctl {' '.join(words)}`: {done.stderr.strip()} "
            "`systemctl status` and `journalctl -xe` may say more."
        )
