"""One request: who asks, from where, when, and what he has seen; and how it reads and writes."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Query, Request, Response
from msgspec.structs import replace

from vini.central.faults import status_and_kind
from vini.central.issuer import Issuer
from vini.model import NotFound, ViniError
from vini.rules.caller import Caller
from vini.rules.errors import Invalid, Mismatch, Unauthenticated
from vini.rules.nouns import NodeRow
from vini.rules.wishes import Page
from vini.rules.words import LOGIN_BASE, NODE, SLICE, WORD
from vini.store import events, idempotency, tokens
from vini.store.database import Database, DatabaseError, Tx

Do = Callable[[Tx, Caller], Any]
_KEY = re.compile(r"[!-~]{1,200}\Z")
_encoder = msgspec.json.Encoder(order="deterministic")


class Call:
    """Gives each request's function the caller and a transaction, and makes its answer.

    A write is an event: in its own transaction, or, where it was refused, in one that says so.
    """

    def __init__(self, request: Request):
        self._request = request
        self.database: Database = request.app.state.database
        self.clock: Callable[[], float] = request.app.state.clock
        self.now = self.clock()
        self.source = request.client.host if request.client else ""
        self._started = time.monotonic()
        _check_known(request)

    @property
    def secret(self) -> str:
        """The token that came along.  Raises Unauthenticated where there is none."""
        kind, _, secret = self._request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("Say who you are: `Authorization: Bearer TOKEN`; `vini login` gets a token.")
        return secret.strip()

    @property
    def issuer(self) -> Issuer:
        """Who vouches for people.  Raises NotFound where nobody does."""
        found: Issuer | None = self._request.app.state.issuer
        if found is None:
            raise NotFound("This central knows no OIDC issuer; log in with a password: `vini login URL --email EMAIL`.")
        return found

    def who(self) -> Caller:
        """The caller, with where he came from.  Raises Unauthenticated."""
        with self.database.reading() as tx:
            return replace(tokens.whose(tx, self.secret, self.now), source=self.source)

    def connected(self, nodes: Sequence[NodeRow]) -> list[NodeRow]:
        """The same, each with whether it is connected; as they are where this app reaches none."""
        there: Callable[[], frozenset[str]] | None = self._request.app.state.connected
        if there is None:
            return list(nodes)
        names = there()
        return [replace(node, connected=node.name in names) for node in nodes]

    def read(self, ask: Do) -> Response:
        """What `ask` gives, as it is at one moment."""
        secret = self.secret
        with self.database.reading() as tx:
            value = ask(tx, tokens.whose(tx, secret, self.now))
        return shown(value)

    def write(self, what: str, kind: str, target: str, do: Do, status: int = 200) -> Response:
        """Do it, with its event; what was done under the same Idempotency-Key is not done again.

        `do` gives what is answered; None: nothing (204).
        """
        secret = self.secret
        caller = Caller("")
        try:
            with self.database.transaction() as tx:
                caller = tokens.whose(tx, secret, self.now)
                if before := self._before(tx, caller.email):
                    return _response(before.status, before.body, {"ETag": _tag(before.body)} if before.body else None)
                value = do(tx, caller)
                response = shown(value, status)
                self._note(tx, caller.email, what, kind, target)
                self._remember(tx, caller.email, response)
            return response
        except ViniError as e:
            self.note_fault(caller.email, what, kind, target, e)
            raise

    def same(self, value: Any) -> None:
        """Raises Mismatch where the caller has seen something else (`If-Match`)."""
        wanted = self._request.headers.get("If-Match")
        if wanted is None or wanted.strip() == "*":
            return
        if etag(value) not in (tag.strip() for tag in wanted.split(",")):
            raise Mismatch("Somebody changed this since you looked; look again, then change what is there now.")

    def note(self, who: str, what: str, kind: str, target: str) -> None:
        """What was done elsewhere than in the database is an event too."""
        with self.database.transaction() as tx:
            self._note(tx, who, what, kind, target)

    def note_fault(self, who: str, what: str, kind: str, target: str, e: ViniError) -> None:
        """What was refused to somebody whom we know is an event too."""
        if not who or isinstance(e, DatabaseError):
            return
        with suppress(ViniError), self.database.transaction() as tx:
            self._note(tx, who, what, kind, target, status_and_kind(e)[1], str(e))

    def _note(self, tx: Tx, who: str, what: str, kind: str, target: str, result: str = "ok", detail: str = "") -> None:
        events.add(
            tx, at=self.now, who=who, what=what, kind=kind, target=target, source=self.source, result=result,
            detail=detail, duration_s=time.monotonic() - self._started,
        )  # fmt: skip

    @property
    def _key(self) -> str:
        key = self._request.headers.get("Idempotency-Key", "") if self._request.method == "POST" else ""
        if key and not _KEY.match(key):
            raise Invalid("An Idempotency-Key has 1 to 200 printable ASCII characters; a random UUID does.")
        return key

    def _before(self, tx: Tx, who: str) -> idempotency.Answer | None:
        if not self._key:
            return None
        line = f"{self._request.method} {self._request.url.path}\n".encode()
        return idempotency.begin(tx, self._key, who, line + getattr(self._request.state, "body", b""), self.now)

    def _remember(self, tx: Tx, who: str, response: Response) -> None:
        if self._key:
            idempotency.keep(tx, self._key, who, idempotency.Answer(response.status_code, bytes(response.body)))


def _check_known(request: Request) -> None:
    """Raises Invalid for a parameter that the route does not have: by a misspelt filter all would be listed."""
    known = [p.alias for p in request.scope["route"].dependant.query_params]
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        may = f"it knows {', '.join(known)}" if known else "it knows none"
        raise Invalid(f"{request.url.path} knows no query parameter {unknown[0]!r}; {may}.")


def shown(value: Any, status: int = 200) -> Response:
    """A value as JSON, a single one with its ETag."""
    if value is None:
        return _response(204, b"")
    headers = {} if isinstance(value, (Page, list, dict)) else {"ETag": etag(value)}
    return _response(status, _encoder.encode(value), headers)


def etag(value: Any) -> str:
    """Changes with what is shown; of a node not with its heartbeat, and how its agent is."""
    if isinstance(value, NodeRow):
        value = replace(value, last_heard=0.0, clock_offset_s=0.0, clock_error_s=0.0, failing=(), connected=None)
    return _tag(_encoder.encode(value))


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:24]}"'


def paged(found: tuple[list[Any], bool], by: str) -> Page[Any]:
    """One page; `by` is the field whose value is the cursor."""
    items, more = found
    return Page(items, str(getattr(items[-1], by)) if more else "")


def part(items: Iterable[Any], by: str, cursor: str, limit: int) -> Page[Any]:
    """One page of a list that is short enough to be read whole; `by` is the field that orders it, "": the items do."""

    def key(item: Any) -> Any:
        return getattr(item, by) if by else item

    after = number(cursor) if by == "id" else cursor
    rest = sorted((x for x in items if not cursor or key(x) > after), key=key)
    more = len(rest) > limit
    return Page(rest[:limit], str(key(rest[limit - 1])) if more else "")


def number(cursor: str) -> int | None:
    """A cursor of a list that is ordered by number; None: from the beginning."""
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 15:
        raise Invalid("This cursor is none of ours; take `next` of the page before.")
    return int(cursor)


def _response(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json" if content else None)


Asked = Annotated[Call, Depends(Call)]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most that one page has.")]
Cursor = Annotated[str, Query(max_length=4000, pattern=r"^[^\x00]*$", description="`next` of the page before.")]
Like = Annotated[str, Query(pattern=r"^[^\x00]{0,300}$", description='Only these; "*" stands for any text.')]
SiteName = Annotated[str, Path(pattern=LOGIN_BASE)]
PersonName = Annotated[str, Path(pattern=r"^[^\x00/]{1,255}$")]
NodeName = Annotated[str, Path(pattern=NODE)]
SliceName = Annotated[str, Path(pattern=SLICE)]
WordName = Annotated[str, Path(pattern=WORD)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
