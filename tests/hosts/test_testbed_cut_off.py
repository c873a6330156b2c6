"""Nodes that can't be reached, that come back from the past, that have another clock."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
from own_place import eventually, run
from testbed import Host, Testbed, testbed

from vini import edit
from vini.layout import address, layout
from vini.model import Conflict, Topology
from vini.node import identity as identities
from vini.rules.nouns import Slice
from vini.store import slices
from vini.store.database import Database
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]

LINE = parse("""
name: home_line
routing: static
slivers: {a: {node: n1}, b: {node: n1}, c: {node: n2}}
links: [a -- b, b -- c]
""")
SHORT = parse("""
name: home_short
slivers: {x: {node: n1}, y: {node: n2}}
links: [x -- y]
""")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        create(made, LINE.name)
        yield made


@pytest.fixture
def line(bed: Testbed) -> Iterator[Testbed]:
    """The line is up; in the end nothing is left on either node."""
    bed.put(LINE)
    eventually(lambda: bed.settled(LINE.name))
    yield bed
    for slice_ in bed.client().topologies():
        bed.put(Topology(slice_), "down")
    eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()))


def create(bed: Testbed, slice_: str) -> None:
    """It is there; the central ends one that has expired."""
    with suppress(Conflict):
        bed.client().call("POST", "/slices", Slice, {"name": slice_})


def expire(bed: Testbed, slice_: str, at: float) -> None:
    """It lives until then; what is put from now on says so to nodes."""
    create(bed, slice_)
    database = Database(f"sqlite:///{bed.central.directory / 'central.db'}")
    with database.transaction() as tx:
        slices.change(tx, slice_, {"expires": at})
    database.close()


def short_lived(bed: Testbed) -> float:
    """The short slice is up on both nodes; when it will end: soon, as this machine goes at the moment."""
    began = time.monotonic()
    expire(bed, SHORT.name, time.time() + 3600)
    bed.put(SHORT)
    until = time.time() + 5 + 3 * (time.monotonic() - began)
    expire(bed, SHORT.name, until)
    bed.put(edit.set_impairment(SHORT, "x", "y", delay_ms=1.0))
    return until


def costs(bed: Testbed, number: int) -> int:
    """So many edits, each answered at once; the last one's generation."""
    for cost in range(100, 100 + number):
        generation = bed.put(edit.set_impairment(bed.client().asked(LINE.name), "b", "c", delay_ms=cost / 10), wait_s=0)
    return generation.generation


def passes(host: Host, since: int) -> list[int]:
    """The generations of the line that its agent's log tells of, after that many characters."""
    words = [line.split() for line in host.said()[since:].splitlines() if " slice home_line generation " in line]
    return [int(w[w.index("generation") + 1].rstrip(":")) for w in words]


def test_a_node_that_is_cut_off_ends_slices_on_time_and_catches_up_in_one_pass(line: Testbed) -> None:
    n1, n2 = line.hosts.values()
    until = short_lived(line)
    assert n1.slivers(SHORT.name) == {"home_short.x"}
    n1.cut()
    try:
        line.central.kill()  # so nothing is on the way to it when it is back
        line.central.up()
        gone = eventually(lambda: not n1.slivers(SHORT.name) and time.time())
        assert gone >= until
        eventually(lambda: not n2.slivers(SHORT.name))
        assert n1.slivers() == {"home_line.a", "home_line.b"}
        to = address(layout(LINE), "b", 4)
        answered = run(*n1.enter("home_line.a", "ping", "-c5", "-W5", to), check=False)  # some may be late
        assert " received" in answered and " 0 received" not in answered, answered
        newest, before = costs(line, 5), len(n1.said())
        eventually(lambda: n2.held()[LINE.name] == newest)
        assert n1.held()[LINE.name] < newest
        assert "not connected" in line.vini("status", "-s", LINE.name, "-v", check=False)
    finally:
        n1.mend()
    eventually(lambda: line.settled(LINE.name), 120)
    assert passes(n1, before) == [newest]
    assert n1.held()[LINE.name] == newest


def test_a_disk_from_the_past_brings_nothing_back(line: Testbed) -> None:
    """A slice that was ended since, one that has expired since, and one that is another one since."""
    n1 = line.hosts["n1"]
    until = short_lived(line)
    create(line, "home_ended")
    line.put(msgspec.structs.replace(SHORT, name="home_ended"))
    image = line.directory / "image"
    shutil.copytree(n1.state, image)
    line.put(Topology("home_ended"), "down")
    newest = costs(line, 3)
    eventually(lambda: n1.held().get(LINE.name) == newest and "home_ended" not in n1.held())
    n1.kill()
    eventually(lambda: time.time() > until)
    shutil.rmtree(n1.state / "uplink")
    shutil.copytree(image / "uplink", n1.state / "uplink")
    assert n1.held().keys() == {"home_ended", LINE.name, SHORT.name}
    before = len(n1.said())
    n1.start()
    eventually(lambda: line.settled(LINE.name))
    eventually(lambda: n1.slivers() == {"home_line.a", "home_line.b"} and "home_ended" not in n1.held())
    assert passes(n1, before)[-1] == newest


