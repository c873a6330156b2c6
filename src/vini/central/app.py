"""One ASGI app: the API's routers over one database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from fastapi import APIRouter, FastAPI

from vini import __version__
from vini.central import faults
from vini.central.api import (
    describe,
    events,
    files,
    keys,
    leases,
    nodegroups,
    nodes,
    oidc,
    persons,
    sessions,
    sites,
    slices,
    substrate,
    tags,
    tokens,
    usage,
)
from vini.central.issuer import Issuer
from vini.store.database import Database

_OURS = (
    sessions,
    oidc,
    tokens,
    sites,
    persons,
    keys,
    nodes,
    nodegroups,
    slices,
    tags,
    leases,
    substrate,
    files,
    usage,
    events,
)


def make_app(
    database: Database,
    *,
    clock: Callable[[], float] = time.time,
    routers: Iterable[APIRouter] = (),
    issuer: Issuer | None = None,
    connected: Callable[[], frozenset[str]] | None = None,
) -> FastAPI:
    """The API.  The database is migrated by whoever runs it; `routers` are those that need more than the store;
    `connected` tells which nodes can be asked at this moment."""
    app = FastAPI(
        title="VINI",
        version=__version__,
        description="A testbed's accounts, nodes and slices.",
        docs_url=None,  # it would load its scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
    )
    app.state.database, app.state.clock, app.state.issuer = database, clock, issuer
    app.state.connected = connected
    faults.install(app)
    for router in (*(module.router for module in _OURS), *routers):
        app.include_router(router)
    app.openapi = lambda: describe.document(app)  # type: ignore[method-assign]
    return app
