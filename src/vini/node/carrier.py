"""The node's own programs that carry tunnels at XDP (dataplane/tunnel/vxlan.c), and the tables that they work by.

Pinned in a bpf file system of a place's own, so that they outlive the agent:

    <run>/tunnels/<version>/{leave,arrive,by_kernel}    the programs
    <run>/tunnels/<version>/{leaving,arriving,owners,hops}    the tables

Another version takes the tables of the one before along, so no tunnel is without its entry meanwhile.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path

from vini import dataplane
from vini.model import DriverError, Value
from vini.names import digest
from vini.node import libbpf, netns, shelf
from vini.node.compile import compile_program
from vini.node.libbpf import SCHED_CLS, XDP, BpfObject, Refused
from vini.node.place import Place

SOURCE = Path(dataplane.__file__).parent / "tunnel" / "vxlan.c"
PROGRAMS, TABLES = ("leave", "arrive", "by_kernel"), ("leaving", "arriving", "owners", "hops")
_ARRIVE = b"vini_arrive__"  # of vxlan.c
_TUNNEL = struct.Struct("=16s16sIHBBI")  # struct tunnel
_OWNER = struct.Struct("=112s16s")  # struct owner


class Entry(Value, frozen=True):
    """A struct tunnel: what the programs know of one."""

    local: str
    remote: str
    vni: int
    port: int
    direct: bool  # the interface to the other node takes frames from XDP
    other: int  # index of that interface (leaving), or of the pair's end in the node's namespace (arriving)

    def packed(self) -> bytes:
        """As it is in the tables."""
        ends = [ip_address(a) for a in (self.local, self.remote)]
        return _TUNNEL.pack(
            *(e.packed for e in ends), _wire(self.vni), int.from_bytes(self.port.to_bytes(2, "big"), "little"),
            ends[0].version, self.direct, self.other,
        )  # fmt: skip


def _entry(raw: bytes) -> Entry:
    local, remote, vni, port, version, direct, other = _TUNNEL.unpack(raw)
    size = 4 if version == 4 else 16
    ends = (str(ip_address(a[:size])) for a in (local, remote))
    number = int.from_bytes(vni.to_bytes(4, "little"), "big") >> 8
    return Entry(next(ends), next(ends), number, int.from_bytes(port.to_bytes(2, "little"), "big"), bool(direct), other)


def _wire(vni: int) -> int:
    """As it is in the header, read as a number of this machine."""
    return int.from_bytes((vni << 8).to_bytes(4, "big"), "little")


class Owner(Value, frozen=True):
    """Whose a tunnel is."""

    ns: str
    dev: str


class Carrier:
    """Of a place.  Holds nothing: all is asked of the kernel."""

    def __init__(self, place: Place):
        self._place = place
        self.root = place.run / "tunnels"
        self.arrive_name = f"vini_{digest('tunnels', place.mark) >> 32:08x}"
        self.at = self.root / blake2b(SOURCE.read_bytes() + self.arrive_name.encode(), digest_size=6).hexdigest()

    def is_whole(self) -> bool:
        """Whether all programs and tables of this version are there."""
        return all((self.at / name).exists() for name in (*PROGRAMS, *TABLES))

    def prepare(self) -> None:
        """Have them there.  DriverError where the kernel refuses them, Unsupported where they can't be compiled."""
        if self.is_whole():
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.ismount(self.root):
            netns.mount_programs(self.root)
        old = {name: path for name in TABLES if (path := self._anywhere(name))}
        with _loaded(self.arrive_name, old) as found:
            self.at.mkdir(exist_ok=True)
            for name, fd in found.items():
                (self.at / name).unlink(missing_ok=True)
                libbpf.pin(fd, self.at / name)
        for other in self._versions():
            if other != self.at:
                _remove(other)

    def remove(self) -> None:
        """Take all away; the programs live on where they are attached."""
        for version in self._versions():
            _remove(version)
        if self.root.is_dir():
            netns.unmount(self.root)
            self.root.rmdir()

    def exists(self) -> bool:
        """Whether there is a trace of them."""
        return self.root.is_dir()

    def program(self, name: str) -> int:
        """A descriptor of a program, the caller's to close."""
        return libbpf.pinned(self.at / name)

    def program_id(self, name: str) -> int:
        """The kernel's number of a program; 0: it isn't there."""
        return shelf.program_id(self.at / name)

    # --- tables -------------------------------------------------------------------------------

    def leaving(self) -> dict[int, Entry]:
        """By the index of the pair's end in the node's namespace."""
        return {_number(key): _entry(value) for key, value in self._rows("leaving")}

    def arriving(self) -> dict[int, Entry]:
        """By the tunnel's number."""
        return {_vni(key): _entry(value) for key, value in self._rows("arriving")}

    def owners(self) -> dict[int, Owner]:
        """By the tunnel's number; also of those of which nothing else is left, or nothing else made yet."""
        return {_vni(key): Owner(*(_text(t) for t in _OWNER.unpack(value))) for key, value in self._rows("owners")}

    def set_leaving(self, index: int, entry: Entry | None) -> None:
        """What leaves by that end of a pair goes there; None: nowhere."""
        self._set("leaving", _key(index), entry.packed() if entry else None)

    def set_arriving(self, vni: int, entry: Entry | None) -> None:
        """What arrives with that number goes there; None: to the kernel."""
        self._set("arriving", _key(_wire(vni)), entry.packed() if entry else None)

    def set_owner(self, vni: int, owner: Owner | None) -> None:
        """That number is that one's; None: nobody's."""
        self._set("owners", _key(_wire(vni)), _OWNER.pack(owner.ns.encode(), owner.dev.encode()) if owner else None)

    def _rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        path = self._anywhere(table)
        if path is None:
            return
        with libbpf.held(path) as fd:
            head = libbpf.map_record(fd)
            for key in list(libbpf.keys(fd, head)):
                if found := libbpf.lookup(fd, head, key):
                    yield key, found[0]

    def _set(self, table: str, key: bytes, value: bytes | None) -> None:
        path = self._anywhere(table)
        if path is None:
            return
        with libbpf.held(path) as fd:
            if value is None:
                libbpf.delete(fd, key)
            else:
                libbpf.update(fd, libbpf.map_record(fd), key, value)

    def _anywhere(self, table: str) -> Path | None:
        """Where a table is pinned, of this version or of the one before."""
        return next((p for v in (self.at, *self._versions()) if (p := v / table).exists()), None)

    def _versions(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(p for p in self.root.iterdir() if p.is_dir())
        return []


def can_load() -> bool:
    """Whether this machine's kernel takes the programs."""
    try:
        with _loaded("vini_trial___", {}):
            return True
    except DriverError:
        return False


@contextmanager
def _loaded(arrive_name: str, tables: Mapping[str, Path]) -> Iterator[dict[str, int]]:
    """Descriptors of all, by name; with those tables, where they fit, in place of new ones."""
    xdp, tc = _compiled("xdp"), _compiled("tc")
    fds: list[int] = []
    try:
        with BpfObject(_named(xdp, arrive_name)) as first, BpfObject(tc) as second:
            for m in first.maps():
                if m.name in tables:
                    fds.append(libbpf.pinned(tables[m.name]))
                    if _shape(libbpf.map_record(fds[-1])) == _shape(m):
                        first.reuse(m.name, fds[-1])
            first.choose({"leave": XDP, arrive_name: XDP})
            first.load()
            second.reuse("leaving", first.map_fd("leaving"))
            second.choose({"by_kernel": SCHED_CLS})
            second.load()
            found = {name: first.map_fd(name) for name in TABLES}
            found |= {"leave": first.program_fd("leave"), "arrive": first.program_fd(arrive_name)}
            yield found | {"by_kernel": second.program_fd("by_kernel")}
    except Refused as e:
        raise DriverError(f"The kernel refused our own tunnels at XDP: {e}. {e.log.strip()[-400:]}") from e
    finally:
        for fd in fds:
            os.close(fd)


@cache
def _compiled(hook: str) -> bytes:
    return compile_program(SOURCE.read_text(), SOURCE.name, "xdp" if hook == "xdp" else "tc", SOURCE.parent)


def _named(elf: bytes, name: str) -> bytes:
    """With the function `arrive` called that, as long: a node's interface shows no more of a program than its name, and
    that is how we know our own again."""
    assert len(name) == len(_ARRIVE)
    return elf.replace(_ARRIVE + b"\0", name.encode() + b"\0")


def _shape(m: libbpf.MapHead) -> tuple[str, int, int, int]:
    return m.type, m.key_size, m.value_size, m.max_entries


def _remove(version: Path) -> None:
    for path in sorted(version.iterdir(), key=lambda p: p.name == "owners"):  # last: by these all the rest is found
        path.unlink(missing_ok=True)
    version.rmdir()


def _key(number: int) -> bytes:
    return struct.pack("=I", number)


def _number(key: bytes) -> int:
    return int(struct.unpack("=I", key)[0])


def _vni(key: bytes) -> int:
    return int.from_bytes(key, "big") >> 8


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode()
