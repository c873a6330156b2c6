"""What a request that fails is answered with: one shape, whatever failed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from vini.model import (
    CapacityError,
    Conflict,
    Denied,
    DriverError,
    Mistake,
    NotFound,
    Stale,
    TopologyError,
    Unsupported,
    ViniError,
)
from vini.rules.errors import Invalid, IssuerAway, Mismatch, Unauthenticated
from vini.rules.wishes import Fault
from vini.rules.words import should_be
from vini.store.database import DatabaseError

log = logging.getLogger(__name__)

# The first that fits: class, HTTP status, and the kind that is told, which is one that clients know.
KINDS: tuple[tuple[type[ViniError], int, str], ...] = (
    (TopologyError, 400, "TopologyError"),
    (Invalid, 400, "Invalid"),
    (Unauthenticated, 401, "Denied"),
    (Denied, 403, "Denied"),
    (NotFound, 404, "NotFound"),
    (Mismatch, 412, "Conflict"),
    (Stale, 409, "Stale"),
    (Conflict, 409, "Conflict"),
    (Unsupported, 422, "Unsupported"),
    (CapacityError, 507, "CapacityError"),
    (DriverError, 502, "DriverError"),
    (DatabaseError, 503, "DatabaseError"),
    (IssuerAway, 502, "ViniError"),
    (ViniError, 500, "ViniError"),
)


class TooLarge(Invalid):
    """A body that is longer than anything that makes sense."""


def status_and_kind(e: ViniError) -> tuple[int, str]:
    """How an error is told over HTTP."""
    if isinstance(e, TooLarge):
        return 413, "Invalid"
    return next((status, kind) for class_, status, kind in KINDS if isinstance(e, class_))


def answer(status: int, fault: Fault, headers: Mapping[str, str] | None = None) -> Response:
    """The one shape."""
    return Response(msgspec.json.encode(fault), status, headers, "application/json")


def install(app: FastAPI) -> None:
    """Whatever goes wrong in this app is answered so."""
    app.add_exception_handler(ViniError, _ours)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


def _ours(_: Request, e: Exception) -> Response:
    assert isinstance(e, ViniError)
    status, kind = status_and_kind(e)
    if status >= 500 and not isinstance(e, CapacityError):  # who asks for too much is no trouble of the central's
        log.error("%s", e, exc_info=e if status == 500 else None)
    mistakes = e.mistakes if isinstance(e, (TopologyError, Invalid)) else ()
    return answer(status, Fault(kind, str(e), mistakes), {"WWW-Authenticate": "Bearer"} if status == 401 else None)


def _parameters(_: Request, e: Exception) -> Response:
    assert isinstance(e, RequestValidationError)
    mistakes = tuple(Mistake(0, 0, f"{_place(m['loc'])}: {should_be(m['msg']) or m['msg'] + '.'}") for m in e.errors())
    return answer(400, Fault("Invalid", "A parameter of this request makes no sense: " + mistakes[0].what, mistakes))


def _place(loc: tuple[str | int, ...]) -> str:
    where, *name = loc
    return f"{where} parameter {'.'.join(map(str, name))!r}"


def _http(request: Request, e: Exception) -> Response:
    assert isinstance(e, HTTPException)
    if e.status_code == 404:
        return answer(404, Fault("NotFound", f"There is nothing at {request.url.path}; see /v1/openapi.json."))
    if e.status_code == 405:
        sentence = f"{request.url.path} knows no {request.method}; see /v1/openapi.json."
        return answer(405, Fault("NotFound", sentence), e.headers)
    return answer(e.status_code, Fault("Invalid", f"{e.detail}."), e.headers)


def _bug(_: Request, e: Exception) -> Response:
    log.error("a request failed", exc_info=e)
    return answer(500, Fault("ViniError", f"This is a bug in VINI ({type(e).__name__}); the central's log says more."))
