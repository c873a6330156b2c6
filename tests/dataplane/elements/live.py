"""Hosts and routers in network namespaces of their own, in a line; the routers run element programs."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from running import Running, Vif

from vini.node import netns, tc, xdp
from vini.node.netlink import Socket

_count = itertools.count()
_HOOKS = {"input": tc.INGRESS, "output": tc.EGRESS}


class Line:
    """Namespaces 0..n-1, each with the vifs `left` and `right` to its neighbours; host addresses 10.<n>.0.1/16.

    Between n and n+1 the network is 10.<n+1>.0.0/16, .2 at the left end and .1 at the right; every host has a default
    route along the line, every namespace forwards.
    """

    def __init__(self, stack: ExitStack, length: int, mtu: int = 1500):
        self._stack, self._names = stack, [f"vt{os.getpid()}e{next(_count)}" for _ in range(length)]
        for name in self._names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        for n in range(length - 1):
            ends = ["name", "right", "mtu", str(mtu), "netns", self._names[n], "type", "veth", "peer", "name", "left"]
            _run("ip", "link", "add", *ends, "mtu", str(mtu), "netns", self._names[n + 1])
            self.ip(n, "address", "add", f"10.{n + 1}.0.2/16", "dev", "right")
            self.ip(n + 1, "address", "add", f"10.{n + 1}.0.1/16", "dev", "left")
            self.ip(n, "link", "set", "right", "up")
            self.ip(n + 1, "link", "set", "left", "up")
        for n in range(length):
            with self.inside(n):
                for key in ("all/forwarding", "all/rp_filter"):
                    Path("/proc/sys/net/ipv4/conf", key).write_text("1" if key == "all/forwarding" else "0")
            for to in range(1, length):
                if to > n + 1:
                    self.ip(n, "route", "add", f"10.{to}.0.0/16", "via", f"10.{n + 1}.0.1")
                elif to < n:
                    self.ip(n, "route", "add", f"10.{to}.0.0/16", "via", f"10.{n}.0.2")

    @contextmanager
    def inside(self, n: int) -> Iterator[None]:
        with netns.inside(Path("/run/netns", self._names[n])):
            yield

    def ip(self, n: int, *words: str) -> str:
        return _run("ip", "-n", self._names[n], *words)

    def run(self, n: int, *argv: str) -> str:
        return _run("ip", "netns", "exec", self._names[n], *argv)

    def start(self, n: int, hook: str, text: str, names: tuple[str, str] = ("left", "right")) -> Running:
        """Run a program at both vifs, which it knows by these names; outputs always at tc."""
        with self.inside(n):
            vifs = tuple(
                self.vif(n, dev, name) for dev, name in zip(("left", "right"), names, strict=True) if self._has(n, dev)
            )
            program = Running(self._stack, hook, text, vifs)
            with Socket() as netlink:
                for entry in program.program.entries:
                    for v in vifs:
                        if entry.vif in ("", v.name):
                            _attach(netlink, hook, entry.direction, v.ifindex, program.fd(entry.function))
        return program

    def _has(self, n: int, dev: str) -> bool:
        return dev in self.ip(n, "-br", "link")

    def vif(self, n: int, dev: str, name: str = "") -> Vif:
        """As the node tells a program of it."""
        other, there = (n - 1, "right") if dev == "left" else (n + 1, "left")
        index, mac = self._link(n, dev)
        return Vif(name or dev, index, mac, self._link(other, there)[1])

    def _link(self, n: int, dev: str) -> tuple[int, bytes]:
        with self.inside(n):
            words = _run("ip", "-o", "link", "show", dev).split()
            return socket.if_nametoindex(dev), bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))

    def ping(self, n: int, address: str) -> bool:
        done = subprocess.run(
            ["ip", "netns", "exec", self._names[n], "ping", "-c", "2", "-i", "0.2", "-W", "5", address],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return " 0% packet loss" in done.stdout

    def transfer(self, sender: int, receiver: int, address: str, size: int = 4 << 20) -> str:
        """Send that many bytes by TCP, check them, and answer with the sender's address as the receiver saw it."""
        with self.inside(receiver):
            server = socket.create_server(("0.0.0.0", 5001))
        with self.inside(sender):
            client = socket.socket()
        octets = os.urandom(size)
        server.settimeout(20)
        client.settimeout(20)
        with server, client:
            client.connect((address, 5001))
            there, (seen, _) = server.accept()
            there.settimeout(20)
            thread = threading.Thread(target=_send_all, args=(client, octets))
            thread.start()
            received = bytearray()
            with there:
                while len(received) < size and (part := there.recv(1 << 16)):
                    received += part
            thread.join()
        assert bytes(received) == octets
        return seen


def _send_all(client: socket.socket, octets: bytes) -> None:
    client.sendall(octets)


def _attach(netlink: Socket, hook: str, direction: str, index: int, fd: int) -> None:
    if direction == "input" and hook == "xdp":
        errnos = netlink.transact([xdp.set_program(index, fd)])
    else:
        errnos = netlink.transact([tc.add_clsact(index), tc.set_filter(index, fd, "test", _HOOKS[direction])])
    assert not any(errnos), errnos


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout
