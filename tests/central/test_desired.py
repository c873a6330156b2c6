"""What is asked of a testbed's slices: stored once, told to its nodes, and told back as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace
from sqlalchemy import Table, update
from starlette.websockets import WebSocketDisconnect
from testbed_api import Api, email, populated

from vini import bus, edit, placement
from vini.central import testbed
from vini.central.api import desired
from vini.central.api.call import Call
from vini.central.api.desired import desired_router
from vini.central.app import make_app
from vini.central.doings import Doing, Doings
from vini.model import (
    Container,
    Disk,
    End,
    File,
    Gretap,
    Halt,
    Link,
    Netns,
    Outside,
    OutsideGrant,
    Resources,
    Routing,
    Sliver,
    SliverStatus,
    Topology,
    Vxlan,
    Wireguard,
    beyond,
    is_sliver,
)
from vini.plugins.tunnels import TunnelKind
from vini.rules.nouns import NodeSaid
from vini.store import events, nodes, slices, specs, tables, tunnels
from vini.store.database import DatabaseError
from vini.store.tables import wireguards

N1, N2 = "n1.princeton.example", "n2.princeton.example"
CAN = frozenset({"root", "cgroup2", "vxlan", "netem", "frr"})
PAIR = Topology("princeton_iias", {"a": Sliver("a", node=N1), "b": Sliver("b", node=N2)}, (Link((End("a"), End("b"))),))
LOAD = bus.SliverLoad(1.0, {"to-b": (1, 2, 3, 4)}, 0.5, 4096)
AT = "/slices/princeton_iias/topology"


class Nodes:
    """A `bus.seam.Bus` whose nodes take everything at once; those in `away` are not there."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.woken: list[frozenset[str]] = []
        self.take: Callable[[str], None] = lambda _: None
        self.said: list[bus.Said] = [bus.Output(1, b"hello\n"), bus.Exited(3)]
        self.ran: list[bus.Run] = []
        self.lasting = False  # commands run until they are ended
        self.ended = 0

    def connected(self) -> frozenset[str]:
        return frozenset({N1, N2}) - self.away

    def wake(self, names: Collection[str]) -> None:
        self.woken.append(frozenset(names))
        for name in self.connected() & set(names):
            self.take(name)

    async def ask(self, node: str, request: bus.Request, progress: Any = None) -> bus.Reply:  # noqa: ARG002
        if node in self.away:
            raise bus.NodeAway(f"Node {node} is not connected.")
        if isinstance(request, bus.AskStatus):
            sliver = "a" if node == N1 else "b"
            return bus.Report((SliverStatus(f"{request.slice}.{sliver}", "ready"),), generation=1 << 40)
        if isinstance(request, bus.AskLoads):
            return bus.Loads({"a" if node == N1 else "b": LOAD})
        if isinstance(request, bus.AskFlows):
            own, seen, to = "198.18.0.1:7", "192.0.2.1:7", "5.5.5.5:53"
            flow = bus.Flow("princeton_iias", "a", "tcp", own, seen, to, 1.0, 2.0, "ended", 1, 2, 3, 4)
            return bus.Flows((flow,) if node == N1 else ())
        if isinstance(request, bus.AskActs):
            act = bus.Act(request.after + 1, 5.0, 5.25, 5.5)
            return bus.Acts((replace(act, linked=5.375) if request.linked else act,))
        return bus.Fibs({"a" if node == N1 else "b": ()})

    async def run(self, node: str, command: bus.Run, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        self.ran.append(command)
        assert node == N1
        if self.lasting:
            yield bus.Output(1, b"here")
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
        async for message in typed:
            assert message == bus.Input(b"x")
            break
        for said in self.said:
            yield said


@pytest.fixture
def fleet() -> Nodes:
    return Nodes()


@pytest.fixture
def api(database, fleet: Nodes) -> Api:
    made = populated(database)
    with database.transaction() as tx:
        for i, name in enumerate((N1, N2)):
            nodes.heard(tx, name, made.now[0], NodeSaid(CAN, f"192.0.2.{i + 1}"), float(i))
    wishes = testbed.Testbed(database, fleet, lambda: made.now[0])
    made.app = make_app(
        database, clock=lambda: made.now[0], routers=(desired_router(wishes, database, lambda: made.now[0]),),
        connected=fleet.connected,
    )  # fmt: skip
    made.http = TestClient(made.app, raise_server_exceptions=False)

    def take(node: str) -> None:
        with database.transaction() as tx:
            for spec in slices.specs_of_node(tx, node):
                there = {o.ns for o in spec.objects if isinstance(o, Netns)}
                rows = tuple(SliverStatus(ns, "ready") for ns in sorted(filter(is_sliver, there)))
                report = bus.Report(rows, slice=spec.slice, generation=spec.generation)
                slices.acknowledge(tx, spec.slice, node, spec.generation, msgspec.json.encode(report), 1.0)

    fleet.take = take
    return made


def body(topology: Topology) -> Any:
    return msgspec.to_builtins(topology)


def put(api: Api, topology: Topology, who: str = "user", **headers: str) -> Any:
    return api(who, "PUT", f"{AT}?wait_s=5", body(topology), **headers)


def test_a_slice_goes_to_its_nodes_and_is_told_of(api: Api, fleet: Nodes, database) -> None:
    answer = put(api, PAIR)
    assert answer.status_code == 200, answer.text
    assert {r["sliver"]: r["state"] for r in answer.json()["slivers"]} == {
        "princeton_iias.a": "ready",
        "princeton_iias.b": "ready",
    }
    assert fleet.woken == [frozenset({N1, N2})]
    with database.reading() as tx:
        held = specs.of_slice(tx, "princeton_iias")
        row = slices.get(tx, "princeton_iias")
    tunnels = [o for s in held.values() for o in s.objects if isinstance(o, Vxlan)]
    assert len({t.vni for t in tunnels}) == 1 and {t.remote for t in tunnels} == {"192.0.2.1", "192.0.2.2"}
    assert {s.expires for s in held.values()} == {row.expires}
    assert api("user", "GET", AT).json()["topology"]["slivers"].keys() == {"a", "b"}
    assert api("user", "GET", "/topologies").json().keys() == {"princeton_iias"}
    assert api("outsider", "GET", "/topologies").json() == {}
    assert [(e["who"], e["what"]) for e in api("user", "GET", "/slices/princeton_iias/log").json()] == [
        (email("user"), "put")
    ]


@pytest.mark.parametrize(
    "slivers",
    [
        {"../../x": Sliver("../../x")},
        {"a": Sliver("../../x")},
        {"a": Sliver("a", addresses=("$(id)",))},
        {"a": Sliver("a", files={"/etc/../../x": ""})},
        {"a": Sliver("a", runtime="container", volumes={"../../x": "/x"})},
        {"a": Sliver("a", image="../../x")},
        {"a": Sliver("a", routing=Routing(("ospf",), area="0\n!\nlog file /x"))},
        {"a": Sliver("a", routing=Routing(("ospf",), raw={"../../x": ""}))},
    ],
)
def test_what_no_file_could_ask_for_reaches_no_node(api: Api, database, slivers: dict[str, Sliver]) -> None:
    """Names of a topology become paths and configurations on nodes."""
    answer = put(api, Topology("princeton_iias", slivers))
    with database.reading() as tx:
        held = specs.of_slice(tx, "princeton_iias")
    said = msgspec.json.encode(held).decode()
    assert answer.status_code in (200, 400), answer.text
    assert ("../x" in said, "log file" in said, "$(id)" in said) == (False, False, False)
    assert answer.status_code == 400 or list(slivers) == ["a"]


def test_a_vif_can_not_be_a_path(api: Api) -> None:
    pair = (Link((End("a", vif="../x"), End("b"))),)
    answer = put(api, Topology("princeton_iias", {"a": Sliver("a"), "b": Sliver("b")}, pair))
    assert (answer.status_code, answer.json()["error"]) == (400, "TopologyError")


def test_what_a_sliver_lived_through_stays_when_its_file_comes_again(api: Api, database) -> None:
    put(api, edit.restart(edit.set_state(PAIR, ["b"], "stopped"), ["a"]))
    asked = api("user", "GET", AT).json()["topology"]["slivers"]
    assert (asked["a"]["restarts"], asked["b"]["state"]) == (1, "stopped")
    with database.reading() as tx:
        held = [o for s in specs.of_slice(tx, "princeton_iias").values() for o in s.objects]
    assert [o for o in held if isinstance(o, Halt)] == [Halt("princeton_iias.b", "stopped")]
    put(api, PAIR)
    asked = api("user", "GET", AT).json()["topology"]["slivers"]
    assert (asked["a"]["restarts"], asked["b"].get("state", "running")) == (1, "running")


@pytest.mark.parametrize(
    ("who", "status"), [("user", 200), ("pi", 200), ("admin", 200), ("tech", 403), ("outsider", 404)]
)
def test_who_may_ask(api: Api, who: str, status: int) -> None:
    assert put(api, PAIR, who).status_code == status


def test_of_two_who_change_at_once_one_is_told(api: Api) -> None:
    first = put(api, PAIR).json()["generation"]
    assert put(api, PAIR, if_match=f'"{first}"').status_code == 200
    late = put(api, PAIR, if_match=f'"{first}"')
    assert (late.status_code, late.json()["error"]) == (409, "Conflict")
    assert put(api, PAIR, if_match="nonsense").status_code == 400


def test_what_does_not_fit_is_refused_and_nothing_is_half_made(api: Api, fleet: Nodes, database) -> None:
    nowhere = Topology("princeton_iias", {"a": Sliver("a", node="n9")})
    answer = put(api, nowhere)
    assert (answer.status_code, answer.json()["error"]) == (507, "CapacityError")
    assert "n9" in answer.json()["sentence"]
    assert put(api, Topology("princeton_other", PAIR.slivers)).status_code == 400
    api("admin", "PATCH", "/slices/princeton_iias", {"max_slivers": 1})
    assert "may have 1 slivers" in put(api, PAIR).json()["sentence"]
    assert fleet.woken == []
    with database.reading() as tx:
        assert specs.of_slice(tx, "princeton_iias") == {} and slices.get(tx, "princeton_iias").generation == 0


def test_a_plan_starts_nothing_anew_that_the_change_would_not(api: Api) -> None:
    routed = replace(PAIR, slivers={**PAIR.slivers, "a": Sliver("a", node=N1, routing=Routing())})
    put(api, edit.restart(routed, ["a"]))
    assert api("user", "POST", "/slices/princeton_iias/plan", body(routed)).json() == []


def test_a_plan_touches_nothing(api: Api, fleet: Nodes, database) -> None:
    steps = api("user", "POST", "/slices/princeton_iias/plan", body(PAIR)).json()
    assert f"{N1}: + netns princeton_iias.a  (missing)" in steps and any("+ vxlan" in s for s in steps)
    assert fleet.woken == []
    with database.reading() as tx:
        assert specs.of_slice(tx, "princeton_iias") == {}


def test_the_end_is_asked_of_all_nodes_and_its_tunnels_are_given_back(api: Api, fleet: Nodes, database) -> None:
    put(api, PAIR)
    assert put(api, Topology("princeton_iias")).json()["slivers"] == []
    assert fleet.woken[-1] == {N1, N2}
    assert api("user", "GET", AT).status_code == 404
    with database.reading() as tx:
        assert specs.of_slice(tx, "princeton_iias") == {}, "both nodes said that it is so"


KEYS = {N1: "1" * 43 + "=", N2: "2" * 43 + "="}


def able(api: Api, database, of: frozenset[str]) -> None:
    """From now on the nodes can do that."""
    with database.transaction() as tx:
        for i, (name, key) in enumerate(KEYS.items()):
            said = NodeSaid(of, f"192.0.2.{i + 1}", wireguard=key if "wireguard" in of else "")
            nodes.heard(tx, name, api.now[0], said)


def held_by(database, kind: type) -> dict[str, list[Any]]:
    with database.reading() as tx:
        held = specs.of_slice(tx, "princeton_iias")
    return {node: [o for o in spec.objects if isinstance(o, kind)] for node, spec in held.items()}


def test_encrypted_tunnels_have_the_keys_that_nodes_told_and_one_port(api: Api, database) -> None:
    able(api, database, CAN | {"wireguard"})
    answer = put(api, replace(PAIR, tunnel="wireguard"))
    assert {r["sliver"] for r in answer.json()["slivers"]} == {"princeton_iias.a", "princeton_iias.b"}, answer.text
    ways = {node: way for node, (way,) in held_by(database, Wireguard).items()}
    assert {node: way.public_key for node, way in ways.items()} == KEYS
    assert [p.public_key for p in ways[N1].peers] == [KEYS[N2]]
    assert ways[N1].port == ways[N2].port in tunnels.PORTS
    with database.reading() as tx:
        assert placement.places(specs.of_slice(tx, "princeton_iias")) == {"a": N1, "b": N2}
    assert api("user", "GET", "/slices/princeton_iias/slivers/_wireguard/maps").status_code == 404, "no sliver"
    put(api, Topology("princeton_iias"))
    with database.transaction() as tx:
        assert tx.execute(wireguards.select()).all() == []


@pytest.mark.parametrize("tunnel", ["gretap", "wireguard"])
def test_a_tunnel_that_a_node_can_not_make_is_refused_and_nothing_is_half_made(api: Api, database, tunnel: str) -> None:
    answer = put(api, replace(PAIR, tunnel=tunnel))
    assert answer.status_code == 422, answer.text
    assert f"lacks {tunnel}" in answer.json()["sentence"] and f"{N1!r}" in answer.json()["sentence"]
    assert held_by(database, Netns) == {}


def test_the_testbeds_choice_is_that_of_slices_that_do_not_say(api: Api, fleet: Nodes, database) -> None:
    wishes = testbed.Testbed(database, fleet, lambda: api.now[0], tunnel="gretap")
    router = desired_router(wishes, database, lambda: api.now[0])
    api.http = TestClient(make_app(database, clock=lambda: api.now[0], routers=(router,)))
    able(api, database, CAN | {"gretap"})
    assert put(api, PAIR).status_code == 200
    assert all(len(found) == 1 for found in held_by(database, Gretap).values())
    assert api("user", "GET", AT).json()["topology"].get("tunnel", "") == "", "what was asked for is kept as it was"
    assert put(api, replace(PAIR, tunnel="vxlan")).status_code == 200
    assert all(len(found) == 1 for found in held_by(database, Vxlan).values())


def among_strangers(api: Api, fleet: Nodes, database, tunnel: TunnelKind) -> None:
    """From now on it is their testbed, whose nodes can do everything."""
    wishes = testbed.Testbed(database, fleet, lambda: api.now[0], tunnel=tunnel, strangers=True)
    router = desired_router(wishes, database, lambda: api.now[0])
    api.http = TestClient(make_app(database, clock=lambda: api.now[0], routers=(router,)))
    able(api, database, CAN | {"containers", "disks", "vxlan-xdp", "gretap", "wireguard"})


def test_among_strangers_slivers_are_containers_with_public_images(api: Api, fleet: Nodes, database) -> None:
    among_strangers(api, fleet, database, "wireguard")
    disk = Resources(disk_mb=100)
    for who in ("user", "admin"):
        light = replace(PAIR, slivers={n: replace(s, runtime="light") for n, s in PAIR.slivers.items()})
        answer = put(api, light, who)
        assert answer.status_code == 403, answer.text
        assert answer.json()["sentence"].startswith("Slivers are containers on this testbed: give 'a', 'b' `runtime: ")
    for image, status in (
        ("/", 400),
        ("router", 403),
        ("docker://srv/vini/images/x", 403),
        ("/srv/vini/images/../../..", 400),
        ("/srv/vini/images", 403),
        ("", 200),
    ):
        slivers = {n: replace(s, runtime="container", image=image, resources=disk) for n, s in PAIR.slivers.items()}
        assert put(api, replace(PAIR, slivers=slivers)).status_code == status, image
    slivers = {n: replace(s, resources=Resources()) for n, s in slivers.items()}
    answer = put(api, replace(PAIR, slivers=slivers))
    assert answer.status_code == 403
    assert "slivers may not fill a node: give 'a', 'b' a disk" in answer.json()["sentence"].lower()
    assert all(len(found) == 1 for found in held_by(database, Container).values())
    assert put(api, Topology("princeton_iias")).status_code == 200, "an end is refused to nobody"


def test_among_strangers_slivers_that_do_not_say_what_they_are_are_containers_with_a_disk(
    api: Api, fleet: Nodes, database
) -> None:
    among_strangers(api, fleet, database, "wireguard")
    slivers = {**PAIR.slivers, "b": replace(PAIR.slivers["b"], runtime="container", resources=Resources(disk_mb=90))}
    answer = put(api, replace(PAIR, slivers=slivers))
    assert answer.status_code == 200, answer.text
    disks = {o.ns: o.mb for found in held_by(database, Disk).values() for o in found}
    assert disks == {"princeton_iias.a": 500, "princeton_iias.b": 90}
    assert {o.ns for found in held_by(database, Container).values() for o in found} == set(disks)
    shown = api("user", "GET", AT).json()["topology"]["slivers"]["a"]
    assert (shown["runtime"], shown["resources"]) == ("container", {"disk_mb": 500})


@pytest.mark.parametrize(
    ("default", "asked", "status"),
    [
        ("vxlan-xdp", "", 403),
        ("vxlan-xdp", "wireguard", 200),
        ("vxlan", "", 200),
        ("wireguard", "", 200),
        ("wireguard", "vxlan", 200),
        ("wireguard", "vxlan-xdp", 403),
        ("wireguard", "gretap", 200),
    ],
)
def test_among_strangers_no_tunnel_is_where_a_sliver_can_lead_it_into_others(
    api: Api, fleet: Nodes, database, default: TunnelKind, asked: str, status: int
) -> None:
    among_strangers(api, fleet, database, default)
    disk = Resources(disk_mb=100)
    slivers = {n: replace(s, runtime="container", resources=disk) for n, s in PAIR.slivers.items()}
    answer = put(api, replace(PAIR, slivers=slivers, tunnel=asked))
    assert answer.status_code == status, answer.text
    ends = [o for kind in (Vxlan, Gretap) for found in held_by(database, kind).values() for o in found]
    assert len(ends) == (2 if status == 200 else 0)
    assert all(o.ns == beyond(o.ns) or o.through for o in ends)
    if status == 403:
        assert "say `tunnel: wireguard`, or place the slivers of 'a--b' on one node" in answer.json()["sentence"]
        together = {n: replace(s, node=N1) for n, s in slivers.items()}
        assert put(api, replace(PAIR, slivers=together, tunnel=asked)).status_code == 200, "it leads to no other node"


def test_a_node_that_is_away_is_named_and_the_rest_goes_on(api: Api, fleet: Nodes) -> None:
    fleet.away = {N2}
    rows = {r["sliver"]: (r["state"], r.get("why", "")) for r in put(api, PAIR).json()["slivers"]}
    assert rows["princeton_iias.a"] == ("ready", "")
    assert rows["princeton_iias.b"] == ("configuring", f"node {N2} is not connected")
    seen = api("user", "GET", "/slices/princeton_iias/status").json()
    assert list(seen["away"]) == [N2]
    assert api("user", "GET", "/slices/princeton_iias/fibs").json() == {"a": []}


def test_at_a_moment_each_node_acts_by_its_own_clock(api: Api, database) -> None:
    api("user", "PUT", f"{AT}?at=2000000", body(PAIR))
    with database.reading() as tx:
        held = specs.of_slice(tx, "princeton_iias")
    assert {n: s.not_before for n, s in held.items()} == {N1: 2_000_000.0, N2: 2_000_001.0}


def test_a_command_runs_where_its_sliver_is(api: Api, fleet: Nodes) -> None:
    put(api, PAIR)
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(bus.Said | bus.Refusal).decode

    def first(who: str, sliver: str = "a") -> Any:
        headers = {"Authorization": f"Bearer {api.secrets[who]}"}
        with api.http.websocket_connect(f"/v1/slices/princeton_iias/slivers/{sliver}/run", headers=headers) as socket:
            socket.send_bytes(encode(bus.Run("other.sliver", ("cat",))))
            socket.send_bytes(encode(bus.Input(b"x")))
            return [decode(socket.receive_bytes()) for _ in range(1 if who != "user" or sliver != "a" else 2)]

    assert first("user") == fleet.said
    assert [(r.ns, r.argv) for r in fleet.ran] == [("princeton_iias.a", ("cat",))], "the path says which sliver"
    assert "a" in fleet.ran[0].hosts
    assert first("pi")[0].kind == "Denied"
    assert first("outsider")[0].kind == "NotFound"
    assert first("user", "z")[0].kind == "NotFound"


@pytest.mark.parametrize(
    "end",
    [
        lambda api: api("user", "DELETE", f"/slices/princeton_iias/guests/{email('outsider')}"),
        lambda api: api.now.__setitem__(0, api.now[0] + 3600),
        lambda api: api("admin", "PATCH", f"/persons/{email('outsider')}", {"enabled": False}),
    ],
    ids=["shown out", "his time is over", "disabled"],
)
def test_a_command_ends_when_he_may_not_be_there_any_more(
    api: Api, fleet: Nodes, monkeypatch: pytest.MonkeyPatch, end: Callable[[Api], Any]
) -> None:
    monkeypatch.setattr(desired, "_LOOK_S", 0.02)
    put(api, PAIR)
    api("user", "PUT", f"/slices/princeton_iias/guests/{email('outsider')}", {"until": api.now[0] + 3600})
    fleet.lasting = True
    decode = msgspec.msgpack.Decoder(bus.Said | bus.Refusal).decode
    headers = {"Authorization": f"Bearer {api.secrets['outsider']}"}
    with api.http.websocket_connect("/v1/slices/princeton_iias/slivers/a/run", headers=headers) as socket:
        socket.send_bytes(msgspec.msgpack.encode(bus.Run("", ("sleep", "3600"))))
        assert decode(socket.receive_bytes()) == bus.Output(1, b"here")
        end(api)
        said = decode(socket.receive_bytes())
    assert isinstance(said, bus.Refusal) and said.kind in ("NotFound", "Denied")
    assert fleet.ended == 1, "what he ran has ended with it"


def doings(api: Api, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Events of who did what in slivers, the oldest first, as soon as they are so; they come by themselves."""
    deadline = time.monotonic() + 20
    while True:
        items = api("admin", "GET", "/events?kind=slice&limit=1000").json()["items"]
        found = [e for e in reversed(items) if e["what"].split()[0] in ("begin", "end")]
        if wanted(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_what_is_done_in_a_sliver_is_an_event_when_it_begins_and_when_it_ends(api: Api, fleet: Nodes) -> None:
    put(api, PAIR)
    headers = {"Authorization": f"Bearer {api.secrets['user']}"}

    def do(command: bus.Stream, who: str = "user") -> None:
        at = "/v1/slices/princeton_iias/slivers/a/run"
        with api.http.websocket_connect(at, headers={"Authorization": f"Bearer {api.secrets[who]}"}) as socket:
            socket.send_bytes(msgspec.msgpack.encode(command))
            socket.send_bytes(msgspec.msgpack.encode(bus.Input(b"x")))
            with suppress(WebSocketDisconnect):
                while True:
                    socket.receive_bytes()

    with api.http:
        do(bus.Logs(""))
        do(bus.Run("", ("/usr/bin/mysql", "--password=secret")))
        seen = doings(api, lambda found: len(found) == 2)
        assert [(e["what"], e["detail"], e["who"], e["result"]) for e in seen] == [
            ("begin exec", "mysql in a", email("user"), "ok"),
            ("end exec", "mysql in a: exit code 3", email("user"), "ok"),
        ]
        assert all(e["source"] == "testclient" and e["target"] == "princeton_iias" for e in seen)
        do(bus.Run("", ("bash", "-l"), tty=True))
        do(bus.SshThrough(""))
        do(bus.Run("", ("$(evil) name",)))
        do(bus.Run("", ("true",)), "pi")
        fleet.lasting = True
        with api.http.websocket_connect("/v1/slices/princeton_iias/slivers/a/run", headers=headers) as socket:
            socket.send_bytes(msgspec.msgpack.encode(bus.Run("", ("sleep", "1000"))))
            socket.receive_bytes()
        seen = doings(api, lambda found: len(found) == 11)[2:]
    assert sorted((e["what"], e["detail"], e["result"]) for e in seen) == sorted([
        ("begin shell", "in a", "ok"), ("end shell", "in a: exit code 3", "ok"),
        ("begin ssh", "in a", "ok"), ("end ssh", "in a: exit code 3", "ok"),
        ("begin exec", "a program in a", "ok"), ("end exec", "a program in a: exit code 3", "ok"),
        ("begin exec", "sleep in a", "ok"), ("end exec", "sleep in a: its user went away", "ok"),
        ("end enter", next(e["detail"] for e in seen if e["what"] == "end enter"), "Denied"),
    ])  # fmt: skip
    assert "secret" not in str(seen)


async def test_what_is_alike_and_happens_at_once_is_few_events(database) -> None:
    many = Doings(database, lambda: 1.0, together_s=0.2)
    for i in range(1000):
        d = Doing("ada@example.org", "192.0.2.1", "princeton_iias", "exec", "uptime", f"s{i}")
        began = many.begun(d)
        many.ended(d, began - i, "exit code 0")

    def told() -> list[Any]:
        with database.reading() as tx:
            return events.some(tx, None, 100, who="ada@example.org")[0]

    async with asyncio.timeout(20):
        while len(told()) < 4:
            await asyncio.sleep(0.02)
    found = {(e.what, e.detail.partition(" and ")[2]): e for e in told()}
    assert set(found) == {("begin exec", ""), ("end exec", ""), ("begin exec", "979 more"),
                          ("end exec", "979 more: exit code 0")}  # fmt: skip
    assert found["end exec", "979 more: exit code 0"].duration_s >= 999


def told_by(database: Any, who: str) -> list[Any]:
    """The oldest first."""
    with database.reading() as tx:
        return events.some(tx, None, 1000, who=who)[0][::-1]


async def test_events_keep_their_order_and_all_are_written_when_the_central_ends(database) -> None:
    many, expected = Doings(database, lambda: 1.0, together_s=1000.0), []
    for i in range(100):
        d = Doing(f"p{i}@example.org", "192.0.2.1", "princeton_iias", "shell", "", "a")
        many.ended(d, many.begun(d), "exit code 0")
        many.begun(d)
        expected += [(f"p{i}@example.org", "begin shell"), (f"p{i}@example.org", "end shell")]
    await many.close()
    with database.reading() as tx:
        found = [(e.who, e.what) for e in events.some(tx, None, 1000)[0][::-1] if e.who.startswith("p")]
    assert found[:200] == expected and len(found) == 300, "what was still gathered is told at the end"


async def test_of_many_different_programs_only_some_are_told_apart(database) -> None:
    many = Doings(database, lambda: 1.0, together_s=0.05)
    for i in range(1000):
        many.begun(Doing("ada@example.org", "192.0.2.1", "princeton_iias", "exec", f"p{i}", f"s{i}"))
    await many.close()
    found = [e.detail for e in told_by(database, "ada@example.org")]
    assert len(found) == 22 and found[19] == "p19 in s19" and found[-1].startswith("other programs in s21, ")
    assert many._programs == {} and many._lots == {}


async def test_what_the_database_does_not_keep_up_with_is_counted(database) -> None:
    many = Doings(database, lambda: 1.0, together_s=1000.0, most=50)
    for i in range(120):
        many.failed(Doing("ada@example.org", "192.0.2.1", "princeton_iias", "exec", "x", "a"), 0.0, "Conflict", f"{i}")
    await many.close()
    assert len(told_by(database, "ada@example.org")) == 50
    (more,) = told_by(database, "central")
    assert more.detail.startswith("and 70 more events") and more.kind == "central"


def test_the_end_of_the_central_is_waited_for(api: Api) -> None:
    put(api, PAIR)
    at = "/v1/slices/princeton_iias/slivers/a/run"
    with api.http:
        for _ in range(2):  # the second is gathered for two seconds
            with api.http.websocket_connect(at, headers={"Authorization": f"Bearer {api.secrets['user']}"}) as socket:
                socket.send_bytes(msgspec.msgpack.encode(bus.Run("", ("true",))))
                socket.send_bytes(msgspec.msgpack.encode(bus.Input(b"x")))
                with suppress(WebSocketDisconnect):
                    while True:
                        socket.receive_bytes()
    items = api("admin", "GET", "/events?kind=slice&limit=1000").json()["items"]
    assert sorted(e["what"] for e in items if "exec" in e["what"]) == ["begin exec"] * 2 + ["end exec"] * 2


def test_a_change_that_took_time_says_so(api: Api) -> None:
    put(api, PAIR)
    (event,) = api("admin", "GET", "/events?what=put").json()["items"]
    assert 0 < event["duration_s"] < 60


def test_a_moment_after_the_slices_end_is_refused(api: Api, database) -> None:
    with database.reading() as tx:
        over = slices.get(tx, "princeton_iias").expires
    found = api("user", "PUT", f"{AT}?at={over}", body(PAIR))
    assert found.status_code == 400 and "vini slice renew princeton_iias" in found.text
    assert api("user", "PUT", f"{AT}?at={over - 1}", body(PAIR)).status_code == 200


def test_the_nodes_of_a_slice_their_clocks_loads_and_acts(api: Api, fleet: Nodes, database) -> None:
    put(api, PAIR)
    with database.transaction() as tx:
        nodes.measured(tx, {N2: (2.5, 0.001)}, 1.0)
    at = "/slices/princeton_iias"
    found = api("user", "GET", f"{at}/nodes").json()
    assert {n: (h["slivers"], h["clock_offset_s"], h["clock_error_s"]) for n, h in found.items()} == {
        N1: (["a"], 0.0, 0.0),
        N2: (["b"], 2.5, 0.001),
    }
    fleet.away.add(N2)
    loads = api("user", "GET", f"{at}/loads").json()
    assert msgspec.convert(loads, dict[str, bus.SliverLoad]) == {"a": LOAD}, "of a node that is away nothing is known"
    assert api("user", "GET", f"{at}/acts?after=3").json() == {
        N1: [{"generation": 4, "due": 5.0, "began": 5.25, "done": 5.5}]
    }, "as older clients take it"
    (act,) = api("user", "GET", f"{at}/acts?after=3&linked=true").json()[N1]
    assert act["linked"] == 5.375
    for path in ("nodes", "loads", "acts"):
        assert api("outsider", "GET", f"{at}/{path}").status_code == 404
    told = api("user", "GET", "/clock").json()
    assert (told["received"], told["answered"]) == (api.now[0], api.now[0])


# --- the world ------------------------------------------------------------------------------------

WORLDLY = replace(PAIR, slivers={**PAIR.slivers, "a": Sliver("a", node=N1, outside=True)})
OUTSIDE = "/slices/princeton_iias/outside"


def asked_outside(database) -> list[Outside]:
    with database.reading() as tx:
        return [o for s in specs.of_slice(tx, "princeton_iias").values() for o in s.objects if isinstance(o, Outside)]


def test_only_an_admin_grants_the_world_and_nodes_are_told_at_once(api: Api, fleet: Nodes, database) -> None:
    with database.transaction() as tx:
        nodes.heard(tx, N1, api.now[0], NodeSaid(CAN | {"outside"}, "192.0.2.1"), 0.0)
    refused = put(api, WORLDLY)
    assert refused.status_code == 403 and "vini outside grant princeton_iias" in refused.json()["sentence"]
    grant = OutsideGrant(("0.0.0.0/0",), ("tcp/443",))
    for who in ("user", "pi", "tech"):
        assert api(who, "PUT", OUTSIDE, msgspec.to_builtins(grant)).status_code == 403
    assert api("user", "GET", OUTSIDE).status_code == 404
    assert api("admin", "PUT", OUTSIDE, {"to": ["10.0.0.1/8"]}).status_code == 400
    assert api("admin", "PUT", OUTSIDE, msgspec.to_builtins(grant)).status_code == 200
    assert put(api, WORLDLY).status_code == 200
    (made,) = asked_outside(database)
    assert (made.ns, made.grant, made.never) == ("princeton_iias.a", grant, ("192.0.2.1", "192.0.2.2"))
    fleet.woken.clear()
    wider = replace(grant, allow=("tcp",))
    assert api("admin", "PUT", OUTSIDE, msgspec.to_builtins(wider)).status_code == 200
    assert [o.grant for o in asked_outside(database)] == [wider]
    assert api("user", "GET", OUTSIDE).json()["allow"] == ["tcp"]
    assert fleet.woken[-1] == {N1}, "the other one has nothing to do"


def test_no_node_is_of_the_world_though_the_slice_stays_where_it_is(api: Api, database) -> None:
    """One that the slice is not on, be it one that is given nothing, or that joined since."""
    with database.transaction() as tx:
        nodes.heard(tx, N1, api.now[0], NodeSaid(CAN | {"outside"}, "192.0.2.1"), 0.0)
        nodes.join(tx, "n3.princeton.example", "princeton", bytes(31) + b"3", NodeSaid(CAN, "192.0.2.3"))
    api("admin", "PATCH", "/nodes/n3.princeton.example", {"boot_state": "safeboot"})
    every = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    for allow in (["tcp/443"], ["udp"]):
        assert api("admin", "PUT", OUTSIDE, {"to": ["0.0.0.0/0"], "allow": allow}).status_code == 200
        assert [o.never for o in asked_outside(database)] == ([] if allow == ["tcp/443"] else [every])
        for _ in range(2):
            assert put(api, WORLDLY).status_code == 200
            assert [o.never for o in asked_outside(database)] == [every]
    with database.transaction() as tx:
        nodes.join(tx, "n4.princeton.example", "princeton", bytes(31) + b"4", NodeSaid(CAN, "192.0.2.4"))
    assert api("admin", "PUT", OUTSIDE, {"to": ["0.0.0.0/0"]}).status_code == 200
    assert [o.never for o in asked_outside(database)] == [(*every, "192.0.2.4")]


def test_what_is_revoked_is_gone_though_the_slice_could_not_be_placed_anew(api: Api, fleet: Nodes, database) -> None:
    with database.transaction() as tx:
        nodes.heard(tx, N1, api.now[0], NodeSaid(CAN | {"outside"}, "192.0.2.1"), 0.0)
    api("admin", "PUT", OUTSIDE, {"to": ["0.0.0.0/0"]})
    put(api, WORLDLY)
    assert api("admin", "PATCH", f"/nodes/{N1}", {"boot_state": "safeboot"}).status_code == 200
    before = api("user", "GET", AT).json()["generation"]
    assert api("admin", "DELETE", OUTSIDE).status_code == 204
    assert asked_outside(database) == []
    assert api("user", "GET", AT).json()["generation"] == before + 1
    assert fleet.woken[-1] == {N1}, "the other one has nothing to do"
    whats = [e["what"] for e in api("user", "GET", "/slices/princeton_iias/log").json()]
    assert whats[0] == "revoke outside" and "grant outside: 0.0.0.0/0" in whats


# --- what another version of VINI stored ----------------------------------------------------------


def foreign(database, table: Table, column: str, value: bytes = b'{"of": "tomorrow"}', node: str = "") -> None:
    """From now on that column is what this version can't read."""
    with database.transaction() as tx:
        change = update(table).values({column: value})
        if node:
            change = change.where(table.c.node_id == nodes.numbers(tx, [node])[node])
        tx.execute(change)


UNREAD = b'{"slice": "princeton_iias", "node": "n", "generation": 1, "objects": [{"type": "Teleport"}]}'
UNASKED = b'{"name": "princeton_iias", "slivers": {"a": {"name": "a", "outside": true, "node": 7}}}'


@pytest.mark.parametrize("what", ["topology", "spec", "grant"])
def test_the_world_is_taken_away_though_another_version_stored_something(
    api: Api, fleet: Nodes, database, what: str
) -> None:
    with database.transaction() as tx:
        nodes.heard(tx, N1, api.now[0], NodeSaid(CAN | {"outside"}, "192.0.2.1"), 0.0)
    api("admin", "PUT", OUTSIDE, {"to": ["0.0.0.0/0"]})
    put(api, WORLDLY)
    match what:
        case "topology":
            foreign(database, tables.slices, "topology", UNASKED)
        case "spec":
            foreign(database, tables.specs, "body", UNREAD, node=N1)
        case "grant":
            foreign(database, tables.outside_grants, "body")
            assert "was stored by another version" in api("user", "GET", OUTSIDE).json()["sentence"]
    assert api("admin", "DELETE", OUTSIDE).status_code == 204
    assert api("user", "GET", OUTSIDE).status_code == 404
    assert asked_outside(database) == [] and N1 in fleet.woken[-1]
    if what == "spec":
        with database.reading() as tx:
            assert placement.places(specs.of_slice(tx, "princeton_iias")) == {"b": N2}, "there it has ended"


@pytest.mark.parametrize("what", ["topology", "spec"])
def test_what_another_version_stored_is_changed_in_place_by_bringing_it_up_anew(
    api: Api, fleet: Nodes, database, what: str
) -> None:
    put(api, PAIR)
    if what == "topology":
        foreign(database, tables.slices, "topology", UNASKED)
        assert api("user", "GET", "/topologies").json() == {}, "and it keeps nobody from seeing the others"
    else:
        foreign(database, tables.specs, "body", UNREAD, node=N1)
        foreign(database, tables.specs, "report", b'{"slivers": 7}', node=N2)
        assert "Bring the slice up anew" in api("user", "GET", "/slices/princeton_iias/status").json()["sentence"]
    assert api("user", "POST", "/slices/princeton_iias/plan", body(PAIR)).status_code == 200
    assert put(api, PAIR).status_code == 200
    assert fleet.woken[-1] == ({N1} if what == "spec" else set()), "who holds what is asked of it needs not be told"
    with database.reading() as tx:
        assert placement.places(specs.of_slice(tx, "princeton_iias")) == {"a": N1, "b": N2}


def test_an_admin_asks_all_nodes_who_sent_a_packet_and_that_is_an_event(api: Api, fleet: Nodes) -> None:
    question = msgspec.to_builtins(bus.AskFlows("192.0.2.1", 7, "5.5.5.5", 53))
    for who in ("user", "pi", "tech"):
        assert api(who, "POST", "/flows", question).status_code == 403
    fleet.away = {N2}
    answer = api("admin", "POST", "/flows", question).json()
    assert [f["sliver"] for f in answer[N1]["flows"]] == ["a"]
    assert N2 not in answer
    assert api("admin", "GET", "/events?what=see flows").json()["items"][0]["target"] == "192.0.2.1 to 5.5.5.5"
    assert api("admin", "POST", "/flows", question | {"source": "nowhere"}).status_code == 400


def test_a_named_initscript_is_the_centrals_and_a_tag_names_one_for_slivers_that_have_none(api: Api, database) -> None:
    def scripts() -> dict[str, str]:
        with database.reading() as tx:
            held = specs.of_slice(tx, "princeton_iias").values()
        return {o.ns: o.text for s in held for o in s.objects if isinstance(o, File) and o.path == "initscript"}

    for name, enabled in (("boot", True), ("other", True), ("off", False)):
        wish = {"name": name, "script": f"echo {name}\n", "enabled": enabled}
        assert api("admin", "POST", "/initscripts", wish).status_code == 200
    own = {"a": Sliver("a", initscript="boot"), "b": Sliver("b"), "c": Sliver("c", initscript="echo own\n")}
    assert put(api, Topology("princeton_iias", own)).status_code == 200
    assert scripts() == {"princeton_iias.a": "echo boot\n", "princeton_iias.c": "echo own\n"}
    tag = {"name": "initscript", "value": "other", "slice": "princeton_iias"}
    assert api("admin", "POST", "/tags", tag).status_code < 300
    assert put(api, Topology("princeton_iias", own)).status_code == 200
    assert scripts()["princeton_iias.b"] == "echo other\n"
    assert scripts()["princeton_iias.a"] == "echo boot\n"
    assert api("user", "GET", AT).json()["topology"]["slivers"]["a"]["initscript"] == "boot"
    assert api("admin", "POST", "/initscripts", {"name": "boot", "script": "reboot"}).status_code == 200
    assert scripts()["princeton_iias.a"] == "echo boot\n"  # another text comes with the next change
    assert put(api, Topology("princeton_iias", own)).status_code == 200
    assert scripts()["princeton_iias.a"] == "reboot\n"  # one word is a script here, and no name
    assert api("admin", "POST", "/initscripts", {"name": "_boot", "script": "x"}).status_code == 400
    for name, said in (("none", "no initscript"), ("off", "is not enabled")):
        answer = put(api, Topology("princeton_iias", {"a": Sliver("a", initscript=name)}))
        assert (answer.status_code, said in answer.text) == (404, True), answer.text


def test_what_was_asked_of_a_slice_is_an_event_that_says_from_where(api: Api) -> None:
    assert put(api, PAIR).is_success
    api("user", "PUT", "/slices/princeton_iias/slivers/a/maps/routes", {"key": "0a", "value": "01"})
    api("user", "PUT", "/slices/princeton_iias/slivers/nobody/maps/routes", {"key": "0a", "value": "01"})
    api("admin", "POST", "/flows", msgspec.to_builtins(bus.AskFlows("192.0.2.1", 7, "5.5.5.5", 53)))
    seen = {e["what"]: e for e in api("admin", "GET", "/events").json()["items"]}
    assert {what: (e["who"], e["source"], e["result"]) for what, e in seen.items()} == {
        "put": (email("user"), "testclient", "ok"),
        "write row: a routes": (email("user"), "testclient", "ok"),
        "write row: nobody routes": (email("user"), "testclient", "NotFound"),
        "see flows": (email("admin"), "testclient", "ok"),
    }


def test_rows_that_are_written_again_and_again_are_one_event_in_a_minute(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(api, PAIR).is_success
    row = {"key": "0a", "value": "01"}

    def wrote() -> list[str]:
        return [e["what"] for e in api("admin", "GET", "/events?what=write row*").json()["items"]]

    api.now[0] -= api.now[0] % 60
    for at, into in ((0, ("routes", "routes", "other")), (59, ("routes",)), (1, ("routes", "routes"))):
        api.now[0] += at
        for table in into:
            answer = api("user", "PUT", f"/slices/princeton_iias/slivers/a/maps/{table}", row)
            assert answer.status_code == 204, answer.text
    assert wrote() == [f"write row: a {table}" for table in ("routes", "other", "routes")]
    for _ in range(2):
        assert api("user", "PUT", "/slices/princeton_iias/slivers/none/maps/routes", row).status_code == 404
    assert len(wrote()) == 4

    def fails(*_: object) -> None:
        raise DatabaseError("The database refused: the disk is full.")

    monkeypatch.setattr(Call, "note", fails)
    api.now[0] += 60
    assert api("user", "PUT", "/slices/princeton_iias/slivers/a/maps/routes", row).status_code == 204, "it is written"


def test_a_slices_log_has_what_was_asked_of_it_whatever_else_happened(api: Api) -> None:
    assert put(api, PAIR).is_success
    with api.database.transaction() as tx:
        for detail, result in (("²", "ok"), ("7", "Conflict"), ("", "ok"), ("7\n", "ok"), ("8", "ok")):
            events.add(
                tx, at=api.now[0], who="somebody", what="x", kind="slice", target="princeton_iias", result=result,
                detail=detail,
            )  # fmt: skip
    said = [(e["what"], e["generation"]) for e in api("user", "GET", "/slices/princeton_iias/log").json()]
    assert said == [("x", 8), ("put", 1)]
    assert [e["what"] for e in api("user", "GET", "/slices/princeton_iias/log?limit=1").json()] == ["x"]


def test_nodes_are_shown_with_whether_they_are_connected_which_is_no_change_of_them(api: Api, fleet: Nodes) -> None:
    before = api("user", "GET", f"/nodes/{N2}")
    fleet.away.add(N2)
    assert {n["name"]: n["connected"] for n in api("user", "GET", "/nodes").json()["items"]} == {N1: True, N2: False}
    after = api("user", "GET", f"/nodes/{N2}")
    assert (before.json()["connected"], after.json()["connected"]) == (True, False)
    assert before.headers["ETag"] == after.headers["ETag"]
    made = api("tech", "PATCH", f"/nodes/{N2}", {"boot_state": "safeboot"}, If_Match=after.headers["ETag"])
    assert made.is_success, made.text
