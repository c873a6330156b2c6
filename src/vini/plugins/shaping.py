"""What a link's impairment asks of a node: one Shape per direction, or a refusal with the reason.

Nothing is ever rounded away or run with another value than was asked (but for the unit: whole
microseconds, parts per million, kbit/s).
"""

from __future__ import annotations

from typing import Literal

from vini.model import Capabilities, Fault, Impairment, Shape, Unsupported, Value


class Limits(Value, frozen=True):
    """The most that a backend gives truthfully."""

    rate_kbit: int
    delay_us: int  # also of the jitter
    queue_packets: int
    wire_bytes: int  # rate times delay: what is on the wire at a time


# The element: one core carries about 2 Gbit/s of frames of 1500 bytes (measured; docs/explanation/links.md), and
# it has a quarter of a small node's memory.  netem: its fields' widths, with room for four times the jitter.
_LIMITS = {
    "element": Limits(rate_kbit=2_000_000, delay_us=10_000_000, queue_packets=100_000, wire_bytes=128 << 20),
    "netem": Limits(rate_kbit=100_000_000, delay_us=100_000_000, queue_packets=1_000_000, wire_bytes=1 << 30),
}


def limits(backend: Literal["netem", "element"]) -> Limits:
    """The most that this backend gives truthfully."""
    return _LIMITS[backend]


def shape(ns: str, dev: str, impairment: Impairment, fault: Fault, capabilities: Capabilities) -> Shape | None:
    """The Shape of packets that leave `ns` by `dev`; None where there is nothing to do to them.

    Unsupported where this node can't give it.  The fault "carrier" is the interface's, not ours.
    """
    if impairment == Impairment(queue_packets=impairment.queue_packets) and fault != "silent":
        return None
    wish = Shape(
        ns,
        dev,
        _backend(capabilities),
        delay_us=round(impairment.delay_ms * 1000),
        jitter_us=round(impairment.jitter_ms * 1000),
        loss_ppm=round(impairment.loss * 1_000_000),
        rate_kbit=round(impairment.rate_mbit * 1000),
        queue_packets=impairment.queue_packets,
        drop=fault == "silent",
    )
    why = _too_fine(wish, impairment) or refuse(wish, capabilities)
    if why:
        raise Unsupported(why)
    return wish


def refuse(wish: Shape, capabilities: Capabilities) -> str | None:
    """Why this node can't give this Shape truthfully; None: it can."""
    where = f"{wish.ns} {wish.dev}"
    if wish.backend not in capabilities:
        return f"{where} needs {wish.backend} to be shaped, which this node lacks."
    most = limits(wish.backend)
    if wish.rate_kbit > most.rate_kbit:
        return _too_much(wish, f"a rate of {wish.rate_kbit / 1000:g} Mbit/s", f"{most.rate_kbit / 1000:g} Mbit/s")
    if wish.delay_us + 4 * wish.jitter_us > most.delay_us:
        asked = f"a delay of {wish.delay_us / 1000:g} ms with a jitter of {wish.jitter_us / 1000:g} ms"
        return _too_much(wish, asked, f"delay + 4 jitter = {most.delay_us / 1000:g} ms")
    if wish.queue_packets > most.queue_packets:
        return _too_much(wish, f"a queue of {wish.queue_packets} packets", f"{most.queue_packets}")
    on_wire = wish.rate_kbit * 125 * wish.delay_us // 1_000_000
    if on_wire > most.wire_bytes:
        asked = f"{wish.rate_kbit / 1000:g} Mbit/s at {wish.delay_us / 1000:g} ms, {on_wire >> 20} MiB on the wire,"
        return _too_much(wish, asked, f"{most.wire_bytes >> 20} MiB")
    return None


def _backend(capabilities: Capabilities) -> Literal["netem", "element"]:
    if "netem" in capabilities:
        return "netem"
    if "element" in capabilities:
        return "element"
    raise Unsupported(
        "This node can't shape links: it has neither netem (`modprobe sch_netem`, package "
        "linux-modules-extra-$(uname -r)) nor what our link element needs (`apt-get install gcc libc6-dev`, "
        "and /dev/net/tun)."
    )


def _too_fine(wish: Shape, impairment: Impairment) -> str | None:
    """A wish that the integers of a Shape would turn into nothing."""
    for asked, given, words in (
        (impairment.delay_ms, wish.delay_us, f"a delay of {impairment.delay_ms:g} ms (the least is 0.001)"),
        (impairment.jitter_ms, wish.jitter_us, f"a jitter of {impairment.jitter_ms:g} ms (the least is 0.001)"),
        (impairment.loss, wish.loss_ppm, f"a loss of {impairment.loss:g} (the least is 0.000001)"),
        (impairment.rate_mbit, wish.rate_kbit, f"a rate of {impairment.rate_mbit:g} Mbit/s (the least is 0.001)"),
    ):
        if asked and not given:
            return f"{wish.ns} {wish.dev} asks for {words}."
    return None


def _too_much(wish: Shape, asked: str, most: str) -> str:
    return f"{wish.ns} {wish.dev} asks for {asked} but {wish.backend} on this node gives at most {most}."
