"""The Python API's pure half: building, reading, and the synchronous face.  No network comes up here."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vini import AsyncNetwork, Network, Topology, nearby, table
from vini.api import iperf, ping, words
from vini.api.blocking import Loop, blocking
from vini.api.inside import CommandFailed, Completed
from vini.api.results import PingResult
from vini.model import BurstLoss, Impairment, NotFound, TopologyError, Unsupported, ViniError
from vini.text.mistakes import Wrong
from vini.topology import parse
from vini.topology.keys import IMPAIRMENTS, LINK, ROUTING, SLIVER

EXAMPLES = Path(__file__).parents[2] / "examples"
TOPOLOGIES = sorted(p for p in EXAMPLES.glob("*.yaml") if "topology:" not in p.read_text())


def triangle() -> Network:
    net = Network("triangle", routing="ospf", daemon="bird", hello="1s", dead="2s")
    a, b, c = net.routers("a", "b", "c")
    net.link(a, b, delay="10ms")
    net.link(b, c)
    net.link(a, c, cost=50)
    return net


# --- building -------------------------------------------------------------------------------------


def test_a_lan_in_code_is_that_of_a_file():
    net = Network("office", routing="static")
    switch = net.switch("sw")
    for sliver in (net.host("ann"), net.host("ben"), net.router("gateway")):
        net.link(sliver, switch)
    file = "name: office\nrouting: static\nslivers: {ann: {routing: none}, ben: {routing: none}, gateway: , "
    assert net.topology == parse(file + "sw: {mode: switch}}\nlinks: [ann -- sw, ben -- sw, gateway -- sw]")


def test_code_and_file_make_the_same_topology():
    written = """
        name: triangle
        routing: {protocols: ospf, daemon: bird, hello: 1s, dead: 2s}
        slivers: [a, b, c]
        links:
          - a -- b: {delay: 10ms}
          - b -- c
          - a -- c: {cost: 50}
    """
    assert triangle().topology == parse(written)


@pytest.mark.parametrize(
    ("typed", "section"),
    [
        (words.RoutingWords, ROUTING.keys),
        (words.SliverWords, SLIVER.keys),
        (words.ImpairmentWords, IMPAIRMENTS),
        (words.LinkWords, {k: v for k, v in LINK.keys.items() if k != "ends"}),
    ],
)
def test_every_word_of_files_is_a_keyword(typed, section):
    assert set(typed.__annotations__) == set(section)


def test_routing_words_go_into_the_routers_routing():
    net = Network("two", routing="bgp", daemon="bird")
    net.router("a", asn=65001)
    net.router("b", routing=["bgp", "ospf"], asn=65002, announce=["192.0.2.0/24"])
    a, b = net.topology.slivers.values()
    assert (a.routing.protocols, a.routing.asn, a.routing.daemon) == (("bgp",), 65001, "bird")
    assert (b.routing.protocols, b.routing.asn, b.routing.announce) == (("bgp", "ospf"), 65002, ("192.0.2.0/24",))


def test_host_does_not_route_and_router_without_protocols_forwards():
    net = Network("plain", routing="none")
    net.router("r")
    net.host("h", files={"/root/x": "1\n"})
    assert net.topology.slivers["r"].forward is True and net.topology.slivers["r"].routing is None
    assert net.topology.slivers["h"].forward is None and net.topology.slivers["h"].files == {"/root/x": "1\n"}


def test_ends_may_differ_and_be_named():
    net = triangle()
    with pytest.raises(TopologyError, match="Sliver 'a' already has a vif 'to-b'. .name this one: 'a:eth1'"):
        net.link("a", "b", name="second")
    name = net.link({"sliver": "a", "vif": "eth1", "delay": "5ms"}, "b:eth1", name="second", loss="1%")
    assert name == "second"
    link = net.topology.links[-1]
    assert link.ends[1].vif == "eth1" and link.ends[0].impairment.delay_ms == 5 and link.impairment.loss == 0.01


def test_a_network_without_name_gets_a_new_one():
    names = {Network().name for _ in range(100)}
    assert len(names) == 100


def test_topology_is_made_anew_after_each_addition():
    net = triangle()
    before = net.topology
    net.link(net.host("h"), "a")
    assert "h" in net.topology.slivers and "h" not in before.slivers and net.topology is net.topology


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda n: n.link("a", "b", name="x", delay="10"), r"link a -- b: '10' has no unit. \(write 10ms or 10s\)"),
        (lambda n: n.link("a", "b", name="x", dealy="1ms"), "'dealy' is not a key of a link. .*'delay'"),
        (lambda n: n.link("a", "bb"), "There is no sliver 'bb' in triangle. Did you mean b?"),
        (lambda n: n.link("a", "b"), "There already is a link 'a--b'. .*give a second one a name"),
        (lambda n: n.router("a"), "There already is a sliver 'a'"),
        (lambda n: n.router("Denver City"), "'Denver City' can't be a sliver's name. .*'denver-city'"),
        (lambda n: n.router("d", asn="many"), "'many' is not a whole number"),
        (lambda n: n["q"], "There is no sliver 'q' in triangle"),
        (lambda _: Network("No Name"), "'No Name' can't be a slice's name"),
        (lambda _: Network(daemon="brid"), "'brid' is not a valid word here. .*'bird'"),
        (lambda _: Network.load("examples/none.yaml"), "'examples/none.yaml' can't be read: No such file"),
        (lambda _: Network.generate("rnig:3"), "ring"),
    ],
)
def test_mistakes_are_told_at_the_call(build, says):
    with pytest.raises((TopologyError, NotFound), match=says):
        build(triangle())


def test_a_wrong_call_leaves_the_network_as_it_was():
    net = triangle()
    before = net.topology
    with pytest.raises(TopologyError):
        net.link("a", "b", name="x", delay="soon")
    with pytest.raises(TopologyError):
        net.router("d", cost=5)
    assert net.topology == before and [s.name for s in net] == ["a", "b", "c"]


# --- loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda p: p.stem)
def test_examples_load_and_can_be_built_upon(path):
    net = Network.load(path)
    assert net.topology == parse(path.read_text(), source=path.name, read_file=nearby.reader(path.parent))
    before = net.topology
    net.link(net.host("one-more"), next(iter(before.slivers)))
    grown = net.topology
    assert {n: s for n, s in grown.slivers.items() if n != "one-more"} == before.slivers
    assert grown.links[:-1] == before.links and grown.expect == before.expect
    assert grown.slivers["one-more"].routing is None


def test_a_link_takes_all_words_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell.csv").write_text("time_ms,rate_mbit\n0,5\n")
    said = {"burst_loss": {"enter": "1%", "leave": 0.25}, "lose": [3, "7-9"], "jitter_table": ["0ms", "1ms"]}
    net = Network("n")
    net.link(net.host("a"), net.host("b"), trace="cell.csv", queue="50ms", reordering=True, **said)
    (link,) = net.topology.links
    assert link.impairment == Impairment(
        trace="time_ms,rate_mbit\n0,5\n", queue_packets=0, queue_ms=50, keeps_order=False,
        burst_loss=BurstLoss(0.01, 0.25), lose=((3, 3), (7, 9)), jitter_table_ms=(0, 1),
    )  # fmt: skip
    read = nearby.reader(tmp_path)
    assert words.impairments({**said, "trace": "none"}, "shape", read) == {
        "burst_loss": BurstLoss(0.01, 0.25), "lose": ((3, 3), (7, 9)), "jitter_table_ms": (0, 1), "trace": "",
    }  # fmt: skip
    with pytest.raises(TopologyError, match=r"shape: The file 'x.csv' can't be read: there is no such file"):
        words.impairments({"trace": "x.csv"}, "shape", read)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff", "not text in UTF-8"), (b"1\n" * (3 << 20), "more than 4 MiB"), (None, "it is no regular file")],
)
def test_files_beside_a_file_are_read_or_told_why_not(tmp_path, content, why):
    (tmp_path / "trace").mkdir() if content is None else (tmp_path / "trace").write_bytes(content)
    with pytest.raises(Wrong, match=why):
        nearby.reader(tmp_path)("trace")


def test_load_under_another_name_and_of_a_topology():
    net = Network.load(EXAMPLES / "abilene.yaml", name="mine")
    assert net.name == net.topology.name == "mine"
    assert Network.of(net.topology).topology is net.topology or Network.of(net.topology).topology == net.topology


def test_what_another_tools_file_loses_is_warned_of(tmp_path):
    file = tmp_path / "x.clab.yml"
    file.write_text(
        "name: x\ntopology:\n  nodes:\n    a: {kind: linux, cpu: 1}\n    b: {kind: linux}\n"
        "  links:\n    - endpoints: ['a:eth1', 'b:eth1']\n"
    )
    with pytest.warns(UserWarning) as warned:
        net = Network.load(file)
    assert [str(w.message) for w in warned] == [f"{file}: {note}" for note in net.notes]
    assert any("cpu" in note for note in net.notes) and set(net.topology.slivers) == {"a", "b"}


def test_generated():
    ring = Network.generate("ring:5", routing="rip", daemon="bird")
    assert len(ring.topology.slivers) == len(ring.links) == 5
    assert {s.routing.protocols for s in ring.topology.slivers.values()} == {("rip",)}
    assert all(s.forward for s in Network.generate("ring:3", routing="none").topology.slivers.values())


def test_building_a_thousand_routers_is_quick_enough_to_be_no_subject():
    net = Network("line", routing="none")
    routers = net.routers(*(f"r{i}" for i in range(1000)))
    for a, b in zip(routers, routers[1:], strict=False):
        net.link(a, b)
    assert len(net.topology.links) == 999


# --- results --------------------------------------------------------------------------------------

PINGED = """\
PING 10.0.0.2 (10.0.0.2) from 10.0.0.1 : 56(84) bytes of data.
[1000.020000] 64 bytes from 10.0.0.2: icmp_seq=1 ttl=63 time=20.0 ms
[1000.420000] 64 bytes from 10.0.0.2: icmp_seq=3 ttl=63 time=20.0 ms
[1000.430000] 64 bytes from 10.0.0.2: icmp_seq=3 ttl=63 time=30.0 ms (DUP!)
[1000.610000] From 10.0.0.9 icmp_seq=4 Destination Host Unreachable

