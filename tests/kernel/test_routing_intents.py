"""What a topology asks of routing, end to end: through the client, by the real daemons, told by tables and by pings.

RIP is the slow one: a change waits for the next update, every five seconds (`intent.RIP_TIMERS`).  So all slices of the
matrix come up at once, under the same sliver names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest
from msgspec.structs import replace
from own_place import OwnPlace
from pings import ping, status, unanswered, up

from vini import edit
from vini.client import Client
from vini.embed import router
from vini.layout import address, layout
from vini.model import End, Expect, Link, Routing, Sliver, Topology
from vini.plugins import ROUTERS
from vini.reach import Walker, families, unreached

pytestmark = [pytest.mark.root, pytest.mark.needs("frr"), pytest.mark.needs("bird")]

FAST = {"hello_s": 1.0, "dead_s": 2.0}
RING = ("a", "b", "c", "d")


def link(a: str, b: str, **words) -> Link:
    return Link((End(a), End(b)), **words)


def square(name: str, routing: Callable[[str], Routing]) -> Topology:
    """Four routers in a ring, and a host at each of two opposite ones."""
    slivers = {n: Sliver(n, routing(n)) for n in RING} | {n: Sliver(n) for n in ("x", "y")}
    ring = [link(a, b) for a, b in pairwise("abcda")]
    return Topology(name, slivers, (*ring, link("x", "a"), link("y", "c")), (Expect(within_s=30),))


def same(daemon: str, *protocols: str, **words) -> Callable[[str], Routing]:
    return lambda _: Routing(protocols, daemon, **(FAST | words))


def ring_of_systems(daemon: str) -> Callable[[str], Routing]:
    return lambda n: Routing(("bgp",), daemon, asn=65000 + ord(n))


def by_turns(*protocols: str, **words) -> Callable[[str], Routing]:
    """FRR and BIRD next to each other, all around."""
    return lambda n: Routing(protocols, "frr" if n in "ac" else "bird", **(FAST | words))


def matrix() -> dict[str, Topology]:
    out = [square("static", same("frr", "static"))]
    for daemon in ("frr", "bird"):
        for protocol in ("ospf", "ospf6", "rip", "ripng"):
            out.append(square(f"{protocol}-{daemon}", same(daemon, protocol)))
        out.append(square(f"dual-{daemon}", same(daemon, "ospf", "ospf6", bfd=True)))
        out.append(square(f"ebgp-{daemon}", ring_of_systems(daemon)))
        out.append(square(f"ibgp-{daemon}", same(daemon, "ospf", "ospf6", "bgp", asn=65000)))
    out += [square("isis-frr", same("frr", "isis")), square("babel-bird", same("bird", "babel"))]
    out += [square("mixed", by_turns("ospf", "ospf6")), square("mixed-bgp", by_turns("ospf", "bgp", asn=65000))]
    return {t.name: t for t in out}


MATRIX = matrix()


@pytest.fixture(scope="module")
def came_up(ours: OwnPlace) -> dict[str, BaseException | object]:
    """Every slice of the matrix, brought up together: what `up` gave, or why it did not."""

    async def all_() -> list[BaseException | object]:
        client = ours.client()
        return await asyncio.gather(*(client.up(t, timeout_s=240) for t in MATRIX.values()), return_exceptions=True)

    return dict(zip(MATRIX, asyncio.run(all_()), strict=True))


@pytest.mark.parametrize("name", MATRIX)
def test_everything_reaches_everything(ours, came_up, name):
    topology, result = MATRIX[name], came_up[name]
    assert not isinstance(result, BaseException), result

    async def look() -> None:
        client = ours.client()
        await client.wait_converged(name)
        assert await unanswered(client, topology) == []

    asyncio.run(look())
    want = {4} if name == "mixed-bgp" else {4, 6}
    want = {"ospf": {4}, "rip": {4}, "ospf6": {6}, "ripng": {6}}.get(name.partition("-")[0], want)
    assert set(families(topology)) == want


# --- what happens to a slice that is up -------------------------------------------------------


async def way(client: Client, slice_: str, a: str, b: str, family: int = 4) -> str:
    """The slivers that a packet from `a` to `b` passes, as one word; of equal-cost paths each one's."""
    made = layout(await client.topology(slice_))
    ways = Walker(made, await client.fib_entries(slice_)).ways(a, address(made, b, family))
    return "|".join("".join(path.slivers) for path in ways.paths())


