"""The servers that operators added to the engine, as a central knows them."""

from __future__ import annotations

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

    def at_site(self, public_key: bytes) -> tuple[str, ...]:
        """Where the node with that key dials, if its site has servers."""
        return tuple(s.url for s in self.servers if s.site and public_key in self.nodes.get(s.number, ()))


NONE = Added()
