"""What runs in a sliver, and what keeps it from running."""

from __future__ import annotations

from typing import ClassVar, Literal

from vini.model.objects.base import Object
from vini.model.value import Key, Value


class Ready(Value, frozen=True):
    """A readiness probe: `argv`, run in the sliver, prints `expect` at least `times` times, within its time.

    `expect` is a regular expression in which ^ and $ match at every line.
    """

    argv: tuple[str, ...]
    expect: str = ""
    times: int = 1
    within_s: float = 5.0


class Process(Object, frozen=True):
    """A process of a sliver, kept running; with `once`, run to its end one time.

    In `argv`, `reload` and `ready.argv` the text "{run}" stands for `<run>/slivers/<ns>`, "{python}" for the agent's
    own Python interpreter, which knows `vini`, "{node}" for the directory of its `vini.node`.  At the word "{root}" of
    `argv` it enters the Root, if it is `rooted`; without that word it does at once.  When only
    `config` differs and `reload` is given, the process is told to reload; else it is restarted.
    """

    ns: str
    name: str
    argv: tuple[str, ...]
    config: str = ""  # digest of the files it reads
    reload: tuple[str, ...] = ()
    reload_within_s: float = 30.0
    reload_on: str = ""  # what its log says when it must be told to reload, though nothing else changed; "": nothing
    ready: Ready | None = None
    once: bool = False
    after: tuple[str, ...] = ()  # names of processes of the same sliver that start before it
    along: bool = False  # when one of those ends, this one is started again too
    rooted: bool = False  # runs in the sliver's private Root
    contained: bool = False  # runs in the sliver's Container, in which "{run}" stands for /run
    restarts: int = 0

    @property
    def key(self) -> Key:
        return ("process", self.ns, self.name)

    @property
    def on(self) -> tuple[Key, ...]:
        root: tuple[Key, ...] = (("root", self.ns),) if self.rooted else ()
        container: tuple[Key, ...] = (("container", self.ns),) if self.contained else ()
        return (("netns", self.ns), *root, *container, *(("process", self.ns, p) for p in self.after))

    @property
    def changeable(self) -> frozenset[str]:
        always = frozenset({"ready", "reload", "reload_within_s", "reload_on"})
        return always | {"config"} if self.reload else always


class Halt(Object, frozen=True):
    """What keeps a sliver's processes from running: there are none, or the kernel doesn't let them (cgroups(7))."""

    in_place: ClassVar[frozenset[str]] = frozenset({"how"})
    ns: str
    how: Literal["stopped", "frozen", "neither"]  # the last only observed: somebody let its processes run

    @property
    def key(self) -> Key:
        return ("halt", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)
