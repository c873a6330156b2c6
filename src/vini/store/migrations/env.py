"""What Alembic runs for each command; the connection and its transaction are the caller's."""

from __future__ import annotations

from alembic import context

from vini.store.tables import metadata

if hasattr(context, "config"):  # imported by anybody else, this file does nothing
    context.configure(
        connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()
