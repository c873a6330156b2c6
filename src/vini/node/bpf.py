"""The eBPF programs at a shaped vif, made from instructions and loaded by bpf(2) itself.

No compiler and no libbpf: programs of a dozen instructions need neither (bpf(2), linux/bpf.h,
tc-bpf(8) for direct-action return values).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from errno import EAGAIN

from vini.model import TWIN

REDIRECT = "vini_redirect"
DROP = "vini_drop"
RELEASED = "vini_released"
GATE = "vini_gate"
CROSS = "vini_cross"
TAP_BIT = 1 << 25  # a vif's TAP has the vif's index with this bit; no index that we choose has it

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _PROG_GET_FD_BY_ID, _SCHED_CLS = 0, 2, 5, 13, 3
_SKB_IFINDEX, TC_INDEX, _SKB_TC_CLASSID = 40, 44, 72  # offsets in struct __sk_buff
# The kernel keeps this number (skb->tc_index) with a packet through queues, clones and segments to the other end of a
# pair, and begins with 0 whatever a socket or XDP sends. A filter's class becomes the number when the filter passes.
IS_RELEASED = 0x5649  # "VI"
_REDIRECT_CALL = 23  # bpf_redirect(ifindex, flags)
_COOKIE_CALL = 46  # bpf_get_socket_cookie(context): of the socket that sent it, 0 where none did
_ATTEMPTS = 5  # as libbpf's
_LOG_BYTES = 1 << 18  # room for what the verifier says of a program that it takes, too
_UNSPEC, _OK, _SHOT = -1, 0, 2  # TC_ACT_: go on as if there were no filter; pass all that follow; drop


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhI", code, dst | src << 4, offset, immediate & 0xFFFFFFFF)


_EXIT = _instruction(0x95)


def _load_word(dst: int, offset: int) -> bytes:
    return _instruction(0x61, dst, 1, offset)  # r1 is the context


def _set(dst: int, value: int) -> bytes:
    return _instruction(0xB7, dst, immediate=value)


def _store_word(offset: int, src: int) -> bytes:
    return _instruction(0x63, 1, src, offset)  # r1 is the context


_RELEASE = _set(2, IS_RELEASED) + _store_word(_SKB_TC_CLASSID, 2) + _set(0, _OK) + _EXIT

PROGRAMS = {
    DROP: _set(0, _SHOT) + _EXIT,
    REDIRECT: b"".join(
        (
            _load_word(1, _SKB_IFINDEX),
            _instruction(0x47, 1, immediate=TAP_BIT),  # r1 |= TAP_BIT
            _set(2, 0),
            _instruction(0x85, immediate=_REDIRECT_CALL),
            _EXIT,
        )
    ),
    CROSS: b"".join(
        (
            _load_word(1, _SKB_IFINDEX),
            _instruction(0xA7, 1, immediate=TWIN),  # r1 ^= TWIN
            _set(2, 0),
            _instruction(0x85, immediate=_REDIRECT_CALL),
            _EXIT,
        )
    ),
    RELEASED: _RELEASE,
    GATE: b"".join(
        (
            _load_word(2, TC_INDEX),
            _instruction(0x15, 2, offset=2, immediate=IS_RELEASED),  # if r2 == IS_RELEASED goto released
            _set(0, _SHOT),
            _EXIT,
            _set(2, 0),  # released: by this link, and by no other that it goes to from here
            _store_word(TC_INDEX, 2),
            _set(0, _UNSPEC),
            _EXIT,
        )
    ),
}


def released(cookie: int) -> bytes:
    """Lets what the element sent by the socket of that cookie pass by all other filters and the Gate, and nothing else.

    The kernel numbers sockets itself and never twice (SO_COOKIE), so nobody's packets can look as if they had been
    delayed, as they could by a mark.
    """
    return b"".join(
        (
            _instruction(0xBF, 6, 1),  # r6 = r1, which calls don't keep
            _instruction(0x85, immediate=_COOKIE_CALL),
            _instruction(0x18, 1, immediate=cookie),  # r1 = cookie, of 64 bits
            _instruction(0, immediate=cookie >> 32),
            _instruction(0x1D, 0, 1, offset=2),  # if r0 == r1 goto released
            _set(0, _UNSPEC),
            _EXIT,
            _instruction(0xBF, 1, 6),  # released: r1 = r6
            _RELEASE,
        )
    )


def released_name(cookie: int) -> str:
    """Of the filter that runs it."""
    return f"{RELEASED} {cookie}"


def gate_name(ns: str, dev: str) -> str:
    """Of the filter that runs the gate behind the Shape at that vif."""
    return f"{GATE} {ns} {dev}"


def gate_of(name: str) -> tuple[str, str] | None:
    """The inverse; None: another filter's name."""
    words = name.split(" ")
    return (words[1], words[2]) if len(words) == 3 and words[0] == GATE else None


def load(name: str) -> int:
    """A descriptor of that program, the caller's to close.  OSError with the verifier's words if refused."""
    return load_instructions(name, PROGRAMS[name])


def load_instructions(name: str, program: bytes) -> int:
    """The same, of a program for traffic control that somebody else made."""
    instructions = ctypes.create_string_buffer(program)
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _SCHED_CLS,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        1,
        len(log),
        ctypes.addressof(log),
        0,
        0,
        name.encode(),
    )
    for _ in range(_ATTEMPTS):
        fd = _bpf(_PROG_LOAD, attributes)
        if fd >= 0:
            return fd
        # The verifier gives up with EAGAIN where a signal waits for this thread; it is handled once we are back here.
        if (errno := ctypes.get_errno()) != EAGAIN:
            break
    raise OSError(errno, f"bpf(2) refused {name}: {os.strerror(errno)} {log.value.decode()}".strip())


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int = 0) -> int:
    """A descriptor of a new map, the caller's to close."""
    return _opened("a map", _MAP_CREATE, struct.pack("=IIIII", kind, key_bytes, value_bytes, entries, flags))


def put(table: int, key: bytes, value: bytes) -> None:
    """Write a row of a map.  OSError where the kernel refuses it."""
    rows = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    attributes = struct.pack("=IxxxxQQQ", table, *map(ctypes.addressof, rows), 0)
    if _bpf(_MAP_UPDATE, attributes) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"bpf(2) refused a row of a map: {os.strerror(errno)}")


def by_id(program: int) -> int:
    """A descriptor of the loaded program that has this number, the caller's to close."""
    return _opened(f"program {program}", _PROG_GET_FD_BY_ID, struct.pack("=III", program, 0, 0))


def _opened(what: str, command: int, attributes: bytes) -> int:
    fd = _bpf(command, attributes)
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"bpf(2) refused {what}: {os.strerror(errno)}")
    return fd


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(_SYSCALL[platform.machine()], command, ctypes.c_char_p(attributes), len(attributes))
    return fd
