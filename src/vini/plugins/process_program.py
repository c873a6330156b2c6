"""A data plane that is a process: the kernel of its sliver doesn't forward, and a service does. Pure."""

from __future__ import annotations

from typing import Literal

from vini.model import File, Process, Sysctl, Unsupported
from vini.plugins import intent

NAME = "program"
COUNTERS = "program.counters.json"  # in the sliver's run directory; what vini.packets writes each second
_NOT_FORWARDING = (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"))
_ENVIRONMENT = ("env", f"VINI_COUNTERS={{run}}/{COUNTERS}")


def objects(
    ns: str, kind: Literal["process", "python"], text: str, *, image: bool = False, rooted: bool = False
) -> tuple[Sysctl | File | Process, ...]:
    """What a sliver with such a program needs; the Sysctl takes the place of the sliver's own.

    `text` is a shell command line, or the text of a Python program, which runs by the node's own interpreter, so that
    `vini.packets` is there.  `rooted`: the sliver has files of its own, or an image.  A program that changes is
    restarted.  Unsupported where the node's interpreter can't be seen from inside.
    """
    quiet = Sysctl(ns, _NOT_FORWARDING)
    if kind == "process":
        return quiet, Process(ns, NAME, (*_ENVIRONMENT, "sh", "-c", text), rooted=rooted or image)
    if image:
        raise Unsupported(
            f"Sliver {ns.partition('.')[2]!r} has an image, inside which the node's Python, with vini.packets, is not "
            "seen; leave `image` out, or install both in the image and write `program: {process: python3 FILE}`."
        )
    source = File(ns, f"program/{intent.digest(text)}.py", text)
    argv = (*_ENVIRONMENT, "{python}", "-u", f"{{run}}/{source.path}")
    return quiet, source, Process(ns, NAME, argv, rooted=rooted)
