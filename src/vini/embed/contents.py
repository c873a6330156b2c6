"""What the user places in a sliver: files, and the commands that run there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from vini import environment, initscript, names
from vini.model import File, Mistake, Process, Root, Sliver, TopologyError

_MOUNTABLE = re.compile(r"[\w./+@-]+")  # what needs no escaping in a mount option
_UNCHANGEABLE = ("/proc", "/sys", "/dev", "/run")


def contents(sliver: Sliver, ns: str) -> Iterator[File | Root | Process]:
    """What the user places in a sliver: files, and the commands that run there."""
    dirs = set()
    for path, text in sliver.files.items():
        pure = PurePosixPath(path)
        top = "/" + pure.parts[1] if len(pure.parts) > 2 else ""
        if not top or top in _UNCHANGEABLE or ".." in pure.parts or not _MOUNTABLE.fullmatch(top):
            raise TopologyError(
                [Mistake(0, 0, f"{sliver.name}: a file can't be placed at {path!r}; choose a path like /etc/NAME.")]
            )
        dirs.add(top)
        yield File(ns, f"root{pure}", text)
    if sliver.image.startswith("/") and not _MOUNTABLE.fullmatch(sliver.image):
        what = f"{sliver.name}: the image's path {sliver.image!r} can't be mounted; use letters and digits."
        raise TopologyError([Mistake(0, 0, what)])
    if dirs or sliver.image:
        yield Root(ns, () if sliver.image else tuple(sorted(dirs)), sliver.image)
    yield from environment.file(sliver, ns)
    yield from initscript.objects(sliver, ns, bool(dirs or sliver.image))
    previous: tuple[str, ...] = (initscript.NAME,) if sliver.initscript else ()
    for i, command in enumerate(sliver.commands):
        again = ["again"] * sliver.commands[:i].count(command)
        name = f"cmd-{names.digest('command', command.run, *again) % 16**6:06x}"
        yield Process(
            ns,
            name,
            (*environment.words(sliver.environment), "sh", "-c", command.run),
            once=not command.service,
            after=previous,
            rooted=bool(dirs or sliver.image),
        )
        previous = (name,)
