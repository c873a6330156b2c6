"""One link: look at it, fail it, restore it, shape it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import click

from vini import edit
from vini.cli.choose import slice_option, the_slice
from vini.cli.out import dump, json_option, line, table
from vini.client import Client
from vini.layout import link_name
from vini.model import End, Impairment, Link, Mistake, Topology, TopologyError
from vini.text import units
from vini.text.mistakes import Wrong


@click.command("link", short_help="Show links, or change one: fail it, restore it, shape it.")
@click.argument("a", required=False)
@click.argument("b", required=False)
@slice_option
@click.option(
    "--fail", type=click.Choice(["silent", "carrier"]), help="silent: packets vanish; carrier: both ends go down."
)
@click.option("--restore", is_flag=True, help="End the fault.")
@click.option("--delay", help="One way, e.g. 30ms; 0ms for none.")
@click.option("--jitter", help="Standard deviation of the delay, e.g. 2ms.")
@click.option("--loss", help="Share of packets lost, e.g. 1%.")
@click.option("--rate", help="Of Ethernet frames, e.g. 10mbit; `unlimited` for no limit.")
@click.option("--queue", type=click.IntRange(1, 1_000_000), help="Packets that may wait for their turn.")
@click.option("--cost", type=click.IntRange(1, 65535), help="Routing metric, both directions.")
@click.option("--one-way", is_flag=True, help="Shape only packets from A to B, or those that leave by the vif A.")
@json_option
def link_command(a: str | None, b: str | None, slice_: str | None, fail: str | None, restore: bool, delay: str | None,
                 jitter: str | None, loss: str | None, rate: str | None, queue: int | None, cost: int | None,
                 one_way: bool, as_json: bool) -> None:  # fmt: skip
    """Show links, or change the one between slivers A and B, live.

    One of several parallel links is named by its name alone, or by a vif: `vini link west:eth1`.

    \b
    vini link                                    all links
    vini link denver kansas-city --fail silent
    vini link denver kansas-city --delay 30ms --rate 10mbit --loss 1%
    vini link denver kansas-city --rate 1mbit --one-way    only from denver to kansas-city
    vini link denver kansas-city --restore
    """
    client = Client()
    topology = the_slice(client, slice_)
    wishes = _wishes(delay, jitter, loss, rate, queue)
    if not (fail or restore or wishes or cost):
        _show(topology, [_find(topology, a, b or "")] if a else topology.links, as_json)
        return
    if a is None:
        raise click.UsageError("Which link? Name its two slivers: `vini link A B --fail silent`.")
    if fail and restore:
        raise click.UsageError("--fail and --restore exclude each other.")
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
        dump({**_json(link), "ops": ops})
    else:
        line(f"{link_name(link)}: {_describe(link)}")


def _find(topology: Topology, a: str, b: str) -> Link:
    return topology.links[edit.find_link(topology, a, b)]


async def _edit(client: Client, slice_: str, change: Callable[[Topology], Topology], what: str) -> tuple[int, Topology]:
    report = await client.edit(slice_, change, what)
    await client.wait_ready(slice_, 30.0, report)
    return report.ops, await client.topology(slice_)


def _wishes(
    delay: str | None, jitter: str | None, loss: str | None, rate: str | None, queue: int | None
) -> dict[str, float]:
    readers = {"delay_ms": (units.read_ms, delay), "jitter_ms": (units.read_ms, jitter),
               "loss": (units.read_loss, loss), "rate_mbit": (units.read_mbit, rate)}  # fmt: skip
    out: dict[str, float] = {"queue_packets": queue} if queue else {}
    for name, (read, text) in readers.items():
        if text is not None:
            try:
                out[name] = read(text)
            except Wrong as e:
                raise TopologyError([Mistake(0, 0, f"--{name.partition('_')[0]}: {e}", e.hint)]) from e
    return out


def _show(topology: Topology, links: Sequence[Link], as_json: bool) -> None:
    if as_json:
        dump([_json(link) for link in links])
        return
    pairs = Counter(frozenset(e.sliver for e in link.ends) for link in topology.links)
    rows = []
    for link in links:
        a, b = (e.sliver for e in link.ends)
        if pairs[frozenset((a, b))] > 1:  # what tells parallel links apart, and may be typed as it stands here
            a, b = edit.vifs(link)
        rows.append((a, b, str(link.cost), _describe(link)))
    table(("A", "B", "COST", "STATE"), rows, right=("COST",))


def _json(link: Link) -> dict[str, object]:
    a, b = link.ends
    return {
        "name": link_name(link), "ends": [a.sliver, b.sliver], "vifs": edit.vifs(link), "fault": link.fault,
        "directions": [_direction(link, a, b), _direction(link, b, a)],
    }  # fmt: skip


def _direction(link: Link, end: End, other: End) -> dict[str, object]:
    """What packets from `end` to `other` meet; the names of its fields are those of `Impairment`."""
    i = end.impairment or link.impairment
    return {
        "from": end.sliver, "to": other.sliver, "cost": link.cost if end.cost is None else end.cost,
        "delay_ms": i.delay_ms, "jitter_ms": i.jitter_ms, "loss": i.loss, "rate_mbit": i.rate_mbit,
        "queue_packets": i.queue_packets,
    }  # fmt: skip


def _describe(link: Link) -> str:
    state = "up" if link.fault == "none" else f"failed ({link.fault})"
    parts = [state, _impairment(link.impairment)]
    for end, other in (link.ends, link.ends[::-1]):
        if end.impairment:
            parts.append(f"towards {other.sliver}: {_impairment(end.impairment) or 'nothing'}")
    return "; ".join(p for p in parts if p)


def _impairment(i: Impairment) -> str:
    words = []
    if i.delay_ms:
        words.append(f"delay {units.duration(i.delay_ms)}")
    if i.jitter_ms:
        words.append(f"jitter {units.duration(i.jitter_ms)}")
    if i.loss:
        words.append(f"loss {units.loss(i.loss)}")
    if i.rate_mbit:
        words.append(f"rate {units.rate(i.rate_mbit)}, queue {i.queue_packets}")
    return ", ".join(words)
