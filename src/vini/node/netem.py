"""netem's settings as the messages that set them, and back (tc-netem(8), linux/pkt_sched.h, net/sched/sch_netem.c).

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

from vini.model import Value
from vini.node import netlink as nl
from vini.node import tc

_HEAD = struct.Struct("=IIIIII")  # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
_DISTRIBUTION, _REORDER, _CORRUPT, _LOSS, _RATE, _RATE64, _LATENCY64, _JITTER64 = 2, 3, 4, 5, 6, 8, 10, 11
_RATE_BODY = struct.Struct("=IiIi")  # struct tc_netem_rate: bytes/s, overheads of packet and cell, size of a cell
_BURSTS, _BURSTS_BODY = 2, struct.Struct("=IIII")  # NETEM_LOSS_GE, struct tc_netem_gemodel: p, r, h, k1
WIRE = 0x56490000  # handle "VI": how we know our own
ALWAYS = 0xFFFFFFFF  # a probability of 1
SCALE = 8192  # NETEM_DIST_SCALE: an entry of a table that stands for the jitter itself
_MOST_ENTRIES, _MOST = 16384, 32767  # NETEM_DIST_MAX; of 16 bits with a sign


class Netem(Value, frozen=True):
    """The settings of one netem qdisc that we use; probabilities are of 2**32 - 1, `rate` is in bytes/s."""

    limit: int
    delay_ns: int = 0
    jitter_ns: int = 0
    table: tuple[int, ...] = ()  # of the jitter's distribution: quantiles in parts of SCALE; the kernel doesn't tell it
    loss: int = 0
    bursts: tuple[int, int, int, int] | None = None  # to bad, to good, passes in bad, lost in good; `loss` is idle then
    duplicate: int = 0
    corrupt: int = 0
    reorder: int = 0
    gap: int = 0  # 1: `reorder` is at work
    rate: int = 0
    notes: tuple[int, int] = (0, 0)  # two numbers, of 24 and 32 bits, that a netem without a rate keeps and doesn't use


def set_netem(index: int, handle: int, parent: int, netem: Netem) -> bytes:
    """Make a netem qdisc, or change the one with this handle; packets in it stay."""
    head = _HEAD.pack(0, netem.limit, netem.loss, netem.gap, netem.duplicate, 0)
    rate = _RATE_BODY.pack(min(netem.rate, ALWAYS), netem.notes[0], 0, _signed(netem.notes[1]))
    options = [
        head,
        nl.attribute(_LATENCY64, struct.pack("=q", netem.delay_ns)),
        nl.attribute(_JITTER64, struct.pack("=q", netem.jitter_ns)),
        nl.attribute(_REORDER, struct.pack("=II", netem.reorder, 0)),
        nl.attribute(_CORRUPT, struct.pack("=II", netem.corrupt, 0)),
        nl.attribute(_RATE, rate),
    ]
    if netem.rate > ALWAYS:
        options.append(nl.attribute(_RATE64, struct.pack("=Q", netem.rate)))
    if netem.jitter_ns:
        options.append(nl.attribute(_DISTRIBUTION, struct.pack(f"={len(netem.table)}h", *netem.table)))
    if netem.bursts:
        options.append(nl.nest(_LOSS, nl.attribute(_BURSTS, _BURSTS_BODY.pack(*netem.bursts))))
    return tc.set_qdisc(index, handle, parent, "netem", b"".join(options))


def seen_netem(options: bytes) -> Netem:
    """Decode the options of a netem qdisc; its table stays unknown."""
    _, limit, loss, gap, duplicate, _ = _HEAD.unpack_from(options)
    a = nl.attributes(options, _HEAD.size)
    rate, note, _, other = _RATE_BODY.unpack_from(a[_RATE]) if _RATE in a else (0, 0, 0, 0)
    if _RATE64 in a:
        rate = struct.unpack_from("=Q", a[_RATE64])[0]
    models = nl.attributes(a.get(_LOSS, b""), 0)
    return Netem(
        limit,
        delay_ns=struct.unpack_from("=q", a[_LATENCY64])[0],
        jitter_ns=struct.unpack_from("=q", a[_JITTER64])[0],
        loss=loss,
        bursts=_BURSTS_BODY.unpack_from(models[_BURSTS]) if _BURSTS in models else None,
        duplicate=duplicate,
        corrupt=struct.unpack_from("=I", a[_CORRUPT])[0] if _CORRUPT in a else 0,
        reorder=struct.unpack_from("=I", a[_REORDER])[0] if _REORDER in a else 0,
        gap=gap,
        rate=rate,
        notes=(note, other & 0xFFFFFFFF),
    )


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number


def probability(ppm: int) -> int:
    """Parts per million in netem's scale, where 2**32 - 1 is certainty."""
    return round(ppm * ALWAYS / 1_000_000)


def parts_per_million(probability: int) -> int:
    """The inverse of `probability`, exact."""
    return round(probability * 1_000_000 / ALWAYS)


# --- distributions ------------------------------------------------------------------------------

# So many times the asked jitter is what netem is told, so that the tail fits into a table's 16 bits: they hold four
# times that.  Of 16384 quantiles of the Pareto distribution, the last one is 35 deviations away.
WIDTHS = {"normal": 1, "uniform": 1, "pareto": 9}


@lru_cache(maxsize=len(WIDTHS))
def table(distribution: str) -> tuple[int, ...]:
    """The quantiles of a distribution with mean 0: of standard deviation 1, the uniform one of half-width 1."""
    unit: Callable[[float], float] = {
        "normal": NormalDist().inv_cdf,
        "uniform": lambda u: 2 * u - 1,
        "pareto": lambda u: ((1 - u) ** (-1 / 3) - 1.5) * 2 / sqrt(3),  # alpha 3: mean 3/2, deviation sqrt(3)/2
    }[distribution]
    scale = SCALE / WIDTHS[distribution]
    return tuple(max(-_MOST, min(_MOST, round(unit(u) * scale))) for u in _steps())


def empirical(quantiles_us: Sequence[float]) -> tuple[int, tuple[int, ...]]:
    """What netem is told of a table of delays: the jitter in ns, and the quantiles in parts of it."""
    jitter_ns = max(1, -(-round(quantiles_us[-1] * 1000) * SCALE // _MOST))
    last = len(quantiles_us) - 1

    def at(u: float) -> float:
        i = min(int(u * last), last - 1)
        return quantiles_us[i] + (u * last - i) * (quantiles_us[i + 1] - quantiles_us[i])

    return jitter_ns, tuple(round(at(u) * 1000 * SCALE / jitter_ns) for u in _steps())


def _steps() -> list[float]:
    return [(i + 0.5) / _MOST_ENTRIES for i in range(_MOST_ENTRIES)]
