"""What `vini top` says of use against share, and of pressure."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini.bus import ShareLoad, SliverLoad
from vini.cli import views
from vini.model import Resources, Sliver, Topology
from vini.node import pressure

SLIVERS = {
    "a": Sliver("a", runtime="container", resources=Resources(reserve=0.5, memory_mb=1024, disk_mb=100)),
    "b": Sliver("b", runtime="container", resources=Resources(cores=2)),
    "c": Sliver("c"),
}
MiB = 2**20


def load(at: float, cpu_s: float, **more: object) -> SliverLoad:
    return SliverLoad(at, {}, cpu_s, 32 * MiB, **more)


def rows() -> list[dict[str, object]]:
    disk, waits = (25 * MiB, 95 * MiB), {"cpu": 12.4, "memory": 0.0, "io": 3.0}
    before: views.Sample = {name: (load(10.0, 1.0), {}) for name in SLIVERS}
    now: views.Sample = {
        "a": (load(12.0, 1.9, disk=disk, pressure=waits, node_pressure={"cpu": 5.0, "io": 1.0}), {}),
        "b": (load(12.0, 5.0, node_pressure={"cpu": 80.0}), {}),
        "c": (load(12.0, 1.0), {}),
    }
    return views._rates(Topology("s", SLIVERS), before, now)


def test_what_is_bounded_is_told_with_its_bound() -> None:
    a, b, c = rows()
    assert (a["cpu_pct"], a["cpu_most_pct"], a["cpu_reserved"]) == (pytest.approx(45), 50, True)
    assert (b["cpu_pct"], b["cpu_most_pct"], b["cpu_reserved"]) == (pytest.approx(200), 200, False)
    assert (a["memory_mib"], a["memory_most_mib"]) == (32, 976.5625)
    assert (a["disk_mib"], a["disk_most_mib"]) == (25, 95)
    assert [c[key] for key in ("cpu_most_pct", "memory_most_mib", "disk_mib")] == [None] * 3


def test_what_leaves_the_node_is_told_with_its_own_its_most_and_todays_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def sent(total: int) -> ShareLoad:
        return ShareLoad(total, 0, 5.0, 100.0, 10_500_000, daily=16_000_000, slowed=True)

    before: views.Sample = {"a": (load(10.0, 1.0, share=sent(0)), {})}
    now: views.Sample = {"a": (load(12.0, 1.0, share=sent(800_000)), {})}
    (row,) = views._rates(Topology("s", {"a": SLIVERS["a"]}), before, now)
    share = row["share"]
    assert share["mbit"] == pytest.approx(3.2)
    assert (share["min_mbit"], share["max_mbit"], share["today_mb"], share["daily_mb"]) == (5, 100, 10.5, 16)
    vifs = {"to-x": dict.fromkeys(("rx_mbit", "rx_pps", "tx_mbit", "tx_pps"), 0)}
    views._print_top(Topology("s"), [{**row, "vifs": vifs}])
    _, names, a = capsys.readouterr().out.splitlines()
    assert names.split()[4:8] == ["OUT", "Mbit/s", "TODAY", "MB"]
    assert "5<3.20/100" in a and "10.5/16 slowed" in a


def test_people_read_use_and_share_together_and_the_worst_nodes_pressure(capsys: pytest.CaptureFixture[str]) -> None:
    made = Topology("s", SLIVERS)
    views._print_top(
        made,
        [{**row, "vifs": {"to-x": dict.fromkeys(("rx_mbit", "rx_pps", "tx_mbit", "tx_pps"), 0)}} for row in rows()],
    )
    head, names, a, b, c = capsys.readouterr().out.splitlines()
    assert "somebody on the node waits 80 % for cpu, 1 % for io" in head
    assert names.split()[:6] == ["SLIVER", "CPU%", "MiB", "DISK", "MiB", "WAITS%"]
    assert a.split()[:7] == ["a", "45.0/50", "32.0/977", "25.0/95", "12", "0", "3"]
    assert b.split()[:4] == ["b", "200.0/200", "32.0/488", "-"]
    assert c.split()[:3] == ["c", "0.0", "32.0"]


def test_what_programs_count_is_told_by_name_with_how_fast_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    before: views.Sample = {n: (load(10.0, 1.0), {}) for n in SLIVERS}
    now: views.Sample = {n: (load(12.0, 1.0), {}) for n in SLIVERS}
    before["a"] = (load(10.0, 1.0), {"seen.passed": (100, 10_000), "ttl.expired": (9, 900)})
    now["a"] = (load(12.0, 1.0), {"seen.passed": (300, 1_010_000), "ttl.expired": (0, 0), "new.passed": (7, 70)})
    a, b, _ = views._rates(Topology("s", SLIVERS), before, now)
    assert a["counters"] == {
        "seen.passed": {"packets": 300, "bytes": 1_010_000, "pps": 100, "mbit": pytest.approx(4)},
        "ttl.expired": {"packets": 0, "bytes": 0, "pps": 0, "mbit": 0},  # somebody set it back
        "new.passed": {"packets": 7, "bytes": 70, "pps": 0, "mbit": 0},
    }
    assert "counters" not in b
    vifs = {"to-x": dict.fromkeys(("rx_mbit", "rx_pps", "tx_mbit", "tx_pps"), 0)}
    views._print_top(Topology("s"), [{**row, "vifs": vifs} for row in (a, b)])
    head, seen, expired, new = capsys.readouterr().out.splitlines()[-4:]
    assert head.split() == ["PROGRAM", "OF", "COUNTER", "p/s", "Mbit/s", "PACKETS"]
    assert [row.split() for row in (seen, expired, new)] == [
        ["a", "seen.passed", "100", "4.000", "300"],
        ["a", "ttl.expired", "0", "0.000", "0"],
        ["a", "new.passed", "0", "0.000", "7"],
    ]


def test_pressure_is_read_as_the_kernel_writes_it_and_is_nothing_where_it_writes_none(tmp_path: Path) -> None:
    lines = "some avg10=12.50 avg60=1.00 avg300=0.10 total=123\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n"
    (tmp_path / "cpu.pressure").write_text(lines)
    (tmp_path / "io.pressure").write_text("")
    assert pressure.of_group(tmp_path) == {"cpu": 12.5}


class _Client:
    """Of one slice; at the second look there are two, and another that can't be read."""

    def __init__(self) -> None:
        self.looks = 0

    def unreadable(self) -> list[str]:
        return ["old"]

    def topologies(self) -> dict[str, Topology]:
        return {name: Topology(name) for name in ("s", "t")[: self.looks + 1]}

    def asked(self, name: str) -> Topology:
        return self.topologies()[name]

    async def loads(self, _: str) -> dict[str, SliverLoad]:
        self.looks += 1
        return {}


def test_which_slice_is_looked_on_is_found_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VINI_SLICE", raising=False)
    views._look_on(_Client(), None, 3, 0.001, as_json=True)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert said.err.count("is left out") == 1
    assert said.out.split() == ["[]"] * 3
