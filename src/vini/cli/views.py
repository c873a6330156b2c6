"""Looks over all slivers at once: routes, neighbors, top."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import click

from vini.bus import ShareLoad, SliverLoad
from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.counters import Counted, Counters, rates, show_counters
from vini.cli.out import dump, json_option, line, table
from vini.cli.seconds import Seconds
from vini.client import Slices, connect
from vini.embed import router
from vini.layout import layout
from vini.model import Adjacency, Sliver, Topology
from vini.plugins import expected_adjacencies, router_plugin
from vini.reach import MOST_LISTED, FibEntry, Walker, Ways

Sample = dict[str, tuple[SliverLoad, Counted]]  # sliver -> what it does, and what its program has counted
_SHORT = ("cpu", "memory", "io")  # of which a kernel tells the pressure, in this order


@click.command("routes", short_help="Forwarding tables of all slivers, of one, or the path to one.")
@slice_option
@click.argument("sliver", required=False)
@click.option("--to", "destination", help="Only the path to this sliver, from SLIVER or from all.")
@json_option
def routes_command(slice_: str | None, sliver: str | None, destination: str | None, as_json: bool) -> None:
    """Summarise the forwarding tables of all slivers, print SLIVER's, or follow the path `--to` a sliver."""
    client = connect()
    topology = the_slice(client, slice_)
    if sliver:
        the_sliver(topology, sliver)
    if destination:
        _paths(client, topology, sliver, the_sliver(topology, destination), as_json)
        return
    tables = {s: _rows(entries) for s, entries in asyncio.run(client.fib_entries(topology.name)).items()}
    if as_json:
        dump({sliver: tables[sliver]} if sliver else tables)
    elif sliver:
        table(("DESTINATION", "VIA", "VIF"), [(to, via or "connected", dev) for to, via, dev in tables[sliver]])
    else:
        rows = [_summary(name, routes) for name, routes in tables.items()]
        table(("SLIVER", "IPv4", "IPv6", "LEARNED", "BY VIF"), rows, right=("IPv4", "IPv6", "LEARNED"))


def _rows(entries: Sequence[FibEntry]) -> list[tuple[str, str, str]]:
    """(prefix, next hop, vif): of a route with several equal-cost next hops, one for each."""
    return [(e.to, hop.via, hop.dev) for e in entries for hop in e.hops]


def _summary(name: str, routes: list[tuple[str, str, str]]) -> tuple[str, ...]:
    learned = [r for r in routes if r[1]]
    by_vif = {dev: sum(r[2] == dev for r in learned) for dev in sorted({r[2] for r in learned})}
    four, six = (len({to for to, _, _ in routes if (":" in to) == sixth}) for sixth in (False, True))
    spread = ", ".join(f"{dev} {n}" for dev, n in by_vif.items())
    return name, str(four), str(six), str(len({to for to, _, _ in learned})), spread


def _paths(client: Slices, topology: Topology, source: str | None, destination: str, as_json: bool) -> None:
    walker = Walker(layout(topology), asyncio.run(client.fib_entries(topology.name)))
    address = client.address(topology, destination)
    sources = [source] if source else [s for s in topology.slivers if s != destination]
    found = {s: walker.ways(s, address) for s in sources}
    if as_json:
        dump({s: _ways_fields(ways) for s, ways in found.items()})
        return
    for ways in found.values():
        for text in _ways_lines(ways, destination):
            line(text)


def _ways_fields(ways: Ways) -> dict[str, object]:
    """`path` is the only one, null where equal-cost paths leave it to a flow's hash; `paths` [] are too many."""
    listed = ways.listed()
    return {
        "path": listed[0].slivers if len(listed) == 1 else None,
        "paths": [p.slivers for p in listed],
        "next_hops": ways.hops,
        "arrives": ways.arrives,
    }