--- 10.0.0.2 ping statistics ---
5 packets transmitted, 2 received, +1 duplicates, 60% packet loss, time 800ms
"""


def test_ping_is_understood():
    rows = ping.rows(PINGED, 0.2)
    assert [r["seq"] for r in rows] == [1, 2, 3, 4, 5]
    assert [r["rtt_ms"] for r in rows] == [20.0, None, 20.0, None, None]
    assert [r["why"] for r in rows] == ["", "no answer", "", "10.0.0.9: Destination Host Unreachable", "no answer"]
    assert [r["t"] for r in rows] == pytest.approx([0, 0.2, 0.4, 0.61, 0.8], abs=1e-6)


def test_ping_result_tells_and_judges():
    found = ping.result("a", "b", Completed("a", "ping", 1, PINGED, ""))
    assert (found.sent, found.received, found.rtts_ms, found.ok) == (5, 2, (20.0, 20.0), False)
    assert found.loss == 0.6 and found.median_ms == 20.0
    assert str(found) == "a -> b: 2 of 5 answered, RTT 20.000/20.000/20.000 ms (min/median/max)"


def test_ping_that_can_not_send_has_sent_nothing():
    found = ping.result("a", "b", Completed("a", "ping", 2, "", "ping: connect: Network is unreachable\n"))
    assert (found.sent, found.ok, found.loss, found.median_ms) == (0, False, 1.0, None)
    assert "Network is unreachable" in str(found)


def test_iperf_tells_why_it_failed():
    done = Completed("a", "iperf3", 1, '{"error": "unable to connect to server"}', "")
    with pytest.raises(CommandFailed, match="iperf3 from a to b failed: unable to connect"):
        iperf.result("a", "b", done)


def test_results_make_a_table():
    rows = [PingResult("a", "b", 1, 1, (2.5,)), PingResult("a", "c", 1, 0, ())]
    made = table(rows)
    assert made.column("received").to_pylist() == [1, 0] and made.column("rtts_ms").to_pylist() == [[2.5], []]


def test_missing_pyarrow_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unsupported, match=r"pip install 'vini\[run\]'"):
        table([])


# --- the synchronous face -------------------------------------------------------------------------


def test_the_synchronous_face_is_complete_and_has_the_same_signatures():
    def public(cls: type) -> set[str]:
        return {n for n in dir(cls) if not n.startswith("_")}

    assert public(Network) == public(AsyncNetwork)
    for name in public(AsyncNetwork):
        method = getattr(AsyncNetwork, name)
        if inspect.iscoroutinefunction(method):
            ours = inspect.getattr_static(Network, name)
            assert inspect.signature(getattr(ours, "__wrapped__", ours)) == inspect.signature(method), name
            assert ours.__doc__


def test_a_network_that_is_not_up_says_so():
    for act in (lambda n: n.ping("a", "b"), lambda n: n.popen("a", "true"), lambda n: n["a"].run("true"), Network.down):
        with pytest.raises(ViniError, match="triangle is not up; do this inside `with` it"):
            act(triangle())


class Slow:
    """What a call does when it is interrupted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def work(self, answer: int) -> int:
        await asyncio.sleep(0)
        if answer < 0:
            raise ViniError("No.")
        return answer

    async def interrupted(self) -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            self.seen.append("cleaned up")

    async def interrupted_but_finishes(self) -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await asyncio.sleep(0.05)
        self.seen.append("finished")


