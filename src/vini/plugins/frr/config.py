"""FRR 8 (https://docs.frrouting.org/en/stable-8.4/): zebra, and one daemon a protocol.

Each daemon reads its own `frr/<daemon>.conf`.  All paths are given explicitly, so that any number of routers run
side by side in network namespaces alone; FRR's `-N` needs no more than that but a mount namespace.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vini.model import Adjacency, AnyObject, BgpPeer, File, Process, Ready, Router, RouterVif, Unsupported
from vini.plugins import intent

BIN = "/usr/lib/frr"  # Debian's place; not on PATH
DIR = "{run}/frr"
DAEMON = {
    "ospf": "ospfd", "ospf6": "ospf6d", "isis": "isisd", "rip": "ripd", "ripng": "ripngd", "bgp": "bgpd",
    "babel": "babeld",
}  # fmt: skip
DAEMONS = ("zebra", "staticd", "bfdd", *DAEMON.values())
# A line at the left margin that opens a block which only one daemon understands.
OWNER = {
    "router ospf": "ospfd", "router ospf6": "ospf6d", "router isis": "isisd", "router rip": "ripd",
    "router ripng": "ripngd", "router bgp": "bgpd", "router babel": "babeld", "bfd": "bfdd",
    "ip route": "staticd", "ipv6 route": "staticd",
    "router eigrp": "eigrpd", "router openfabric": "fabricd", "mpls ldp": "ldpd", "segment-routing": "pathd",
}  # fmt: skip
# A daemon that finds no zebra tries again only 10 s later (lib/zclient.c), so it starts when zebra listens.
AFTER_ZEBRA = ("/bin/sh", "-c", 'until [ -S "$0" ]; do sleep 0.02; done; exec "$@"', f"{DIR}/zserv.api")
BEFORE_ALL = ("/bin/sh", "-c", 'rm -f "$0"; exec "$@"', f"{DIR}/zserv.api")  # what a killed zebra left behind
# A daemon only logs a line that it doesn't understand, and goes on without: not what the line's author expects.
# vtysh knows the lines of all daemons, of which an integrated file's interfaces have several's; it exits with 2 or so.
REFUSE_UNKNOWN = f'vtysh -C --vty_socket "{DIR}" --config_dir "{DIR}" -f "{DIR}/%s" >&2 || exit 1; '
# What a daemon itself refuses may be a mistake of meaning.  It is asked in an empty network namespace: even with -C,
# bgpd listens and zebra sets addresses.
REFUSE_WRONG = (
    "said=$(unshare --net %s -C 2>&1 | uniq); "
    'if wrong=$(echo "$said" | grep "on config line" | grep -vFf "%s"); then '
    'echo "$said" | grep "^[^0-9]" >&2; echo "$wrong" >&2; exit 1; fi; '
)
# zebra installs routes by nexthop objects.  The kernel deletes those with their interface; zebra goes on to use their
# ids, and what the kernel then refuses ("Nexthop id does not exist") it never tries again.  A plain route needs none.
NEXTHOP_OBJECTS = "zebra nexthop kernel enable"
PLAIN_ROUTES = f"no {NEXTHOP_OBJECTS}"
# When a router loses its loopback's address, the kernel drops all routes of which that is the source, zebra tries each
# again at once, is refused, and leaves it at that; but it says so.  A change of the route-map that gives them their
# source has it try again all that it gives to the kernel, after a delay of 5 s by default.
REFUSED = "Route install failed"
AGAIN_SOON = "zebra route-map delay-timer 1"
INNER = {4: ("ospf", "isis", "rip"), 6: ("ospf6", "isis", "ripng")}  # what BGP tells other systems, by IP version
SOURCED = {4: ("ospf", "rip", "isis", "bgp"), 6: ("ospf6", "ripng", "isis", "bgp")}  # whose routes get our source
IP = {4: "ip", 6: "ipv6"}  # as FRR calls the IP versions
# As isisd prints it: else every reload takes it away for a moment, and the change waits out the default of 30 s.
LSP_TIMERS = "lsp-timers gen-interval 1 refresh-interval 900 max-lifetime 1200"
VTYSH = ("vtysh", "--vty_socket", DIR, "--config_dir", DIR)


def objects(router: Router) -> tuple[AnyObject, ...]:
    """The configuration files and processes of one FRR router: zebra and the daemons that the intent needs."""
    texts = configs(router)
    files = [File(router.ns, f"frr/{daemon}.conf", text, mode=0o640) for daemon, text in texts.items()]
    # vtysh complains about a directory without it; reloading needs it to say "integrated" (frr-reload.py).
    vtysh = File(router.ns, "frr/vtysh.conf", "service integrated-vtysh-config\n", mode=0o640)
    if whole := router.routing.raw.get("frr.conf"):
        files.append(File(router.ns, "frr/frr.conf", whole, mode=0o640))
        files.append(File(router.ns, "frr/shared-lines", _shared(whole), mode=0o640))
    return (vtysh, *files, *(_process(router, daemon, text) for daemon, text in texts.items()))


def _process(router: Router, daemon: str, text: str) -> Process:
    conf = f"{DIR}/{daemon}.conf"
    shell, option, script, socket = BEFORE_ALL if daemon == "zebra" else AFTER_ZEBRA
    # Root, as its run directory is; FRR insists on the group that may use its terminals.  -P 0: no TCP terminal.
    words = (
        f"{BIN}/{daemon}", "-f", conf, "-z", f"{DIR}/zserv.api", "--vty_socket", DIR, "-i", f"{DIR}/{daemon}.pid",
        "-u", "root", "-g", "frrvty", "-P", "0", "--log", "stdout", "--log-level", "informational",
        *(("--bfdctl", f"{DIR}/bfdd.sock") if daemon == "bfdd" else ()),
    )  # fmt: skip
    reload: tuple[str, ...] = (
        "python3", f"{BIN}/frr-reload.py", "--reload", "--stdout", "--bindir", "/usr/bin", "--confdir", DIR,
        "--rundir", DIR, "--vty_socket", DIR, "--daemon", daemon, conf,
    )  # fmt: skip
    refusals, again = _refusals(router, daemon, words), _again(router) if daemon == "zebra" else ""
    if refusals or again:
        last = f'"$@" && exec {again}' if again else 'exec "$@"'
        reload = ("/bin/sh", "-c", refusals + last, "sh", *reload)
    return Process(
        ns=router.ns,
        name=daemon,
        argv=(shell, option, refusals + script, socket, *words),
        config=intent.digest(re.sub(r"\n+", "\n", text).lstrip("\n")),  # blank ones stand for others' blocks
        reload=reload,
        reload_on=REFUSED if again else "",
        ready=Ready((*VTYSH, "-d", daemon, "-c", "show version"), r"^FRRouting"),
        after=() if daemon == "zebra" else ("zebra",),
        along=True,  # a daemon does not notice for long that its zebra is another one
    )


def _again(router: Router) -> str:
    """The command by which zebra tries again what the kernel refused; "" where our route-maps aren't in use."""
    if router.routing.raw.keys() & {"frr.conf", "zebra.conf"} or not (sources := list(_sources(router))):
        return ""
    lines = ["configure terminal"]
    for family, source, _ in sources:
        lines += [f"route-map SOURCE{family} permit 10", "no set src", f"set src {source}"]
    return shlex.join((*VTYSH, "-d", "zebra", *(word for line in lines for word in ("-c", line))))


