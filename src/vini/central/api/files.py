"""Initscripts, which slivers run at each boot, and conf files, which are kept for whoever configures nodes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET

from vini.central.api.call import Asked, NodeName, Number, WordName
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, Target, may
from vini.rules.nouns import ConfFile, InitScript
from vini.rules.wishes import NewConfFile, NewInitScript, Page
from vini.store import conf_files, initscripts, nodes
from vini.store.database import Tx

router = routes("files")


@route(router, "GET", "/initscripts", gives=Page[InitScript])
def list_initscripts(call: Asked) -> Response:
    """All, by name."""

    def ask(tx: Tx, caller: Caller) -> Page[InitScript]:
        may(caller, "see initscript", Target("initscript", "any"))
        return Page(initscripts.all(tx))

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
def list_conf_files(call: Asked) -> Response:
    """All, in the order in which they came."""

    def ask(tx: Tx, caller: Caller) -> Page[ConfFile]:
        may(caller, "see conf file", Target("conf file", "any"))
        return Page(conf_files.all(tx))

    return call.read(ask)


@route(router, "GET", "/nodes/{name}/conf-files", gives=Page[ConfFile])
def list_conf_files_of_node(call: Asked, name: NodeName) -> Response:
    """Those that hold for a node, by path: its own go before its nodegroup's, and those before what is for all."""

    def ask(tx: Tx, caller: Caller) -> Page[ConfFile]:
        may(caller, "see conf file", Target("conf file", "any"))
        return Page(conf_files.of_node(tx, nodes.get(tx, name).name))

    return call.read(ask)


@route(router, "POST", "/conf-files", takes=NewConfFile, gives=ConfFile, status=201)
def add_conf_file(call: Asked, wish: Annotated[NewConfFile, Depends(body(NewConfFile))]) -> Response:
    """A file for a node, for a nodegroup, or for all nodes; of several with one path the narrower goes first."""

    def do(tx: Tx, caller: Caller) -> ConfFile:
        may(caller, "change conf file", Target("conf file", wish.path))
        node, nodegroup = ("" if v is UNSET else str(v) for v in (wish.node, wish.nodegroup))
        return conf_files.add(
            tx, wish.path, wish.text, mode=wish.mode, owner=wish.owner, enabled=wish.enabled, node=node,
            nodegroup=nodegroup,
        )  # fmt: skip

    return call.write("change conf file", "conf file", wish.path, do, 201)


@route(router, "DELETE", "/conf-files/{number}", status=204)
def delete_conf_file(call: Asked, number: Number) -> Response:
    """A conf file."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "change conf file", Target("conf file", str(number)))
        call.same(conf_files.get(tx, number))
        conf_files.delete(tx, number)

    return call.write("change conf file", "conf file", str(number), do)
