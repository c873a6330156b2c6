"""`capture`: the packets of one vif, as a pcap file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program, last_words
from vini.experiment.statistics import Row

PCAP_MICRO, PCAP_NANO = 0xA1B2C3D4, 0xA1B23C4D
SUFFIX = ".pcap"


class Capture(Probe, frozen=True):
    """tcpdump on one vif: the pcap file is kept whole, the table has one row for each packet."""

    sliver: str
    vif: str
    filter: str = ""  # pcap-filter(7)
    snap: int = 0  # bytes kept of each packet; 0: all

    columns: ClassVar[dict[str, str]] = {"t": "float", "length": "int"}
    tools: ClassVar[tuple[tuple[str, str], ...]] = (("tcpdump", "tcpdump"),)

    def slivers(self) -> tuple[str, ...]:
        return (self.sliver,)

    async def measure(self, stage: Stage) -> None:
        file = stage.folder / f"{stage.name}{SUFFIX}"
        argv = ["tcpdump", "-i", self.vif, "-n", "-U", "-s", str(self.snap), "-w", "-", *self.filter.split()]
        async with Program(stage.enter(self.sliver, argv), stage.log, output=file) as program:
            await program.wait(stage.stop)
        if not stage.stop.is_set():
            stage.note(f"tcpdump ended by itself: {last_words(stage.log)}")
        stage.rows += packets(file, stage.zero_wall_at(self.sliver))

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        return {"packets": len(rows), "bytes": sum(r["length"] for r in rows)}


def packets(file: Path, zero_wall: float) -> list[Row]:
    """Time and length on the wire of each whole packet in a classic pcap file (draft-ietf-opsawg-pcap)."""
    raw = file.read_bytes()
    if len(raw) < 24:
        return []
    order = "<" if struct.unpack("<I", raw[:4])[0] in (PCAP_MICRO, PCAP_NANO) else ">"
    unit = 1e-9 if struct.unpack(order + "I", raw[:4])[0] == PCAP_NANO else 1e-6
    rows: list[Row] = []
    at = 24
    while at + 16 <= len(raw):
        seconds, fraction, kept, length = struct.unpack_from(order + "IIII", raw, at)
        rows.append({"t": seconds - zero_wall + fraction * unit, "length": length})
        at += 16 + kept
    return rows