def _refusals(router: Router, daemon: str, words: tuple[str, ...]) -> str:
    """Shell text that ends with FRR's words where the user's own file is wrong; "" where the text is ours."""
    if f"{daemon}.conf" in router.routing.raw:
        given, shared = f"{daemon}.conf", "/dev/null"
    elif "frr.conf" in router.routing.raw:
        given, shared = "frr.conf", f"{DIR}/shared-lines"
    else:
        return ""
    return REFUSE_UNKNOWN % given + REFUSE_WRONG % (shlex.join(words), shared)


# --- configuration ----------------------------------------------------------------------------


def configs(router: Router) -> dict[str, str]:
    """Daemon -> its configuration text, zebra first; the user's raw texts win over ours."""
    raw = router.routing.raw
    if whole := raw.get("frr.conf"):
        _refuse_others(router.name, whole)
        texts = {d: section(whole, d) for d in ("zebra", *_named(whole), *_given(raw))} | _given(raw)
        return texts | {"zebra": _plain(texts["zebra"])}
    texts = {"zebra": _zebra(router)}
    if router.routing.bfd:
        texts["bfdd"] = _bfd(router)
    for protocol in router.routing.protocols:
        if protocol != "static":
            texts[DAEMON[protocol]] = _head(router) + WRITERS[protocol](router)
    texts |= _given(raw)
    return texts | {"zebra": _plain(texts["zebra"])}


