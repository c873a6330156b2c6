"""Edits of a topology: the pure half of every change to a running slice.

A fault, another delay, another cost, another hello interval: each takes a frozen `Topology` and
gives a new one, to be sent as the new desired state.  Nothing here touches a machine.  A link
is named by its two slivers, in either order, or by its name; of several parallel links one is
named by its name or by a vif, `denver:eth1`.  What does not exist raises `NotFound` with the nearest that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec.structs import replace

from vini.lans import vif_name
from vini.layout import link_name
from vini.model import Fault, Impairment, Link, Lives, NotFound, Program, Routing, Sliver, Topology, ViniError
from vini.topology.impairments import check

IMPAIRMENTS = Impairment.__struct_fields__


def nearest(word: str, words: Iterable[str]) -> str:
    """The one of `words` that a person who wrote `word` most likely meant; "" when none is near."""
    return next(iter(get_close_matches(word, list(words), n=1, cutoff=0.5)), "")


def find_link(topology: Topology, a: str, b: str = "") -> int:
    """The position in `topology.links` of the link between `a` and `b`, or of the one that has the name or vif `a`.

    Between two names each is a sliver or a `sliver:vif`.  Raises NotFound where there is no such link, and ViniError
    where parallel links make it ambiguous.
    """
    for word in (a, b) if b else (a,) if ":" in a else ():
        _check_end(topology, word)
    if b:
        found = [i for i, link in enumerate(topology.links) if _joins(link, a, b) or _joins(link, b, a)]
    elif ":" in a:
        found = [i for i, link in enumerate(topology.links) if a in vifs(link)]
    else:
        found = [i for i, link in enumerate(topology.links) if link_name(link) == a]
    if len(found) > 1:
        there = ", ".join(f"{link_name(topology.links[i])} ({' -- '.join(vifs(topology.links[i]))})" for i in found)
        raise ViniError(
            f"There are {len(found)} links between {a} and {b or a}: {there}. Name the one that you mean,"
            f" by its name or by a vif of it: {vifs(topology.links[found[-1]])[0]}."
        )
    if not found:
        raise NotFound(_no_link(topology, a, b))
    return found[0]


def vifs(link: Link) -> tuple[str, str]:
    """The two ends as `sliver:vif`."""
    one, other = (f"{end.sliver}:{vif_name(link, i)}" for i, end in enumerate(link.ends))
    return one, other


def set_program(topology: Topology, sliver: str, program: Program | None) -> Topology:
    """Give a sliver this program, or with None take it away.  Raises NotFound where there is no such sliver."""
    if sliver not in topology.slivers:
        close = nearest(sliver, topology.slivers)
        raise NotFound(f"There is no sliver {sliver!r}" + (f"; did you mean {close!r}?" if close else "."))
    changed = replace(topology.slivers[sliver], program=program)
    return replace(topology, slivers={**topology.slivers, sliver: changed})


def set_state(topology: Topology, slivers: Iterable[str], state: Lives) -> Topology:
    """Stop these slivers, freeze them, or have them run."""
    return _with_slivers(topology, slivers, lambda s: replace(s, state=state))


def restart(topology: Topology, slivers: Iterable[str]) -> Topology:
    """Start all processes of these slivers anew; what is stopped or frozen runs then, too."""
    return _with_slivers(topology, slivers, lambda s: replace(s, state="running", restarts=s.restarts + 1))


def reset(topology: Topology, slivers: Iterable[str]) -> Topology:
    """The same, and throw away what they wrote, but for volumes.  Raises ViniError for one that is no container."""

    def fresh(sliver: Sliver) -> Sliver:
        if sliver.runtime != "container":
            raise ViniError(
                f"Sliver {sliver.name!r} is light: it has no files of its own that could be reset; "
                f"`vini sliver restart {sliver.name}` starts its processes anew."
            )
        return replace(sliver, state="running", restarts=sliver.restarts + 1, resets=sliver.resets + 1)

    return _with_slivers(topology, slivers, fresh)


def lived_on(before: Topology, after: Topology) -> Topology:
    """`after`, in which no sliver was started anew less often than `before`: a file doesn't say how often it was."""

    def older(sliver: Sliver) -> Sliver:
        was = before.slivers.get(sliver.name)
        if was is None or (was.restarts <= sliver.restarts and was.resets <= sliver.resets):
            return sliver
        return replace(sliver, restarts=max(was.restarts, sliver.restarts), resets=max(was.resets, sliver.resets))

    changed = {name: older(s) for name, s in after.slivers.items()}
    return replace(after, slivers=changed) if changed != after.slivers else after


def _with_slivers(topology: Topology, names: Iterable[str], change: Callable[[Sliver], Sliver]) -> Topology:
    slivers = dict(topology.slivers)
    for name in names:
        _check_sliver(topology, name)
        slivers[name] = change(slivers[name])
    return replace(topology, slivers=slivers)


def set_fault(topology: Topology, a: str, b: str, fault: Fault) -> Topology:
    """The same topology with that fault on one link; "none" restores it."""
    return _with_link(topology, find_link(topology, a, b), fault=fault)