def _ways_lines(ways: Ways, destination: str) -> list[str]:
    """The path; or how many equal ones there are, and each; or, of very many, how they branch."""
    listed = ways.listed()
    if len(listed) == 1:
        return [str(listed[0])]
    lost = "" if ways.arrives else ", not all of which arrive"
    if listed:
        head = f"{ways.source} to {destination}: one of {len(listed)} equal paths, by each flow's hash{lost}"
        return [head, *(f"  {path}" for path in listed)]
    head = f"{ways.source} to {destination}: one of more than {MOST_LISTED} equal paths, by each flow's hash{lost}"
    named = {at: ", ".join(hop or "(ends here)" for hop in hops) or "(ends here)" for at, hops in ways.hops.items()}
    return [head, *(f"  {at} -> {hops}" for at, hops in named.items())]


@click.command("neighbors", short_help="Routing neighbours, as the daemons of all slivers see them.")
@slice_option
@click.option("-v", "--verbose", is_flag=True, help="Every adjacency, not only the missing ones.")
@json_option
def neighbors_command(slice_: str | None, verbose: bool, as_json: bool) -> None:
    """Routing neighbours of all slivers, as their daemons report them.  Exit code 1 when some are missing."""
    client = connect()
    topology = the_slice(client, slice_)
    found = asyncio.run(_neighbors(client, topology))
    if as_json:
        dump({s: {"expected": n, "adjacencies": [_fields(a) for a in all_]} for s, (n, all_) in found.items()})
    else:
        rows = [
            (s, f"{sum(a.up for a in all_)}/{n}", ", ".join(_told(a) for a in all_ if verbose or not a.up))
            for s, (n, all_) in found.items()
        ]
        table(("SLIVER", "UP", "NEIGHBORS" if verbose else "NOT UP"), rows, right=("UP",))
    raise click.exceptions.Exit(0 if all(sum(a.up for a in all_) >= n for n, all_ in found.values()) else 1)


def _fields(a: Adjacency) -> dict[str, object]:
    return {"protocol": a.protocol, "neighbor": a.neighbor, "vif": a.dev, "state": a.state, "up": a.up}


def _told(a: Adjacency) -> str:
    return f"{a.protocol} {a.neighbor}{' on ' + a.dev if a.dev else ''}: {a.state}"


async def _neighbors(client: Slices, topology: Topology) -> dict[str, tuple[int, list[Adjacency]]]:
    made = layout(topology)
    gate = asyncio.Semaphore(16)

    async def ask(name: str) -> tuple[str, int, list[Adjacency]]:
        asked = router(topology, made, name)
        plugin = router_plugin(asked.routing.daemon)
        out: list[Adjacency] = []
        for protocol, argv in plugin.adjacencies_argv(asked):
            async with gate:
                said = (await client.output(topology.name, name, argv))[1]
            out += plugin.adjacencies(protocol, said)
        # What the user configures himself may speak on fewer links than there are.
        return name, 0 if asked.routing.raw else expected_adjacencies(asked), out

    running = {n: s.routing for n, s in topology.slivers.items() if s.state == "running"}
    routers = [n for n, routing in running.items() if routing and set(routing.protocols) - {"static"}]
    return {name: (n, all_) for name, n, all_ in await asyncio.gather(*(ask(n) for n in routers))}


# --- top --------------------------------------------------------------------------------------


@click.command("top", short_help="Traffic, CPU and memory of all slivers, live.")
@slice_option
@click.option("-n", "times", type=click.IntRange(0), default=0, help="End after this many looks; 0: until Ctrl-C.")
@click.option("-d", "delay_s", type=Seconds(0.01), default=1.0, show_default=True, help="Seconds between looks.")
@json_option
def top_command(slice_: str | None, times: int, delay_s: float, as_json: bool) -> None:
    """Traffic of every vif, memory and CPU of every sliver, its program's packets and counters, until Ctrl-C."""
    client = connect()
    with suppress(KeyboardInterrupt):  # how it is told to end
        _look_on(client, slice_, times, delay_s, as_json)


def _look_on(client: Slices, slice_: str | None, times: int, delay_s: float, as_json: bool) -> None:
    counters = Counters(client)
    topology = the_slice(client, slice_)
    before = asyncio.run(_sample(client, topology, counters))
    shown = 0
    while not times or shown < times:
        time.sleep(delay_s)
        topology = client.asked(topology.name)  # a program may have come
        now = asyncio.run(_sample(client, topology, counters))
        rows = _rates(topology, before, now)
        if as_json:
            dump(rows)
        else:
            click.clear()
            _print_top(topology, rows)
        before, shown = now, shown + 1