def _plain(text: str) -> str:
    """zebra's configuration, with plain routes unless it speaks of that itself; its own lines keep their numbers."""
    if NEXTHOP_OBJECTS in text:
        return text
    lines = text.splitlines()
    at = next((i for i, line in enumerate(lines) if line.strip() == "end"), len(lines))  # below it nothing is read
    return "".join(f"{line}\n" for line in (*lines[:at], PLAIN_ROUTES, *lines[at:]))


def _given(raw: dict[str, str]) -> dict[str, str]:
    return {d: raw[f"{d}.conf"] for d in DAEMONS if f"{d}.conf" in raw}


def _named(text: str) -> list[str]:
    """The daemons that an integrated configuration needs besides zebra."""
    return [d for d in DAEMONS if any(_owner(line) == d for line in text.splitlines())]


def _owner(line: str) -> str:
    """The daemon that alone understands a line at the left margin; "" where there is none such."""
    words = line.split()
    return "" if line[:1].isspace() else OWNER.get(" ".join(words[:2]), OWNER.get(" ".join(words[:1]), ""))


def _refuse_others(sliver: str, text: str) -> None:
    """Blocks of daemons that VINI does not run would be left out in silence."""
    for number, line in enumerate(text.splitlines(), 1):
        daemon = _owner(line)
        if daemon and daemon not in DAEMONS:
            raise Unsupported(
                f"The frr.conf of sliver {sliver} configures {daemon} (line {number}: {line.strip()}), which VINI does"
                f" not run; remove that block, or run {daemon} by a command of the sliver."
            )


def _owners(text: str) -> list[tuple[str, str]]:
    """Each line of an integrated configuration with the daemon whose block it is in; "" where it is for several."""
    owned, owner = [], ""
    for line in text.splitlines():
        if line.strip() and not line[0].isspace() and line.strip() != "exit":
            owner = _owner(line)
        owned.append((line, owner))
    return owned


def section(text: str, daemon: str) -> str:
    """An integrated configuration with the blocks of other daemons emptied: a line's number stays what it is.

    They have to go: a daemon that skips an unknown `router rip` would take the lines below it for its own.  So has
    `exit` behind any block that isn't the daemon's, where it leaves configuration itself.  Behind its own it is needed:
    in `router ospf6`, a line `interface ...` is another command than outside.
    """
    kept = (line if owner == daemon or (not owner and line.rstrip() != "exit") else "" for line, owner in _owners(text))
    return "".join(f"{line}\n" for line in kept)


def _shared(text: str) -> str:
    """Patterns of the complaints about lines that are for several daemons."""
    shared = (number for number, (_, owner) in enumerate(_owners(text), 1) if not owner)
    return "".join(f"on config line {number}:\n" for number in shared)


def _head(router: Router) -> str:
    why = "generated by VINI; give the sliver a raw configuration to write your own."
    return f"! {router.name}: {why}\nhostname {router.name}\n"


def _block(opening: str, *lines: str) -> str:
    return "".join((opening + "\n", *(f" {line}\n" for line in lines if line), "exit\n"))


