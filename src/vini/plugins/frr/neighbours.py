"""What FRR's daemons tell about their neighbours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from vini.model import Adjacency, Router
from vini.plugins import intent
from vini.plugins.frr.daemons import DAEMON, VTYSH


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
