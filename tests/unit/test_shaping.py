"""From an impairment to a Shape: quantised, on the right backend, or refused with a sentence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.model import AnyObject, BurstLoss, File, Impairment, Interface, Netns, Shape, Unsupported
from vini.node.drivers.shape_netem import _shape as as_shape
from vini.node.drivers.shape_netem import sender, wire
from vini.node.netem import SCALE, WIDTHS, Netem, empirical, seen_netem, set_netem, table
from vini.node.tc import seen_qdisc, set_qdisc
from vini.plan import plan
from vini.plugins.shape_files import DIGESTS, files
from vini.plugins.shaping import limits, refuse, shape
from vini.truth.meaning import delay_cdf

BOTH = frozenset({"netem", "element"})
ELEMENT = frozenset({"element"})


def test_nothing_to_do_is_no_shape() -> None:
    assert shape("s.a", "to-b", Impairment(), "none", frozenset()) is None
    assert shape("s.a", "to-b", Impairment(queue_packets=5), "carrier", frozenset()) is None


def test_values_are_quantised() -> None:
    asked = Impairment(delay_ms=9.1, jitter_ms=0.25, loss=0.01, rate_mbit=2.5, queue_packets=77)
    wish = Shape("s.a", "to-b", "netem", 9100, 250, 10_000, 2500, 77)
    assert shape("s.a", "to-b", asked, "none", BOTH) == wish


def test_netem_comes_first_then_the_element_then_a_refusal() -> None:
    silent = shape("s.a", "to-b", Impairment(), "silent", ELEMENT)
    assert silent == Shape("s.a", "to-b", "element", drop=True)
    with pytest.raises(Unsupported, match=r"modprobe sch_netem.*apt-get install gcc"):
        shape("s.a", "to-b", Impairment(delay_ms=1), "none", frozenset())


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Impairment(rate_mbit=2001), "a rate of 2001 Mbit/s but element on this node gives at most 2000 Mbit/s"),
        (Impairment(delay_ms=10_001), "a delay of 10001 ms"),
        (Impairment(delay_ms=9000, jitter_ms=300), "a jitter of 300 ms"),
        (Impairment(rate_mbit=2000, delay_ms=1000), "238 MiB on the wire, but element on this node gives at most 128"),
        (Impairment(rate_mbit=1, queue_packets=10**6), "a queue of 1000000 packets"),
        (Impairment(delay_ms=0.0001), "the least is 0.001"),
        (Impairment(loss=1e-9), "the least is 0.000001"),
        (Impairment(rate_mbit=0.0001), "a rate of 0.0001 Mbit/s"),
    ],
)
def test_what_cannot_be_given_is_refused(asked: Impairment, sentence: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        shape("s.a", "to-b", asked, "none", ELEMENT)
    assert sentence in str(refusal.value)


def test_the_most_that_a_backend_gives_is_not_refused() -> None:
    most = limits("element")
    asked = Impairment(rate_mbit=most.rate_kbit / 1000, queue_packets=most.queue_packets)
    wish = shape("s.a", "to-b", asked, "none", ELEMENT)
    assert wish is not None and refuse(wish, asked) is None


RICH = {
    "trace": Impairment(trace="time_ms,rate_mbit\n0,5\n"),
    "numbers": Impairment(lose=((3, 3),)),
    "codel": Impairment(rate_mbit=1, aqm="codel"),
    "bytes or time": Impairment(rate_mbit=1, queue_packets=0, queue_ms=50),
    "overtake at a rate": Impairment(rate_mbit=1, delay_ms=1, reorder=0.1),
    "duplicates at a rate": Impairment(rate_mbit=1, duplicate=0.1),
    "a loss of more than 90 %": Impairment(loss=0.95, burst_loss=BurstLoss(0.1, 0.1)),
}


@pytest.mark.parametrize("words", RICH)
def test_what_netem_cannot_give_goes_to_the_element_or_is_refused(words: str) -> None:
    wish = shape("s.a", "to-b", RICH[words], "none", BOTH)
    assert wish is not None and wish.backend == "element"
    with pytest.raises(Unsupported) as refusal:
        shape("s.a", "to-b", RICH[words], "none", frozenset({"netem"}))
    assert words in str(refusal.value)
    assert "which netem can't give. The link element could; for it install gcc" in str(refusal.value)


@pytest.mark.parametrize(
    "asked",
    [
        Impairment(delay_ms=5, jitter_ms=1, distribution="pareto", keeps_order=False, reorder=0.1),
        Impairment(delay_ms=5, jitter_table_ms=(0.0, 1.0), corrupt=0.1, duplicate=0.1),
        Impairment(burst_loss=BurstLoss(0.01, 0.25), loss=0.1, rate_mbit=10),
        Impairment(delay_ms=5, queue_packets=0, queue_bytes=64_000),  # nothing waits without a rate
    ],
)
def test_netem_gives_what_it_can(asked: Impairment) -> None:
    wish = shape("s.a", "to-b", asked, "none", BOTH)
    assert wish is not None and wish.backend == "netem"


def test_bursts_and_shares_are_counted_in_millionths() -> None:
    asked = Impairment(
        burst_loss=BurstLoss(0.01, 0.25, 0.9, 0.001), duplicate=0.02, corrupt=0.03, reorder=0.04, delay_ms=1
    )
    wish = shape("s.a", "to-b", asked, "none", BOTH)
    assert wish is not None
    assert (wish.enter_ppm, wish.leave_ppm, wish.bad_ppm, wish.good_ppm) == (10_000, 250_000, 900_000, 1000)
    assert (wish.duplicate_ppm, wish.corrupt_ppm, wish.reorder_ppm) == (20_000, 30_000, 40_000)


def test_files_have_the_elements_form_and_are_named_after_their_content() -> None:
    asked = Impairment(
        jitter_table_ms=(0.0, 0.2, 5.0),
        lose=((3, 3), (7, 9)),
        trace="time_ms,rate_mbit,delay_ms,loss\n0,1.5,20,\n100.5,outage,,100%\n300,repeat\n",
    )
    found = files("s.a", asked)
    assert {field: file.text for field, file in found.items()} == {
        "table": "0.000\n200.000\n5000.000\n",
        "lose": "3-3\n7-9\n",
        "trace": "steps 300000\n0 1500 20000 -1\n100500 0 -1 1000000\n",
    }
    wish = shape("s.a", "to-b", asked, "none", ELEMENT)
    assert wish is not None and wish.distribution == "table"
    assert {("file", "s.a", path) for path in wish.files} == {file.key for file in found.values()} <= set(wish.on)
    assert files("s.a", replace(asked, lose=((3, 4),)))["lose"].path != wish.lose
    assert files("s.a", Impairment(trace="0\n7\n"))["trace"].text == "opportunities\n0\n7\n"


def test_a_trace_is_held_to_the_same_limits() -> None:
    for rows in ("0,3000,", "0,5,20000"):
        asked = Impairment(trace=f"time_ms,rate_mbit,delay_ms\n{rows}\n")
        with pytest.raises(Unsupported, match="at most"):
            shape("s.a", "to-b", asked, "none", ELEMENT)


def test_a_change_of_its_files_keeps_a_shape() -> None:
    """What is in flight stays: nothing is rebuilt."""
    old, new = (Impairment(delay_ms=5, lose=((3, n),)) for n in (4, 5))
    ground = {Netns("s.a"), Interface("s.a", "to-b", ("netns", "s.a"))}

    def all_of(i: Impairment) -> set[AnyObject]:
        return ground | {shape("s.a", "to-b", i, "none", ELEMENT), *files("s.a", i).values()}  # type: ignore[arg-type]

    ops = [(op.verb, op.object.key[0], op.in_place) for op in plan(all_of(new), all_of(old))]
    assert ops == [("remove", "file", False), ("ensure", "file", False), ("ensure", "shape", True)]
    lost = {o for o in all_of(old) if not isinstance(o, File)}
    assert [op.object.key[0] for op in plan(all_of(old), lost)] == ["file"]


# --- as netem is told ---------------------------------------------------------------------------

PPM = st.sampled_from([0, 1, 3333, 10_000, 250_000, 899_999])
netem_shapes = st.builds(
    Shape,
    ns=st.just("s.a"),
    dev=st.just("to-b"),
    backend=st.just("netem"),
    delay_us=st.integers(0, 10**7),
    jitter_us=st.integers(0, 10**6),
    loss_ppm=PPM,
    rate_kbit=st.sampled_from([0, 1, 9_920_000, 99_999_999]),
    queue_packets=st.integers(1, 10**6),
    drop=st.booleans(),
    distribution=st.sampled_from(["normal", "uniform", "pareto"]),
    keeps_order=st.booleans(),
    reorder_ppm=PPM,
    enter_ppm=PPM,
    duplicate_ppm=PPM,
    corrupt_ppm=PPM,
)


def through(netem: Netem) -> Netem:
    """What the kernel tells of it: all but the table."""
    message = set_netem(7, 1, 2, netem)
    return replace(seen_netem(seen_qdisc(message).options), table=netem.table)


@given(netem_shapes, PPM, st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_netem_tells_back_what_it_was_told(wish: Shape, digest: int, leave: int, bad: int, good: int) -> None:
    if wish.enter_ppm:
        wish = replace(wish, leave_ppm=leave, bad_ppm=bad, good_ppm=good)
    if digest:
        table = f"shape/{digest * 0x1234_5678_9ABC % DIGESTS:012x}.table"
        wish = replace(wish, distribution="table", jitter_us=0, table=table)
    if wish.duplicate_ppm:
        wish = replace(wish, rate_kbit=0)
    outer, inner = wire(wish, (0.0, 0.5, 700.0) if digest else ()), sender(wish)
    assert through(outer) == outer and through(inner) == inner
    inside = seen_qdisc(set_netem(7, 1, 2, inner))
    if wish.duplicate_ppm:
        inside = seen_qdisc(set_qdisc(7, 1, 2, "blackhole")) if wish.drop else None
    assert as_shape("s.a", "to-b", outer, inside) == wish


@pytest.mark.parametrize("name", ["normal", "uniform", "pareto"])
def test_tables_have_the_distribution_that_was_asked(name: str) -> None:
    """Kolmogorov and Smirnov's distance to the distribution that a link is measured against."""
    quantiles = sorted(n * WIDTHS[name] / SCALE for n in table(name))
    cdf = delay_cdf(Impairment(delay_ms=1e6, jitter_ms=1, distribution=name))  # far from being cut at 0
    distance = max(abs(cdf(1e6 + q) - (i + 0.5) / len(quantiles)) for i, q in enumerate(quantiles))
    assert distance < 0.002
    mean = sum(quantiles) / len(quantiles)
    deviation = math.sqrt(sum(q * q for q in quantiles) / len(quantiles) - mean**2)
    assert abs(mean) < 0.01
    assert deviation == pytest.approx({"uniform": 1 / math.sqrt(3)}.get(name, 1.0), rel=0.05)


def test_a_measured_table_is_told_to_a_millionth_of_its_range() -> None:
    jitter_ns, entries = empirical((0.0, 200.0, 5000.0))
    at = [n * jitter_ns / SCALE / 1000 for n in entries]
    assert at[0] == pytest.approx(0, abs=0.2) and at[-1] == pytest.approx(5000, abs=0.5)
    assert at[len(at) // 2] == pytest.approx(200, abs=0.5)
    assert at == sorted(at)
