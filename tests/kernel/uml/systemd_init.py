"""Becomes systemd in a user-mode Linux as init.py's; once it has booted, it runs one command and powers off.

/etc/systemd/system and /var/lib are on the disk ubda, directories `units` and `lib`, and so outlive a reboot.
Environment as for init.py.  One line of output is "exit status N".
"""

import os
from pathlib import Path

from init import bind, mount, prepare

_MASKED = ("console-getty.service", "getty@.service", "systemd-tmpfiles-setup.service")  # they only take time
_CHECK = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory={here}
Environment=PYTHONDONTWRITEBYTECODE=1 HOME=/run/tmp TMPDIR=/run/tmp PATH={path}
ExecStart={command}
ExecStopPost=sh -c 'echo "exit status $$EXIT_STATUS"; systemctl --no-block poweroff'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""


def main() -> None:
    prepare()
    for name in ("disk", "systemd/system/multi-user.target.wants"):
        Path("/run", name).mkdir(parents=True)
    mount("ext4", "/run/disk", "/dev/ubda")
    bind("/run/disk/units", "/etc/systemd/system")
    bind("/run/disk/lib", "/var/lib")
    units = Path("/run/systemd/system")
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")
    command = " ".join(f'"{word}"' for word in os.environ["RUN"].split("|"))
    (units / "check.service").write_text(
        _CHECK.format(here=os.environ["FROM"], path=os.environ["PATH"], command=command)
    )
    (units / "multi-user.target.wants/check.service").symlink_to("../check.service")
    os.execv("/lib/systemd/systemd", ["systemd", "--log-level=err", "--show-status=no"])


if __name__ == "__main__":
    main()
