"""`vini link --verify` and the check before a run, on living slices: what is true, and what was changed behind them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from own_place import OwnPlace, unspoilt

from vini.dataplane import probe
from vini.dataplane.probe import OWN, Stream
from vini.model import ViniError

pytestmark = [
    pytest.mark.alone,
    pytest.mark.waits,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("element"),
]  # fmt: skip
NET = """
name: pair
slivers: {a: {}, b: {}, c: {}}
links:
  - a -- b: {delay: 10ms, rate: 20mbit}
  - b -- c: {delay: 3ms, lose: [1000000]}
"""
EXPERIMENT = "topology: net.yaml\nduration: 1s\nsettle: 0s\nprobes: {p: {ping: {from: a, to: b}}}\n"


class Shell:
    def __init__(self, own: OwnPlace, directory: Path):
        self.own, self.directory = own, directory
        (directory / "net.yaml").write_text(NET)
        (directory / "check.yaml").write_text(EXPERIMENT)

    def vini(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "vini.cli", *words], capture_output=True, text=True, timeout=150,
            env=os.environ | self.own.environment, cwd=self.directory,
        )  # fmt: skip
        assert "bug in VINI" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def verdicts(self, *words: str) -> tuple[int, dict[tuple[str, str], str]]:
        code, out, _ = self.vini("link", *words, "--verify", "--for", "2s", "--json")
        found = json.loads(out)["directions"]
        return code, {(d["from"], v["wish"]): v["outcome"] for d in found for v in d["verdicts"]}

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Nobody heals meanwhile."""
        (pid,) = self.own.agents()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def vandalise(self) -> None:
        """Packets from a to b pass without their shape."""
        command = ["tc", "qdisc", "del", "dev", "to-b", "clsact"]
        subprocess.run(["ip", "netns", "exec", self.own.place.netns("pair.a").name, *command], check=True)


@pytest.fixture
def sh(own: OwnPlace, tmp_path: Path) -> Shell:
    shell = Shell(own, tmp_path)
    assert shell.vini("up", "net.yaml")[0] == 0
    return shell


def test_a_slices_links_are_verified_and_one_that_is_off_ends_with_1(sh: Shell) -> None:
    code, found = unspoilt(lambda: sh.verdicts(), lambda f: set(f[1].values()) == {"true"})
    assert code == 0
    assert {("a", "delay"), ("b", "delay"), ("a", "rate"), ("a", "delay under load")} <= found.keys()
    assert ("b", "loss by number") in found
    with sh.unwatched():
        sh.vandalise()
        code, found = sh.verdicts("a", "b")
    assert code == 1
    assert found["a", "delay"] == found["a", "rate"] == "off"
    assert found["b", "delay"] in ("true", "can't tell")


def test_verify_says_what_it_does_and_what_it_found(sh: Shell) -> None:
    with sh.unwatched():
        sh.vandalise()
        code, out, err = sh.vini("link", "a", "b", "--verify", "--for", "1s")
    assert code == 1
    assert "Traffic of ours goes over 2 directions for 1 s" in err
    assert "ASKED" in out and "OFF" in out
    assert "The link from a to b is off: delay asked 10ms" in out
    for words, why in {
        ("a", "b", "--verify", "--load", "3x"): "is not a share of a rate",
        ("a", "b", "--verify", "--for", "1h"): "--for",
        ("a", "b", "--verify", "--delay", "3ms"): "Change the link first",
    }.items():
        code, _, err = sh.vini("link", *words)
        assert code == 2 and why in err, err


def test_a_run_records_what_its_links_gave(own: OwnPlace, tmp_path: Path) -> None:
    sh = Shell(own, tmp_path)
    _, out, err = sh.vini("run", "check.yaml", "-o", "runs", "--json")
    found = json.loads(out)
    assert found["links"]["directions"] == 4 and found["links"]["mode"] == "light", err
    assert found["links"]["outcome"] in ("true", "can't tell"), found["links"]
    rows = (tmp_path / found["directory"] / "links.csv").read_text().splitlines()
    assert rows[0].startswith("source,vif,destination,wish,asked,got") and len(rows) > 6


def test_a_run_on_a_link_that_was_changed_behind_its_back_is_marked(sh: Shell) -> None:
    """Its shape is gone when it is checked, and nobody heals it."""
    spoiler = "while sleep 0.05; do tc qdisc del dev to-b clsact 2>/dev/null; done"
    with subprocess.Popen(["ip", "netns", "exec", sh.own.place.netns("pair.a").name, "sh", "-c", spoiler]) as child:
        try:
            code, out, _ = sh.vini("run", "check.yaml", "-o", "runs", "--json")
        finally:
            child.kill()
    found = json.loads(out)
    assert code == 1 and not found["trustworthy"]
    assert found["links"]["outcome"] == "off"
    assert any(r.startswith("The link from a to b is off: ") for r in found["reasons"])


# --- the probe itself ------------------------------------------------------------------------------


def test_the_probe_sends_all_on_its_own_loopback_and_loses_nothing() -> None:
    streams = [
        Stream(OWN, "lo", OWN, "lo", 0, 1_000_000, 200, 100),
        Stream(OWN, "lo", OWN, "lo", 0, 10_000, 2000, 1514, 50),
    ]
    found = asyncio.run(probe.measure(streams, 0.1))
    for stream, flight in zip(streams, found.flights, strict=True):
        assert len(flight.sent_ns) == stream.count and flight.missed == 0
        assert [a.number for a in flight.arrivals] == list(range(stream.count))
        assert not any(a.corrupted for a in flight.arrivals)
        assert all(a.at_ns >= flight.sent_ns[a.number] for a in flight.arrivals)
        due = [found.began_ns + stream.due_ns(n) for n in range(stream.count)]
        assert all(sent >= at - 1_000_000 for sent, at in zip(flight.sent_ns, due, strict=True))  # none too early


def test_the_probe_says_what_is_missing() -> None:
    for stream, why in (
        (Stream(OWN, "nosuch", OWN, "lo", 0, 1000, 5, 100), "There is no vif nosuch"),
        (Stream(Path("/run/netns/nosuch"), "lo", OWN, "lo", 0, 1000, 5, 100), "no network namespace /run/netns/nosuch"),
    ):
        with pytest.raises(ViniError, match=why):
            asyncio.run(probe.measure([stream], 0.0))
