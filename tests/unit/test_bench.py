"""Benchmarks, the parts that touch no machine: figures, targets, the table, and what is asked of VINI and of peers."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from vini.bench import daemons, edits, floor, link, mahimahi, ours, placing, setup
from vini.bench.result import Missing, ratios, row
from vini.embed import embed
from vini.model import Address, Interface, Netns, Node, Sysctl, Veth

BENCH = Path(setup.__file__).parent


def test_a_figure_is_the_median_judged_by_its_target() -> None:
    slow = row("up", [3.0, 1.0, 2.0], "s", 1.5)
    assert (slow.value, slow.met, slow.ratio) == (2.0, False, pytest.approx(4 / 3))
    assert slow.repetitions == (3.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("value", "sense", "met"),
    [(1.0, "at most", True), (1.1, "at most", False), (1.0, "at least", True), (0.9, "at least", False)],
)
def test_a_target_is_met_at_its_very_value(value: float, sense: str, met: bool) -> None:
    assert row("x", [value], "x", 1.0, sense).met is met  # type: ignore[arg-type]


def test_a_target_of_nothing_lost_has_no_ratio() -> None:
    assert row("lost", [0], "packets", 0).met is True
    lost = row("lost", [1], "packets", 0)
    assert (lost.met, lost.ratio) == (False, None)


def test_without_a_target_nothing_is_judged() -> None:
    seen = row("up", [1.0], "s")
    assert (seen.met, seen.ratio) == (None, None)


def test_ratios_go_round_by_round() -> None:
    assert ratios([2.0, 8.0], [1.0, 2.0]) == [2.0, 4.0]
    with pytest.raises(ValueError, match="argument 2 is shorter|argument 2 is longer"):
        ratios([1.0], [1.0, 2.0])


def _results(**changes: object) -> dict[str, object]:
    rows = [row("line: up / floor", [1.5, 1.1, 1.2], "x", 1.3), row("Mininet", [3.0], "x", 4.0, "at least", "noisy")]
    missing = [Missing("Abilene by frr", "this machine lacks frr"), Missing("grid", "r1 was never ready", failed=True)]
    return {
        "at": "2026-11-23T00:00:00Z",
        "seconds": 12.0,
        "machine": {"kernel": "6.18", "python": "3.11", "cores": 2, "load_before": 0.1, "load_after": 0.2},
        "rows": [msgspec.structs.asdict(r) for r in rows],
        "missing": [msgspec.structs.asdict(m) for m in missing],
        **changes,
    }


def test_the_table_says_value_target_verdict_and_spread() -> None:
    assert setup.table_lines(_results()) == [
        ("line: up / floor", "1.2 x", "<= 1.3", "met", "1.1 to 1.5"),
        ("Mininet", "3 x", ">= 4", "MISSED", "noisy"),
    ]


def test_what_is_missing_is_shown_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    setup.show(_results())
    shown = capsys.readouterr().out
    assert "Not measured: Abilene by frr: this machine lacks frr." in shown
    assert "FAILED: grid: r1 was never ready." in shown
    assert "2 cores" in shown


def test_results_are_json() -> None:
    results = _results()
    assert msgspec.json.decode(msgspec.json.encode(results))["rows"][0]["met"] is True


def test_the_measured_line_is_what_the_issue_asks_for() -> None:
    """Routers that forward, with both kinds of addresses on every vif and loopback, and no daemon."""
    objects = embed(ours.routers("line:10"), [Node("local")])["local"].objects
    kinds = {k: [o for o in objects if isinstance(o, k)] for k in (Netns, Sysctl, Veth, Interface, Address)}
    assert [len(v) for v in kinds.values()] == [10, 10, 9, 28, 56]
    assert sum(map(len, kinds.values())) == len(objects)
    assert all(("ipv4/ip_forward", "1") in o.settings for o in kinds[Sysctl])


@pytest.mark.parametrize("change", edits.CHANGES.values(), ids=edits.CHANGES)
def test_an_edit_concerns_one_link_only(change: edits.Change) -> None:
    """So what is lost on another link is lost by the way it was applied."""
    line = ours.routers("line:5")
    before, after = change(line, False), change(line, True)
    changed = [a for a, b in zip(after.links, before.links, strict=True) if a != b]
    assert [[e.sliver for e in link.ends] for link in changed] == [["r1", "r2"]]
    assert before.slivers == after.slivers


def test_abilene_is_beside_the_checkout_and_takes_either_daemon() -> None:
    assert daemons.ABILENE.exists()
    topology = daemons.parse(daemons.ABILENE.read_text(), source="abilene.yaml", default_name="abilene")
    for daemon in ("frr", "bird"):
        changed = daemons.with_daemon(topology, daemon)
        assert {s.routing.daemon for s in changed.slivers.values() if s.routing} == {daemon}
        assert len(changed.slivers) == 11


@pytest.mark.parametrize("peer", ["floor.py", "mininet_line.py"])
def test_a_peer_shares_no_code_with_what_it_is_compared_to(peer: str) -> None:
    imported = [n for n in ast.walk(ast.parse((BENCH / peer).read_text())) if isinstance(n, ast.ImportFrom)]
    ours_ = {n.module for n in imported if n.module and n.module.startswith("vini")}
    assert ours_ <= {"vini.model"}


def test_floor_messages_are_whole_netlink_messages() -> None:
    for request in [*floor._both(1, 1, 32, 1, 128), floor._set_up(b"lo", 65536, b"x")]:
        assert int.from_bytes(request[:4], "little") == len(request)
        assert len(request) % 4 == 0


# --- links -----------------------------------------------------------------------------------------

TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 0000000000000000FFFF00000200000A:1451 0000000000000000FFFF00000100000A:D431 06 00000000:00000000
"""
LISTENING = "   1: 00000000000000000000000000000000:1451 00000000000000000000000000000000:0000 0A 00000000:00000000\n"


def test_an_ended_connection_is_no_server() -> None:
    assert not link._listens(TCP6)
    assert link._listens(TCP6 + LISTENING)


def test_without_mahimahi_its_figures_are_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (missing,) = link._mahimahi(None, link.QUICK, lambda _: None)  # type: ignore[arg-type]
    assert isinstance(missing, Missing) and not missing.failed
    assert "no mm-delay in the PATH" in missing.why


def test_round_trips_are_read_from_ping() -> None:
    lines = [f"64 bytes from 10.0.0.2: icmp_seq={n} ttl=64 time={ms} ms" for n, ms in enumerate(("20.5", "201"), 1)]
    assert mahimahi.median_trip_ms("\n".join(lines)) == pytest.approx(110.75)


def test_placement_is_measured_beside_what_is_the_least() -> None:
    results = placing.measure(True, lambda _: None, placing.Sizes(nodes=40, rows=5, columns=10, requests=1))
    rows = {r["name"]: r for r in results["rows"]}
    of_grid = rows["grid 5 by 10: links between nodes, of the least there can be"]
    assert of_grid["value"] >= 1.0 and of_grid["note"].endswith("the least is 5")
    assert all(r["value"] >= 1.0 for name, r in rows.items() if r["unit"] == "x")
    assert all(r["target"] == 5.0 for name, r in rows.items() if r["unit"] == "s") and results["missing"] == []
