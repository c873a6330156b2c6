"""The broker without a machine: what is granted, what is told, and what its page says."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from vini.model import SliceSpec, ViniError
from vini.node.broker import policy, requests
from vini.node.broker.guest import Given, Guest
from vini.node.broker.journal import Journal
from vini.node.broker.service import Broker, Seen, changes
from vini.node.place import Place
from vini.node.rate import Rate
from vini.node.ssh import authorized
from vini.rules import grants
from vini.rules.errors import Invalid

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "broker.md"


@pytest.mark.parametrize(
    "word", ["udp:53", "tcp:0", "tcp:70000", "tcp:9-8", "tcp:", "80", "tcp:80-", "tcp: 80", "tcp:٣"]
)
def test_what_is_no_grant_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match="is no grant"):
        grants.parsed(f"tcp:1 {word}")


def test_a_port_is_granted_by_any_range_that_it_is_in() -> None:
    some = grants.parsed("tcp:80,tcp:8000-8002  tcp:9")
    assert [p for p in range(1, 9000) if grants.allow_port(some, p)] == [9, 80, 8000, 8001, 8002]
    assert grants.parsed(grants.words(some)) == some
    with pytest.raises(Invalid, match="50 grants"):
        grants.parsed("tcp:1 " * 51)


def test_of_the_centrals_slices_only_the_central_says_what_is_granted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = policy.Policy(tmp_path)
    policy.write(tmp_path, {"mine": ("tcp:80",), "home_a": ("tcp:81",)})
    assert grants.words(now.granted("mine")) == "tcp:80"
    authorized.write(tmp_path, "central", {"home_a": authorized.Admission()})
    authorized.write(tmp_path, "here", {"mine": authorized.Admission(grants=("tcp:99",))})
    assert now.granted("home_a") == ()
    authorized.write(tmp_path, "central", {"home_a": authorized.Admission(grants=("tcp:7",))})
    assert grants.words(now.granted("home_a")) == "tcp:7"
    assert grants.words(now.granted("mine")) == "tcp:80"
    (tmp_path / "grants.json").write_text("spoilt")
    for _ in range(3):
        assert now.granted("mine") == ()
    assert caplog.text.count("nothing is granted to slice mine: What is granted on this node can't be read") == 1
    with pytest.raises(ViniError, match="mend that file, or delete it"):
        policy.read(tmp_path)


def test_what_changes_is_told_once() -> None:
    before, now = Seen(1, 0.0, {"a--b": "x"}), Seen(2, 5.0, {"b--c": "y"})
    assert [json.loads(line) for line in changes(before, now)] == [
        {"event": "changed", "generation": 2, "expires": 5.0},
        {"event": "link-failed", "link": "b--c", "why": "y"},
        {"event": "link-back", "link": "a--b"},
    ]
    assert changes(now, now) == []


class Watching:
    watches = True

    def __init__(self) -> None:
        self.told: list[dict] = []

    def tell(self, event: bytes) -> None:
        self.told.append(json.loads(event))


class Agent:
    generation = 1

    @property
    def wanted(self) -> Agent:
        return self

    def spec(self, slice_: str) -> SliceSpec:
        return SliceSpec(slice_, "n", self.generation, expires=10_000.0)

    def faults(self, _: str, __: str) -> dict[str, str]:
        return {}


async def test_who_watches_hears_of_what_changed_before_the_broker_first_looked(tmp_path: Path) -> None:
    place, agent, guest = Place("t", tmp_path, tmp_path), Agent(), Watching()
    broker = Broker(place, agent, lambda: "n", lambda: 0.0)
    assert "watching" in (await broker._answered("s.a", requests.Watch(), 1)).value
    agent.generation = 2
    broker._doors["s.a"], broker._guests["s.a"] = socket.socket(), {guest: None}
    broker._tell({"s.a"})
    broker._tell({"s.a"})
    assert guest.told == [{"event": "changed", "generation": 2, "expires": 10_000.0}]
    broker._doors.pop("s.a").close()


async def test_many_doors_are_made_in_many_pieces_of_work(tmp_path: Path) -> None:
    """The machine's thread does one after the other: whoever asks for something meanwhile comes between."""
    names = [f"s.n{i}" for i in range(20)]
    pieces: list[int] = []

    class Many(Agent):
        def slivers(self) -> set[str]:
            return set(names)

        async def work(self, what: Callable[[], dict[str, socket.socket]]) -> dict[str, socket.socket]:
            done = what()
            pieces.append(len(done))
            return done

    place = Place("t", tmp_path, tmp_path)
    broker = Broker(place, Many(), lambda: "n", lambda: 0.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Place, "netns", lambda *_: tmp_path)
        await broker._look()
        assert sum(pieces) == 20
        assert max(pieces) <= 8
        names.clear()
        await broker._look()
    assert not broker._doors


def test_a_sliver_hears_of_its_end_an_hour_ten_minutes_and_a_minute_before_it(tmp_path: Path) -> None:
    now = 0.0
    place = Place("t", tmp_path, tmp_path)
    place.sliver("s.a").mkdir(parents=True)
    broker = Broker(place, Agent(), lambda: "n", lambda: now)
    guest = Watching()
    for at in (6000.0, 6400.0, 6401.0, 9000.0, 9400.0, 9401.0, 9940.0, 9999.0, 10_001.0):
        now = at
        broker._warn("s.a", 10_000.0, [guest])
    assert [e["in_s"] for e in guest.told] == [3600.0, 600.0, 60.0]
    broker._warn("s.a", 10_030.0, [guest])  # renewed, though not by much
    assert guest.told[-1] == {"event": "expires", "at": 10_030.0, "in_s": 29.0}
    assert (place.sliver("s.a") / "broker.log").read_text().count("this slice ends in") == 4


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("x"), AssertionError()])
async def test_a_mistake_of_ours_is_a_sentence_for_who_asked_and_he_may_ask_again(error: Exception) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)

    async def fails(_: requests.Request, __: int) -> Given:
        raise error

    guest = Guest("s.a", 1, ours, fails, Rate(20.0, 5.0), lambda _: None)
    serving = asyncio.create_task(guest.serve())
    with theirs:
        for _ in range(2):
            theirs.sendall(b'{"ask": "help"}\n')
            said = json.loads(await asyncio.to_thread(theirs.recv, 4096))
            assert "The agent failed at this; its log on the node says where" in said["sentence"]
    await serving


def test_a_sliver_fills_no_disk_by_what_it_does_wrong(tmp_path: Path) -> None:
    place = Place("t", tmp_path, tmp_path)
    place.sliver("s.a").mkdir(parents=True)
    journal = Journal(place)
    for _ in range(10_000):
        journal.complain("s.a", "x" * 200)
    log = place.sliver("s.a") / "broker.log"
    assert log.read_text().count("\n") <= 21
    for _ in range(3000):
        journal.note("s.a", "x" * 200)
    assert log.stat().st_size + log.with_suffix(".log.1").stat().st_size < 2 * 300_000
    log.unlink(missing_ok=True)
    log.symlink_to(tmp_path / "elsewhere")
    journal.note("s.a", "x")
    assert not (tmp_path / "elsewhere").exists()


def test_each_request_and_event_is_on_its_page() -> None:
    page = PAGE.read_text()
    named = set(re.findall(r'"ask": "([a-z-]+)"', page))
    assert named == {kind.__struct_config__.tag for kind in get_args(requests.Request)}
    for what in ("changed", "link-failed", "link-back", "expires"):
        assert f"`{what}`" in page
