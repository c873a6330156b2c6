"""A data plane that is a process: a service forwards, and the kernel of its sliver where that is asked for. Pure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from vini import environment
from vini.model import File, Mistake, Process, Ready, Sysctl, TopologyError, Unsupported
from vini.plugins import intent

NAME = "program"
COUNTERS = "program.counters.json"  # in the sliver's run directory; what vini.packets writes each second
_ENVIRONMENT = ("env", f"VINI_COUNTERS={{run}}/{COUNTERS}")
# A process that ends at once never gets that far: its readiness is that of the life that was asked.
_LIVES = Ready(("sh", "-c", "sleep 1; echo lives"), "^lives$", within_s=10.0)
# Who uses vini.packets writes its counters once it has opened its vifs; who doesn't must live for five seconds.
_AT_WORK = (
    f"i=0; until [ {{run}}/{COUNTERS} -nt {{run}}/{NAME}.process ] || [ $i -ge 50 ]; "
    "do i=$((i + 1)); sleep 0.1; done; echo lives"
)
_WORKS = Ready(("sh", "-c", _AT_WORK), "^lives$", within_s=20.0)


def objects(
    ns: str, kind: Literal["process", "python"], text: str, *, name: str = "", image: bool = False,
    rooted: bool = False, sockets: Sequence[str] = (), variables: Mapping[str, str] = MappingProxyType({}),
    forward: bool = False,
) -> tuple[Sysctl | File | Process, ...]:  # fmt: skip
    """What a sliver with such a program needs; the Sysctl takes the place of the sliver's own.

    `text` is a shell command line, or the text of a Python program (a file `name`), which runs by the node's own
    interpreter, so that `vini.packets` is there.  `rooted`: the sliver has files of its own, or an image.
    `variables`: of its environment.  A program that changes is restarted, and a process with AF_XDP sockets of the vifs
    `sockets` when those are others.  `forward`: the kernel forwards beside it, which leads packets to a TAP or TUN
    device of the process.  The sliver is ready when the process is seen to live on, a Python program when it has opened
    its vifs.
    TopologyError where the text is no Python, Unsupported where the node's interpreter can't be seen from inside.
    """
    on = "1" if forward else "0"
    kernel = Sysctl(ns, (("ipv4/ip_forward", on), ("ipv6/conf/all/forwarding", on)))
    if kind == "process":
        given = ("{python}", "-I", "-S", "{node}/xsk.py", "{run}", *sockets, "--", "{root}") if sockets else ()
        argv = (*_ENVIRONMENT, *given, *environment.words(variables), "sh", "-c", text)
        return kernel, Process(ns, NAME, argv, ready=_LIVES, rooted=rooted or image)
    if image:
        raise Unsupported(
            f"Sliver {ns.partition('.')[2]!r} has an image, inside which the node's Python, with vini.packets, is not "
            "seen; leave `image` out, or install both in the image and write `program: {process: python3 FILE}`."
        )
    _refuse_mistakes(text, name or "the program")
    source = File(ns, f"program/{intent.digest(text)}.py", text)
    argv = (*environment.words(variables), *_ENVIRONMENT, "{python}", "-u", f"{{run}}/{source.path}")
    return kernel, source, Process(ns, NAME, argv, ready=_WORKS, rooted=rooted)


def _refuse_mistakes(text: str, name: str) -> None:
    """Raises TopologyError with the line that Python can't read."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as e:
        raise TopologyError([Mistake(e.lineno or 0, e.offset or 0, f"This is no Python: {e.msg}.")], name) from e
    except (ValueError, RecursionError, MemoryError) as e:  # a NUL byte, or brackets in brackets without end
        raise TopologyError([Mistake(0, 0, f"This is no Python: {e or 'too deep'}.")], name) from e
