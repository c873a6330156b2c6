"""From an impairment to a Shape: quantised, on the right backend, or refused with a sentence."""

import pytest

from vini.model import Impairment, Shape, Unsupported
from vini.plugins.shaping import limits, refuse, shape

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


def test_a_shape_for_another_node_is_refused() -> None:
    assert "lacks" in (refuse(Shape("s.a", "to-b", "netem", 1), ELEMENT) or "")
    assert refuse(Shape("s.a", "to-b", "element", rate_kbit=limits("element").rate_kbit), ELEMENT) is None