async def eventually(want: object, look: Callable[[], Awaitable[object]], within_s: float = 60.0) -> None:
    """Wait until `look` gives what is wanted; the last answer is in the failure."""
    found: object = None
    try:
        async with asyncio.timeout(within_s):
            while (found := await look()) != want:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not {want!r} within {within_s:g} s, but {found!r}") from None


async def ways(client: Client, slice_: str, want: Sequence[str], family: int = 4) -> None:
    """Wait until packets take these ways."""

    async def look() -> list[str]:
        return [await way(client, slice_, w[0], w[-1], family) for w in want]

    await eventually(list(want), look)


def change(ours: OwnPlace, names: Sequence[str], body: Callable[[Client, Topology], Awaitable[None]]) -> None:
    """Do something to slices of the matrix, to all at the same time, and put each back as it was."""

    async def there_and_back(name: str) -> None:
        client = ours.client()
        try:
            await body(client, MATRIX[name])
        finally:
            await client.put(MATRIX[name])
            await client.wait_converged(name)

    async def all_() -> list[None | BaseException]:
        return await asyncio.gather(*map(there_and_back, names), return_exceptions=True)

    done = zip(names, asyncio.run(all_()), strict=True)
    assert {name: error for name, error in done if error} == {}


FAST_ONES = [
    "ospf-frr",
    "ospf-bird",
    "ospf6-frr",
    "ospf6-bird",
    "isis-frr",
    "mixed",
    "ibgp-bird",
    "ebgp-frr",
    "ebgp-bird",
]


@pytest.mark.parametrize("fault", ["carrier", "silent"])
@pytest.mark.usefixtures("came_up")
def test_a_failed_link_is_gone_round_and_taken_again(ours, fault):
    async def fail(client: Client, topology: Topology) -> None:
        name = topology.name
        family = families(topology)[0]
        await ways(client, name, ["ab"], family)
        await client.put(edit.set_fault(topology, "a", "b", fault))
        await ways(client, name, ["adcb", "xadcb", "bcdax"], family)
        await eventually(True, lambda: ping(client, topology, "x", "b", family))
        await client.put(topology)
        await ways(client, name, ["ab", "xab"], family)

    change(ours, [*FAST_ONES, "babel-bird"], fail)


@pytest.mark.usefixtures("came_up")
def test_costs_decide_the_way_each_direction_by_itself(ours):
    async def cost(client: Client, topology: Topology) -> None:
        name = topology.name
        family = families(topology)[0]
        await client.put(edit.set_cost(topology, "a", "b", 50))
        await ways(client, name, ["adcb", "bcda"], family)
        ab = topology.links[0]
        one_way = replace(ab, ends=(replace(ab.ends[0], cost=50), ab.ends[1]))
        await client.put(replace(topology, links=(one_way, *topology.links[1:])))
        await ways(client, name, ["adcb", "ba"], family)
        await client.put(topology)
        await ways(client, name, ["ab", "ba"], family)

    change(ours, ["ospf-frr", "ospf-bird", "ospf6-frr", "ospf6-bird", "isis-frr", "mixed"], cost)


