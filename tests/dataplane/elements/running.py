"""Element programs for packet tests: compiled by clang, loaded into the kernel, fed with one packet at a time."""

from __future__ import annotations

import struct
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vini.elements import Cell, Compiled, compile_elements, decode, encode
from vini.node import libbpf
from vini.node.libbpf import SCHED_CLS, XDP, BpfObject

RUNTIME = Path(__file__).parents[3] / "src/vini/dataplane/program"


class Vif(NamedTuple):
    """As the node tells a program of it."""

    name: str
    ifindex: int
    mac: bytes
    peer: bytes


def vif(name: str, slot: int, ifindex: int = 1) -> Vif:
    """One for packets that are on no wire; 1: the loopback, which every namespace has."""
    return Vif(name, ifindex, bytes((2, 0, 0, 0, 0, slot)), bytes((2, 0, 0, 0, 1, slot)))


VIFS = (vif("to-b", 0), vif("to-c", 1))
_VERDICTS = {
    "tc": {0xFFFFFFFF: "kernel", 2: "drop", 7: "redirect"},  # TC_ACT_UNSPEC, _SHOT, _REDIRECT
    "xdp": {2: "kernel", 1: "drop", 4: "redirect"},  # XDP_PASS, _DROP, _REDIRECT
}


class Sent(NamedTuple):
    """What became of a packet: "kernel", "drop", or the vif whose link's addresses it bears; `mark` at tc."""

    went: str
    packet: bytes
    mark: int
    mean_ns: int


@cache
def compiled(source: str, hook: str) -> bytes:
    """The object file; fails with clang's words."""
    flags = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", *(["-DVINI_XDP"] if hook == "xdp" else [])]
    includes = ["-I/usr/include/x86_64-linux-gnu", f"-I{RUNTIME}"]
    done = subprocess.run(
        ["clang", *flags, *includes, "-x", "c", "-c", "-o", "-", "-"],
        input=source.encode(), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Running:
    """A loaded program; `stack` unloads it."""

    def __init__(self, stack: ExitStack, hook: str, text: str, vifs: tuple[Vif, ...] = VIFS):
        self.vifs, self._names = vifs, tuple(v.name for v in vifs)
        self.program: Compiled = compile_elements(text, "test.elements", self._names)
        self._hook = hook
        self._object = stack.enter_context(BpfObject(compiled(self.program.source, hook)))
        inputs = {
            e.function: XDP if hook == "xdp" else SCHED_CLS for e in self.program.entries if e.direction == "input"
        }
        outputs = {e.function: SCHED_CLS for e in self.program.entries if e.direction == "output"}
        self._object.choose(inputs | (outputs if hook == "tc" else {}))
        self._object.load()
        self._maps = {m.name: m for m in self._object.maps()}
        self._outputs = self._object
        if hook == "xdp" and outputs:  # XDP sees only what comes in
            self._outputs = stack.enter_context(BpfObject(compiled(self.program.source, "tc")))
            self._outputs.choose(outputs)
            for name, head in self._maps.items():
                if not head.internal:
                    self._outputs.reuse(name, self._object.map_fd(name))
            self._outputs.load()
        for slot, v in enumerate(vifs):
            self.put("vifs", struct.pack("=I", slot), struct.pack("=I6s6s", v.ifindex, v.mac, v.peer))
        for row in self.program.rows:
            self.put(row.map, row.key, row.value)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        libbpf.update(self._object.map_fd(name), self._maps[name], key, value)

    def write(self, cell: str, key: str, *values: str) -> None:
        """As `vini program write` does."""
        found = self._cell(cell)
        self.put(found.map, *encode(found, key, values, self._names))

    def read(self, cell: str) -> list[tuple[str, ...]]:
        """As `vini program read` does."""
        found = self._cell(cell)
        head, fd = self._maps[found.map], self._object.map_fd(found.map)
        held = {key: libbpf.lookup(fd, head, key) or [] for key in libbpf.keys(fd, head)}
        return decode(found, held, self._names)

    def packets(self, cell: str) -> int:
        """Of a counter."""
        return int(self.read(cell)[0][0])

    def fd(self, function: str = "input_0") -> int:
        """The descriptor of an entry's program."""
        return (self._outputs if function.startswith("output") else self._object).program_fd(function)

    def send(self, packet: bytes, ifindex: int = 1, gso_size: int = 0, repeat: int = 1) -> Sent:
        """Let the program act on a packet that comes in by an interface of this network namespace."""
        context = _skb(ifindex, gso_size, len(packet)) if self._hook == "tc" else _xdp(ifindex, len(packet))
        ran = libbpf.test_run(self.fd(), packet, repeat, context)
        went = _VERDICTS[self._hook][ran.returned]
        if went == "redirect":
            went = next(v.name for v in self.vifs if ran.packet[:6] == v.peer)
        mark = struct.unpack_from("=I", ran.context, 8)[0] if self._hook == "tc" else 0
        return Sent(went, ran.packet, mark, ran.mean_ns)

    def _cell(self, name: str) -> Cell:
        return next(c for c in self.program.cells if c.name == name)


def _skb(ifindex: int, gso_size: int, length: int) -> bytes:
    """struct __sk_buff, as much of it as may be given (linux/bpf.h)."""
    raw = bytearray(192)
    struct.pack_into("=I", raw, 40, 0 if ifindex == 1 else ifindex)  # 0: the loopback, which the kernel takes by itself
    struct.pack_into("=II", raw, 160, length if gso_size else 0, -(-length // gso_size) if gso_size else 0)
    struct.pack_into("=I", raw, 176, gso_size)
    return bytes(raw)


def _xdp(ifindex: int, length: int) -> bytes:
    """struct xdp_md (linux/bpf.h)."""
    return struct.pack("=6I", 0, length, 0, ifindex, 0, 0)
