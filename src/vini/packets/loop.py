"""The loop that brings packets from the kernel to a `Router` and back."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vini.packets.fib import Fib
from vini.packets.packet import Packet
from vini.packets.vif import Vif

_EVERY_S = 1.0  # between two writings of the counters


class Router:
    """What a data plane is: a subclass says in `packets` what leaves where.

    While it runs, `vifs` are the sliver's vifs by name, `macs` their MAC addresses, and `fib` is the kernel's
    forwarding table.
    """

    fib: Fib
    vifs: dict[str, Vif]
    macs: frozenset[bytes]

    def packets(self, batch: list[Packet]) -> Iterable[tuple[str, Packet | bytes]]:
        """What is to be sent, and by which vif, now that these packets came, in their order, all by one vif.

        A packet is sent as it is when this ends, large segment and unfinished checksum included; bytes are a whole
        frame of your own.  KeyError ends the run where there is no such vif.
        """
        raise NotImplementedError

    def changed(self) -> None:
        """Called at the start, and whenever a route, an address, a link or a neighbour changed."""


def run(router: Router, counters: str = "") -> None:
    """Forward until SIGINT or SIGTERM; vifs that come later are opened then.

    Once a second what happened at each vif is written, as JSON, to the file `counters`; default: what the environment
    names as VINI_COUNTERS, or none.  OSError where this process may not open packet sockets.
    """
    loop = _Loop(router, counters or os.environ.get("VINI_COUNTERS", ""))
    with _until_told_to_end() as told:
        loop.run(told)


class _Loop:
    def __init__(self, router: Router, counters: str):
        self._router = router
        self._counters = Path(counters) if counters else None
        self._by_fd: dict[int, Vif] = {}
        self._ready = select.epoll()
        router.vifs, router.macs, router.fib = {}, frozenset(), Fib()
        self._ready.register(router.fib.changes.fileno(), select.EPOLLIN)
        self._look_at_links()

    def run(self, told: socket.socket) -> None:
        self._ready.register(told.fileno(), select.EPOLLIN)
        changes, by_fd = self._router.fib.changes.fileno(), self._by_fd
        due = time.monotonic() + _EVERY_S
        gc.freeze()  # the packets of the rings are for ever: no look at them again
        self._write_counters()  # so that whoever waits for us knows that the vifs are open
        try:
            while True:
                for fd, events in self._ready.poll(_EVERY_S):
                    if fd == told.fileno():
                        return
                    if fd == changes:
                        if self._router.fib.changed():
                            self._look_at_links()
                    elif fd in by_fd:  # not one that a change closed just now
                        self._serve(by_fd[fd], events)
                if time.monotonic() >= due:
                    due += _EVERY_S
                    self._write_counters()
        finally:
            self._write_counters()

    def _serve(self, vif: Vif, events: int) -> None:
        if events & select.EPOLLERR:
            vif.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the link went down; asked for, it is forgotten
        if batch := vif.receive():
            self._forward(batch)
        vif.release()

    def _forward(self, batch: list[Packet]) -> None:
        vifs = self._router.vifs
        own: list[Packet] = []  # keeps the memory of whole frames until they are sent
        for name, packet in self._router.packets(batch):
            if packet.__class__ is not Packet:
                packet = Packet.of(packet)  # type: ignore[arg-type]
                own.append(packet)
            outgoing = vifs[name].outgoing
            outgoing.append(packet.address)
            outgoing.append(packet.size)
        for vif in vifs.values():
            if vif.outgoing:
                vif.send()

    def _look_at_links(self) -> None:
        """Open the vifs that are new, close those that went."""
        vifs = self._router.vifs
        links = {index: link for index, link in self._router.fib.links().items() if link.is_vif}
        for name, vif in list(vifs.items()):
            link = links.get(vif.index)
            if link is None or (link.name, link.mac) != (name, vif.mac):
                self._ready.unregister(vif.socket.fileno())
                del self._by_fd[vif.socket.fileno()], vifs[name]
                vif.close()
        for index, link in links.items():
            if link.name not in vifs:
                with suppress(FileNotFoundError):  # it went meanwhile; a change tells
                    vif = vifs[link.name] = Vif(link.name, index, link.mac, link.mtu)
                    self._by_fd[vif.socket.fileno()] = vif
                    self._ready.register(vif.socket.fileno(), select.EPOLLIN)
            else:
                vifs[link.name].mtu = link.mtu
        self._router.macs = frozenset(v.mac for v in vifs.values())
        self._router.changed()

    def _write_counters(self) -> None:
        vifs = self._router.vifs.values()
        for vif in vifs:
            vif.notice_drops()
        if self._counters:
            new = self._counters.with_name(self._counters.name + ".new")
            new.write_text(json.dumps({"at": time.time(), "vifs": {v.name: v.counters.as_dict() for v in vifs}}) + "\n")
            new.replace(self._counters)


@contextmanager
def _until_told_to_end() -> Iterator[socket.socket]:
    """A socket that can be read as soon as this process was told to end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before_fd = signal.set_wakeup_fd(theirs.fileno())
    before = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ours, theirs:
            yield ours
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
