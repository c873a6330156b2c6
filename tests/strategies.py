"""Topologies for property tests: small, but with everything in them that a person may write."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.embed import embed
from vini.model import (
    BurstLoss,
    Command,
    End,
    Impairment,
    Link,
    Node,
    Routing,
    SliceSpec,
    Sliver,
    StaticRoute,
    Topology,
)
from vini.placement import crossing
from vini.text import trace

settings.register_profile(
    "quick", max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000, derandomize=False)
settings.load_profile("quick")  # `pytest --hypothesis-profile=thorough` for long ones

ABLE = frozenset(
    {
        "root",
        "cgroup2",
        "netem",
        "element",
        "frr",
        "bird",
        "programs",
        "vxlan",
        "vxlan-xdp",
        "gretap",
        "wireguard",
        "shares",
        "containers",
    }
)
CAPABLE = Node("local", ABLE, address="192.0.2.1", mtu=9000, wireguard="A" * 43 + "=", rate_mbit=1000.0)
OTHER = replace(CAPABLE, name="other", address="192.0.2.2", wireguard="B" * 42 + "A=")
NAMES = ("a", "b", "c", "denver", "kansas-city", "x" * 40, "x" * 39 + "y", "0")
PROTOCOLS = {"bird": ("ospf", "ospf6", "rip", "ripng", "babel", "bgp"), "frr": ("ospf", "ospf6", "isis", "rip", "bgp")}


def specs(slice_: str = "s") -> st.SearchStrategy[SliceSpec]:
    """What one node must hold for some topology, all of it or a part."""
    return topologies(slice_).map(spec_of) | placed_topologies(slice_).map(lambda pair: specs_of(*pair)["local"])


def placed_topologies(slice_: str = "s") -> st.SearchStrategy[tuple[Topology, dict[str, str]]]:
    """With a node for each sliver, of two; some sliver is on the local one."""

    def places(topology: Topology) -> st.SearchStrategy[tuple[Topology, dict[str, str]]]:
        names = sorted(topology.slivers)
        free = st.lists(st.sampled_from(["local", "other"]), min_size=len(names) - 1, max_size=len(names) - 1)
        return free.map(lambda nodes: (topology, dict(zip(names, ["local", *nodes], strict=True))))

    return topologies(slice_).flatmap(places)


def specs_of(topology: Topology, placed: dict[str, str], generation: int = 1) -> dict[str, SliceSpec]:
    """What each of two nodes must hold."""
    vnis = {link: 1 + i for i, link in enumerate(crossing(topology, placed))}
    return embed(topology, [CAPABLE, OTHER], generation, placed=placed, vnis=vnis, port=20_001)


def spec_of(topology: Topology, generation: int = 1) -> SliceSpec:
    return embed(topology, [CAPABLE], generation)["local"]


TRACES = (
    "",
    "0\n0\n7\n7\n20\n",
    "time_ms,rate_mbit,delay_ms,loss\n0,1.5,20,0.5%\n100.5,outage,,100%\n300,repeat\n",
    "time_ms,delay_ms\n10,1\n20,\n",
)
PLAIN = {
    "delay_ms": st.sampled_from([0.0, 0.5, 30.0]),
    "jitter_ms": st.sampled_from([0.0, 0.0, 1.0]),
    "loss": st.sampled_from([0.0, 0.01]),
    "rate_mbit": st.sampled_from([0.0, 10.0]),
}
QUEUES = ((1000, 0, 0.0), (7, 0, 0.0), (0, 64_000, 0.0), (0, 1_500, 0.0), (0, 0, 12.5))


@st.composite
def rich_impairments(draw: st.DrawFn) -> Impairment:
    """Everything that a link may do at once."""
    packets, size, wait_ms = draw(st.sampled_from(QUEUES))
    table = draw(st.sampled_from([(), (), (0.0, 0.2, 5.0), (1.0, 1.0)]))
    made = Impairment(
        delay_ms=draw(st.sampled_from([2.0, 30.0])),
        jitter_ms=0.0 if table else draw(st.sampled_from([0.0, 0.25])),
        loss=draw(st.sampled_from([0.0, 0.001])),
        rate_mbit=draw(st.sampled_from([1.5, 800.0])),
        queue_packets=packets,
        queue_bytes=size,
        queue_ms=wait_ms,
        aqm=draw(st.sampled_from(["", "codel"])),
        distribution=draw(st.sampled_from(["normal", "uniform", "pareto"])),
        jitter_table_ms=table,
        keeps_order=draw(st.booleans()),
        reorder=draw(st.sampled_from([0.0, 0.02])),
        burst_loss=draw(st.sampled_from([None, BurstLoss(0.01, 0.25), BurstLoss(0.01, 0.5, 0.8, 0.001)])),
        lose=draw(st.sampled_from([(), ((3, 3),), ((1, 4), (100, 120))])),
        duplicate=draw(st.sampled_from([0.0, 0.01])),
        corrupt=draw(st.sampled_from([0.0, 0.01])),
        trace=draw(st.sampled_from(TRACES)),
    )
    taken = trace.parse(made.trace).gives if made.trace else frozenset()
    return replace(made, **{field: 0.0 for field in ("delay_ms", "loss", "rate_mbit") if field in taken})


impairments = st.builds(Impairment, **PLAIN) | rich_impairments()


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    daemon = draw(st.sampled_from(sorted(PROTOCOLS)))
    protocols = draw(st.lists(st.sampled_from(PROTOCOLS[daemon]), min_size=1, max_size=2, unique=True))
    return Routing(
        protocols=tuple(protocols),
        daemon=daemon,
        hello_s=draw(st.sampled_from([1.0, 2.0])),
        asn=draw(st.sampled_from([65001, 65002])) if "bgp" in protocols else 0,
        bfd=draw(st.booleans()),
    )


files = st.dictionaries(
    st.sampled_from(["/etc/motd", "/etc/x/y", "/srv/www/index.html", "/root/a"]),
    st.sampled_from(["", "hello\n", "Grüße\n", "%s {run}\n"]),
    max_size=2,
)
commands = st.lists(
    st.builds(Command, st.sampled_from(["true", "sleep 1000", "echo ü", "exit 3"]), st.booleans()),
    max_size=2,
    unique_by=lambda c: c.run,
).map(tuple)


@st.composite
def slivers(draw: st.DrawFn, name: str) -> Sliver:
    """A daemon's router, a static router, a host, or one that merely forwards."""
    kind = draw(st.sampled_from(["daemon", "static", "host", "forwards"]))
    routing = {"daemon": routings(), "static": st.just(Routing(("static",)))}.get(kind, st.none())
    return Sliver(
        name,
        routing=draw(routing),
        runtime=draw(st.sampled_from(["light", "light", "container"])),
        forward=True if kind == "forwards" else None,
        files=draw(files),
        commands=draw(commands),
    )


