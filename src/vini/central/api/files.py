"""Initscripts, which slivers run at each boot, and conf files, which nodes have for themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET
from msgspec.structs import asdict

from vini.central.api.call import Asked, Cursor, Limit, NodeName, Number, WordName, part
from vini.central.api.describe import body, route, routes
from vini.central.conf_files import there
from vini.rules import Caller, Target, may
from vini.rules.nouns import ConfFile, ConfFileThere, InitScript
from vini.rules.wishes import NewConfFile, NewInitScript, Page
from vini.store import conf_files, conf_files_there, initscripts, nodes
from vini.store.database import Tx

router = routes("files")


@route(router, "GET", "/initscripts", gives=Page[InitScript])
def list_initscripts(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """All, by name."""

    def ask(tx: Tx, caller: Caller) -> Page[InitScript]:
        may(caller, "see initscript", Target("initscript", "any"))
        return part(initscripts.all(tx), "name", cursor, limit)

    return call.read(ask)


@route(router, "POST", "/initscripts", takes=NewInitScript, gives=InitScript)
def put_initscript(call: Asked, wish: Annotated[NewInitScript, Depends(body(NewInitScript))]) -> Response:
    """There is this one afterwards, whether or not there was one of its name."""

    def do(tx: Tx, caller: Caller) -> InitScript:
        may(caller, "change initscript", Target("initscript", wish.name))
        return initscripts.put(tx, wish.name, wish.script, wish.enabled)

    return call.write("change initscript", "initscript", wish.name, do)


@route(router, "DELETE", "/initscripts/{name}", status=204)
def delete_initscript(call: Asked, name: WordName) -> Response:
    """An initscript."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "change initscript", Target("initscript", name))
        call.same(initscripts.get(tx, name))
        initscripts.delete(tx, name)

    return call.write("change initscript", "initscript", name, do)


@route(router, "GET", "/conf-files", gives=Page[ConfFile])
def list_conf_files(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """All, in the order in which they came."""

    def ask(tx: Tx, caller: Caller) -> Page[ConfFile]:
        may(caller, "see conf file", Target("conf file", "any"))
        return part(conf_files.all(tx), "id", cursor, limit)

    return call.read(ask)


@route(router, "GET", "/nodes/{name}/conf-files", gives=Page[ConfFile])
def list_conf_files_of_node(call: Asked, name: NodeName, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """Those that hold for a node, by path: its own go before its nodegroup's, and those before what is for all."""

    def ask(tx: Tx, caller: Caller) -> Page[ConfFile]:
        may(caller, "see conf file", _of_node(tx, name))
        return part(conf_files.of_node(tx, name), "path", cursor, limit)

    return call.read(ask)


@route(router, "GET", "/nodes/{name}/conf-files-there", gives=Page[ConfFileThere])
def list_conf_files_there(call: Asked, name: NodeName, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """What a node has of those that hold for it, and of those that did, by path."""

    def ask(tx: Tx, caller: Caller) -> Page[ConfFileThere]:
        may(caller, "see conf file", _of_node(tx, name))
        found = there(conf_files.of_node(tx, name), conf_files_there.of_node(tx, name))
        return part(found, "path", cursor, limit)

    return call.read(ask)


def _of_node(tx: Tx, name: str) -> Target:
    """Those of a node are also its site's business.  Raises NotFound where there is no such node."""
    return Target("conf file", f"of node {name}", frozenset({nodes.get(tx, name).site}))


@route(router, "POST", "/conf-files", takes=NewConfFile, gives=ConfFile)
def put_conf_file(call: Asked, wish: Annotated[NewConfFile, Depends(body(NewConfFile))]) -> Response:
    """There is this one afterwards, whether or not there was one with its path for the same node, nodegroup, or all; of
    those with one path the narrower holds on a node."""

    def do(tx: Tx, caller: Caller) -> ConfFile:
        may(caller, "change conf file", Target("conf file", wish.path))
        return conf_files.put(tx, **{name: value for name, value in asdict(wish).items() if value is not UNSET})

    return call.write("change conf file", "conf file", wish.path, do)


@route(router, "DELETE", "/conf-files/{number}", status=204)
def delete_conf_file(call: Asked, number: Number) -> Response:
    """A conf file."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "change conf file", Target("conf file", str(number)))
        call.same(conf_files.get(tx, number))
        conf_files.delete(tx, number)

    return call.write("change conf file", "conf file", str(number), do)
