"""To log in with a password, and to log out; who am I."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from vini.central import passwords
from vini.central.api.call import Asked, shown
from vini.central.api.describe import body, route, routes
from vini.model import Denied
from vini.rules.errors import Unauthenticated
from vini.rules.nouns import Person
from vini.rules.wishes import Credentials, Secret
from vini.store import events, persons, tokens

router = routes("sessions")
_TRIES, _WITHIN_S = 10, 600.0


@route(router, "POST", "/sessions", takes=Credentials, gives=Secret, status=201, public=True)
def log_in(call: Asked, wish: Annotated[Credentials, Depends(body(Credentials))]) -> Response:
    """Log in with a password; the answer's secret is the token of a session."""
    email = wish.email.lower()
    with call.database.reading() as tx:
        kept = persons.password_hash(tx, email)
        tries = events.failures(tx, email, call.source, "log in", call.now - _WITHIN_S)
    if tries >= _TRIES:
        raise Denied(f"{tries} wrong passwords were tried; wait for ten minutes, then try again.")
    if not passwords.fits(kept, wish.password):
        wrong = Unauthenticated(
            "There is no such account, its password is another, or it is disabled; try again, or ask an admin for "
            "another password (`vini person password EMAIL`)."
        )
        call.note_fault(email, "log in", "person", email, wrong)
        raise wrong
    with call.database.transaction() as tx:
        secret = tokens.issue_session(tx, email, call.now)
        events.add(tx, at=call.now, who=email, what="log in", kind="person", target=email, source=call.source)
    return shown(Secret(secret, call.now + tokens.SESSION_S), 201)


@route(router, "DELETE", "/sessions/current", status=204)
def log_out(call: Asked) -> Response:
    """End the session, or the API token, that this request came with."""
    return call.write("log out", "person", "", lambda tx, _: tokens.delete_secret(tx, call.secret))


@route(router, "GET", "/me", gives=Person)
def who_am_i(call: Asked) -> Response:
    """The account that the token stands for."""
    return call.read(lambda tx, caller: persons.get(tx, caller.email))