@st.composite
def links(draw: st.DrawFn, a: str, b: str, number: int, parallel: bool) -> Link:
    """A link; of parallel ones the later has names of its own, as the parser demands."""
    given_ = draw(st.booleans())
    ends = tuple(
        End(
            sliver,
            vif=f"p{number}" if parallel else "",
            addresses=(f"172.16.{number}.{i + 1}/24",) if given_ else (),
            cost=draw(st.sampled_from([None, None, 7])),
            impairment=draw(st.none() | impairments),
        )
        for i, sliver in enumerate((a, b))
    )
    return Link(
        ends,  # type: ignore[arg-type]
        name=f"{a}--{b}-{number}"[:60] if parallel else "",
        cost=draw(st.integers(1, 20)),
        impairment=draw(impairments),
        mtu=draw(st.sampled_from([None, 1400, 1500])),
        fault=draw(st.sampled_from(["none", "none", "carrier", "silent"])),
    )


@st.composite
def topologies(draw: st.DrawFn, slice_: str = "s") -> Topology:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    made = {n: draw(slivers(n)) for n in names}
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    out: list[Link] = []
    seen: set[tuple[str, str]] = set()
    for number, pair in enumerate(draw(st.lists(st.sampled_from(pairs), max_size=6)) if pairs else []):
        out.append(draw(links(*pair, number, parallel=pair in seen)))
        seen.add(pair)
    for name, sliver in made.items():
        around = [e.sliver for link in out for e in link.ends if name in _ends(link) and e.sliver != name]
        if around and sliver.routing is None and draw(st.booleans()):
            route = StaticRoute("198.51.100.0/24", draw(st.sampled_from(around)))
            made[name] = replace(sliver, forward=None, routes=(route,))
    substrate = draw(st.sampled_from(["mirror", "mirror", "heal"]))
    tunnel = draw(st.sampled_from(["", "vxlan-xdp", "gretap", "wireguard"]))
    return Topology(slice_, made, tuple(out), substrate=substrate, tunnel=tunnel)


def _ends(link: Link) -> set[str]:
    return {e.sliver for e in link.ends}
