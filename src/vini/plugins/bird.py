"""BIRD 2 (https://bird.network.cz/?get_doc&v=20): one process, one configuration file."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vini.model import Adjacency, AnyObject, BgpPeer, File, Process, Ready, Router, RouterVif, Unsupported
from vini.plugins import intent

CONF, SOCKET = "bird/bird.conf", "{run}/bird/bird.ctl"
PROTOCOLS = {"ospf", "ospf6", "rip", "ripng", "babel", "bgp", "static"}
EQUAL_PATHS = "limit 255"  # the most there is; the default is 16, and Debian's FRR takes 256
BIRDC = ("birdc", "-s", SOCKET)
_OSPF = "RTS_OSPF, RTS_OSPF_IA, RTS_OSPF_EXT1, RTS_OSPF_EXT2"
INNER = {"ospf": _OSPF, "ospf6": _OSPF, "rip": "RTS_RIP", "ripng": "RTS_RIP", "babel": "RTS_BABEL"}
OSPF = {"ospf": "ospf4", "ospf6": "ospf6"}  # protocol -> the name of its instance

# A vif that goes and comes back while BIRD may not originate another router LSA (see below) leaves that LSA as it is.
# What BIRD calculated before the neighbour was full again lacks every route over it, and nothing makes it calculate
# anew until some LSA changes, in up to half an hour; but it says so, and every `configure` does.
LOST = "Cannot find next hop for LSA"

# BIRD originates a router LSA when it starts, with no neighbour in it, and the next one only MinLSInterval later (5 s,
# RFC 2328 appendix B; MINLSINTERVAL in BIRD's proto/ospf/ospf.h, not to be configured).  In the recovery phase of a
# graceful restart (RFC 3623, `bird -R`) it originates none, though adjacencies form.  That phase ends, and routes are
# calculated, on a "tick", which every `configure` brings forward.  So it starts with long ticks, and is given its
# lasting configuration when its neighbours are there; if that fails, the first tick of its own ends the phase.
START = r"""#!/bin/sh
# Start BIRD in the directory $1; when its neighbours are full, or seconds are over, give it its lasting configuration.
run=$1 neighbours=%d seconds=%d
set -- %s
birdc="birdc -s $run/bird/bird.ctl"

full() {
    for instance; do $birdc show ospf neighbors "$instance"; done | grep -c Full/
}

