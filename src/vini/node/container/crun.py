"""crun's commands (crun(1)): start a container, run something in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vini.node import cgroup
from vini.node.container import limits, users
from vini.node.place import Place

GROUP = "container"  # the cgroup of a container's first process, beside those of the sliver's processes


def home(place: Place) -> Path:
    """Where all that containers need is; what bears a sliver's name there is that sliver's."""
    return place.run / "containers"


def state(place: Place) -> Path:
    """crun's own directory: one in it for each container."""
    return home(place) / "state"


def start(place: Place, ns: str, bundle: Path) -> list[str]:
    """The command line that starts the container of a bundle; its first process is in GROUP."""
    group = cgroup.of(place, ns, GROUP)
    return _command(place, ns, [group], f"run --detach --bundle {shlex.quote(str(bundle))} {shlex.quote(ns)}")


def enter(place: Place, ns: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` inside: on a terminal of the container's own where it has one.

    Never on the node's: what runs inside could type there.
    """
    return [*_command(place, ns, [], f'exec $([ -t 0 ] && echo --tty) {shlex.quote(ns)} "$@"'), *argv]


def _command(place: Place, ns: str, groups: Sequence[Path], words: str) -> list[str]:
    """`words`, a shell's, given to crun from within the sliver's limits.

    crun refuses machines that have both versions of cgroups, so there it sees only the first.
    """
    lines = [f"echo 0 > {shlex.quote(str(g / 'cgroup.procs'))}" for g in (*groups, *limits.joined(place, ns))]
    hidden = limits.version_2_apart()
    if hidden:
        lines.append(f"umount {shlex.quote(str(hidden))}")
    lines.append(f"exec crun --root {shlex.quote(str(state(place)))} --cgroup-manager=disabled {words}")
    apart = ["unshare", "--mount", "--propagation", "slave"] if hidden else []
    return [*apart, "sh", "-ec", "\n".join(lines), "sh"]


def is_contained(place: Place, ns: str) -> bool:
    """Whether a sliver is a container: told by its network, so from before it first starts."""
    return users.is_tenant(place.pin(ns))
