"""The topology file: text to Topology, and back.

What others use stands here; the format itself, key by key, is declared in `vini.topology.keys`,
which those import who take the same values.  `docs/reference/topology.md` describes it.
"""

from __future__ import annotations

from vini.topology.addresses import LEAST_MTU_V6
from vini.topology.impairments import ReadFile
from vini.topology.reader import parse, resolve, schema
from vini.topology.writer import dump

__all__ = ["LEAST_MTU_V6", "ReadFile", "dump", "parse", "resolve", "schema"]
