"""eBPF objects, programs and maps through libbpf (bpf(2), https://libbpf.readthedocs.io).

A thin, typed face on `libbpf.so.1` by ctypes: nothing here knows what a slice is.  Descriptors are the
caller's to close.  The package is `libbpf1` in Debian 12, Ubuntu 24.04 and newer.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from vini.model import Unsupported, Value

SCHED_CLS, XDP = 3, 6  # enum bpf_prog_type
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY
MAP_TYPES = {
    1: "hash", 2: "array", 3: "prog_array", 4: "perf_event_array", 5: "percpu_hash", 6: "percpu_array",
    7: "stack_trace", 8: "cgroup_array", 9: "lru_hash", 10: "lru_percpu_hash", 11: "lpm_trie",
    12: "array_of_maps", 13: "hash_of_maps", 14: "devmap", 15: "sockmap", 16: "cpumap", 17: "xskmap",
    18: "sockhash", 22: "queue", 23: "stack", 25: "devmap_hash", 27: "ringbuf", 30: "bloom_filter",
}  # fmt: skip
_PER_CPU = frozenset({"percpu_hash", "percpu_array", "lru_percpu_hash"})
_ATTACH_XDP = 37  # BPF_XDP; programs that call each other by a prog_array must agree in it
_LOG_BYTES = 1 << 20
_ANY, _LIVE_FRAMES = 0, 1 << 1  # BPF_ANY, BPF_F_TEST_XDP_LIVE_FRAMES
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_libc = ctypes.CDLL(None)
_libc.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)


class ProgramHead(Value, frozen=True):
    """A program as its ELF file declares it."""

    name: str
    section: str
    type: int  # enum bpf_prog_type


class MapHead(Value, frozen=True):
    """A map as its ELF file, or the kernel, declares it; sizes in bytes."""

    name: str
    type: str  # of MAP_TYPES; "type 31" where unknown
    key_size: int
    value_size: int
    max_entries: int
    internal: bool = False  # .data, .rodata, .bss

    @property
    def per_cpu(self) -> bool:
        """Whether each processor has a value of its own."""
        return self.type in _PER_CPU


class ProgramRecord(Value, frozen=True):
    """A loaded program as the kernel knows it; `run_ns` and `runs` count while `statistics` are on."""

    id: int
    tag: str
    name: str
    run_ns: int
    runs: int


class Refused(Exception):
    """The kernel or libbpf refused; `log` holds their words, the verifier's too, of `program` where it was one."""

    def __init__(self, doing: str, log: str, errno: int = 0, program: str = ""):
        self.log, self.errno, self.program = log, errno, program
        known = 0 < errno < 4000  # libbpf has numbers of its own from 4000 on
        super().__init__(f"{doing}: {os.strerror(errno) if known else 'refused'}")


