"""Statistics, readers of programs' output, and the verdict on the machine: all pure."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.experiment import report
from vini.experiment.conditions import Limits, judge, parse_stat
from vini.experiment.lateness import Lateness
from vini.experiment.probes import Counters, Iperf3, Ping, Udp, numbered
from vini.experiment.probes.capture import packets
from vini.experiment.probes.counters import parse_counts
from vini.experiment.probes.iperf3 import received, sent
from vini.experiment.probes.numbered import checksum, request
from vini.experiment.probes.numbered import understand as understand_packet
from vini.experiment.probes.ping import understand
from vini.experiment.probes.routes import changes
from vini.experiment.probes.traceroute import by_round, parse_hop
from vini.experiment.probes.udp import join
from vini.experiment.statistics import jitter, lateness_ms, longest_gap, median, outages, quantile


def test_quantiles_as_numpy():
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    assert quantile([4, 1, 3, 2], 0.25) == 1.75
    assert quantile([7], 0.99) == 7
    assert median([]) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1))
def test_quantile_lies_within(values, q):
    found = quantile(values, q)
    assert found is not None and min(values) - 1e-6 <= found <= max(values) + 1e-6


def test_jitter_of_rfc_3550():
    assert jitter([5, 5, 5]) == 0
    assert jitter([0, 16]) == 1
    assert jitter([0, 16, 0]) == 1 + (16 - 1) / 16
    assert jitter([]) == 0


def test_longest_gap():
    assert longest_gap([1, 2, 5, 6]) == (3, 2)
    assert longest_gap([1, 2], start=0, end=9) == (7, 2)
    assert longest_gap([]) == (0.0, 0.0)


def test_outages_at_the_start_between_and_at_the_end():
    rows = [{"t": float(t), "rtt_ms": None if t in (0, 3, 4, 6) else 1.0} for t in range(7)]
    assert outages(rows, "rtt_ms") == [(0, 1, 1), (3, 5, 2), (6, 6, 1)]


def test_lateness_counts_only_what_is_too_late():
    assert lateness_ms([0, 1, 2, 3], 1.0) == 0
    assert lateness_ms([0, 1, 4], 1.0) == pytest.approx(1900)


def test_echo_series():
    lines = ["s 0 1000000000", "r 0 1020000000 60", "s 1 1200000000", "x 2 1400000000 ENETUNREACH", "s 3 1600000000",
             "u 3 1610000000 10.0.0.1", "r 0 1300000000 60"]  # fmt: skip
    rows = understand(lines, 1.0)
    assert [(r["t"], r["rtt_ms"], r["ttl"], r["why"]) for r in rows] == [
        (0, pytest.approx(20), 60, ""),
        (pytest.approx(0.2), None, None, ""),
        (pytest.approx(0.4), None, None, "ENETUNREACH"),
        (pytest.approx(0.6), None, None, "unreachable, says 10.0.0.1"),
    ]
    found = Ping("a", "b").summarise(rows)
    assert (found["sent"], found["lost"], found["loss"], found["longest_outage_s"]) == (4, 3, 0.75, 0.4)


def ipv4(payload: bytes, ttl: int = 61) -> bytes:
    return struct.pack("!BBHHHBBH8x", 0x45, 0, 20 + len(payload), 0, 0, ttl, 1, 0) + payload


def test_echo_packets():
    echo = request(77, 70_000, 56)
    assert len(echo) == 64 and checksum(echo) == 0
    reply = b"\0" + echo[1:]
    assert understand_packet(ipv4(reply), 77, 70_000) == ("r", 70_000, 61)
    assert understand_packet(ipv4(reply), 78, 70_000) is None
    assert understand_packet(ipv4(echo), 77, 70_000) is None  # our own request, seen on lo
    unreachable = struct.pack("!BBHI", 3, 1, 0, 0) + ipv4(echo)[:28]
    assert understand_packet(ipv4(unreachable), 77, 70_003) == ("u", 70_000, 61)
    assert understand_packet(ipv4(unreachable[:20]), 77, 70_003) is None


def test_udp_stream_lost_reordered_and_twice():
    sent_ns = {n: n * 10_000_000 for n in range(5)}
    arrived = [(0, 5_000_000), (2, 25_000_000), (1, 26_000_000), (4, 45_000_000), (4, 46_000_000)]
    rows = join(sent_ns, arrived, 0.0)
    assert [r["delay_ms"] for r in rows] == [5, 16, 5, None, 5]
    found = Udp("a", "b", rate=100).summarise(rows)
    assert (found["sent"], found["lost"], found["duplicates"], found["reordered"]) == (5, 1, 1, 1)
    assert found["longest_gap_ms"] == pytest.approx(20) and found["longest_loss_run"] == 1


def test_order_is_that_of_the_arrivals_and_not_of_their_stamps():
    """A clock that is set back in between moves stamps, and no datagram."""
    rows = join({n: n * 1_000_000 for n in range(4)}, [(1, 9_000_000), (2, 7_000_000), (0, 9_500_000)], 0.0)
    assert [r["order"] for r in rows] == [2, 0, 1, None]
    assert Udp("a", "b", rate=1000).summarise(rows)["reordered"] == 1


def test_who_is_put_aside_between_two_clocks_keeps_what_he_knew(monkeypatch):
    class Time:
        """Of 1 us for each look, and of 5 ms before some; CLOCK_REALTIME is 1000 s ahead."""

        def __init__(self, *aside: int):
            self.now, self.looks, self.aside = 0, 0, aside

        def monotonic_ns(self) -> int:
            self.now += 5_000_000 if self.looks in self.aside else 1_000
            self.looks += 1
            return self.now

        def time_ns(self) -> int:
            return self.monotonic_ns() + 10**12

    for aside in (1, 2):
        monkeypatch.setattr(numbered, "time", Time(aside))
        assert numbered.ahead_now(77) == 77
        monkeypatch.setattr(numbered, "time", Time(aside))
        assert numbered.ahead_at_first() == 10**12
    monkeypatch.setattr(numbered, "time", Time())
    assert numbered.ahead_now(77) == 10**12


def test_iperf3_lines():
    server = "[  5]   1.00-1.50   sec   105 KBytes  1720 Kbits/sec                  "
    assert received(server, 10.0) == {
        "t": 9.5, "seconds": 0.5, "mbit_s": 1.72, "side": "received", "retransmits": None, "cwnd": None,
    }  # fmt: skip
    client = "[  5]   1.00-1.50   sec   105 KBytes  1720 Kbits/sec    3   14.1 KBytes       "
    row = sent(client, 10.0)
    assert row and (row["mbit_s"], row["retransmits"], row["cwnd"], row["side"]) == (1.72, 3, 14438, "sent")
    closed = sent("[  5]   2.80-2.99   sec   477 KBytes  20545 Kbits/sec  32554   69.1 TBytes       ", 10.0)
    assert closed and (closed["mbit_s"], closed["retransmits"], closed["cwnd"]) == (20.545, None, None)
    assert Iperf3("a", "b").summarise([row, closed])["retransmits"] == 3
    assert received(client, 10.0) is None and sent(server, 10.0) is None
    for line in ("Server listening on 5201 (test #1)", "[ ID] Interval  Transfer  Bitrate", "", "- - - - -"):
        assert received(line, 1.0) is None and sent(line, 1.0) is None
    stalled = received("[  5]   1.50-2.00   sec  0.00 Bytes  0.00 Kbits/sec", 10.5)
    assert stalled and Iperf3("a", "b").summarise([stalled])["stalled_s"] == 0.5


def test_traceroute_rounds():
    owner = {"10.0.0.1": "north"}
    hops = [parse_hop(line, owner) for line in (" 1  10.0.0.1  5.1 ms", " 2  *", " 3  10.9.9.9  9.0 ms")]
    assert parse_hop("traceroute to 10.9.9.9, 16 hops max", owner) is None
    rows = [{"t": 1.0, **h} for h in hops if h] + [{"t": 2.0, **h} for h in hops[:2] if h]
    assert by_round(rows) == [(1.0, ["north", "*", "10.9.9.9"]), (2.0, ["north"])]


def test_route_changes_go_before_they_come():
    a, b = ("s", "10.0.0.0/8", "v1", "x"), ("s", "10.0.0.0/8", "v2", "y")
    found = changes({a}, {b}, 3.0)
    assert [(r["change"], r["via"]) for r in found] == [("-", "v1"), ("+", "v2")]
    assert changes({a}, {a}, 3.0) == []


def test_counters():
    line = "to-b: 1000 10 0 1 0 0 0 0 2000 20 0 2 0 0 0 0"
    row = parse_counts(line)
    assert row == {"vif": "to-b", "rx_bytes": 1000, "rx_packets": 10, "rx_dropped": 1, "tx_bytes": 2000,
                   "tx_packets": 20, "tx_dropped": 2}  # fmt: skip
    assert parse_counts("    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16") is None
    assert parse_counts(" face |bytes    packets errs") is None and parse_counts(".") is None
    rows = [{"t": 0.0, "sliver": "a", **row}, {"t": 1.0, "sliver": "a", **row, "tx_bytes": 2500}]
    assert Counters().summarise(rows)["during_the_run"]["a:to-b"]["tx_bytes"] == 500


def test_pcap_of_both_byte_orders_and_cut_short(tmp_path):
    for order in "<>":
        header = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        packet = struct.pack(order + "IIII", 100, 500_000, 4, 60) + b"abcd"
        file = tmp_path / "x.pcap"
        file.write_bytes(header + packet + packet[:10])
        assert packets(file, 90.0) == [{"t": 10.5, "length": 60}]
    file.write_bytes(b"")
    assert packets(file, 0.0) == []


SAMPLE = {"t": 1.0, "load": 1.0, "busy": 0.5, "steal": 0.0, "memory_free_mb": 1000.0, "late_ms": 0.1}


@pytest.mark.parametrize(
    ("sample", "events", "probes", "word"),
    [
        ({"load": 5.0}, {}, {}, "overloaded: load 2.5 per core"),
        ({"busy": 0.95}, {}, {}, "95% busy"),
        ({"steal": 0.2}, {}, {}, "hypervisor kept 20.0%"),
        ({"memory_free_mb": 3.0}, {}, {}, "3 MB of memory"),
        ({}, {"link fails": 150.0}, {}, "'link fails' came 150 ms late"),
        ({}, {}, {"rtt": 70.0}, "Probe rtt measured 70 ms later"),
    ],
)
def test_verdict(sample, events, probes, word):
    assert judge([SAMPLE], 2, Lateness(), {}, {}, Limits()) == ()
    reasons = judge([SAMPLE | sample], 2, Lateness(), events, probes, Limits())
    assert len(reasons) == 1 and word in reasons[0]


def lateness(*readings) -> Lateness:
    found = Lateness()
    for reading in readings:
        found.add(reading)
    return found


def test_lateness_counts_from_the_first_reading_on():
    found = Lateness()
    assert found.add({"a:x": (100, 90)}) == (0, 0)
    assert found.add({"a:x": (150, 91), "b:x": (50, 0)}) == (100, 1)
    assert found.add({"a:x": (150, 91), "b:x": (50, 0)}) == (0, 0)
    assert found.summary() == {"delayed_packets": 100, "late_packets": 1, "late_share": 0.01}
    assert found.sentence() == "1.00% of the packets on shaped links left more than 1 ms late (1 of 100)."


def test_lateness_survives_a_new_link_element_and_one_that_is_away():
    found = lateness({"a:x": (100, 10)}, {"a:x": (200, 10)}, {}, {"a:x": (20, 2)})
    assert (found.sent["a:x"], found.late["a:x"]) == (120, 2)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=20))
def test_lateness_is_the_sum_of_its_readings(steps):
    sent = [sum(s + n for s, n in steps[: i + 1]) for i in range(len(steps))]
    late = [sum(n for _, n in steps[: i + 1]) for i in range(len(steps))]
    found = lateness({"a:x": (0, 0)}, *({"a:x": pair} for pair in zip(sent, late, strict=True)))
    assert (found.sent.total(), found.late.total()) == (sent[-1], late[-1])
    assert found.share == (late[-1] / sent[-1] if sent[-1] else None)


def test_verdict_on_lateness_names_the_share_and_the_worst_vifs():
    late = lateness({}, {"a:x": (1000, 10), "b:x": (500, 20), "c:x": (500, 0), "d:x": (100, 1), "e:x": (100, 2)})
    assert judge([SAMPLE], 2, late, {}, {}, Limits()) == (
        "1.50% of the packets on shaped links left more than 1 ms late (33 of 2,200), limit 1.0%; "
        "worst: b:x 4.0%, a:x 1.0%, e:x 2.0%.",
    )
    assert judge([SAMPLE], 2, late, {}, {}, Limits(late_share=0.015)) == ()


def test_nothing_is_said_of_lateness_that_nobody_counts():
    unknown = lateness(None, None)
    assert unknown.summary() == {"delayed_packets": None, "late_packets": None, "late_share": None}
    assert "isn't measured" in unknown.sentence() and unknown.reason(0.0) == ""
    assert lateness({}, {}).sentence() == "No packet crossed a link that delays, limits or loses."


def test_stat_of_the_kernel():
    ticks = parse_stat("cpu  10 0 20 60 5 1 2 2 7 0\ncpu0 ...")
    assert (ticks.idle, ticks.steal, ticks.total) == (65, 2, 100)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("goodput_mbit_s", "goodput, Mbit/s"),
        ("median_ms", "median, ms"),
        ("longest_outage_s", "longest outage, s"),
        ("retransmits", "retransmits"),
        ("route_changes", "route changes"),
    ],
)
def test_a_report_names_statistics_with_their_units(key, shown):
    assert shown in report._values({key: 1})
