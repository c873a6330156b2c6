"""What a file refers to in its topology, checked where it stands."""

from __future__ import annotations

from vini.edit import find_link
from vini.experiment.actions import LinkEnds
from vini.layout import layout, link_name
from vini.model import Topology, TopologyError, ViniError
from vini.text.mistakes import Mistakes, quote
from vini.text.schema import Found


class Places:
    """Resolves names of slivers, links and vifs; what does not exist is noted with the nearest that does.

    Without a topology (its own file has mistakes) every name passes: the mistakes there come first.
    """

    def __init__(self, topology: Topology | None, mistakes: Mistakes):
        self.topology, self.mistakes = topology, mistakes

    def sliver(self, found: Found) -> str:
        """The name of a sliver."""
        if self.topology and found.value not in self.topology.slivers:
            what = f"There is no sliver {quote(found.value)} in {self.topology.name}."
            self.mistakes.unknown(found.at, what, found.value, self.topology.slivers)
        return str(found.value)

    def slivers(self, found: Found | None) -> tuple[str, ...]:
        """The names of a list."""
        return tuple(self.sliver(f) for f in found.value) if found else ()

    def link(self, found: Found) -> LinkEnds | None:
        """Two slivers, or the link's name and ""; None where the list is not two."""
        if isinstance(found.value, str):
            return self._known(found, (found.value, ""))
        if len(found.value) != 2:
            what = f"A link has two ends, but {len(found.value)} slivers are named."
            self.mistakes.add(found.at, what, "write it like [denver, kansas-city]")
            return None
        before = len(self.mistakes.found)
        a, b = (self.sliver(f) for f in found.value)
        return self._known(found, (a, b)) if len(self.mistakes.found) == before else None

    def ends(self, a: Found, b: Found) -> LinkEnds | None:
        """The link between two slivers named by two keys."""
        before = len(self.mistakes.found)
        pair = (self.sliver(a), self.sliver(b))
        return self._known(a, pair) if len(self.mistakes.found) == before else None

    def vif(self, sliver: str, found: Found) -> str:
        """The name of a vif of that sliver."""
        if self.topology and sliver in self.topology.slivers:
            try:
                devs = [v.dev for v in layout(self.topology).vifs[sliver]]
            except TopologyError:  # its addresses clash: said when it is brought up
                return str(found.value)
            if found.value not in devs:
                what = f"Sliver {sliver} has no vif {quote(found.value)}."
                self.mistakes.unknown(found.at, what, found.value, devs)
        return str(found.value)

    def blank(self, section: str, start: Found, after: Found | None) -> bool:
        """Whether nothing was noted about the keys of the section that begins at `start`, and ends before `after`."""
        end = after.at if after else (1 << 30, 0)
        ours = (m for m in self.mistakes.found if start.at <= (m.line, m.column) < end)
        return not any(m.what.endswith(f" is not a key of {section}.") for m in ours)

    def _known(self, found: Found, link: LinkEnds) -> LinkEnds:
        if self.topology:
            try:
                find_link(self.topology, *link)
            except ViniError as e:
                if link[1]:
                    self.mistakes.add(found.at, str(e))
                else:
                    known = map(link_name, self.topology.links)
                    self.mistakes.unknown(found.at, f"There is no link {quote(link[0])}.", link[0], known)
        return link