class BpfObject:
    """An ELF object of eBPF programs and maps: opened first, looked over, then loaded."""

    def __init__(self, elf: bytes):
        self._words: list[str] = []
        self._logs: dict[str, Any] = {}
        self._elf = ctypes.create_string_buffer(elf, len(elf))
        with _words_into(self._words):
            self._object = _library().bpf_object__open_mem(self._elf, len(elf), None)
        if not self._object:
            raise Refused("reading the object", "".join(self._words), ctypes.get_errno())

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _library().bpf_object__close(self._object)

    def programs(self) -> list[ProgramHead]:
        """The programs that can be attached (not what they merely call)."""
        lib = _library()
        return [
            ProgramHead(
                _name(lib.bpf_program__name(p)), _name(lib.bpf_program__section_name(p)), lib.bpf_program__type(p)
            )
            for p in self._each(lib.bpf_object__next_program)
        ]

    def maps(self) -> list[MapHead]:
        """All maps, the compiler's own too."""
        lib = _library()
        return [
            MapHead(
                _name(lib.bpf_map__name(m)),
                _map_type(lib.bpf_map__type(m)),
                lib.bpf_map__key_size(m),
                lib.bpf_map__value_size(m),
                lib.bpf_map__max_entries(m),
                lib.bpf_map__is_internal(m),
            )
            for m in self._each(lib.bpf_object__next_map)
        ]

    def reuse(self, name: str, fd: int) -> None:
        """Use this living map in place of the object's own of that name."""
        found = self._map(name)
        if _library().bpf_map__reuse_fd(found, fd):
            raise Refused(f"reusing the map {name}", "", ctypes.get_errno())

    def choose(self, types: dict[str, int]) -> None:
        """Load only these programs, each as that type."""
        lib = _library()
        for p in self._each(lib.bpf_object__next_program):
            name = _name(lib.bpf_program__name(p))
            lib.bpf_program__set_autoload(p, name in types)
            if name in types:
                lib.bpf_program__set_type(p, types[name])
                lib.bpf_program__set_expected_attach_type(p, _ATTACH_XDP if types[name] == XDP else 0)

    def load(self) -> None:
        """Make the maps and load the programs; Refused with the verifier's words, none loaded, where one isn't safe."""
        lib = _library()
        for p in self._each(lib.bpf_object__next_program):
            log = self._logs[_name(lib.bpf_program__name(p))] = ctypes.create_string_buffer(_LOG_BYTES)
            lib.bpf_program__set_log_buf(p, log, _LOG_BYTES)
        with _words_into(self._words):
            failed = lib.bpf_object__load(self._object)
        if failed:
            said = {name: log.value.decode(errors="replace") for name, log in self._logs.items() if log.value}
            last = next(reversed(said), "")  # those before it were taken
            raise Refused("loading the programs", "\n".join(said.values()) or "".join(self._words), -failed, last)

    def program_fd(self, name: str) -> int:
        """The descriptor of a loaded program; the object's, until it is closed."""
        lib = _library()
        named = (p for p in self._each(lib.bpf_object__next_program) if _name(lib.bpf_program__name(p)) == name)
        fd: int = lib.bpf_program__fd(next(named))
        return fd

    def map_fd(self, name: str) -> int:
        """The descriptor of a map; the object's, until it is closed."""
        fd: int = _library().bpf_map__fd(self._map(name))
        return fd

    def set_initial(self, name: str, value: bytes) -> None:
        """What an internal map (`.rodata`) holds when it is loaded."""
        if _library().bpf_map__set_initial_value(self._map(name), value, len(value)):
            raise Refused(f"setting {name}", "", ctypes.get_errno())

    def _map(self, name: str) -> int:
        lib = _library()
        return next(m for m in self._each(lib.bpf_object__next_map) if _name(lib.bpf_map__name(m)) == name)

    def _each(self, following: Callable[[int, int | None], int | None]) -> Iterator[int]:
        at = following(self._object, None)
        while at:
            yield at
            at = following(self._object, at)


# --- what is loaded ----------------------------------------------------------------------------


