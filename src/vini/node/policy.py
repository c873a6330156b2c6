"""What a user's program may be and do, as data with the reason of each rule, and the check of an object file.

The verifier keeps a program from harming the kernel; this keeps it from harming, or reading, other slices and the
node.  It is enforced on the object file, before libbpf sees it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator

from vini.elf import DeclaredMap, Elf, Section
from vini.model import Value
from vini.sections import entry


class Rule(Value, frozen=True):
    """One thing that is allowed, or refused, and why."""

    what: str
    allowed: bool
    reason: str


class Limit(Value, frozen=True):
    """The most that there may be of something, and why."""

    what: str
    most: int
    reason: str


# --- the policy -----------------------------------------------------------------------------------

INSTRUCTIONS = Limit("instructions", 32_768, "the verifier walks all of them, on the node's time")
PROGRAMS = Limit("programs", 128, "a sliver has at most 64 vifs, and two directions")
MAPS = Limit("maps", 64, "each costs the kernel memory that no other limit counts")
ENTRIES = Limit("entries", 1 << 20, "one map with all routes of the Internet has as many")
KEY_BYTES = Limit("bytes in a key", 128, "every lookup hashes it")
VALUE_BYTES = Limit("bytes in a value", 4096, "every write copies it")
MEMORY_BYTES = Limit("bytes in maps", 64 << 20, "it can't be swapped out, and the kernel charges it to the node")
LIMITS = (INSTRUCTIONS, PROGRAMS, MAPS, ENTRIES, KEY_BYTES, VALUE_BYTES, MEMORY_BYTES)

_PACKET = "reads or changes the packet at hand"
_MAP = "works on the program's own maps"
_OUT = "sends by interfaces of the sliver's own network namespace only"
_ASK = "tells nothing of others"
HELPERS: dict[int, tuple[str, str]] = {  # the number of each helper is for ever: linux/bpf.h
    1: ("map_lookup_elem", _MAP), 2: ("map_update_elem", _MAP), 3: ("map_delete_elem", _MAP),
    5: ("ktime_get_ns", _ASK), 7: ("get_prandom_u32", _ASK), 8: ("get_smp_processor_id", _ASK),
    9: ("skb_store_bytes", _PACKET), 10: ("l3_csum_replace", _PACKET), 11: ("l4_csum_replace", _PACKET),
    13: ("clone_redirect", _OUT), 18: ("skb_vlan_push", _PACKET), 19: ("skb_vlan_pop", _PACKET),
    23: ("redirect", _OUT), 26: ("skb_load_bytes", _PACKET), 28: ("csum_diff", _PACKET),
    31: ("skb_change_proto", _PACKET), 32: ("skb_change_type", _PACKET), 34: ("get_hash_recalc", _PACKET),
    38: ("skb_change_tail", _PACKET), 39: ("skb_pull_data", _PACKET), 40: ("csum_update", _PACKET),
    41: ("set_hash_invalid", _PACKET), 43: ("skb_change_head", _PACKET), 44: ("xdp_adjust_head", _PACKET),
    48: ("set_hash", _PACKET), 50: ("skb_adjust_room", _PACKET), 51: ("redirect_map", _OUT),
    54: ("xdp_adjust_meta", _PACKET), 65: ("xdp_adjust_tail", _PACKET), 68: ("skb_load_bytes_relative", _PACKET),
    69: ("fib_lookup", "asks the sliver's own routing table"), 125: ("ktime_get_boot_ns", _ASK),
    130: ("ringbuf_output", _MAP), 131: ("ringbuf_reserve", _MAP), 132: ("ringbuf_submit", _MAP),
    133: ("ringbuf_discard", _MAP), 134: ("ringbuf_query", _MAP), 135: ("csum_level", _PACKET),
    152: ("redirect_neigh", _OUT), 160: ("ktime_get_coarse_ns", _ASK), 163: ("check_mtu", _PACKET),
    188: ("xdp_get_buff_len", _PACKET), 189: ("xdp_load_bytes", _PACKET), 190: ("xdp_store_bytes", _PACKET),
    195: ("map_lookup_percpu_elem", _MAP),
}  # fmt: skip
_KERNEL_MEMORY = "reads memory of the kernel, and so of everybody"
_ITERATES = "makes the running time of a program unforeseeable"
_AFTERWARDS = "runs on after the packet, beyond the slice's budget"
REFUSED_HELPERS: dict[int, tuple[str, str]] = {
    4: ("probe_read", _KERNEL_MEMORY), 112: ("probe_read_user", _KERNEL_MEMORY),
    113: ("probe_read_kernel", _KERNEL_MEMORY), 114: ("probe_read_user_str", _KERNEL_MEMORY),
    115: ("probe_read_kernel_str", _KERNEL_MEMORY), 45: ("probe_read_str", _KERNEL_MEMORY),
    6: ("trace_printk", "writes into the machine's one log, which others read"),
    177: ("trace_vprintk", "writes into the machine's one log, which others read"),
    12: ("tail_call", "would run programs that the slice's budget doesn't see"),
    25: ("perf_event_output", "needs a reader on the node; write to a ring buffer"),
    93: ("spin_lock", "lets one program keep another waiting; use atomic operations"),
    94: ("spin_unlock", "lets one program keep another waiting; use atomic operations"),
    155: ("redirect_peer", "would pass by the link's delay, loss and rate"),
    164: ("for_each_map_elem", _ITERATES), 181: ("loop", _ITERATES), 209: ("user_ringbuf_drain", _ITERATES),
    169: ("timer_init", _AFTERWARDS), 170: ("timer_set_callback", _AFTERWARDS), 171: ("timer_start", _AFTERWARDS),
    172: ("timer_cancel", _AFTERWARDS),
    20: ("skb_get_tunnel_key", "belongs to tunnels of the node"),
    21: ("skb_set_tunnel_key", "belongs to tunnels of the node"),
}  # fmt: skip
_TABLE = "a table of the program's own"
MAP_TYPES: dict[int, tuple[str, str]] = {
    1: ("hash", _TABLE), 2: ("array", _TABLE), 5: ("percpu_hash", _TABLE), 6: ("percpu_array", _TABLE),
    9: ("lru_hash", _TABLE), 11: ("lpm_trie", _TABLE), 14: ("devmap", "ways out of the sliver"),
    17: ("xskmap", "ways to a process of the sliver"),
    25: ("devmap_hash", "ways out of the sliver"), 27: ("ringbuf", "messages to the program's owner"),
}  # fmt: skip
_PER_CPU, _WAYS_OUT, _RING, _LPM = frozenset({5, 6}), frozenset({14, 17, 25}), 27, 11
_NO_PREALLOC = 1  # BPF_F_NO_PREALLOC, which an lpm_trie must have
_MAP_SETTINGS = frozenset({"type", "key", "value", "key_size", "value_size", "max_entries", "map_flags"})
_REFUSED_SETTINGS = {
    "pinning": "it would open maps of others by their names",
    "values": "maps of maps, and of programs, are not for slivers",
    "numa_node": "the node places memory",
    "map_extra": "no allowed map needs it",
}
_STRUCTURE = (
    Rule("programs at tc and xdp", True, 'sections "tc", "tc/ingress", "tc/egress", "xdp", each also with "/VIF"'),
    Rule("calls of the program's own functions", True, "they are verified with it"),
    Rule("global variables", True, "they are maps of the program's own, and count as such"),
    Rule("any license string", True, "the kernel itself asks for a GPL-compatible one where a helper needs it"),
    Rule("kernel functions (kfuncs)", False, "they change from kernel to kernel, and reach beyond the packet"),
    Rule("symbols and settings of the kernel (.ksyms, .kconfig)", False, "they tell where the kernel's things are"),
    Rule("CO-RE relocations", False, "a packet program has no use for the kernel's own structures"),
    Rule("numbers of maps, types or functions written into instructions", False, "they name other people's things"),
    Rule("addresses of functions", False, "they serve loops and timers, which are refused"),
    Rule("indirect calls, and loops without a bound", False, "nobody could tell what runs, and for how long"),
    Rule("packet loads of classic BPF", False, "they end the program by themselves; read by pointer"),
    Rule("map definitions of the old style (section maps)", False, "they have no types; use .maps"),
    Rule("sections of any other name", False, "they would make libbpf do something else with the program"),
    Rule("names of functions and maps that C could not give", False, "they become names of files on the node"),
)


def rules() -> list[Rule]:
    """The whole policy but for its limits, for people."""
    allowed = [Rule(f"bpf_{name}", True, why) for name, why in HELPERS.values()]
    refused = [Rule(f"bpf_{name}", False, why) for name, why in REFUSED_HELPERS.values()]
    maps = [Rule(f"map of type {name}", True, why) for name, why in MAP_TYPES.values()]
    settings = [Rule(f"map setting {name}", False, why) for name, why in _REFUSED_SETTINGS.items()]
    return [*_STRUCTURE, *allowed, *refused, *maps, *settings]


# --- the check ------------------------------------------------------------------------------------


def check(elf: bytes) -> list[str]:
    """All that is against the policy in an object file, a sentence each; [] where nothing is."""
    try:
        found = Elf(elf)
    except ValueError as e:
        return [f"The program can't be read: {e}."]
    told = list(dict.fromkeys([*_sections(found), *_names(found), *_symbols(found), *_code(found), *_maps(found)]))
    return [*told[:_MOST_TOLD], *([f"And {len(told) - _MOST_TOLD} more."] if len(told) > _MOST_TOLD else [])]


_MOST_TOLD = 50  # violations; who made so many reads no more
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PLAIN = re.compile(
    r"|license|\.maps|\.(data|rodata|bss)(\..*)?|\.BTF(\.ext)?|\.rel.*|\.symtab|\.strtab|\.shstrtab|\.debug_.*"
    r"|\.llvm_addrsig|\.comment|\.note\.GNU-stack"
)


def _sections(found: Elf) -> Iterator[str]:
    programs = 0
    for s in found.sections:
        if s.executable and s.size:
            programs += s.name != ".text"
            if s.name != ".text" and entry(s.name) is None:
                yield f'A program can\'t be in the section "{s.name}": {_STRUCTURE[0].reason}.'
        elif s.name == "maps":
            yield "Maps are declared in the old style (section maps); declare them in .maps, which has types."
        elif not _PLAIN.fullmatch(s.name) and s.name != ".text" and entry(s.name) is None:
            yield f'The section "{s.name}" is not allowed: a program has only code, maps and variables.'
    if not programs:
        yield f"There is no program in it: {_STRUCTURE[0].reason}."


def _names(found: Elf) -> Iterator[str]:
    for name in (*(s.name for s in found.symbols if s.function), *(m.name for m in found.maps)):
        if not _IDENTIFIER.fullmatch(name):
            yield f'A function or map can\'t be called "{name}": use letters, digits and _, at most 64.'


def _symbols(found: Elf) -> Iterator[str]:
    for s in found.symbols:
        if s.section == 0 and s.name:
            yield f"{s.name} is not defined: a program can't use functions or settings of the kernel itself."
    if found.core_relocations:
        yield "It asks for the layout of the kernel's own structures (CO-RE), which a packet program can't use."
    for r in found.relocations:
        at = found.sections[r.section]
        target = r.symbol.section
        if at.executable and target < len(found.sections) and found.sections[target].executable:
            code = at.content[r.offset : r.offset + 1]
            if code != b"\x85":
                yield "It takes the address of a function, which only refused helpers need."


def _code(found: Elf) -> Iterator[str]:
    total = 0
    for s in found.sections:
        if s.executable:
            total += s.size // 8
            yield from _instructions(s)
    if total > INSTRUCTIONS.most:
        yield _too_much(INSTRUCTIONS, total)
    code = {i for i, s in enumerate(found.sections) if s.executable and s.name != ".text"}
    functions = sum(1 for s in found.symbols if s.function and s.section in code)
    if functions > PROGRAMS.most:
        yield _too_much(PROGRAMS, functions)


def _instructions(s: Section) -> Iterator[str]:
    """The opcodes: Documentation/bpf/standardization/instruction-set.rst."""
    if len(s.content) % 8:
        yield f'The section "{s.name}" does not hold whole instructions.'
        return
    second = False  # half of a 16-byte load
    for code, registers, _, immediate in struct.iter_unpack("<BBhi", s.content):
        source = registers >> 4
        if second:
            second = False
            if code:
                yield f'The section "{s.name}" holds a 16-byte instruction that isn\'t whole.'
        elif code == 0x18:
            second = True
            if source:
                yield "It has the number of a map, type or function in an instruction; use names."
        elif code == 0x85:
            yield from _call(source, immediate)
        elif code in (0x8D, 0xE5):
            yield "It has an indirect call, or a loop without a bound."
        elif code & 7 == 0:  # BPF_LD but for 0x18
            yield "It has a packet load of classic BPF; read through ctx->data instead."


def _call(kind: int, number: int) -> Iterator[str]:
    if kind == 0 and number in HELPERS or kind == 1:
        return
    if kind == 0 and number in REFUSED_HELPERS:
        name, why = REFUSED_HELPERS[number]
        yield f"bpf_{name} is not allowed: it {why}."
    elif kind == 0:
        yield f"Helper number {number} of linux/bpf.h is not among those allowed (`vini program policy`)."
    else:
        yield "It calls a function of the kernel itself (kfunc); only helpers are allowed."


def _maps(found: Elf) -> Iterator[str]:
    if found.section(".maps").size and not found.maps:
        yield "Its maps have no types; compile it with -g."
    if len(found.maps) > MAPS.most:
        yield _too_much(MAPS, len(found.maps))
    for m in found.maps:
        yield from _map(m)
    variables = sum(s.size for s in found.sections if re.fullmatch(r"\.(data|rodata|bss)(\..*)?", s.name))
    if (total := variables + sum(map(memory, found.maps))) > MEMORY_BYTES.most:
        yield _too_much(MEMORY_BYTES, total)


def _map(m: DeclaredMap) -> Iterator[str]:
    kind, entries, flags = (m.numbers.get(n, 0) for n in ("type", "max_entries", "map_flags"))
    for setting in sorted(m.numbers.keys() - _MAP_SETTINGS):
        yield f"The map {m.name} sets {setting}: {_REFUSED_SETTINGS.get(setting, 'that is not among what a map may')}."
    if kind not in MAP_TYPES:
        yield f"The map {m.name} is of type {kind} of linux/bpf.h; allowed are {_listed(MAP_TYPES.values())}."
        return
    if flags & ~_NO_PREALLOC:
        yield f"The map {m.name} has the flags {flags:#x}; only BPF_F_NO_PREALLOC is allowed."
    if kind in _WAYS_OUT and m.value_size != 4:
        yield f"The map {m.name} has values of {m.value_size} bytes; those of a devmap or xskmap are __u32."
    if kind != _RING and entries > ENTRIES.most:
        yield _too_much(ENTRIES, entries, f"The map {m.name}")
    for limit, size in ((KEY_BYTES, m.key_size), (VALUE_BYTES, m.value_size)):
        if size > limit.most:
            yield _too_much(limit, size, f"The map {m.name}")


def memory(m: DeclaredMap) -> int:
    """About how many bytes of kernel memory a map takes when it is full."""
    kind, entries = m.numbers.get("type", 0), m.numbers.get("max_entries", 0)
    if kind == _RING:
        return entries
    value = -(-m.value_size // 8) * 8 * ((os.cpu_count() or 1) if kind in _PER_CPU else 1)
    head = 0 if kind in (2, 6) else 64  # of a hash's or trie's element
    return entries * (-(-m.key_size // 8) * 8 + value + head)


def _too_much(limit: Limit, have: int, subject: str = "It") -> str:
    return f"{subject} has {have} {limit.what}; at most {limit.most} are allowed, since {limit.reason}."


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(name for name, _ in pairs)
