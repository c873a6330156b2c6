"""`python -m vini.store.migrations MESSAGE`: a new step, from what `tables.py` says and the newest step does not."""

from __future__ import annotations

import sys
import tempfile

from alembic import command

from vini.store.database import Database
from vini.store.migrations import config, newest

with tempfile.TemporaryDirectory() as directory:
    database = Database(f"sqlite:///{directory}/empty.db")
    if len(sys.argv) == 2:
        database.migrate()
    with database.transaction() as tx:
        number = f"{int(newest()) + 1:04}" if len(sys.argv) == 2 else "0001"
        command.revision(config(tx), sys.argv[1], autogenerate=True, rev_id=number)