settle() {
    sleep 1  # the shortest graceful restart time there is
    tries=$((seconds * 10 - 10))
    while [ $tries -gt 0 ] && [ "$(full "$@")" -lt "$neighbours" ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    for tick in announce calculate again; do
        $birdc configure "\"$run/bird/bird.conf\""
        sleep 0.15
    done
}

(settle "$@" >/dev/null 2>&1 &)
exec bird -f -R -c "$run/bird/start.conf" -s "$run/bird/bird.ctl"
"""


def objects(router: Router) -> tuple[AnyObject, ...]:
    """The configuration and the process of one BIRD router; with OSPF, also what it starts on (see `START`)."""
    text = router.routing.raw.get("bird.conf") or config(router)
    files = [File(router.ns, CONF, text)]
    argv: tuple[str, ...] = ("bird", "-f", "-c", "{run}/" + CONF, "-s", SOCKET)
    spoken = [p for p in router.routing.protocols if p in OSPF]
    if spoken and "bird.conf" not in router.routing.raw:
        # What changes with the links stands in the script, not in argv: another argv would restart BIRD.
        alone = [] if _on_lan(router) else spoken
        neighbours = sum(len(intent.active(router, p)) for p in alone)
        script = START % (neighbours, _start_s(router), " ".join(OSPF[p] for p in spoken))
        files.append(File(router.ns, "bird/start.conf", config(router, starting=bool(alone))))
        files.append(File(router.ns, "bird/start", script, mode=0o755))
        argv = ("/bin/sh", "{run}/bird/start", "{run}")
    bird = Process(
        ns=router.ns,
        name="bird",
        argv=argv,
        config=intent.digest(text),
        reload=(*BIRDC, "configure", f'"{{run}}/{CONF}"'),
        reload_on=LOST,
        ready=Ready((*BIRDC, "show", "status"), r"^Daemon is up and running"),
    )
    return (*files, bird)


def _on_lan(router: Router) -> bool:
    """Whether OSPF must elect designated routers, which a graceful restart does not do (RFC 3623, 2): then BIRD starts
    as it is, and its first useful router LSA comes MinLSInterval (5 s) after the first one."""
    return any(intent.shared(v, p) for v in router.vifs for p in OSPF)


def _start_s(router: Router) -> int:
    """How long to wait for neighbours, s: theirs may start late, and two-way communication takes up to a hello."""
    return intent.whole_seconds(router, "hello interval", router.routing.hello_s) + 2


def config(router: Router, starting: bool = False) -> str:
    """The generated bird.conf, or what BIRD starts on; Unsupported for what it doesn't speak."""
    for protocol in router.routing.protocols:
        if protocol not in PROTOCOLS:
            raise Unsupported(f"BIRD does not speak {protocol}; give sliver {router.name} the daemon frr.")
    spoken = router.routing.protocols
    blocks = [_head(router), *(_kernel(router, family) for family in (4, 6))]
    if "bgp" in spoken:
        blocks += [_originated(router, family) for family in (4, 6)]
    blocks += [_ospf(router, p, starting) for p in spoken if p in OSPF]
    writers = {"rip": _rip, "ripng": _rip, "babel": _babel, "bgp": _bgp}
    blocks += [writers[p](router, p) for p in spoken if p in writers]
    if router.routing.bfd:
        blocks.append(_bfd())
    return "\n".join(b for b in blocks if b)


def _head(router: Router) -> str:
    devices = ", ".join(f'"{d}"' for d in ("lo", *(v.dev for v in router.vifs)))
    return (
        f"# {router.name}: generated by VINI; give the sliver a raw bird.conf to write your own.\n"
        "log stderr all;\n"
        f"router id {router.router_id};\n"
        "protocol device { scan time 1; }\n"
        "protocol direct {\n"
        "  ipv4;\n"
        "  ipv6;\n"
        f"  interface {devices};\n"
        "}\n"
    )


def _kernel(router: Router, family: int) -> str:
    """Everything learnt goes into the kernel, with the loopback as source; connected prefixes are there already."""
    source = intent.loopback(router, family)
    prefer = f"    krt_prefsrc = {source};\n" if source else ""
    return (
        f"protocol kernel kernel{family} {{\n"
        f"  merge paths on {EQUAL_PATHS};\n"
        "  scan time 10;\n"  # s; puts back what a hand took out of the kernel (the default is 60)
        f"  ipv{family} {{ import none; export filter {{\n"
        "    if source ~ [RTS_DEVICE, RTS_STATIC] then reject;\n"
        f"{prefer}"
        "    accept;\n"
        "  }; };\n"
        "}\n"
    )


def _ospf(router: Router, protocol: str, starting: bool) -> str:
    """One OSPF instance; for the first seconds (`START`) with long ticks, and as if it had been there before."""
    hello = intent.whole_seconds(router, "hello interval", router.routing.hello_s)
    dead = intent.whole_seconds(router, "dead interval", router.routing.dead_s)
    family = 4 if protocol == "ospf" else 6
    # OSPFv3 wants a link-local address of an interface, which lo has not: there the loopback is a stub network.
    stubs = ['    interface "lo" { stub; cost 1; };']
    if family == 6:
        stubs = [f"    stubnet {a} {{ cost 1; }};" for a in router.loopbacks if intent.version(a) == 6]
    areas: dict[str, list[str]] = {router.routing.area: stubs}
    for vif in intent.active(router, protocol):
        bfd = " bfd;" if router.routing.bfd else ""
        areas.setdefault(vif.area, []).append(
            f'    interface "{vif.dev}" {{ type {_network(vif, protocol, 2 * hello)}; cost {vif.cost};'
            f" hello {hello}; dead {dead}; retransmit 2;{bfd} }};"
        )
    for vif in intent.passive(router, protocol):
        areas.setdefault(vif.area, []).append(f'    interface "{vif.dev}" {{ stub; cost {vif.cost}; }};')
    body = "".join(f"  area {area} {{\n" + "\n".join(lines) + "\n  };\n" for area, lines in areas.items())
    start = f"  tick {_start_s(router)};\n  graceful restart on;\n  graceful restart time 1;\n" if starting else ""
    return (
        f"protocol ospf v{2 if family == 4 else 3} {OSPF[protocol]} {{\n"
        f"  ipv{family} {{ import all; export none; }};\n"
        f"  ecmp on {EQUAL_PATHS};\n"
        f"{start}"
        f"{body}"
        "}\n"
    )


def _network(vif: RouterVif, protocol: str, wait_s: int) -> str:
    """What OSPF takes a vif for.  Before the first election on a broadcast network it waits until it has heard all."""
    return f"broadcast; wait {wait_s}" if intent.shared(vif, protocol) else "ptp"


def _rip(router: Router, protocol: str) -> str:
    family, kind = (4, "rip") if protocol == "rip" else (6, "rip ng")
    update, timeout, garbage = intent.RIP_TIMERS
    lines = [
        f'  interface "{v.dev}" {{ update time {update}; timeout time {timeout}; garbage time {garbage}; }};'
        for v in intent.active(router, protocol)
    ]
    return _distance_vector(f"{kind} rip{family}", (family,), [f"  ecmp on {EQUAL_PATHS};", *lines])


def _babel(router: Router, _: str) -> str:
    hello_ms = round(router.routing.hello_s * 1000)
    lines = [
        f'  interface "{v.dev}" {{ type wired; rxcost {v.cost}; hello interval {hello_ms} ms;'
        f" update interval {4 * hello_ms} ms; }};"
        for v in intent.active(router, "babel")
    ]
    return _distance_vector("babel babel1", (4, 6), lines)


def _distance_vector(head: str, families: Iterable[int], settings: list[str]) -> str:
    """RIP and Babel announce what they learn, the loopbacks, and every connected prefix."""
    source = "RTS_BABEL" if head.startswith("babel") else "RTS_RIP"
    channels = "".join(f"  ipv{f} {{ import all; export where source ~ [RTS_DEVICE, {source}]; }};\n" for f in families)
    return f"protocol {head} {{\n{channels}" + "".join(f"{line}\n" for line in settings) + "}\n"


def _originated(router: Router, family: int) -> str:
    """The prefixes that BGP announces: a set for its export filter, and routes for those that are nowhere else."""
    prefixes = intent.originated(router, family)
    if not prefixes:
        return ""
    announced = "".join(f"  route {p} unreachable;\n" for p in router.routing.announce if intent.version(p) == family)
    static = f"protocol static announce{family} {{\n  ipv{family};\n{announced}}}\n" if announced else ""
    return f"define originated{family} = [ {', '.join(prefixes)} ];\n" + static


def _bgp(router: Router, _: str) -> str:
    return "\n".join(_session(router, peer) for peer in router.peers)


def _session(router: Router, peer: BgpPeer) -> str:
    family = intent.version(peer.address)
    own = f" || net ~ originated{family}" if intent.originated(router, family) else ""
    inner = dict.fromkeys(INNER[p] for p in router.routing.protocols if p in INNER)
    if inner and not peer.internal:  # what our own system's inner protocols know, not only what speaks BGP itself
        own += f" || source ~ [{', '.join(inner)}]"
    name = "bgp_" + re.sub(r"[^0-9a-z]", "_", peer.address.lower())
    local = f" {peer.source}" if peer.source else ""
    bfd = "  bfd on;\n" if router.routing.bfd else ""
    self_ = " next hop self;" if peer.internal else ""
    return (
        f"protocol bgp {name} {{\n"
        f'  description "{peer.name}";\n'
        f"  local{local} as {router.routing.asn};\n"
        f"  neighbor {peer.address} as {peer.asn};\n"
        f"  hold time {intent.BGP_HOLD_S};\n"
        f"  keepalive time {intent.BGP_KEEPALIVE_S};\n"
        "  connect delay time 1;\n"
        "  connect retry time 1;\n"
        "  error wait time 1, 2;\n"
        f"{bfd}"
        f"  ipv{family} {{ import all;{self_} export where source = RTS_BGP{own}; }};\n"
        "}\n"
    )


def _bfd() -> str:
    ms = intent.BFD_INTERVAL_MS
    return (
        "protocol bfd {\n"
        f'  interface "*" {{ min rx interval {ms} ms; min tx interval {ms} ms; idle tx interval 1 s;'
        f" multiplier {intent.BFD_MULTIPLIER}; }};\n"
        "}\n"
    )


# --- what it tells about its neighbours -------------------------------------------------------


def adjacencies_argv(router: Router) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(protocol, birdc command) for every protocol that has neighbours."""
    command = {
        "ospf": ("show", "ospf", "neighbors", OSPF["ospf"]),
        "ospf6": ("show", "ospf", "neighbors", OSPF["ospf6"]),
        "rip": ("show", "rip", "neighbors", "rip4"),
        "ripng": ("show", "rip", "neighbors", "rip6"),
        "babel": ("show", "babel", "neighbors", "babel1"),
        "bgp": ("show", "protocols", "all"),
    }
    return tuple((p, (*BIRDC, *command[p])) for p in router.routing.protocols if p in command)


def adjacencies(protocol: str, output: str) -> tuple[Adjacency, ...]:
    """The adjacencies in what birdc printed."""
    return _sessions(output) if protocol == "bgp" else intent.settled(_neighbours(protocol, output))


def _neighbours(protocol: str, output: str) -> Iterable[Adjacency]:
    """Rows of birdc's tables, whose columns differ from protocol to protocol."""
    for line in output.splitlines():
        words = line.split()
        if protocol in ("ospf", "ospf6"):
            # "10.0.0.2     1   Full/PtP   3.456   to-b   10.0.0.1": id, priority, state, dead time, device, address
            if len(words) >= 5 and "/" in words[2]:
                state = words[2].partition("/")[0]
                yield Adjacency(protocol, words[0], words[4], state, state == "Full")
        # "10.0.0.1   to-b   1   3   0   1.234": address, device, metric, ...
        elif len(words) >= 3 and re.fullmatch(r"[0-9a-f.:]*[.:][0-9a-f.:]*", words[0]):
            yield Adjacency(protocol, words[0], words[1], "up", True)


def _sessions(output: str) -> tuple[Adjacency, ...]:
    """`show protocols all` is a block of lines a protocol; the BGP ones say state and address."""
    pattern = r"^\s+BGP state:\s+(\S+)\n\s+Neighbor address: ([^\s%]+)"
    return tuple(
        Adjacency("bgp", address, "", state, state == "Established")
        for state, address in re.findall(pattern, output, re.MULTILINE)
    )
