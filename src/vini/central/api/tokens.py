"""API tokens of one's own, and join tokens for machines."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from vini.central.api.call import Asked, Cursor, Limit, Number, part
from vini.central.api.describe import body, route, routes
from vini.model import Denied
from vini.rules import Caller, Target, may, of_site, seen
from vini.rules.nouns import Token
from vini.rules.wishes import NewJoinToken, NewToken, Page, Secret
from vini.store import sites, tokens
from vini.store.database import Tx

router = routes("tokens")


@route(router, "GET", "/tokens", gives=Page[Token])
def list_tokens(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """One's own tokens and sessions, without their secrets."""
    return call.read(lambda tx, caller: part(tokens.some(tx, caller.email), "id", cursor, limit))


@route(router, "POST", "/tokens", takes=NewToken, gives=Secret, status=201)
def add_token(call: Asked, wish: Annotated[NewToken, Depends(body(NewToken))]) -> Response:
    """An API token that stands for oneself, with no more scopes than the one that asks."""

    def do(tx: Tx, caller: Caller) -> Secret:
        may(caller, "add token", Target("token", wish.name, person=caller.email))
        if more := sorted(wish.scopes - caller.scopes):
            raise Denied(f"A token gives no scope that it hasn't: {', '.join(more)}; log in to make this one.")
        secret = tokens.issue_api(tx, caller.email, wish.scopes, wish.lifetime_s, call.now, wish.name)
        return Secret(secret, call.now + wish.lifetime_s)

    return call.write("add token", "token", wish.name, do, 201)


@route(router, "DELETE", "/tokens/{number}", status=204)
def delete_token(call: Asked, number: Number) -> Response:
    """The token is worth nothing from this moment on."""

    def do(tx: Tx, caller: Caller) -> None:
        token = tokens.get(tx, number)
        target = Target("token", str(number), person=token.person)
        seen(caller, target)
        may(caller, "delete token", target)
        call.same(token)
        tokens.delete(tx, number)

    return call.write("delete token", "token", str(number), do)


@route(router, "POST", "/join-tokens", takes=NewJoinToken, gives=Secret, status=201)
def add_join_token(call: Asked, wish: Annotated[NewJoinToken, Depends(body(NewJoinToken))]) -> Response:
    """A secret with which one machine may become a node of the site, once."""

    def do(tx: Tx, caller: Caller) -> Secret:
        sites.get(tx, wish.site)
        may(caller, "add node", of_site(wish.site))
        secret = tokens.issue_join(tx, wish.site, wish.lifetime_s, call.now)
        return Secret(secret, call.now + wish.lifetime_s)

    return call.write("add node", "site", wish.site, do, 201)
