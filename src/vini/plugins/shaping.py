"""What a link's impairment asks of a node: one Shape per direction with its files, or a refusal with the reason.

Nothing is ever rounded away or run with another value than was asked (but for the unit: whole
microseconds, parts per million, kbit/s).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from vini.model import Capabilities, Fault, Impairment, Shape, Unsupported, Value
from vini.plugins.shape_files import files
from vini.text import trace, units

Backend = Literal["netem", "element"]
BACKENDS: tuple[Backend, ...] = ("netem", "element")  # the first that can give a wish does
_REMEDIES = {
    "netem": "netem (`modprobe sch_netem`, package linux-modules-extra-$(uname -r))",
    "element": "what our link element needs (`apt-get install gcc libc6-dev`, and /dev/net/tun)",
}


class Limits(Value, frozen=True):
    """The most that a backend gives truthfully."""

    rate_kbit: int
    delay_us: int  # also of the jitter
    queue_packets: int
    held_bytes: int  # rate times delay, what is on the wire at a time; and what waits


# The element: one core carries about 2 Gbit/s of frames of 1500 bytes (measured; docs/explanation/links.md), and
# it has a quarter of a small node's memory.  netem: its fields' widths, with room for four times the jitter.
_LIMITS: dict[Backend, Limits] = {
    "element": Limits(rate_kbit=2_000_000, delay_us=10_000_000, queue_packets=100_000, held_bytes=128 << 20),
    "netem": Limits(rate_kbit=100_000_000, delay_us=100_000_000, queue_packets=1_000_000, held_bytes=1 << 30),
}
# With a loss near 1, netem's one number for both kinds of loss can't be told apart to a millionth again.
_NETEM_MOST_LOSS_PPM = 900_000


def limits(backend: Backend) -> Limits:
    """The most that this backend gives truthfully."""
    return _LIMITS[backend]


def shape(ns: str, dev: str, impairment: Impairment, fault: Fault, capabilities: Capabilities) -> Shape | None:
    """The Shape of packets that leave `ns` by `dev`, by the first backend that can give it; None where there is
    nothing to do to them.  It stands on `files(ns, impairment)`.

    Unsupported where this node can't give it.  The fault "carrier" is the interface's, not ours.
    """
    if impairment.does_nothing and fault != "silent":
        return None
    refusals = []
    for backend in (b for b in BACKENDS if b in capabilities):
        wish = _wish(ns, dev, backend, impairment, fault)
        why = refuse(wish, impairment)
        if why is None:
            return wish
        refusals.append(why)
    raise Unsupported(_no_backend(f"{ns} {dev}", refusals, capabilities))


def _wish(ns: str, dev: str, backend: Backend, i: Impairment, fault: Fault) -> Shape:
    bursts = i.burst_loss
    waits = bool(i.rate_mbit or i.trace)  # else nothing does, and how much may wait is all one
    return Shape(
        ns,
        dev,
        backend,
        delay_us=round(i.delay_ms * 1000),
        jitter_us=round(i.jitter_ms * 1000),
        loss_ppm=_ppm(i.loss),
        rate_kbit=round(i.rate_mbit * 1000),
        queue_packets=i.queue_packets if waits else 1000,
        drop=fault == "silent",
        queue_bytes=i.queue_bytes if waits else 0,
        queue_us=round(i.queue_ms * 1000) if waits else 0,
        aqm=i.aqm,
        distribution="table" if i.jitter_table_ms else i.distribution if i.jitter_ms else "normal",
        keeps_order=i.keeps_order,
        reorder_ppm=_ppm(i.reorder),
        enter_ppm=_ppm(bursts.enter) if bursts else 0,
        leave_ppm=_ppm(bursts.leave) if bursts else 0,
        bad_ppm=_ppm(bursts.bad) if bursts else 0,
        good_ppm=_ppm(bursts.good) if bursts else 0,
        duplicate_ppm=_ppm(i.duplicate),
        corrupt_ppm=_ppm(i.corrupt),
        whole=True,
        **{field: file.path for field, file in files(ns, i).items()},
    )


def _ppm(probability: float) -> int:
    return round(probability * 1_000_000)


# --- refusals -----------------------------------------------------------------------------------


def refuse(wish: Shape, impairment: Impairment) -> str | None:
    """Why this Shape's backend can't give that impairment truthfully; None: it can."""
    where = f"{wish.ns} {wish.dev}"
    if fine := _too_fine(wish, impairment):
        return f"{where} asks for {fine}."
    if wish.backend == "netem" and (beyond := next(_beyond_netem(wish), None)):
        return f"{where} asks for {beyond}, which netem can't give."
    for asked, most in _too_much(impairment, limits(wish.backend)):
        return f"{where} asks for {asked} but {wish.backend} on this node gives at most {most}."
    return None


def _no_backend(where: str, refusals: list[str], capabilities: Capabilities) -> str:
    lacking = [_REMEDIES[b] for b in BACKENDS if b not in capabilities]
    if not refusals:
        return f"{where} can't be shaped: this node has neither {' nor '.join(lacking)}."
    more = " The link element could; for it install gcc (`apt-get install gcc libc6-dev`)."
    could = more if "netem can't give" in refusals[-1] and "element" not in capabilities else ""
    return " ".join(dict.fromkeys(refusals)) + could


def _too_fine(wish: Shape, i: Impairment) -> str | None:
    """A wish that the integers of a Shape would turn into nothing."""
    bursts = i.burst_loss
    for asked, given, words in (
        (i.delay_ms, wish.delay_us, f"a delay of {i.delay_ms:g} ms (the least is 0.001)"),
        (i.jitter_ms, wish.jitter_us, f"a jitter of {i.jitter_ms:g} ms (the least is 0.001)"),
        (i.loss, wish.loss_ppm, f"a loss of {i.loss:g} (the least is 0.000001)"),
        (i.rate_mbit, wish.rate_kbit, f"a rate of {i.rate_mbit:g} Mbit/s (the least is 0.001)"),
        (wish.rate_kbit and i.queue_ms, wish.queue_us, f"a queue of {i.queue_ms:g} ms (the least is 0.001)"),
        (i.reorder, wish.reorder_ppm, f"reordering of {i.reorder:g} (the least is 0.000001)"),
        (i.duplicate, wish.duplicate_ppm, f"duplicates of {i.duplicate:g} (the least is 0.000001)"),
        (i.corrupt, wish.corrupt_ppm, f"damage to {i.corrupt:g} (the least is 0.000001)"),
        (bursts and bursts.enter, wish.enter_ppm, "bursts that begin more rarely than at a packet in a million"),
        (bursts and bursts.leave, wish.leave_ppm, "bursts that end more rarely than at a packet in a million"),
        (bursts and bursts.good, wish.good_ppm, "a loss between bursts of less than 0.000001"),
    ):
        if asked and not given:
            return words
    return None


def _beyond_netem(o: Shape) -> Iterator[str]:
    """What it can't do at all, or not with this meaning (docs/explanation/links.md)."""
    if o.trace:
        yield "a trace"
    if o.lose:
        yield "the loss of packets by their numbers"
    if o.aqm:
        yield f"{o.aqm} at the link's queue"
    if o.queue_bytes or o.queue_us:
        yield "a queue that is bounded in bytes or time"
    if o.rate_kbit and o.reorder_ppm:
        yield "packets that overtake at a rate"
    if o.rate_kbit and o.duplicate_ppm:
        yield "duplicates at a rate"
    if o.enter_ppm and o.loss_ppm > _NETEM_MOST_LOSS_PPM:
        yield f"bursts of loss beside a loss of more than {_NETEM_MOST_LOSS_PPM / 10_000:g} %"