def _zebra(router: Router) -> str:
    """Learnt routes carry the loopback as source address: what a router sends survives the loss of any one link."""
    text = _head(router) + f"{PLAIN_ROUTES}\n{AGAIN_SOON}\n"
    for family, source, protocols in _sources(router):
        text += _block(f"route-map SOURCE{family} permit 10", f"set src {source}")
        text += "".join(f"{IP[family]} protocol {p} route-map SOURCE{family}\n" for p in protocols)
    return text


def _sources(router: Router) -> Iterator[tuple[int, str, list[str]]]:
    """IP version, the loopback, and the protocols whose routes have it as source."""
    for family, protocols in SOURCED.items():
        source = intent.loopback(router, family)
        spoken = [p for p in protocols if p in router.routing.protocols]
        if source and spoken:
            yield family, source, spoken


def _bfd(router: Router) -> str:
    ms = intent.BFD_INTERVAL_MS
    timers = (f"transmit-interval {ms}", f"receive-interval {ms}", f"detect-multiplier {intent.BFD_MULTIPLIER}")
    return _head(router) + "bfd\n profile vini\n" + "".join(f"  {t}\n" for t in timers) + " exit\nexit\n"


def _hello(router: Router) -> tuple[str, ...]:
    """OSPF's hello and dead intervals as "interface" lines; below a second only dead = 1 s, hello = 1/n s exist."""
    hello, dead = router.routing.hello_s, router.routing.dead_s
    times = round(1 / hello) if hello < 1 else 0
    if dead == 1 and 1 < times <= 20 and abs(times * hello - 1) < 0.01:
        return (f"dead-interval minimal hello-multiplier {times}",)
    return (
        f"hello-interval {intent.whole_seconds(router, 'hello interval', hello)}",
        f"dead-interval {intent.whole_seconds(router, 'dead interval', dead)}",
    )


def _network(vif: RouterVif, protocol: str) -> str:
    """What OSPF takes a vif for.  On a broadcast network it waits for the dead interval before the first election
    (RFC 2328, 9.1, WaitTimer), which FRR can't shorten."""
    return "broadcast" if intent.shared(vif, protocol) else "point-to-point"


def _ospf(router: Router) -> str:
    bfd = ("ip ospf bfd", "ip ospf bfd profile vini") if router.routing.bfd else ()
    timers = tuple(f"ip ospf {line}" for line in (*_hello(router), "retransmit-interval 2"))
    text = _block("interface lo", f"ip ospf area {router.routing.area}")
    for vif in intent.active(router, "ospf"):
        lines = (f"ip ospf area {vif.area}", f"ip ospf network {_network(vif, 'ospf')}", f"ip ospf cost {vif.cost}")
        text += _block(f"interface {vif.dev}", *lines, *timers, *bfd)
    for vif in intent.passive(router, "ospf"):
        text += _block(
            f"interface {vif.dev}", f"ip ospf area {vif.area}", f"ip ospf cost {vif.cost}", "ip ospf passive"
        )
    return text + _block(
        "router ospf", f"ospf router-id {router.router_id}", "timers throttle spf 0 50 500", "timers lsa min-arrival 0"
    )


def _ospf6(router: Router) -> str:
    hello = _hello(router)
    if len(hello) == 1:
        raise Unsupported(f"FRR's ospf6 has no hello interval below 1 s, which sliver {router.name} asks for.")
    bfd = ("ipv6 ospf6 bfd", "ipv6 ospf6 bfd profile vini") if router.routing.bfd else ()
    timers = tuple(f"ipv6 ospf6 {line}" for line in (*hello, "retransmit-interval 2"))
    text = _block("interface lo", f"ipv6 ospf6 area {router.routing.area}")
    for vif in intent.active(router, "ospf6"):
        lines = (f"area {vif.area}", f"network {_network(vif, 'ospf6')}", f"cost {vif.cost}")
        text += _block(f"interface {vif.dev}", *(f"ipv6 ospf6 {line}" for line in lines), *timers, *bfd)
    for vif in intent.passive(router, "ospf6"):
        lines = (f"area {vif.area}", f"cost {vif.cost}", "passive")
        text += _block(f"interface {vif.dev}", *(f"ipv6 ospf6 {line}" for line in lines))
    return text + _block(
        "router ospf6",
        f"ospf6 router-id {router.router_id}",
        "timers throttle spf 0 50 500",
        "timers lsa min-arrival 0",
    )


