"""An OCI runtime's commands (crun(1), else runc(8)): start a container, run something in it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from vini.node import cgroup
from vini.node.container import limits, resized, slices, users
from vini.node.place import Place

CRUN, RUNC = "crun", "runc"
# Where its root is put together: nobody else sees that, and its own root, who is nobody here, gets there.
ROOM = Path("/mnt")
RECORD = "container.json"  # in a sliver's directory: what was asked of its container when that was started
GROUP = "container"  # the cgroup of a container's first process, beside those of the sliver's processes


def home(place: Place) -> Path:
    """Where all that containers need is; what bears a sliver's name there is that sliver's."""
    return place.run / "containers"


def state(place: Place, program: str) -> Path:
    """The runtime's own directory: one in it for each container.  Who has one there was started by it."""
    return home(place) / ("state" if program == CRUN else "state-runc")


@cache
def program() -> str:
    """The runtime that starts containers here; "" where there is none."""
    return next((p for p in (CRUN, RUNC) if shutil.which(p)), "")


def start(place: Place, ns: str, bundle: Path) -> list[str]:
    """The command line that starts the container of a bundle; its first process is in GROUP."""
    group = cgroup.of(place, ns, GROUP)
    words = f"run --detach --bundle {shlex.quote(str(bundle))} {shlex.quote(ns)}"
    return _command(place, ns, program(), [group], words)


def started(place: Place, ns: str) -> None:
    """To be called after the start: runc puts the first process into a group of its own choice, if it has version 2."""
    with suppress(FileNotFoundError):
        pid = msgspec.json.decode((state(place, RUNC) / ns / "state.json").read_bytes())["init_process_pid"]
        (cgroup.of(place, ns, GROUP) / "cgroup.procs").write_text(str(pid))


def enter(place: Place, ns: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` inside: on a terminal of the container's own where it has one.

    Never on the node's: what runs inside could type there.
    """
    by = RUNC if (state(place, RUNC) / ns).exists() else CRUN
    follows = [] if by == RUNC else [f"if [ -t 0 ]; then ({_RESIZED} $$ >/dev/null 2>&1 &); fi"]
    # With both versions of cgroups, runc has no use for version 2, and so leaves our mark alone.
    group = _SAME_GROUP if by == RUNC and not limits.version_2_apart() else ""
    words = f'exec {group} $([ -t 0 ] && echo --tty) {shlex.quote(ns)} "$@"'
    return [*_command(place, ns, by, [], words, follows), *argv]


_RESIZED = shlex.join((sys.executable, "-I", "-S", resized.__file__))  # runc does that itself


# runc would move what it starts into the container's group, which is the sliver's: it is to stay in its own below that.
_SAME_GROUP = """$(g=$(sed -n s,^0::,,p /proc/self/cgroup); case $g in /*/*/*) echo --cgroup "${g#/*/*/}";; esac)"""


def _command(
    place: Place, ns: str, program: str, groups: Sequence[Path], words: str, first: Sequence[str] = ()
) -> list[str]:
    """`words`, a shell's, given to the runtime from within the sliver's limits; after the lines `first`."""
    lines = [*first]
    lines += [f"echo 0 > {shlex.quote(str(g / 'cgroup.procs'))}" for g in (*groups, *limits.joined(place, ns))]
    before = _before(program, bool(groups))
    lines += before
    manager = "--cgroup-manager=disabled " if program == CRUN else ""
    lines.append(f"exec {program} --root {shlex.quote(str(state(place, program)))} {manager}{words}")
    in_hurry = slices.can_be_short() and limits.has_reservation(place, ns)
    hurried = [sys.executable, "-I", "-S", slices.__file__] if in_hurry else []
    apart = ["unshare", "--mount", "--propagation", "slave"] if before else []
    return [*hurried, *apart, "sh", "-ec", "\n".join(lines), "sh"]


def _before(program: str, starts: bool) -> list[str]:
    """Steps of a shell that make what the runtime alone is to see."""
    hidden = limits.version_2_apart()
    if program == CRUN:  # refuses machines that have both versions of cgroups, so there it sees only the first
        return [f"umount {shlex.quote(str(hidden))}"] if hidden else []
    if starts:
        return []
    # runc goes to the container's root by the path it had at the start, where only who started it saw it.
    return [f"mount -t tmpfs -o mode=755,size=64k vini {ROOM}", f"mkdir {ROOM}/root"]


def forget(place: Place, ns: str) -> None:
    """Delete what runtimes remember of a container whose processes have ended, and runc's groups of version 1."""
    shutil.rmtree(state(place, CRUN) / ns, ignore_errors=True)
    mine = state(place, RUNC) / ns
    with suppress(FileNotFoundError, msgspec.DecodeError):
        groups = msgspec.json.decode((mine / "state.json").read_bytes())["cgroup_paths"].values()
        for group in map(Path, groups):
            if group not in (*limits.joined(place, ns), cgroup.of(place, ns)):
                for directory in (group, group.parent):  # the last sliver takes the latter along
                    with suppress(OSError):
                        directory.rmdir()
    shutil.rmtree(mine, ignore_errors=True)


def is_contained(place: Place, ns: str) -> bool:
    """Whether a sliver is a container: told by its network, so from before it first starts."""
    return users.is_tenant(place.pin(ns))