async def _sample(client: Slices, topology: Topology, counters: Counters) -> Sample:
    loads = await client.loads(topology.name)
    counted = await counters.read(topology, loads)
    return {name: (load, counted.get(name, {})) for name, load in loads.items()}


def _rates(topology: Topology, before: Sample, now: Sample) -> list[dict[str, object]]:
    """In the order of the topology; without slivers whose node was away at one of both looks."""
    made = layout(topology)
    out = []
    for name, sliver in topology.slivers.items():
        if name in before and name in now:
            (was, counted_before), (load, counted) = before[name], now[name]
            row = _rate(sliver, [v.dev for v in made.vifs[name]], was, load)
            if counted:
                row["counters"] = rates(counted_before, counted, load.at - was.at)
            out.append(row)
    return out


def _rate(sliver: Sliver, devs: Sequence[str], was: SliverLoad, now: SliverLoad) -> dict[str, object]:
    span = now.at - was.at
    vifs = {}
    for dev in devs:
        if new := now.vifs.get(dev):
            rx_bytes, rx, tx_bytes, tx = ((n - o) / span for n, o in zip(new, was.vifs.get(dev, new), strict=True))
            vifs[dev] = {"rx_mbit": rx_bytes * 8e-6, "rx_pps": rx, "tx_mbit": tx_bytes * 8e-6, "tx_pps": tx}
    cpu = max(0.0, now.cpu_s - was.cpu_s) / span  # a process that ended takes its time along
    row: dict[str, object] = {
        "sliver": sliver.name, "cpu_pct": 100 * cpu, "memory_mib": now.memory / 2**20, "vifs": vifs,
        **_shares(sliver, now), "pressure": now.pressure, "node_pressure": now.node_pressure,
    }  # fmt: skip
    if now.share:
        row["share"] = _of_uplink(was.share or now.share, now.share, span)
    if now.program:  # both counters begin at 0 when a program is unloaded and loaded again
        old = was.program or now.program
        passed, dropped = (max(0, n - o) / span for n, o in zip(now.program, old, strict=True))
        row["program"] = {"pps": passed, "over_budget_pps": dropped}
    return row


def _of_uplink(was: ShareLoad, now: ShareLoad, span: float) -> dict[str, object]:
    """What it sends out of its node, against what it may now and today."""
    return {
        "mbit": max(0, now.sent - was.sent) * 8e-6 / span, "min_mbit": now.min_mbit, "max_mbit": now.max_mbit,
        "dropped_pps": max(0, now.dropped - was.dropped) / span, "today_mb": now.today / 1e6,
        "exempt_today_mb": now.exempt_today / 1e6, "daily_mb": now.daily / 1e6 or None, "slowed": now.slowed,
    }  # fmt: skip


def _shares(sliver: Sliver, now: SliverLoad) -> dict[str, object]:
    """The most that it may take, and what it has of its disk; None where it is not bounded."""
    own = sliver.resources
    bounded = sliver.runtime == "container"
    cores = own.reserve or own.cores
    return {
        "cpu_most_pct": 100 * cores if bounded and cores else None,
        "cpu_reserved": bounded and own.reserve > 0,
        "memory_most_mib": own.memory_mb * 1e6 / 2**20 if bounded else None,
        "memory_reserved_mib": own.memory_reserve_mb * 1e6 / 2**20 if bounded else None,
        "io_weight": own.io_weight if bounded else None,
        "disk_mib": now.disk[0] / 2**20 if now.disk else None,
        "disk_most_mib": now.disk[1] / 2**20 if now.disk else None,
        "volumes": [
            {"name": name, "mib": used / 2**20, "most_mib": most / 2**20}
            for name, (used, most) in sorted(now.volumes.items())
        ],
    }


