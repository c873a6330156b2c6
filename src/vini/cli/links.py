"""One link: look at it, fail it, restore it, shape it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from vini import edit, nearby
from vini.api.words import impairments
from vini.cli.choose import slice_option, the_slice
from vini.cli.out import dump, json_option, line, table
from vini.client import Slices, connect
from vini.layout import link_name
from vini.model import End, Link, Mistake, Topology, TopologyError
from vini.topology.impairments import told
from vini.topology.scalars import NOTHING

_LOAD, _FOR = "80%", "5s"  # of --verify


@click.command("link", short_help="Show links, or change one: fail it, restore it, shape it.")
@click.argument("a", required=False)
@click.argument("b", required=False)
@slice_option
@click.option(
    "--fail", type=click.Choice(["silent", "carrier"]), help="silent: packets vanish; carrier: both ends go down."
)
@click.option("--restore", is_flag=True, help="End the fault.")
@click.option("--delay", help="One way, e.g. 30ms; 0ms for none.")
@click.option("--jitter", help="How far the delay varies, e.g. 2ms.")
@click.option("--distribution", help="Of the jitter: normal, uniform or pareto.")
@click.option("--jitter-table", help="Quantiles of an extra delay instead, e.g. 0ms,0.2ms,5ms; or none.")
@click.option("--reordering", help="Whether jitter may reorder packets: true or false.")
@click.option("--reorder", help="Share of packets that depart without their delay, e.g. 1%.")
@click.option("--loss", help="Share of packets lost, e.g. 1%.")
@click.option("--burst-loss", help="Loss in bursts, e.g. enter=1%,leave=25%; or none.")
@click.option("--lose", help="Packets to lose, by number, e.g. 3,7,100-120; or none.")
@click.option("--duplicate", help="Share of packets that come twice, e.g. 1%.")
@click.option("--corrupt", help="Share of packets of which one bit is flipped, e.g. 1%.")
@click.option("--rate", help="Of Ethernet frames, e.g. 10mbit; `unlimited` for no limit.")
@click.option("--queue", help="What may wait for its turn: packets, e.g. 1000; 64kB; or 50ms.")
@click.option("--aqm", help="Who drops from the queue besides its end: codel or none.")
@click.option("--trace", help="A file of what the link gives over time; or none.")
@click.option("--cost", type=click.IntRange(1, 65535), help="Routing metric, both directions.")
@click.option("--one-way", is_flag=True, help="Shape only packets from A to B, or those that leave by the vif A.")
@click.option("--verify", is_flag=True, help="Measure what the link, or all links, really give; puts traffic on them.")
@click.option("--load", help="With --verify: how much of the rate to use; default 80%.")
@click.option("--for", "for_", help="With --verify: how long to measure; default 5s.")
@json_option
def link_command(a: str | None, b: str | None, slice_: str | None, fail: str | None, restore: bool, cost: int | None,
                 one_way: bool, verify: bool, load: str | None, for_: str | None, as_json: bool,
                 **words: str | None) -> None:  # fmt: skip
    """Show links, or change the one between slivers A and B, live.

    One of several parallel links is named by its name alone, or by a vif: `vini link west:eth1`.

    \b
    vini link                                    all links
    vini link denver kansas-city --fail silent
    vini link denver kansas-city --delay 30ms --rate 10mbit --loss 1%
    vini link denver kansas-city --rate 1mbit --one-way    only from denver to kansas-city
    vini link denver kansas-city --burst-loss enter=1%,leave=25%
    vini link denver kansas-city --trace cell.csv
    vini link denver kansas-city --restore
    vini link denver kansas-city --verify        what it really gives
    """
    wishes = _wishes(words)
    changes = bool(fail or restore or wishes or cost)
    _refuse_what_would_be_ignored(fail, restore, cost, wishes, one_way, verify, load, for_)
    if changes and a is None:
        raise click.UsageError("Which link? Name its two slivers: `vini link A B --fail silent`.")
    client = connect()
    topology = the_slice(client, slice_)
    some = [_find(topology, a, b or "")] if a else topology.links  # a mistake is told before anything is done
    if verify:
        from vini.cli.truth import verify as verify_links

        verify_links(client, topology, some, load or _LOAD, for_ or _FOR, as_json)
        return
    if not changes:
        _show(topology, some, client.backends(topology.name), client.underlay_ms(topology.name), as_json)
        return
    assert a is not None
    first, second = a, b or ""

    def change(now: Topology) -> Topology:
        if fail or restore:
            now = edit.set_fault(now, first, second, fail or "none")  # type: ignore[arg-type]
        if wishes:
            now = edit.set_impairment(now, first, second, one_way=one_way, **wishes)
        return edit.set_cost(now, first, second, cost) if cost else now

    link = _find(change(topology), first, second)  # a mistake is told before the agent is asked
    ops, topology = asyncio.run(_edit(client, topology.name, change, f"link {link_name(link)}: {_describe(link)}"))
    link = _find(topology, first, second)
    if as_json:
        dump({**_json(link, client.backends(topology.name), client.underlay_ms(topology.name)), "ops": ops})
    else:
        line(f"{link_name(link)}: {_describe(link)}")


def _refuse_what_would_be_ignored(fail: str | None, restore: bool, cost: int | None, wishes: Mapping[str, Any],
                                  one_way: bool, verify: bool, load: str | None,
                                  for_: str | None) -> None:  # fmt: skip
    """Options that say nothing beside these others, or the opposite."""
    if verify and (fail or restore or wishes or cost or one_way):
        raise click.UsageError("Change the link first, then `vini link A B --verify`.")
    if not verify and (load or for_):
        raise click.UsageError("--load and --for say how to measure: `vini link A B --verify --load 50% --for 10s`.")
    if fail and restore:
        raise click.UsageError("--fail and --restore exclude each other.")
    if one_way and (fail or restore or cost):
        raise click.UsageError(
            "Faults and costs are of both directions: give --fail, --restore and --cost without --one-way. "
            "`vini link A B --loss 100% --one-way` loses all from A to B."
        )
    if one_way and not wishes:
        raise click.UsageError("What is to be --one-way? `vini link A B --rate 1mbit --one-way`.")


def _find(topology: Topology, a: str, b: str) -> Link:
    return topology.links[edit.find_link(topology, a, b)]


async def _edit(client: Slices, slice_: str, change: Callable[[Topology], Topology], what: str) -> tuple[int, Topology]:
    report = await client.edit(slice_, change, what)
    await client.wait_ready(slice_, 30.0, report)
    return report.ops, await client.topology(slice_)


def _wishes(words: Mapping[str, str | None]) -> dict[str, Any]:
    """The fields of `Impairment` that the options name.  Raises TopologyError with the mistakes of all of them."""
    out: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for word, text in words.items():
        if text is not None:
            try:
                out |= impairments({word: _value(word, text)}, "", nearby.reader(Path.cwd()))
            except TopologyError as e:
                option = f"--{word.replace('_', '-')}"
                mistakes += [Mistake(0, 0, f"{option}: {m.what}", m.hint) for m in e.mistakes]
    if mistakes:
        raise TopologyError(mistakes)
    return out


def _value(word: str, text: str) -> str | list[str] | dict[str, str]:
    """As a topology file would have it."""
    if text == NOTHING or word not in ("jitter_table", "lose", "burst_loss"):
        return text
    parts = [part.strip() for part in text.split(",")]
    if word != "burst_loss":
        return parts
    return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in parts)}


def _show(
    topology: Topology, links: Sequence[Link], backends: Mapping[str, str], below: Mapping[str, float], as_json: bool
) -> None:
    if as_json:
        dump([_json(link, backends, below) for link in links])
        return
    pairs = Counter(frozenset(e.sliver for e in link.ends) for link in topology.links)
    rows = []
    for link in links:
        a, b = (e.sliver for e in link.ends)
        if pairs[frozenset((a, b))] > 1:  # what tells parallel links apart, and may be typed as it stands here
            a, b = edit.vifs(link)
        by = sorted({backends[vif] for vif in edit.vifs(link) if vif in backends})
        own = f"; {below[name]:g} ms are the network's" if (name := link_name(link)) in below else ""
        rows.append((a, b, str(link.cost), ", ".join(by) or "-", _describe(link) + own))
    table(("A", "B", "COST", "BY", "STATE"), rows, right=("COST",))


def _json(link: Link, backends: Mapping[str, str], below: Mapping[str, float]) -> dict[str, object]:
    a, b = link.ends
    by = [backends.get(vif, "") for vif in edit.vifs(link)]
    return {
        "name": link_name(link), "ends": [a.sliver, b.sliver], "vifs": edit.vifs(link), "fault": link.fault,
        "underlay_ms": below.get(link_name(link), 0.0),
        "directions": [_direction(link, a, b, by[0]), _direction(link, b, a, by[1])],
    }  # fmt: skip


def _direction(link: Link, end: End, other: End, backend: str) -> dict[str, object]:
    """What packets from `end` to `other` meet, given by `backend`; other names are those of `Impairment`."""
    i = end.impairment or link.impairment
    return {
        "from": end.sliver, "to": other.sliver, "cost": link.cost if end.cost is None else end.cost,
        "backend": backend, **structs.asdict(i), "burst_loss": i.burst_loss and structs.asdict(i.burst_loss),
    }  # fmt: skip


def _describe(link: Link) -> str:
    state = "up" if link.fault == "none" else f"failed ({link.fault})"
    parts = [state, told(link.impairment)]
    for end, other in (link.ends, link.ends[::-1]):
        if end.impairment:
            parts.append(f"towards {other.sliver}: {told(end.impairment) or 'nothing'}")
    return "; ".join(p for p in parts if p)