def set_impairment(topology: Topology, a: str, b: str, *, one_way: bool = False, **wishes: Any) -> Topology:
    """The same topology with other impairments on one link; what `wishes` does not name stays.

    `wishes` are fields of `Impairment`.  Both directions change, or with `one_way` only packets
    from `a` to `b`; a `sliver:vif` as `a` says it alone.  An unknown field raises ViniError with the nearest one, and
    wishes that exclude each other, or one that the link has already, TopologyError.
    """
    for word in wishes:
        if word not in IMPAIRMENTS:
            raise ViniError(f"{word} is no impairment of a link. {_mean(word, IMPAIRMENTS)}")
    at = find_link(topology, a, b)
    link = topology.links[at]
    if one_way and not b and ":" not in a:
        one, other = vifs(link)
        raise ViniError(f"Which way of link {a}? Name the end that packets leave by, {one} or {other}, instead.")

    def impaired(before: Impairment) -> Impairment:
        after = replace(before, **wishes)
        check(after)
        return after

    if not one_way:
        ends = tuple(replace(e, impairment=e.impairment and impaired(e.impairment)) for e in link.ends)
        return _with_link(topology, at, impairment=impaired(link.impairment), ends=ends)
    leaves = a.partition(":")[0]
    ends = tuple(
        replace(e, impairment=impaired(e.impairment or link.impairment)) if e.sliver == leaves else e for e in link.ends
    )
    return _with_link(topology, at, ends=ends)


def set_cost(topology: Topology, a: str, b: str, cost: int) -> Topology:
    """The same topology with that routing metric on one link, in both directions."""
    at = find_link(topology, a, b)
    ends = tuple(replace(e, cost=None) for e in topology.links[at].ends)
    return _with_link(topology, at, cost=cost, ends=ends)


def set_sliver_cost(topology: Topology, sliver: str, cost: int) -> Topology:
    """The same topology with that metric on every vif of one sliver ("costing out" a router before work on it)."""
    _check_sliver(topology, sliver)
    links = tuple(
        replace(link, ends=tuple(replace(e, cost=cost) if e.sliver == sliver else e for e in link.ends))
        for link in topology.links
    )
    return replace(topology, links=links)


def set_routing(topology: Topology, wishes: dict[str, Any], slivers: Sequence[str] | None = None) -> Topology:
    """The same topology with other routing intent; what `wishes` (fields of `Routing`) does not name stays.

    `slivers` None means every sliver that has routing.  A sliver named here that has no routing gets it.
    """
    changed = dict(topology.slivers)
    for name in [n for n, s in changed.items() if s.routing] if slivers is None else slivers:
        _check_sliver(topology, name)
        changed[name] = replace(changed[name], routing=replace(changed[name].routing or Routing(), **wishes))
    return replace(topology, slivers=changed)


def _with_link(topology: Topology, at: int, **changes: Any) -> Topology:
    links = list(topology.links)
    links[at] = replace(links[at], **changes)
    return replace(topology, links=tuple(links))


def _check_sliver(topology: Topology, name: str) -> None:
    if name not in topology.slivers:
        raise NotFound(f"There is no sliver {name} in {topology.name}. {_mean(name, topology.slivers)}")


def _check_end(topology: Topology, word: str) -> None:
    """Of a sliver, or of a `sliver:vif`."""
    sliver, colon, vif = word.partition(":")
    _check_sliver(topology, sliver)
    there = [end.partition(":")[2] for link in topology.links for end in vifs(link) if end.startswith(f"{sliver}:")]
    if colon and vif not in there:
        raise NotFound(f"{sliver} has no vif {vif}. {_mean(vif, there) if there else 'It has no link at all.'}")


def _no_link(topology: Topology, a: str, b: str) -> str:
    if not b and a in topology.slivers:
        there = [link_name(link) for link in topology.links if any(e.sliver == a for e in link.ends)]
        known = f"its links are {', '.join(there[:20])}." if there else "it has no link at all."
        return f"{a} is a sliver of {topology.name}; name the one at the other end too: {known}"
    if not b:
        return f"There is no link {a} in {topology.name}. {_mean(a, map(link_name, topology.links))}"
    sliver = a.partition(":")[0]
    around = sorted(
        f"{end.sliver} ({vifs(link)[1 - i]})" if ":" in a else end.sliver
        for link in topology.links
        for i, end in enumerate(link.ends)
        if link.ends[1 - i].sliver == sliver
    )
    others = f"{sliver} is linked to {', '.join(dict.fromkeys(around))}." if around else f"{sliver} has no link at all."
    return f"There is no link between {a} and {b} in {topology.name}. {others}"


def _joins(link: Link, a: str, b: str) -> bool:
    """Whether its first end is `a` and its second `b`, each a sliver or a `sliver:vif`."""
    return all(word in (end.sliver, vif) for word, end, vif in zip((a, b), link.ends, vifs(link), strict=True))


def _mean(word: str, words: Iterable[str]) -> str:
    words = list(words)
    near = nearest(word, words)
    return f"Did you mean {near}?" if near else f"There are: {', '.join(sorted(words)[:20])}."
