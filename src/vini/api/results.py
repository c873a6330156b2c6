"""What measurements give: small frozen values, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vini.experiment.statistics import median
from vini.model import Unsupported, Value

TYPES = {"float": "float64", "int": "int64", "str": "string", "bool": "bool_"}


class PingResult(Value, frozen=True):
    """Echo requests (RFC 792) from one sliver to another: how many were sent, and the round trips of those answered."""

    source: str
    destination: str
    sent: int
    received: int
    rtts_ms: tuple[float, ...]  # in the order of sending
    why: str = ""  # what ping said when it could not send

    @property
    def ok(self) -> bool:
        """Whether every request was sent and answered."""
        return 0 < self.sent == self.received

    @property
    def loss(self) -> float:
        """Share of requests without an answer, 0..1; 1 when none could be sent."""
        return 1 - self.received / self.sent if self.sent else 1.0

    @property
    def median_ms(self) -> float | None:
        """The median round-trip time; None when nothing was answered."""
        return median(list(self.rtts_ms))

    def __str__(self) -> str:
        times = ""
        if self.rtts_ms:
            low, high = min(self.rtts_ms), max(self.rtts_ms)
            times = f", RTT {low:.3f}/{self.median_ms:.3f}/{high:.3f} ms (min/median/max)"
        why = f" ({self.why})" if self.why else ""
        return f"{self.source} -> {self.destination}: {self.received} of {self.sent} answered{times}{why}"


class IperfResult(Value, frozen=True):
    """One TCP connection that sent all it could (iperf3): what arrived, as its receiver counted it."""

    source: str
    destination: str
    mbit: float  # 10**6 bits of payload per second at the receiver
    seconds: float
    retransmits: int
    intervals_mbit: tuple[float, ...]  # at the sender, one per second

    def __str__(self) -> str:
        how = f"{self.mbit:.2f} Mbit/s over {self.seconds:.1f} s, {self.retransmits} retransmits"
        return f"{self.source} -> {self.destination}: {how}"


def arrow() -> Any:
    """pyarrow; it is an extra, since 200 MB are much for those who only want a network."""
    try:
        import pyarrow
    except ImportError as e:
        raise Unsupported("Tables need the Python package pyarrow. Install it with: pip install 'vini[run]'") from e
    return pyarrow


def table(rows: Iterable[Mapping[str, Any] | Value], columns: Mapping[str, str] | None = None) -> Any:
    """Rows (mappings, or results of measurements) as a `pyarrow.Table`; `.to_pandas()` of it is a DataFrame.

    `columns` maps names to "float", "int", "str" or "bool"; without it types are found by looking.
    Raises Unsupported where pyarrow is missing.
    """
    pa = arrow()
    plain = [msgspec.to_builtins(row) if isinstance(row, Value) else dict(row) for row in rows]
    if columns is None:
        return pa.Table.from_pylist(plain)
    schema = pa.schema([(name, getattr(pa, TYPES[kind])()) for name, kind in columns.items()])
    return pa.Table.from_pylist(plain, schema=schema)
