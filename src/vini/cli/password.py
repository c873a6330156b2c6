"""A new password for an account, by who has the central's machine: also where no administrator can log in any more."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from vini.cli.at import directory_option
from vini.cli.out import line


@click.command("password")
@directory_option
@click.argument("email")
def password_command(directory: Path, email: str) -> None:
    """Give the account EMAIL a new password, which is shown once; who is logged in by the old one is not any more.

    On the central's own machine; the central may run meanwhile.
    """
    from vini.central import settings
    from vini.central.passwords import hashed
    from vini.store import events, persons, tokens
    from vini.store.database import Database

    password = secrets.token_urlsafe(12)
    database = Database(settings.read(directory).database_url(directory))
    try:
        database.check_filled()
        database.check()
        with database.transaction() as tx:
            person = persons.change(tx, email, {"password": hashed(password)})
            tokens.delete_sessions(tx, person.email)
            events.add(tx, at=time.time(), who="central", what="set password", kind="person", target=person.email)
    finally:
        database.close()
    line(f"Password of {person.email}: {password}")