def net(router: Router) -> str:
    """The IS-IS network entity title (ISO 10589 7.1): area 49.<area>, system id the router id's twelve digits."""
    area = "".join(f"{int(byte):02x}" for byte in router.routing.area.split("."))
    system = "".join(f"{int(byte):03d}" for byte in router.router_id.split("."))
    return f"49.{area[:4]}.{area[4:]}.{system[:4]}.{system[4:8]}.{system[8:]}.00"


def _isis(router: Router) -> str:
    """Level 2 only, wide metrics, IPv4 and IPv6 in one topology."""
    hello = intent.whole_seconds(router, "hello interval", router.routing.hello_s)
    times, rest = divmod(router.routing.dead_s, hello)
    if rest or not 2 <= times <= 100:
        raise Unsupported(
            f"IS-IS holds a neighbour for 2 to 100 times the hello interval; sliver {router.name} asks for"
            f" {router.routing.dead_s:g} s with hellos every {hello} s."
        )
    both = ("ip router isis vini", "ipv6 router isis vini")
    timers = (f"isis hello-interval {hello}", f"isis hello-multiplier {int(times)}", "no isis hello padding")
    bfd = ("isis bfd", "isis bfd profile vini") if router.routing.bfd else ()
    # First the instance: until its metrics are wide, an interface takes none above 63.
    level = ("is-type level-2-only", f"net {net(router)}", "metric-style wide", LSP_TIMERS, "spf-interval 1")
    text = _block("router isis vini", *level) + _block("interface lo", *both, "isis passive")
    for vif in intent.active(router, "isis"):
        # On a LAN only the designated router tells what all others' databases should hold, 10 s apart by default.
        kind = "isis csnp-interval 1" if intent.shared(vif, "isis") else "isis network point-to-point"
        lines = ("isis circuit-type level-2-only", kind, f"isis metric {vif.cost}")
        text += _block(f"interface {vif.dev}", *both, *lines, *timers, *bfd)
    for vif in intent.passive(router, "isis"):
        text += _block(f"interface {vif.dev}", *both, f"isis metric {vif.cost}", "isis passive")
    return text


def _rip(router: Router) -> str:
    return _rip_block(router, "rip", ("version 2",))


def _ripng(router: Router) -> str:
    return _rip_block(router, "ripng", ())


def _rip_block(router: Router, protocol: str, first: tuple[str, ...]) -> str:
    networks = (f"network {v.dev}" for v in intent.active(router, protocol))
    timers = "timers basic " + " ".join(map(str, intent.RIP_TIMERS))
    # All other protocols, and BIRD's RIP, use equal-cost paths unasked.
    return _block(f"router {protocol}", *first, "allow-ecmp", *networks, "redistribute connected", timers)


def _babel(router: Router) -> str:
    """babeld 8.4 joins its multicast group twice when a link is up at its start, fails, and forgets the link."""
    raise Unsupported(
        f"FRR 8.4's babeld does not start on links that are up; give sliver {router.name} the daemon bird."
    )


def _bgp(router: Router) -> str:
    lines = [
        f"bgp router-id {router.router_id}",
        "no bgp ebgp-requires-policy",
        "no bgp default ipv4-unicast",
        "no bgp network import-check",
        "bgp bestpath as-path multipath-relax",
        f"timers bgp {intent.BGP_KEEPALIVE_S} {intent.BGP_HOLD_S}",
    ]
    for peer in router.peers:
        lines += [f"neighbor {peer.address} {line}" for line in _session(router, peer)]
    for family in (4, 6):
        lines += _bgp_family(router, family)
    return _block(f"router bgp {router.routing.asn}", *lines)


def _session(router: Router, peer: BgpPeer) -> list[str]:
    lines = [f"remote-as {peer.asn}", f"description {peer.name}", "timers connect 1", "advertisement-interval 0"]
    if peer.source:
        lines.append(f"update-source {peer.source}")
    if router.routing.bfd:
        lines += ["bfd", "bfd profile vini"]
    return lines


