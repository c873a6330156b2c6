"""What is due with a conf file, from what is asked, what is there, and what we wrote there; nothing here touches a
file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vini.bus import NodeFile
from vini.node.files.permit import Permit
from vini.node.files.place import Seen
from vini.node.files.record import Written
from vini.rules.conf_files import checked, lies_below
from vini.rules.errors import Invalid

Step = Literal["nothing", "write", "run", "keep"]


def refusal(asked: NodeFile, permit: Permit) -> str:
    """Why this machine does not take it, for the central's admin; "" where it does."""
    if why := outside(asked.path, permit.below):
        return why
    if not (asked.owner + asked.group).isprintable():
        return "Its owner or group is no name of any."
    if "\0" in asked.preinstall_cmd + asked.postinstall_cmd + asked.error_cmd:
        return "A command with a NUL in it can't be run."
    if asked.mode & ~0o777:
        return f"Mode {asked.mode:o} would let who runs {asked.path} be somebody else; only modes up to 777 are taken."
    if not permit.commands and (asked.preinstall_cmd or asked.postinstall_cmd or asked.error_cmd):
        return (
            "This machine runs no commands for its central; its administrator may permit that: "
            "`vini node permit --commands` there."
        )
    return ""


def outside(path: str, below: Sequence[str]) -> str:
    """Why there may be no conf file, where there may not."""
    try:
        checked(path)
    except Invalid as e:
        return str(e)
    if any(lies_below(path, directory) for directory in below):
        return ""
    where = f"only below {', '.join(below)}" if below else "nowhere"
    return (
        f"This machine takes conf files {where}; its administrator may permit more: "
        "`vini node permit --below DIRECTORY` there."
    )


def step(asked: NodeFile, want: Seen, seen: Seen | None, written: Written | None) -> Step:
    """What comes next.  A file that is neither as we wrote it nor as it is to be is somebody else's: it is kept, also
    where only its mode or owner is another."""
    if seen == want:
        return "run" if written and written.pending else "nothing"
    if seen is None or asked.always_update or (written and seen in written.seen):
        return "write"
    return "keep"
