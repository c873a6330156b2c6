"""What a timeline can do.  Most actions are an edit of the topology: the runner puts the new one."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from vini.edit import set_cost, set_fault, set_impairment, set_routing, set_sliver_cost
from vini.model import Topology, Value
from vini.topology.impairments import told_change

LinkEnds = tuple[str, str]  # two slivers, or the link's name and ""


class Action(Value, frozen=True, tag_field="action", tag=str.lower):
    """One thing to do at one moment; `str()` says it in a line."""

    edits: ClassVar[bool] = True  # it changes the topology; else the runner knows what to do

    def edit(self, topology: Topology) -> Topology:
        """The topology after it; pure."""
        return topology


class Fail(Action, frozen=True):
    """A link fails: "silent" drops every packet and keeps the carrier, "carrier" takes the carrier away."""

    link: LinkEnds
    how: Literal["silent", "carrier"] = "silent"

    def edit(self, topology: Topology) -> Topology:
        return set_fault(topology, *self.link, self.how)

    def __str__(self) -> str:
        return f"{_link(self.link)} fails ({'silent' if self.how == 'silent' else 'carrier down'})"


class Restore(Action, frozen=True):
    """A failed link works again."""

    link: LinkEnds

    def edit(self, topology: Topology) -> Topology:
        return set_fault(topology, *self.link, "none")

    def __str__(self) -> str:
        return f"{_link(self.link)} restored"


class Shape(Action, frozen=True):
    """Other impairments of a link; the rest stays.  With `one_way` only from the first sliver to the second."""

    link: LinkEnds
    one_way: bool = False
    wishes: dict[str, Any] = {}  # fields of `Impairment`

    def edit(self, topology: Topology) -> Topology:
        return set_impairment(topology, *self.link, one_way=self.one_way, **self.wishes)

    def __str__(self) -> str:
        return f"{_link(self.link, ' to ' if self.one_way else '–')} shaped: {told_change(self.wishes)}"


class Reroute(Action, frozen=True, tag="routing"):
    """Routing reconfigured: the cost of a link or of all vifs of a sliver, or a sliver's intent."""

    link: LinkEnds | None = None
    sliver: str = ""
    cost: int | None = None
    wishes: dict[str, Any] = {}  # fields of `Routing`

    def edit(self, topology: Topology) -> Topology:
        if self.link is not None and self.cost is not None:
            topology = set_cost(topology, *self.link, self.cost)
        elif self.cost is not None:
            topology = set_sliver_cost(topology, self.sliver, self.cost)
        return set_routing(topology, self.wishes, [self.sliver]) if self.wishes else topology

    def __str__(self) -> str:
        what = {**({} if self.cost is None else {"cost": self.cost}), **self.wishes}
        text = ", ".join(f"{k} {' '.join(v) if isinstance(v, tuple) else v}" for k, v in what.items())
        return f"{_link(self.link) if self.link else self.sliver}: routing {text}"


class Exec(Action, frozen=True):
    """A shell command line runs inside a sliver; its output goes to the run's logs."""

    edits: ClassVar[bool] = False
    sliver: str
    run: str

    def __str__(self) -> str:
        return f"{self.sliver}: {self.run}"


class Start(Action, frozen=True):
    """Traffic that the file declares begins."""

    edits: ClassVar[bool] = False
    traffic: str

    def __str__(self) -> str:
        return f"{self.traffic} starts"


class Stop(Action, frozen=True):
    """Traffic or a probe ends before the run does."""

    edits: ClassVar[bool] = False
    traffic: str

    def __str__(self) -> str:
        return f"{self.traffic} stops"


AnyAction = Fail | Restore | Shape | Reroute | Exec | Start | Stop


def _link(link: LinkEnds, joint: str = "–") -> str:
    return joint.join(x for x in link if x)
