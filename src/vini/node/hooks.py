"""Dispatchers at vifs: put there, taken away, and looked for (tc-bpf(8), linux/if_link.h for XDP).

A dispatcher is pinned before it is attached and unpinned after it is detached: what is attached is always pinned, so
that a crash at any step leaves something that is seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP, ERANGE

from vini.model import DriverError, Hook
from vini.node import libbpf, netns, programs, rtnl, shelf, tc, xdp
from vini.node.libbpf import SCHED_CLS, XDP, BpfObject, Refused
from vini.node.netlink import Socket
from vini.node.place import Place
from vini.node.shelf import SLOTS, HookPin, Shelf

NAME = "vini_program"  # of the filter, for people who look with tc(8)
_PARENTS = {"input": tc.INGRESS, "output": tc.EGRESS}
_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no clsact there


class Hooks:
    """Of all slivers of a place."""

    def __init__(self, place: Place):
        self._place = place

    def attached(self, ns: str) -> list[Hook]:
        """The hooks of a sliver; the function of one that is only half there, or calls nothing known, is ""."""
        pins = Shelf(self._place, ns)
        if not (hooks := pins.hooks()):
            return []
        functions = {}
        if record := pins.record():
            functions = {shelf.program_id(p): f for f, p in shelf.programs(pins.at / record.generation)}
        with self._there(ns) as socket:
            running = _running(socket) if socket else {}
        out: dict[tuple[str, str], Hook] = {}
        for h in hooks:
            at = (h.dev, h.direction)
            id_ = shelf.program_id(pins.hook(h))
            whole = id_ and running.get((*at, h.hook)) == id_ and at not in out
            function = functions.get(programs.called(pins, h), "") if whole else ""
            out[at] = Hook(ns, h.dev, h.direction, h.hook, function)
        return list(out.values())

    def attach(self, o: Hook) -> None:
        """Run its function on what comes in or goes out by its vif, in place of what ran there before.

        DriverError where the program or the vif isn't there, or the vif can't.
        """
        if (o.hook, o.direction) == ("xdp", "output"):
            raise DriverError(f"XDP sees only what comes in; {o.function} at what leaves by {o.dev} needs tc.")
        pins = Shelf(self._place, o.ns)
        before = [h for h in pins.hooks() if (h.dev, h.direction) == (o.dev, o.direction)]
        new = HookPin(_free(pins), o.hook, o.direction, o.dev)
        with self._there(o.ns) as socket:
            index = _indexes(socket).get(o.dev) if socket else None
            if socket is None or index is None:
                raise DriverError(f"Sliver {o.ns} has no vif {o.dev}.")
            self._call(pins, new, o.function)
            with _loaded(pins, new) as fd:
                libbpf.pin(fd, pins.hook(new))
                _put(socket, index, new, fd)
            for h in before:
                self._remove(pins, socket, h, index if h.hook != o.hook else None)

    def _call(self, pins: Shelf, h: HookPin, function: str) -> None:
        record = pins.last_record()
        if record is None or function not in record.programs:
            raise DriverError(f"No program {function} is loaded in {pins.ns}.")
        program = libbpf.pinned(pins.at / record.generation / "programs" / function)
        try:
            programs.set_called(pins, h, program)
        except OSError as e:
            raise DriverError(f"{function} of {pins.ns} is no program for {h.hook}.") from e
        finally:
            os.close(program)

    def detach(self, ns: str, dev: str, direction: str) -> None:
        """Take the program at a vif away; no error where there is none."""
        pins = Shelf(self._place, ns)
        with self._there(ns) as socket:
            index = _indexes(socket).get(dev) if socket else None
            for h in pins.hooks():
                if (h.dev, h.direction) == (dev, direction):
                    self._remove(pins, socket, h, index)

    def _remove(self, pins: Shelf, socket: Socket | None, h: HookPin, index: int | None) -> None:
        """Detached first (`index`: the vif that it may be at), unpinned last."""
        if socket is not None and index is not None:
            id_ = shelf.program_id(pins.hook(h))
            if id_ and _running(socket).get((h.dev, h.direction, h.hook)) == id_:
                _take(socket, index, h)
        if pins.calls(h.hook).exists():
            programs.set_called(pins, h, None)
        pins.hook(h).unlink(missing_ok=True)

    @contextmanager
    def _there(self, ns: str) -> Iterator[Socket | None]:
        """A netlink socket in that namespace; None where there is none."""
        with netns.back_home():
            try:
                netns.enter(self._place.pin(ns))
            except OSError:
                yield None
                return
            with Socket() as socket:
                yield socket


@contextmanager
def _loaded(pins: Shelf, h: HookPin) -> Iterator[int]:
    """The dispatcher of a slot."""
    shared = {"calls": pins.calls(h.hook), "slice_budget": pins.budget}
    shared |= {name: pins.at / name for name in ("sliver_budget", "shares")}
    fds = []
    try:
        with BpfObject(programs.dispatcher(h.hook)) as o:
            for name, path in shared.items():
                fds.append(libbpf.pinned(path))
                o.reuse(name, fds[-1])
            variables = next(m for m in o.maps() if m.name.endswith(".rodata"))
            o.set_initial(variables.name, h.slot.to_bytes(4, "little"))
            o.choose({"dispatch": XDP if h.hook == "xdp" else SCHED_CLS})
            try:
                o.load()
            except Refused as e:
                raise DriverError(f"The kernel refused our own dispatcher: {e.log.strip()[-400:]}") from e
            yield o.program_fd("dispatch")
    finally:
        for fd in fds:
            os.close(fd)


def _put(socket: Socket, index: int, h: HookPin, fd: int) -> None:
    if h.hook == "xdp":
        requests = [xdp.set_program(index, fd)]
    else:
        parent = _PARENTS[h.direction]
        requests = [tc.add_clsact(index), tc.set_filter(index, fd, NAME, parent, tc.PROGRAM_PRIORITY)]
    errno = next((e for e in socket.transact(requests) if e), 0)
    if errno in (EOPNOTSUPP, ERANGE) and h.hook == "xdp":
        why = "its MTU is too large" if errno == ERANGE else "its driver can't"
        raise DriverError(f"{h.dev} can't run XDP natively: {why}; use `hook: tc`.")
    if errno:
        raise DriverError(f"The kernel refused a program at {h.dev} ({h.hook}, {h.direction}): {os.strerror(errno)}.")


def _take(socket: Socket, index: int, h: HookPin) -> None:
    if h.hook == "xdp":
        errnos = socket.transact([xdp.delete_program(index)])
    else:
        errnos = socket.transact([tc.delete_filter(index, _PARENTS[h.direction], tc.PROGRAM_PRIORITY)])
        if not tc.is_used(socket, index):
            errnos += socket.transact([tc.delete_clsact(index)])
    if refused := [e for e in errnos if e not in _GONE]:
        raise DriverError(f"The kernel kept the program at {h.dev} ({h.direction}): {os.strerror(refused[0])}.")


def _running(socket: Socket) -> dict[tuple[str, str, str], int]:
    """(vif, direction, hook) -> the kernel's number of the program there; of filters only those of our priority."""
    out = {}
    devs = {}
    for message in socket.dump(rtnl.dump_links()):
        link = rtnl.seen_link(message)
        devs[link.index] = link.dev
        if id_ := xdp.seen_program(message):
            out[link.dev, "input", "xdp"] = id_
    for q in map(tc.seen_qdisc, socket.dump(tc.dump_qdiscs())):
        if q.kind == "clsact" and q.index in devs:
            for direction, parent in _PARENTS.items():
                for f in tc.filters(socket, q.index, parent):
                    if f.priority == tc.PROGRAM_PRIORITY and f.program:
                        out[devs[q.index], direction, "tc"] = f.program
    return out


def _indexes(socket: Socket | None) -> dict[str, int]:
    if socket is None:
        return {}
    return {link.dev: link.index for link in rtnl.links(socket)}


def _free(pins: Shelf) -> int:
    taken = {h.slot for h in pins.hooks()}
    slot = next((s for s in range(SLOTS) if s not in taken), None)
    if slot is None:
        raise DriverError(f"All {SLOTS} places for programs at vifs of this sliver are taken.")
    return slot