def test_a_node_that_is_installed_anew_has_another_key_and_the_old_one_is_worth_nothing(line: Testbed) -> None:
    n1 = line.hosts["n1"]
    old = identities.read(n1.state)
    assert isinstance(old, identities.Identity)
    line.vini("node", "reinstall", "n1")
    eventually(lambda: "It is to be reinstalled" in n1.uplink())
    n1.kill()
    n1.forget()
    line.join(n1)
    new = identities.read(n1.state)
    assert isinstance(new, identities.Identity)
    assert (new.node, new.key == old.key) == ("n1", False)
    eventually(lambda: line.settled(LINE.name))

    identities.write(n1.state, old)
    try:
        eventually(lambda: "not the key with which node 'n1' joined" in n1.uplink())
        assert n1.slivers() == {"home_line.a", "home_line.b"}
    finally:
        identities.write(n1.state, new)
    eventually(n1.is_connected)
    eventually(lambda: line.settled(LINE.name))


AHEAD = "import time; real = time.time; time.time = lambda: real() + 3600.0; from vini.node.serve import main; main()"


def test_a_clock_that_is_an_hour_ahead_is_told_of_and_nothing_flaps(line: Testbed) -> None:
    n1 = line.hosts["n1"]
    expire(line, SHORT.name, time.time() + 5400)
    line.put(SHORT)
    n1.kill()
    before = len(n1.said())
    n1.start("-c", AHEAD, "vini.node.serve")
    try:
        eventually(lambda: abs(offset(line, "n1") - 3600) < 60)
        assert abs(offset(line, "n2")) < 60
        assert re.search(r"^n1 .*\+3[56]\d{5}\.\d ms$", line.vini("nodes"), re.MULTILINE)
        newest = costs(line, 3)
        eventually(lambda: n1.held().get(LINE.name) == newest)
        eventually(lambda: line.settled(LINE.name))
        assert n1.slivers(SHORT.name) == {"home_short.x"}
        assert n1.said()[before:].count("uplink: connected") == 1
    finally:
        n1.kill()
        n1.start()
    eventually(lambda: abs(offset(line, "n1")) < 60)


def offset(bed: Testbed, name: str) -> float:
    return next(r["clock_offset_s"] for r in json.loads(bed.vini("nodes", "--json")) if r["name"] == name)


@contextmanager
def losing(host: Host, hook: str, percent: int) -> Iterator[None]:
    """So much of the TCP that goes one way at a host is lost; its links, which are UDP, are not touched."""
    rule = f"tcp dport 1-65535 numgen random mod 101 < {percent} drop"
    nft = f"table inet loss_{hook} {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}"
    run(*host.inside("nft", nft))
    try:
        yield
    finally:
        run(*host.inside("nft", f"delete table inet loss_{hook}"))


needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="loses packets with nft(8): apt install nftables")


@needs_nft
@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_node_that_is_deaf_or_mute_for_a_while(line: Testbed, hook: str) -> None:
    n1 = line.hosts["n1"]
    with losing(n1, hook, 100):
        newest = costs(line, 3)
        eventually(lambda: line.hosts["n2"].held()[LINE.name] == newest)
        assert n1.slivers() == {"home_line.a", "home_line.b"}
    eventually(lambda: line.settled(LINE.name), 120)


class Slow:
    """A TCP relay that passes on each byte after a while; TLS goes through it."""

    def __init__(self, ip: str, port: int, to: int, delay_s: float):
        self._ip, self._port, self._to, self._delay_s = ip, port, to, delay_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Slow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self._ip, self._port))
        self._loop.run_forever()
        server.close()  # others of this process want the port
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other, to = await asyncio.open_connection(self._ip, self._to)
        await asyncio.gather(self._pass(reader, to), self._pass(other, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self._loop.call_later(self._delay_s, writer.write, data)
        self._loop.call_later(self._delay_s, writer.close)


@needs_nft
def test_a_control_path_that_loses_three_of_ten_packets_and_takes_half_a_second(line: Testbed) -> None:
    n1 = line.hosts["n1"]
    usual = identities.read(n1.state)
    assert isinstance(usual, identities.Identity)
    relay = line.central.port + 1
    slow, before = f"https://{line.central.ip}:{relay}", len(n1.said())
    with Slow(line.central.ip, relay, line.central.port, 0.5), losing(n1, "input", 30), losing(n1, "output", 30):
        identities.write(n1.state, msgspec.structs.replace(usual, central=slow))
        try:
            eventually(lambda: f"uplink: connected to {slow}" in n1.said()[before:], 120)
            for _ in range(3):
                newest = costs(line, 2)
                eventually(lambda g=newest: n1.held().get(LINE.name) == g, 120)
            eventually(lambda: line.settled(LINE.name), 120)
            assert n1.said()[before:].count(f"uplink: connected to {slow}") == 1
        finally:
            identities.write(n1.state, usual)
    eventually(lambda: f"connected to {usual.central} " in n1.uplink())
