"""How fast packets of 64 bytes cross a router on each of two test hosts, and the link between them, a tunnel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import structs

from vini.bench import ours
from vini.bench.native import Path3, native
from vini.bench.one_host import first_kpps, second_kpps
from vini.bench.result import Found, Missing, ratios, row
from vini.bench.slice_path import LOOKUP, TABLE, ends, kpps, line, path_through, speak
from vini.bench.two_hosts import HOSTS, on_one_processor, process_of, sending_alone, two_hosts
from vini.edit import set_program
from vini.model import Program, Topology, Value, ViniError
from vini.node import probe


async def between_hosts(rounds: int, seconds: float, say: Callable[[str], None]) -> Found:
    """Rates, and their ratios to the native one, round by round; `seconds` for each figure."""
    able = probe.capabilities()
    possible = [way for way in ways() if (way.topology.tunnel or "vxlan") in able]
    out: Found = []
    for kind in ("vxlan", "vxlan-xdp"):
        if kind not in able:
            remedy = next(f.remedy for f in probe.FEATURES if f.name == kind)
            out.append(Missing(f"a link between two hosts by {kind}", f"this machine lacks {kind}; {remedy}"))
    if not possible:
        return out
    base: list[float] = []
    found: dict[str, list[float]] = defaultdict(list)
    together: dict[str, list[float]] = defaultdict(list)
    alone: dict[str, dict[str, list[float]]] = {half: defaultdict(list) for half in ("first", "second")}
    where = {s: h.place.netns(f"{ours.SLICE}.{s}") for s, name in _PLACED.items() for h in HOSTS if h.name == name}
    async with two_hosts() as hosts:
        for i in range(rounds):
            say(f"a link between two hosts, round {i + 1} of {rounds}")
            with native() as raw, sending_alone():
                base.append(kpps(raw, seconds, takes_in=True))
            for way in possible:
                await hosts.put(way.topology, _PLACED)
                with sending_alone():
                    found[way.name].append(way.kpps(path_through(way.topology, where), seconds))
                    if way.target:
                        with on_one_processor():
                            together[way.name].append(way.kpps(path_through(way.topology, where), seconds))
                            agent = await process_of(HOSTS[1])
                            alone["first"][way.name].append(first_kpps(way.topology, where, agent, seconds))
                            alone["second"][way.name].append(second_kpps(way.topology, where, seconds))
    for way in possible:
        rates = found[way.name]
        note = "two routers and a tunnel, a processor for each host where there are two, against one router on one"
        out.append(row(f"a link between two hosts, {way.name}", rates, "kpps"))
        ratio = row(f"a link between two hosts, {way.name} / native", ratios(rates, base), "x", way.target, "at least",
                    note=note)  # fmt: skip
        out.append(ratio)
        if shared := together[way.name]:
            note = "what both machines do for a packet, one after the other"
            name = f"a link between two hosts, {way.name}, both on one processor / native"
            out.append(row(name, ratios(shared, base), "x", note=note))
            out += _halves(way, [alone[half][way.name] for half in alone], base)
    return out


def _halves(way: Way, rates: Sequence[Sequence[float]], base: Sequence[float]) -> Found:
    """Of each host by itself, and what two machines carry that are each as fast as one of them."""
    out: Found = []
    name = f"a link between two hosts, {way.name}"
    for host, found in zip(("the first", "the second"), rates, strict=True):
        out.append(row(f"{name}, {host} host by itself", found, "kpps"))
    slower = [min(both) for both in zip(*rates, strict=True)]
    note = "as two machines that have neither processor nor memory in common; the wire between them costs nothing here"
    out.append(row(f"{name}, the slower host by itself / native", ratios(slower, base), "x", way.target, "at least",
                   note=note))  # fmt: skip
    return out


_PLACED = {"a": HOSTS[0].name, "b0": HOSTS[0].name, "b1": HOSTS[1].name, "c": HOSTS[1].name}


class Way(Value, frozen=True):
    """How the routers forward, and what the link between them is made of."""

    name: str
    topology: Topology
    takes_in: bool  # the kernel forwards, or a program at tc
    speaks: bool = True  # a ping is answered; of programs that know one direction it isn't
    target: float | None = None  # of the native rate

    def kpps(self, of: Path3, seconds: float) -> float:
        """10**3 packets per second that arrive."""
        if self.speaks:
            try:
                speak(of)
            except ViniError as e:
                raise ViniError(f"A link between two hosts, {self.name}: {e}") from e
        with ends(of, takes_in=self.takes_in) as made:
            made.run(of.first, seconds / 10)  # the first packets find the way
            return made.run(of.first, seconds).arrived_kpps


def ways() -> list[Way]:
    """All, in the order in which they are measured."""
    # The load fills the cable so that the node's own probes are lost, by which it would take the path for failed.
    plain = structs.replace(line(2), substrate="heal")
    at_xdp = structs.replace(plain, tunnel="vxlan-xdp")
    lookup = dict.fromkeys(("b0", "b1"), LOOKUP)
    table = {"b0": TABLE.format(out="to-b1"), "b1": TABLE.format(out="to-c")}
    return [
        Way("VXLAN by the kernel: kernel", plain, takes_in=True),
        Way("VXLAN by the kernel: program, kernel's table, tc", _programmed(plain, lookup, "tc"), takes_in=True),
        Way("VXLAN at XDP: kernel", at_xdp, takes_in=True),
        Way("VXLAN at XDP: program, kernel's table, XDP", _programmed(at_xdp, lookup, "xdp"), takes_in=False,
            target=2.0),
        Way("VXLAN at XDP: program, table of its own, XDP", _programmed(at_xdp, table, "xdp"), takes_in=False,
            speaks=False, target=2.0),
    ]  # fmt: skip


def _programmed(topology: Topology, texts: Mapping[str, str], hook: Literal["tc", "xdp"]) -> Topology:
    for sliver, text in texts.items():
        topology = set_program(topology, sliver, Program("elements", text, hook=hook))
    return topology
