"""The servers that operators added to the engine, as a central knows them."""

from __future__ import annotations

from vini.bus.nkeys import nkey
from vini.central.rights import Site
from vini.model import Value
from vini.rules.engine import EngineServer


class Added(Value, frozen=True):
    """The servers that were added to the engine; and by the number of each at a site, the keys of the nodes there."""

    servers: tuple[EngineServer, ...] = ()
    nodes: dict[int, tuple[bytes, ...]] = {}

    @property
    def cluster(self) -> tuple[EngineServer, ...]:
        """Those that are at no site."""
        return tuple(server for server in self.servers if not server.site)

    def at_site(self, public_key: bytes) -> frozenset[int]:
        """The numbers of servers for the node with that key."""
        return frozenset(number for number, keys in self.nodes.items() if public_key in keys)

    def sites(self, revoked: frozenset[str]) -> dict[str, Site]:
        """Of each site that has servers what is at it, without nodes whose keys (as NATS writes them) are revoked."""
        out: dict[str, Site] = {}
        for server in self.servers:
            if server.site:
                before = out.get(server.site, Site())
                keys = (nkey("user", key) for key in self.nodes.get(server.number, ()))
                nodes = tuple(key for key in keys if key not in revoked)
                out[server.site] = Site((*before.servers, server.number), nodes)
        return out


NONE = Added()
