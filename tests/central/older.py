"""A database as an older version of VINI left it, with all of its rows: what each step of the migrations made goes."""

from __future__ import annotations

from alembic import command

from vini.store import migrations
from vini.store.database import Tx

_UNDO = {
    "0025": ("DROP TABLE engine_servers",),
    "0024": ("DROP TABLE last_members",),
    "0023": ("ALTER TABLE centrals DROP COLUMN channels",),
    "0022": ("DROP TABLE logins_told",),
    "0021": (
        "DROP TABLE event_budgets", "DROP TABLE conf_files_there",
        *(
            f'ALTER TABLE conf_files DROP COLUMN "{column}"'
            for column in (
                "group", "preinstall_cmd", "postinstall_cmd", "error_cmd", "ignore_cmd_errors", "always_update"
            )
        ),
    ),
    "0020": ("DROP TABLE interfaces",),
    "0019": ("DROP TABLE usage", "ALTER TABLE ended DROP COLUMN person"),
    "0018": ("ALTER TABLE nodes DROP COLUMN failing",),
    "0015": tuple(
        f"ALTER TABLE {table} DROP COLUMN disk_mb" for table in ("sites", "nodes", "specs", "uses", "takings")
    ),
    "0014": (
        "ALTER TABLE nodes DROP COLUMN rate_mbit", "ALTER TABLE specs DROP COLUMN mbit",
        "ALTER TABLE uses DROP COLUMN mbit",
    ),
    "0013": ("DROP TABLE slice_guests",),
    "0012": (
        "DROP TABLE event_chain", "DROP TABLE outside_grants",
        "DELETE FROM counters WHERE name IN ('event chain', 'event chain forgotten')"
    ),
    "0009": ("DROP TABLE latencies", "DROP TABLE oidc_logins"),
    "0008": ("DROP TABLE centrals",),
    "0007": ("DROP TABLE notices",),
    "0006": ("DROP TABLE crossings", "DROP TABLE substrate_links"),
    "0005": ("DROP TABLE takings", "ALTER TABLE sites DROP COLUMN slivers", "ALTER TABLE sites DROP COLUMN vnis"),
    "0004": ("DROP TABLE wireguards", "ALTER TABLE nodes DROP COLUMN wireguard"),
    "0003": ("ALTER TABLE nodes DROP COLUMN clock_error_s",),
    "0002": (
        "DROP TABLE uses", "ALTER TABLE specs DROP COLUMN cores", "ALTER TABLE specs DROP COLUMN memory_mib"
    ),
}  # fmt: skip


def back_to(tx: Tx, revision: str) -> None:
    """It is of that version afterwards."""
    for step, statements in _UNDO.items():
        if step > revision:
            for statement in statements:
                tx.exec_driver_sql(statement)
    command.stamp(migrations.config(tx), revision, purge=True)