@pytest.mark.usefixtures("came_up")
def test_protocols_are_not_spoken_where_the_link_says_so(ours):
    async def forbid(client: Client, topology: Topology) -> None:
        name = topology.name
        quiet = replace(topology, links=(replace(topology.links[0], protocols=()), *topology.links[1:]))
        await client.put(quiet)
        await ways(client, name, ["adcb", "bcda"])

        async def neighbours() -> set[str]:
            return {dev for dev in await devs(client, quiet, "a") if dev}

        await eventually({"to-d"}, neighbours)
        assert (
            await status(client, quiet, "a", ["ping", "-c1", "-W3", of_link(quiet, "a", "b")]) == 0
        )  # the link itself is there

    change(ours, ["ospf-frr", "ospf-bird", "isis-frr", "babel-bird"], forbid)


async def devs(client: Client, topology: Topology, sliver: str) -> list[str]:
    """The vifs of a router over which its daemon says it has a neighbour."""
    plugin = ROUTERS[topology.slivers[sliver].routing.daemon]
    out = []
    for protocol, argv in plugin.adjacencies_argv(router(topology, layout(topology), sliver)):
        run = str(client.place.sliver(f"{topology.name}.{sliver}"))
        command = client.enter(topology.name, sliver, [a.replace("{run}", run) for a in argv])
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        text = (await process.communicate())[0].decode()
        out += [a.dev for a in plugin.adjacencies(protocol, text) if a.up]
    return out


def of_link(topology: Topology, a: str, b: str) -> str:
    """The address of `b` on its link with `a`."""
    vif = next(v for v in layout(topology).vifs[b] if v.peer == a)
    return next(x for x in vif.addresses if ":" not in x).partition("/")[0]


@pytest.mark.usefixtures("came_up")
def test_bfd_finds_a_silent_failure_long_before_the_dead_interval(ours):
    """With a dead interval of ten minutes nothing else can find it within the time that is waited."""

    async def fail(client: Client, topology: Topology) -> None:
        name = topology.name
        slow = edit.set_routing(topology, {"dead_s": 600.0})
        await client.put(slow)
        await client.wait_ready(name)
        await ways(client, name, ["ab"], 4)
        await eventually(4, lambda: up_sessions(client, slow))
        await client.put(edit.set_fault(slow, "a", "b", "silent"))
        await ways(client, name, ["adcb"], 4)
        await ways(client, name, ["adcb"], 6)

    change(ours, ["dual-frr", "dual-bird"], fail)


async def up_sessions(client: Client, topology: Topology) -> int:
    """BFD sessions of router a that are up: IPv4 and IPv6, two neighbours."""
    run = str(client.place.sliver(f"{topology.name}.a"))
    argv = ["vtysh", "--vty_socket", f"{run}/frr", "-d", "bfdd", "-c", "show bfd peers brief"]
    if topology.slivers["a"].routing.daemon == "bird":
        argv = ["birdc", "-s", f"{run}/bird/bird.ctl", "show", "bfd", "sessions"]
    command = client.enter(topology.name, "a", argv)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().lower().count(" up ")


@pytest.mark.usefixtures("came_up")
def test_both_ip_versions_are_waited_for(ours):
    """The IPv6 half is missing at one router: what the slice asked for first has not converged, whatever IPv4 does."""

    async def halve(client: Client, topology: Topology) -> None:
        name = topology.name
        alone = replace(topology.slivers["b"], routing=replace(topology.slivers["b"].routing, protocols=("ospf",)))
        await client.put(replace(topology, slivers=topology.slivers | {"b": alone}))
        await eventually("b", lambda: way(client, name, "b", "a", 6))
        await client.wait_converged(name)  # b carries no IPv6 now, and nobody expects it to
        tables = await client.fib_entries(name)
        missing = set(unreached(topology, tables))
        assert {pair for pair in missing if "b" not in pair} == set()
        assert ("b", "a") in missing and ("a", "b") in missing

    change(ours, ["dual-frr", "dual-bird"], halve)


# --- topologies of their own --------------------------------------------------------------------


def in_own(ours: OwnPlace, topology: Topology, body: Callable[[Client], Awaitable[None]]) -> None:
    async def live() -> None:
        async with up(ours.client(), topology) as (client, _):
            assert await unanswered(client, topology) == []
            await body(client)

    asyncio.run(live())


