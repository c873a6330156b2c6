"""Routes that say what they take and give, in the types that clients share; of these the OpenAPI document is made.

Bodies are decoded strictly by msgspec: a wrong type, an unknown field or a number out of range is refused with its
place.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from vini.central.faults import TooLarge
from vini.model import Mistake
from vini.rules.errors import Invalid
from vini.rules.wishes import Fault
from vini.rules.words import should_be

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
MOST_BYTES = 1 << 20  # of a body

_AT = re.compile(r"at `\$\.?([^`]+)`")  # where msgspec found a mistake
_REF = "#/components/schemas/{name}"
_types: dict[str, Any] = {}  # all that the document names
_SENTENCES = {
    400: "The request makes no sense.",
    401: "Nobody knows who asks.",
    403: "The caller may not.",
    404: "There is no such thing, or none that the caller may know of.",
    409: "Something else came first.",
    412: "What the caller saw is no longer what is there (`If-Match`).",
    413: "The body is too large.",
    502: "Whoever had to be asked is away, or refused.",
    503: "The database can't be used now.",
}
_FAULTS = {"GET": (400, 401, 403, 404, 503), "": (400, 401, 403, 404, 409, 412, 413, 503)}
_HEADERS: dict[str, tuple[str, str]] = {
    "POST": ("Idempotency-Key", "The same key with the same request gets the same answer, for a day; it is done once."),
    "PATCH": ("If-Match", "The ETag of what the caller has seen; where something else is there, nothing is changed."),
    "DELETE": ("If-Match", "As with PATCH."),
}


def routes(tag: str) -> APIRouter:
    """For the routes of one noun."""
    return APIRouter(prefix="/v1", tags=[tag])


def route(
    to: APIRouter,
    method: str,
    path: str,
    *,
    gives: Any = None,
    takes: Any = None,
    status: int = 200,
    media: str = "application/json",
    public: bool = False,
    faults: tuple[int, ...] = (),
) -> Callable[[F], F]:
    """Register a function, named and described by itself; its answer is a Response.  `public`: without a token."""

    def register(f: F) -> F:
        summary, _, more = (f.__doc__ or "").partition("\n")
        extra: dict[str, Any] = {"security": [] if public else [{"token": []}]}
        if takes is not None:
            extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": _named(takes)}}}
        if method in _HEADERS and not public:
            name, text = _HEADERS[method]
            schema = {"type": "string", "pattern": "^[!-~]{1,200}$"}
            extra["parameters"] = [{"name": name, "in": "header", "description": text, "schema": schema}]
        to.add_api_route(
            path,
            f,
            methods=[method],
            status_code=status,
            operation_id=f.__name__,
            summary=summary,
            description=more.strip() or summary,
            response_class=Response,
            response_model=None,
            responses=_responses(status, gives, media, (*_FAULTS.get(method, _FAULTS[""]), *faults)),
            openapi_extra=extra,
        )
        return f

    return register


def body(type_: type[T], most: int = MOST_BYTES) -> Callable[[Request], Awaitable[T]]:
    """A dependency: the request's body.  Raises Invalid with the place of the mistake, or that it is too large."""

    async def read(request: Request) -> T:
        raw = bytearray()
        async for piece in request.stream():
            raw += piece
            if len(raw) > most:
                raise TooLarge(f"The body of a request may have {most} bytes, and this has more; send less.")
        request.state.body = bytes(raw)
        return decoded(request.state.body, type_)

    return read


def decoded(raw: bytes, type_: type[T]) -> T:
    """Of JSON.  Raises Invalid."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        what = _plainly(str(e))
        raise Invalid(f"The body of this request makes no sense: {what}", (Mistake(0, 0, what),)) from e


def _plainly(error: str) -> str:
    said, at = should_be(error), _AT.search(error)
    return f"{error}." if said is None else f"{at[1]}: {said}" if at else said


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = msgspec.json.schema_components(list(_types.values()), ref_template=_REF)
    components = made.setdefault("components", {})
    components["schemas"] = schemas
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's own; ours is 400
    return made


def _named(type_: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    _types[schema.get("$ref", str(type_))] = type_
    return dict(schema)


def _responses(status: int, gives: Any, media: str, faults: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    fault: Mapping[str, Any] = {"application/json": {"schema": _named(Fault)}}
    made: dict[int | str, dict[str, Any]] = {
        code: {"description": _SENTENCES.get(code, "It failed."), "content": fault} for code in sorted(set(faults))
    }
    made[status] = {"description": "Done."}
    if gives is not None:
        made[status]["content"] = {media: {"schema": {"type": "string"} if gives is str else _named(gives)}}
    return made
