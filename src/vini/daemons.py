"""What a routing daemon is to VINI, and how those that other distributions bring are found.

FRR and BIRD are built in.  Another name is looked up among the entry points `vini.routers` of what is installed beside
VINI, and only then: who uses none does not wait for the search (about 30 ms).  Such code runs where a topology is read
and compiled, never on a node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from vini.model import DAEMONS, SPEAKS, Adjacency, AnyObject, File, NotFound, Process, Router, Unsupported, ViniError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "vini.routers"
T = TypeVar("T")


class RouterPlugin(NamedTuple):
    """A routing daemon as three pure functions, and what it can do.

    `objects` gives the files and processes that make a router (Unsupported where the daemon can't do what is asked);
    `adjacencies_argv` gives (protocol, command) pairs, in which "{run}" stands for the sliver's run directory;
    `adjacencies` reads what such a command printed: none where the daemon did not answer.
    """

    objects: Callable[[Router], tuple[AnyObject, ...]]
    adjacencies_argv: Callable[[Router], tuple[tuple[str, tuple[str, ...]], ...]]
    adjacencies: Callable[[str, str], tuple[Adjacency, ...]]
    speaks: frozenset[str]  # of PROTOCOLS
    needs: str = ""  # the capability that a node must have: "frr", "bird"; "": none


def names() -> tuple[str, ...]:
    """All daemons that a topology file may name: the built-in ones first."""
    return (*DAEMONS, *sorted(_entry_points().keys() - set(DAEMONS)))


def speaks(daemon: str) -> frozenset[str]:
    """The protocols that a daemon speaks.  Raises what `found` raises."""
    return SPEAKS[daemon] if daemon in SPEAKS else found(daemon).speaks


@cache
def found(daemon: str) -> RouterPlugin:
    """The daemon of that name that another distribution brings.

    Raises NotFound where none is installed, and Unsupported, naming the distribution, where it can't be used.
    """
    points = _entry_points().get(daemon, [])
    if not points:
        known = ", ".join(names())
        raise NotFound(f"There is no routing daemon {daemon!r}; there are: {known}. A package of it must be installed.")
    owners = sorted({_owner(p) for p in points})
    if len(owners) > 1:
        raise Unsupported(f"{' and '.join(owners)} both bring a routing daemon {daemon!r}; uninstall one of them.")
    whose = f"The routing daemon {daemon!r} of {owners[0]}"
    plugin = _guarded(points[0].load, f"{whose} can't be loaded")()
    if not isinstance(plugin, RouterPlugin):
        raise Unsupported(f"{whose} is no vini.daemons.RouterPlugin but {type(plugin).__name__}; tell its author.")

    def objects(router: Router) -> tuple[AnyObject, ...]:
        made = _guarded(plugin.objects, f"{whose} fails for sliver {router.name}")(router)
        for o in made:
            if not isinstance(o, File | Process) or o.ns != router.ns:
                raise Unsupported(f"{whose} gives sliver {router.name} {o}, no file or process of it; tell its author.")
        return made

    return plugin._replace(
        objects=objects,
        adjacencies_argv=_guarded(plugin.adjacencies_argv, f"{whose} fails to ask for neighbours"),
        adjacencies=_guarded(plugin.adjacencies, f"{whose} fails to read its neighbours"),
    )


@cache
def _entry_points() -> dict[str, list[EntryPoint]]:
    from importlib.metadata import entry_points

    out: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        out.setdefault(point.name, []).append(point)
    return out


def forget() -> None:
    """Look anew at what is installed, after it changed under a running program."""
    found.cache_clear()
    _entry_points.cache_clear()


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _guarded(function: Callable[..., T], what: str) -> Callable[..., T]:
    """The same, whose unforeseen errors are sentences: whoever reads them did not write this code, and nor did we."""

    def guarded(*words: Any) -> T:
        try:
            return function(*words)
        except ViniError:
            raise
        except Exception as e:  # the boundary to code of others
            raise Unsupported(f"{what} ({type(e).__name__}: {e}); update or uninstall it.") from e

    return guarded