def chain(name: str, routing: Callable[[str], Routing], links: Sequence[Link]) -> Topology:
    slivers = {n: Sliver(n, routing(n)) for n in sorted({e.sliver for x in links for e in x.ends})}
    return Topology(name, slivers, tuple(links))


ALL = [same("frr", "ospf", "ospf6"), same("bird", "ospf", "ospf6"), by_turns("ospf", "ospf6"), same("frr", "isis")]
EACH = pytest.mark.parametrize("routing", ALL[2:], ids=["mixed", "isis"])


@EACH
def test_parallel_links_back_each_other_up(ours, routing):
    first = Link((End("a", "one"), End("b", "one")), name="first", cost=5)
    second = Link((End("a", "two"), End("b", "two")), name="second", cost=7)
    topology = chain("parallel", routing, [first, second, link("b", "c")])

    async def dev(client: Client) -> set[str]:
        made = layout(topology)
        want = {address(made, "c", f) for f in families(topology)}
        table = (await client.fib_entries("parallel"))["a"]
        return {e.dev for e in table if e.to.partition("/")[0] in want}

    async def cut(client: Client) -> None:
        await eventually({"one"}, lambda: dev(client))
        await client.put(edit.set_fault(topology, "first", "", "carrier"))
        await eventually({"two"}, lambda: dev(client))
        await client.wait_converged("parallel")
        assert await unanswered(client, topology) == []

    in_own(ours, topology, cut)


@pytest.mark.parametrize("routing", ALL[:3], ids=["frr", "bird", "mixed"])
def test_areas_meet_in_the_backbone(ours, routing):
    """Areas 1 and 2 at the ends, and a shorter way beside the backbone that must not be taken: areas are apart."""

    def of(n: str) -> Routing:
        return replace(routing(n), area={"a": "0.0.0.1", "d": "0.0.0.2"}.get(n, "0.0.0.0"))

    topology = chain("areas", of, [link("a", "b", area="0.0.0.1"), link("b", "c"), link("c", "d", area="0.0.0.2")])

    async def look(client: Client) -> None:
        for family in (4, 6):
            await ways(client, "areas", ["abcd", "dcba"], family)

    in_own(ours, topology, look)


@EACH
def test_addresses_of_the_users_own_are_used(ours, routing):
    ab = Link(
        (End("a", addresses=("172.16.0.1/24", "fd00:1::1/64")), End("b", addresses=("172.16.0.2/24", "fd00:1::2/64")))
    )
    topology = chain("own", routing, [ab, link("b", "c")])
    own = replace(topology.slivers["a"], addresses=("192.0.2.1/32", "2001:db8::1/128"))
    topology = replace(topology, slivers=topology.slivers | {"a": own})

    async def reach(client: Client) -> None:
        for target in ("192.0.2.1", "172.16.0.1", "2001:db8::1", "fd00:1::1"):
            assert await status(client, topology, "c", ["ping", "-c1", "-W3", target]) == 0, target

    in_own(ours, topology, reach)


@pytest.mark.parametrize("daemon", ["frr", "bird"])
def test_hosts_hear_no_routing_protocol(ours, daemon):
    topology = square("passive", same(daemon, "ospf", "ospf6"))

    async def listen(client: Client) -> None:
        argv = ["tcpdump", "-i", "to-a", "ip proto 89 or ip6 proto 89"]
        command, pipe = client.enter(topology.name, "x", argv), asyncio.subprocess.PIPE
        host = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        try:
            while b"listening on" not in (said := await host.stderr.readline()):
                assert said, "tcpdump ended"
            assert await status(client, topology, "b", ["timeout", "60", *argv, "-c5"]) == 0  # more than one interval
        finally:
            host.terminate()
        heard, _ = await host.communicate()
        assert heard.strip() == b""

    in_own(ours, topology, listen)
