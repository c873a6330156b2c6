"""Where a conf file may be, as far as that can be told from its path alone; how large all may be; what a node says."""

from __future__ import annotations

import posixpath
from typing import Literal

from vini.model import Value
from vini.rules.errors import Invalid

MOST_BYTES = 4 << 20  # of all conf files of a testbed together: a node is sent all of its own in one message
MOST_COMMAND = 8 << 10  # bytes of one command
_MOST_NAME = 255  # bytes of one name in a path (path_resolution(7), NAME_MAX)

FileState = Literal["written", "unchanged", "kept", "left", "refused", "failed"]


class FileThere(Value, frozen=True, forbid_unknown_fields=False):
    """What a node has of a conf file."""

    path: str
    version: str  # of what it was asked for; "": it is not asked for any more
    state: FileState
    why: str = ""  # a sentence, where it is not as asked


def checked(path: str) -> None:
    """Raises Invalid where that is no path of a file by which everybody means the same file."""
    if not path.startswith("/") or posixpath.normpath(path) != path or path.startswith("//") or path == "/":
        raise Invalid(f"{path!r} is no path of a conf file: write it from /, without `.`, `..` and `//` in it.")
    if not path.isprintable():
        raise Invalid(f"{path!r} is no path of a conf file: there are letters in it that nobody can read.")
    if any(len(name.encode()) > _MOST_NAME for name in path.split("/")):
        raise Invalid(f"A name in {path!r} is longer than {_MOST_NAME} bytes, which no file system takes.")


def lies_below(path: str, directory: str) -> bool:
    """Whether that path is one below this directory, both without `..`."""
    return path.startswith(directory.rstrip("/") + "/")