def pin(fd: int, path: Path) -> None:
    """Give a program or a map a name in a bpf file system; OSError where it is taken."""
    _check(_library().bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")


def pinned(path: Path) -> int:
    """A descriptor of what is pinned there; OSError where nothing is."""
    return _check(_library().bpf_obj_get(os.fsencode(path)), f"opening {path}")


@contextmanager
def held(path: Path) -> Iterator[int]:
    """A descriptor of what is pinned there, as long as the block runs; OSError where nothing is."""
    fd = pinned(path)
    try:
        yield fd
    finally:
        os.close(fd)


def program_record(fd: int) -> ProgramRecord:
    """What the kernel knows of a program (struct bpf_prog_info, linux/bpf.h)."""
    raw = _record(fd, 232)
    number, tag = struct.unpack_from("=I8s", raw, 4)
    run_ns, runs = struct.unpack_from("=QQ", raw, 192)
    return ProgramRecord(number, tag.hex(), raw[64:80].split(b"\0")[0].decode(), run_ns, runs)


def map_record(fd: int) -> MapHead:
    """What the kernel knows of a map (struct bpf_map_info)."""
    raw = _record(fd, 88)
    kind, _, key, value, entries, _ = struct.unpack_from("=6I", raw)
    return MapHead(raw[24:40].split(b"\0")[0].decode(), _map_type(kind), key, value, entries)


def make_array(name: str, value: bytes) -> int:
    """A descriptor of a new array of one entry, which holds that value."""
    fd = _check(_library().bpf_map_create(_ARRAY, name.encode(), 4, len(value), 1, None), f"making the map {name}")
    update(fd, MapHead(name, "array", 4, len(value), 1), bytes(4), value)
    return fd


def lookup(fd: int, head: MapHead, key: bytes) -> list[bytes] | None:
    """The value of a key, one for each processor where the map has such; None: no such key."""
    _fits(head, key)
    room = ctypes.create_string_buffer(_value_room(head))
    if _library().bpf_map_lookup_elem(fd, key, room):
        return None
    return _values(head, room.raw)


def update(fd: int, head: MapHead, key: bytes, value: bytes) -> None:
    """Set a value, on all processors where each has its own; OSError where the kernel refuses (the map is full)."""
    _fits(head, key, value)
    padded = value.ljust(-(-head.value_size // 8) * 8, b"\0") * processors() if head.per_cpu else value
    _check(_library().bpf_map_update_elem(fd, key, padded, _ANY), f"writing to the map {head.name}")


def _fits(head: MapHead, key: bytes, value: bytes | None = None) -> None:
    """The kernel takes as many bytes as the map has, also beyond the end of what it is given."""
    if len(key) != head.key_size or (value is not None and len(value) != head.value_size):
        raise ValueError(f"The map {head.name} has keys of {head.key_size} bytes and values of {head.value_size}.")


def delete(fd: int, key: bytes) -> bool:
    """Take a key out; False where it was not there."""
    return not _library().bpf_map_delete_elem(fd, key)


def keys(fd: int, head: MapHead) -> Iterator[bytes]:
    """The keys of a map, in the kernel's order; what is changed meanwhile may be missed."""
    room, at = ctypes.create_string_buffer(max(head.key_size, 1)), None
    while not _library().bpf_map_get_next_key(fd, at, room):
        at = room.raw[: head.key_size]
        yield at


def processors() -> int:
    """How many values a per-processor map has for a key."""
    count: int = _library().libbpf_num_possible_cpus()
    return count


def statistics() -> int:
    """Count the running time of all programs while this descriptor is open (BPF_STATS_RUN_TIME)."""
    return _check(_library().bpf_enable_stats(0), "turning statistics on")


class _TestRun(ctypes.Structure):  # struct bpf_test_run_opts, bpf/bpf.h
    _fields_ = (
        ("sz", c_size_t), ("data_in", c_void_p), ("data_out", c_void_p), ("data_size_in", c_uint32),
        ("data_size_out", c_uint32), ("ctx_in", c_void_p), ("ctx_out", c_void_p), ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32), ("retval", c_uint32), ("repeat", c_int), ("duration", c_uint32),
        ("flags", c_uint32), ("cpu", c_uint32), ("batch_size", c_uint32),
    )  # fmt: skip


class Ran(Value, frozen=True):
    """What a program did with one packet: its return value, packet and context afterwards, the mean time in ns."""

    returned: int
    packet: bytes
    mean_ns: int
    context: bytes  # as much of it as was given


def test_run(fd: int, packet: bytes, repeat: int = 1, context: bytes = b"") -> Ran:
    """Run a program on a packet that isn't on any wire (BPF_PROG_TEST_RUN)."""
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(len(packet) + 512)
    given = ctypes.create_string_buffer(context, len(context)) if context else None
    options = _TestRun(
        sz=ctypes.sizeof(_TestRun), data_in=ctypes.addressof(data), data_size_in=len(packet),
        data_out=ctypes.addressof(out), data_size_out=len(out), repeat=repeat,
        ctx_in=ctypes.addressof(given) if given else None, ctx_size_in=len(context),
        ctx_out=ctypes.addressof(given) if given else None, ctx_size_out=len(context),
    )  # fmt: skip
    _check(_library().bpf_prog_test_run_opts(fd, byref(options)), "running the program")
    return Ran(options.retval, out.raw[: options.data_size_out], options.duration, given.raw if given else b"")


def send_live(fd: int, packet: bytes, count: int, batch: int = 64) -> None:
    """Let an XDP program act on `count` frames for real: redirect sends them (BPF_F_TEST_XDP_LIVE_FRAMES).

    Frames are recycled and not written anew, so the program must set what an earlier receiver may have changed.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(packet), 0, 0, 0, 0))  # struct xdp_md
    options = _TestRun(
        sz=ctypes.sizeof(_TestRun), data_in=ctypes.addressof(data), data_size_in=len(packet),
        ctx_in=ctypes.addressof(context), ctx_size_in=24, repeat=count, flags=_LIVE_FRAMES, batch_size=batch,
    )  # fmt: skip
    _check(_library().bpf_prog_test_run_opts(fd, byref(options)), "sending frames")


# --- the library -------------------------------------------------------------------------------


@cache
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as e:
        raise Unsupported("This node can't load programs: it needs libbpf 1 (`apt-get install libbpf1`).") from e
    for name in ("bpf_object__open_mem", "bpf_object__next_program", "bpf_object__next_map"):
        getattr(lib, name).restype = c_void_p
    lib.bpf_object__open_mem.argtypes = (c_void_p, c_size_t, c_void_p)
    for name in ("bpf_object__next_program", "bpf_object__next_map"):
        getattr(lib, name).argtypes = (c_void_p, c_void_p)
    for name in ("bpf_program__name", "bpf_program__section_name", "bpf_map__name"):
        getattr(lib, name).restype = c_char_p
        getattr(lib, name).argtypes = (c_void_p,)
    for name in _TAKES_ONE:
        getattr(lib, name).argtypes = (c_void_p,)
    for name in ("bpf_map__key_size", "bpf_map__value_size", "bpf_map__max_entries"):
        getattr(lib, name).restype = c_uint32
    lib.bpf_map__is_internal.restype = ctypes.c_bool
    lib.bpf_map__reuse_fd.argtypes = lib.bpf_program__set_type.argtypes = (c_void_p, c_int)
    lib.bpf_program__set_expected_attach_type.argtypes = (c_void_p, c_int)
    lib.bpf_program__set_autoload.argtypes = (c_void_p, ctypes.c_bool)
    lib.bpf_program__set_log_buf.argtypes = (c_void_p, c_void_p, c_size_t)
    lib.bpf_map__set_initial_value.argtypes = (c_void_p, c_char_p, c_size_t)
    lib.libbpf_set_print.restype = c_void_p
    lib.libbpf_set_print(_HEAR)
    return lib


_TAKES_ONE = (
    "bpf_object__close", "bpf_object__load", "bpf_program__type", "bpf_program__fd", "bpf_map__type",
    "bpf_map__key_size", "bpf_map__value_size", "bpf_map__max_entries", "bpf_map__is_internal", "bpf_map__fd",
)  # fmt: skip


_listening = threading.local()  # .words: what libbpf says in this thread goes there


@contextmanager
def _words_into(words: list[str]) -> Iterator[None]:
    """Collects what libbpf would print to stderr in this thread."""
    _library()
    _listening.words = words
    try:
        yield
    finally:
        _listening.words = None


def _hear(level: int, pattern: bytes, arguments: int) -> int:
    words: list[str] | None = getattr(_listening, "words", None)
    if words is not None and level < 2:  # LIBBPF_WARN, LIBBPF_INFO
        line = ctypes.create_string_buffer(4096)
        _libc.vsnprintf(line, len(line), pattern, arguments)
        words.append(line.value.decode(errors="replace"))
    return 0


# One for all threads, and for as long as the process lives: libbpf has one such function, which any thread may be about
# to call when another thread puts something in its place; what is freed then is called all the same.
_HEAR = _PRINT(_hear)


def _name(raw: bytes | None) -> str:
    return (raw or b"").decode()


def _map_type(number: int) -> str:
    return MAP_TYPES.get(number, f"type {number}")


def _record(fd: int, size: int) -> bytes:
    room, length = ctypes.create_string_buffer(size), c_uint32(size)
    _check(_library().bpf_obj_get_info_by_fd(fd, room, byref(length)), "asking the kernel")
    return room.raw


def _value_room(head: MapHead) -> int:
    return -(-head.value_size // 8) * 8 * processors() if head.per_cpu else head.value_size


def _values(head: MapHead, raw: bytes) -> list[bytes]:
    step = -(-head.value_size // 8) * 8 if head.per_cpu else head.value_size
    return [raw[i : i + head.value_size] for i in range(0, len(raw), step)]


def _check(result: int, doing: str) -> int:
    if result < 0:  # libbpf 1 answers -errno
        raise OSError(-result, f"{doing}: {os.strerror(-result)}")
    return result
