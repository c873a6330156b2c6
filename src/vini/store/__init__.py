"""What was asked for, by whom, and with what result: on one machine, and of a whole testbed.

`Store` is this machine's: the standard library's SQLite, for commands that start in a moment.  `Database` is a
central's: SQLite or PostgreSQL behind SQLAlchemy, with one module per entity: `from vini.store import nodes, slices`.
SQLAlchemy (0.25 s) is imported by those who use it, not by this package.
"""

from __future__ import annotations

from vini.store.hashchain import Head, Verdict
from vini.store.local import KEPT, Store, Stored

__all__ = ["KEPT", "Head", "Store", "Stored", "Verdict"]