def _of(row: dict[str, object], used: str, most: str, digits: int = 1) -> str:
    """`12.3/50`: what it takes of what it may."""
    if row[used] is None:
        return ""
    return f"{row[used]:.{digits}f}" + (f"/{row[most]:.0f}" if row[most] is not None else "")


def _fullest(volumes: object) -> str:
    """`data 12.3/50`: of the volumes that have a size, the one that is next to be full."""
    assert isinstance(volumes, list)
    worst = max(volumes, key=lambda v: v["mib"] / max(v["most_mib"], 1e-9), default=None)
    return f"{worst['name']} {worst['mib']:.1f}/{worst['most_mib']:.0f}" if worst else ""


def _uplink_cells(share: dict[str, object] | None) -> tuple[str, str]:
    """What leaves the node: its own, what it sends, the most; and today's against the day's."""
    if share is None:
        return "", ""
    own = f"{share['min_mbit']:g}<" if share["min_mbit"] else ""
    today = _of(share, "today_mb", "daily_mb") + (" slowed" if share["slowed"] else "")
    return f"{own}{share['mbit']:.2f}/{share['max_mbit']:.3g}", today


def _waits(pressure: dict[str, float]) -> str:
    return " ".join(f"{pressure[what]:.0f}" for what in _SHORT if what in pressure) or "-"


def _worst(rows: list[dict[str, object]]) -> str:
    """Of the nodes that slivers are on, as people read it."""
    of_nodes: list[dict[str, float]] = [row["node_pressure"] for row in rows]  # type: ignore[misc]
    worst = {what: max(p[what] for p in of_nodes if what in p) for what in _SHORT if any(what in p for p in of_nodes)}
    if not worst:
        return "the kernel keeps no account of pressure (psi=1)"
    return "somebody on the node waits " + ", ".join(f"{share:.0f} % for {what}" for what, share in worst.items())


def _print_top(topology: Topology, rows: list[dict[str, object]]) -> None:
    line(f"{topology.name}   {time.strftime('%H:%M:%S')}   {_worst(rows)}")
    shown = []
    programs = any("program" in row for row in rows)
    disks = any(row["disk_mib"] is not None for row in rows)
    volumes = any(row["volumes"] for row in rows)
    uplinks = any("share" in row for row in rows)
    for row in rows:
        vifs: dict[str, dict[str, float]] = row["vifs"]  # type: ignore[assignment]
        own: dict[str, float] = row["pressure"]  # type: ignore[assignment]
        first: tuple[str, ...] = (
            str(row["sliver"]), _of(row, "cpu_pct", "cpu_most_pct"), _of(row, "memory_mib", "memory_most_mib"),
            *((_of(row, "disk_mib", "disk_most_mib"),) if disks else ()),
            *((_fullest(row["volumes"]),) if volumes else ()), _waits(own),
        )  # fmt: skip
        if uplinks:
            first += _uplink_cells(row.get("share"))  # type: ignore[arg-type]
        if programs:
            program: dict[str, float] = row.get("program", {})  # type: ignore[assignment]
            first += (f"{program['pps']:.0f}", f"{program['over_budget_pps']:.0f}") if program else ("", "")
        for dev, r in vifs.items():
            traffic = (f"{r['rx_mbit']:.3f}", f"{r['rx_pps']:.0f}", f"{r['tx_mbit']:.3f}", f"{r['tx_pps']:.0f}")
            shown.append((*first, dev, *traffic))
            first = ("",) * len(first)
    of_uplinks = ("OUT Mbit/s", "TODAY MB") if uplinks else ()
    of_programs = ("PROGRAM p/s", "OVER BUDGET p/s") if programs else ()
    of_disks = (*(("DISK MiB",) if disks else ()), *(("FULLEST VOLUME MiB",) if volumes else ()))
    head = (
        "SLIVER",
        "CPU%",
        "MiB",
        *of_disks,
        "WAITS%",
        *of_uplinks,
        *of_programs,
        "VIF",
        "RX Mbit/s",
        "RX p/s",
        "TX Mbit/s",
        "TX p/s",
    )
    table(head, shown, right=[h for h in head if h not in ("SLIVER", "VIF")])
    show_counters(rows)