def _bgp_family(router: Router, family: int) -> list[str]:
    peers, prefixes = intent.peers(router, family), intent.originated(router, family)
    if not peers:
        return []
    inner = [f"network {p}" for p in prefixes]
    if not all(p.internal for p in peers):
        inner += [f"redistribute {p}" for p in router.routing.protocols if p in INNER[family]]
    for peer in peers:
        inner.append(f"neighbor {peer.address} activate")
        if peer.internal:
            inner.append(f"neighbor {peer.address} next-hop-self")
    return [f"address-family ipv{family} unicast", *(f" {line}" for line in inner), "exit-address-family"]


WRITERS = {
    "ospf": _ospf, "ospf6": _ospf6, "isis": _isis, "rip": _rip, "ripng": _ripng, "bgp": _bgp, "babel": _babel,
}  # fmt: skip


# --- what it tells about its neighbours -------------------------------------------------------


def adjacencies_argv(router: Router) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(protocol, vtysh command) for every protocol that has neighbours."""
    show = {
        "ospf": "show ip ospf neighbor json",
        "ospf6": "show ipv6 ospf6 neighbor json",
        "isis": "show isis neighbor",
        "rip": "show ip rip status",
        "ripng": "show ipv6 ripng status",
        "bgp": "show bgp summary json",
    }
    return tuple((p, (*VTYSH, "-d", DAEMON[p], "-c", show[p])) for p in router.routing.protocols if p in show)


def adjacencies(protocol: str, output: str) -> tuple[Adjacency, ...]:
    """The adjacencies in what vtysh printed."""
    if protocol in READERS:
        try:
            return READERS[protocol](json.loads(output))
        except json.JSONDecodeError:  # the daemon isn't there, and vtysh says so in words
            return ()
    return tuple(_table(protocol, output))


def _ospf_rows(shown: dict[str, Any]) -> tuple[Adjacency, ...]:
    return intent.settled(
        Adjacency("ospf", router_id, row["ifaceName"].partition(":")[0], row["nbrState"], row["converged"] == "Full")
        for router_id, rows in shown.get("neighbors", {}).items()
        for row in rows
    )


def _ospf6_rows(shown: dict[str, Any]) -> tuple[Adjacency, ...]:
    return intent.settled(
        Adjacency("ospf6", row["neighborId"], row["interfaceName"], row["state"], row["state"] == "Full")
        for row in shown.get("neighbors", [])
    )


def _bgp_rows(shown: dict[str, Any]) -> tuple[Adjacency, ...]:
    """A session may carry both families: one adjacency each."""
    states = {a: p["state"] for family in shown.values() for a, p in family.get("peers", {}).items()}
    return tuple(Adjacency("bgp", a, "", state, state == "Established") for a, state in states.items())


READERS: dict[str, Callable[[dict[str, Any]], tuple[Adjacency, ...]]] = {
    "ospf": _ospf_rows,
    "ospf6": _ospf6_rows,
    "bgp": _bgp_rows,
}


def _table(protocol: str, output: str) -> Iterable[Adjacency]:
    """Rows of the tables that FRR 8.4 has no JSON for."""
    address = ""
    for line in output.splitlines():
        words = line.split()
        if protocol == "isis" and len(words) >= 5 and words[2] in ("1", "2"):
            # "denver   to-denver   2  Up   4   2020.2020.2020": system, device, level, state, holding time
            yield Adjacency(protocol, words[0], words[1], words[3], words[3] == "Up")
        if protocol in ("rip", "ripng"):
            # "10.0.0.1   0   0   120   00:00:03": gateway, bad packets and routes, distance, age; IPv6 takes two lines
            if words and re.fullmatch(r"\d+\.\d+\.\d+\.\d+|fe80::\S+", words[0]):
                address = words.pop(0)
            if address and len(words) == 4 and re.fullmatch(r"[\d:]+", words[3]):
                yield Adjacency(protocol, address, "", "up", True)
                address = ""