class Facade:
    def __init__(self, slow: Slow, loop: Loop) -> None:
        self._pair = (slow, loop)

    def _behind(self) -> tuple[Slow, Loop]:
        return self._pair

    work = blocking(Slow.work)
    interrupted = blocking(Slow.interrupted)


@pytest.fixture
def facade():
    loop = Loop()
    yield Facade(Slow(), loop)
    loop.close()


def test_results_and_errors_come_through(facade):
    assert facade.work(answer=3) == 3
    with pytest.raises(ViniError, match="No."):
        facade.work(-1)


def test_an_interrupt_cancels_and_waits_for_the_clean_up(facade):
    with pytest.raises(KeyboardInterrupt):
        facade.interrupted()
    assert facade._behind()[0].seen == ["cleaned up"]


def test_an_interrupt_lets_a_clean_up_finish(facade):
    slow, loop = facade._behind()
    with pytest.raises(KeyboardInterrupt):
        loop.call(slow.interrupted_but_finishes(), finish=True)
    assert slow.seen == ["finished"]


def test_nothing_is_imported_before_it_is_asked_for():
    check = (
        "import sys, vini, vini.pytest_plugin; loaded = {m for m in sys.modules if m.startswith('vini.')};"
        "assert loaded == {'vini.pytest_plugin'}, loaded; from vini import Network; assert 'vini.api' in sys.modules;"
        "assert 'pyarrow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_names_of_the_package():
    import vini

    assert vini.Topology is Topology and "Network" in dir(vini)
    with pytest.raises(AttributeError, match="Netwrok"):
        vini.Netwrok  # noqa: B018