def _too_much(i: Impairment, most: Limits) -> Iterator[tuple[str, str]]:
    """What exceeds these limits: what was asked for, and the limit."""
    over_time = trace.parse(i.trace) if i.trace else trace.Trace()
    rate_mbit, delay_ms = max(i.rate_mbit, over_time.most("rate_mbit")), max(i.delay_ms, over_time.most("delay_ms"))
    if rate_mbit * 1000 > most.rate_kbit:
        yield f"a rate of {rate_mbit:g} Mbit/s", f"{most.rate_kbit / 1000:g} Mbit/s"
    if (delay_ms + 4 * i.jitter_ms + max(i.jitter_table_ms, default=0.0)) * 1000 > most.delay_us:
        table = " and its table" if i.jitter_table_ms else f" with a jitter of {i.jitter_ms:g} ms"
        yield f"a delay of {delay_ms:g} ms{table}", f"delay + 4 jitter = {most.delay_us / 1000:g} ms"
    if i.queue_packets > most.queue_packets:
        yield f"a queue of {i.queue_packets} packets", f"{most.queue_packets}"
    waits = max(i.queue_bytes, round(rate_mbit * 125 * i.queue_ms))
    if waits > most.held_bytes:
        yield f"a queue of {units.queue(0, waits, 0.0)}", f"{most.held_bytes >> 20} MiB"
    on_wire = round(rate_mbit * 125 * delay_ms)
    if on_wire > most.held_bytes:
        told = f"{rate_mbit:g} Mbit/s at {delay_ms:g} ms, {on_wire >> 20} MiB on the wire,"
        yield told, f"{most.held_bytes >> 20} MiB"
