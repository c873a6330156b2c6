"""To log in through an issuer of OpenID Connect: begin, let the user confirm it in a browser, ask what became of it."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, Response

from vini.central.api.call import Asked, Call, shown
from vini.central.api.describe import body, route, routes
from vini.central.issuer import Waiting
from vini.model import Denied, NotFound, ViniError
from vini.rules.errors import IssuerAway, Unauthenticated
from vini.rules.nouns import Person
from vini.rules.oidc import Vouched
from vini.rules.wishes import BegunLogin, OidcLogin, Secret
from vini.store import events, logins, persons, roles, sites, tokens
from vini.store.database import Tx

router = routes("sessions")
_WHAT = "log in by OIDC"
_FAULTS = (502,)  # the issuer does not answer as one should; without one it is 404, as everywhere


@route(router, "POST", "/oidc/logins", gives=BegunLogin, status=201, public=True, faults=_FAULTS)
def begin_oidc_login(call: Asked) -> Response:
    """Begin to log in through the issuer: the user has to open a web page and type a code."""
    issuer, nonce = call.issuer, secrets.token_urlsafe(24)
    with call.database.transaction() as tx:
        secret = logins.reserve(tx, nonce, call.source, call.now)
    try:
        begun = issuer.begin(nonce)
        expires = call.now + begun.expires_s
        with call.database.transaction() as tx:
            logins.begun(tx, secret, begun.device_code, expires, begun.interval_s)
    except ViniError:
        with call.database.transaction() as tx:
            logins.take(tx, secret)
        raise
    return shown(
        BegunLogin(secret, begun.user_code, begun.uri, begun.complete_uri, expires, max(1.0, begun.interval_s)), 201
    )


@route(router, "POST", "/oidc/sessions", takes=OidcLogin, gives=Secret, public=True, faults=_FAULTS)
def end_oidc_login(call: Asked, wish: Annotated[OidcLogin, Depends(body(OidcLogin))]) -> Response:
    """Log in with one that was begun; the answer's secret is the token of a session.  It is empty while
    the user has not confirmed it yet."""
    issuer = call.issuer
    with call.database.transaction() as tx:
        may_ask = logins.turn(tx, wish.login, call.now)
    if may_ask is None:
        return shown(Secret("", 0.0))
    try:
        found = issuer.redeem(*may_ask)
    except IssuerAway:
        raise
    except ViniError as e:
        _end(call, wish.login, e)
        raise
    if isinstance(found, Waiting):
        if found.slower:
            with call.database.transaction() as tx:
                logins.slower(tx, wish.login)
        return shown(Secret("", 0.0))
    return shown(_session(call, wish.login, found))


def _end(call: Call, login: str, error: ViniError) -> None:
    """It is over, and led to nothing."""
    with call.database.transaction() as tx:
        logins.take(tx, login)
    call.note_fault("oidc", _WHAT, "person", "", error)


def _session(call: Call, login: str, who: Vouched) -> Secret:
    """For the account with that address.  Raises Denied where there is none that is enabled."""
    refusal: Denied | None = None
    with call.database.transaction() as tx:
        if not logins.take(tx, login):
            raise Unauthenticated("This login was used already; begin a new one.")
        person = _known(tx, call, who)
        if person is None or not person.enabled:
            refusal = _refused(call, who, person)
        else:
            secret = tokens.issue_session(tx, person.email, call.now)
            events.add(tx, at=call.now, who=who.email, what=_WHAT, kind="person", target=who.email, source=call.source)
    if refusal is not None:
        call.note_fault(who.email, _WHAT, "person", who.email, refusal)
        raise refusal
    return Secret(secret, call.now + tokens.SESSION_S)


def _known(tx: Tx, call: Call, who: Vouched) -> Person | None:
    """His account; a newcomer's is made where such may wait for approval, and is disabled."""
    try:
        return persons.get(tx, who.email)
    except NotFound:
        site = call.issuer.oidc.newcomers
        if not site:
            return None
        if site not in {s.login_base for s in sites.all(tx)}:
            raise Denied(
                f"{who.email} has no account here, and the site for newcomers, {site!r}, is not there; tell an "
                "administrator: `newcomers` of `oidc` in the central's settings.json."
            ) from None
        person = persons.add(tx, who.email, who.name, enabled=False)
        roles.grant(tx, person.id, "user", site)
        events.add(
            tx, at=call.now, who=who.email, what="ask for account", kind="person", target=who.email,
            source=call.source, detail=f"at site {site}",
        )  # fmt: skip
        return person


def _refused(call: Call, who: Vouched, person: Person | None) -> Denied:
    if person is None:
        return Denied(f"{who.email} has no account here; ask a PI of your site, or an administrator, for one.")
    site = call.issuer.oidc.newcomers
    at = f" of site {site}" if site else ""
    return Denied(
        f"The account {who.email} is disabled, or waits for a PI's approval; ask a PI{at} (`vini person enable "
        f"{who.email}`), then log in again."
    )
