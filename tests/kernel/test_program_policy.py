"""The policy for users' programs: for each rule a program that tries to break it, and what it is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vini.model import DriverError
from vini.node import policy
from vini.node.compile import compile_program
from vini.node.programs import INCLUDE, compiled
from vini.text.objects import encoded

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]

HEAD = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stddef.h>
char _license[] SEC("license") = "GPL";
"""
BODY = 'SEC("xdp") int f(struct xdp_md *c) { return XDP_PASS; }\n'


def made(text: str) -> bytes:
    return compile_program(HEAD + text, "tried.c", "xdp", INCLUDE)


def check(text: str) -> list[str]:
    return policy.check(made(text))


def map_of(kind: str, key: str = "__u32", value: str = "__u64", entries: str = "8", more: str = "") -> str:
    """A map m and a program that uses it."""
    return f"""struct {{ __uint(type, {kind}); __type(key, {key}); __type(value, {value});
        __uint(max_entries, {entries}); {more} }} m SEC(".maps");
        SEC("xdp") int f(struct xdp_md *c) {{ {key} k = {{0}}; return bpf_map_lookup_elem(&m, &k) ? 1 : 2; }}"""


def with_code(code: str) -> str:
    return 'SEC("xdp") int f(struct xdp_md *c) { ' + code + " return XDP_PASS; }"


ALLOWED = {
    "nothing": BODY,
    "sections": "".join(
        f'SEC("{s}") int f{n}(void *c) {{ return 0; }}\n'
        for n, s in enumerate(("tc", "tc/ingress", "tc/egress", "xdp", "xdp/to-b", "tc/egress/eth0.5", "tc/to-b"))
    ),
    "own functions": "static __noinline int g(int x) { return x * 2; }\n" + with_code("return g(c->ingress_ifindex);"),
    "variables": "int a = 3, b; const int c[4] = {1};\n" + BODY,
    "hash": map_of("BPF_MAP_TYPE_HASH", "struct { __u32 a[4]; }", "struct { __u64 x; __u8 y[10]; }"),
    "trie": map_of("BPF_MAP_TYPE_LPM_TRIE", "struct { __u32 l; __u32 a; }", more="__uint(map_flags, 1);"),
    "per processor": map_of("BPF_MAP_TYPE_PERCPU_ARRAY"),
    "ring": """struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } m SEC(".maps");"""
    + with_code("int x = 1; bpf_ringbuf_output(&m, &x, 4, 0);"),
    "devmap": """struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32);
        __type(value, __u32); } m SEC(".maps");"""
    + with_code("return bpf_redirect_map(&m, 0, 0);"),
    "sockets of a process": """struct { __uint(type, BPF_MAP_TYPE_XSKMAP); __uint(max_entries, 4); __type(key, __u32);
        __type(value, __u32); } m SEC(".maps");"""
    + with_code("return bpf_redirect_map(&m, 0, XDP_PASS);"),
    "old sizes": """struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __uint(key_size, 4);
        __uint(value_size, 8); } m SEC(".maps");"""
    + with_code("__u32 k = 0; bpf_map_lookup_elem(&m, &k);"),
    "atomics": "__u64 n;\n" + with_code("__sync_fetch_and_add(&n, 1);"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_passes(name: str) -> None:
    assert check(ALLOWED[name]) == []


CALLBACK = "static long g(__u32 i, void *x) { return 0; }\n"
REFUSED = {
    "kfunc": ("extern int bpf_xdp_metadata_rx_hash(struct xdp_md *c, __u32 *h) SEC(\".ksyms\");\n"
              + with_code("__u32 h; bpf_xdp_metadata_rx_hash(c, &h);"), "bpf_xdp_metadata_rx_hash is not defined"),
    "ksym": ("extern const void jiffies SEC(\".ksyms\");\n" + with_code("return (long)&jiffies;"),
             "jiffies is not defined"),
    "kconfig": ("extern int CONFIG_HZ SEC(\".kconfig\");\n" + with_code("return CONFIG_HZ;"),
                "CONFIG_HZ is not defined"),
    "co-re": ("struct sk_buff { int len; } __attribute__((preserve_access_index));\n"
              + with_code("struct sk_buff *s = (void *)c; return s->len;"), "layout of the kernel's own structures"),
    "number of a map": (with_code('asm volatile(".byte 0x18,0x11,0,0,5,0,0,0,0,0,0,0,0,0,0,0" ::: "r1");'),
                        "number of a map, type or function in an instruction"),
    "number of a type": (with_code('asm volatile(".byte 0x18,0x31,0,0,5,0,0,0,0,0,0,0,0,0,0,0" ::: "r1");'),
                         "number of a map, type or function in an instruction"),
    "kfunc by number": (with_code('asm volatile(".byte 0x85,0x20,0,0,9,0,0,0" ::: "r0");'), "kfunc"),
    "half an instruction": (with_code('asm volatile(".byte 0x18,1,0,0,5,0,0,0,0x95,0,0,0,0,0,0,0" ::: "r1");'),
                            "isn't whole"),
    "indirect call": (with_code('asm volatile(".byte 0x8d,0,0,0,1,0,0,0" ::: "r0");'), "indirect call"),
    "may_goto": (with_code('asm volatile(".byte 0xe5,0,0,0,0,0,0,0");'), "loop without a bound"),
    "classic load": (with_code('asm volatile(".byte 0x20,0,0,0,0,0,0,0" ::: "r0");'), "classic BPF"),
    "loop": (CALLBACK + with_code("bpf_loop(9, g, NULL, 0);"), "bpf_loop is not allowed: it makes the running time"),
    "function's address": (CALLBACK + with_code("bpf_loop(9, g, NULL, 0);"), "It takes the address of a function"),
    "timer": ("""struct t { struct bpf_timer t; }; struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
        __type(key, __u32); __type(value, struct t); } m SEC(".maps");"""
              + with_code("__u32 k = 0; struct t *t = bpf_map_lookup_elem(&m, &k); bpf_timer_start(&t->t, 1, 0);"),
              "bpf_timer_start is not allowed: it runs on after the packet"),
    "spin lock": ("""struct t { struct bpf_spin_lock l; }; struct { __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1); __type(key, __u32); __type(value, struct t); } m SEC(".maps");"""
                  + with_code("__u32 k = 0; struct t *t = bpf_map_lookup_elem(&m, &k);"
                              " if (t) { bpf_spin_lock(&t->l); bpf_spin_unlock(&t->l); }"), "bpf_spin_lock is not"),
    "for each": ("""struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
        __type(value, __u32); } m SEC(".maps");""" + CALLBACK + with_code("bpf_for_each_map_elem(&m, g, NULL, 0);"),
                 "bpf_for_each_map_elem is not allowed"),
    "tail call": ("""struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, __u32);
        __type(value, __u32); } m SEC(".maps");""" + with_code("bpf_tail_call(c, &m, 0);"),
                  "bpf_tail_call is not allowed: it would run programs that the slice's budget doesn't see"),
    "prog array": ("""struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, __u32);
        __type(value, __u32); } m SEC(".maps");""" + BODY, "The map m is of type 3 of linux/bpf.h"),
    "printk": (with_code('bpf_printk("x");'), "bpf_trace_printk is not allowed: it writes into the machine's one log"),
    "probe_read": (with_code("char x[8]; bpf_probe_read_kernel(x, 8, c);"),
                   "bpf_probe_read_kernel is not allowed: it reads memory of the kernel"),
    "redirect_peer": (with_code("return bpf_redirect_peer(1, 0);"), "bpf_redirect_peer is not allowed"),
    "some other helper": (with_code("return bpf_get_current_pid_tgid();"), "Helper number 14 of linux/bpf.h"),
    "helper in a function": ("static __noinline int g(int x) { bpf_get_current_pid_tgid(); return x; }\n"
                             + with_code("return g(1);"), "Helper number 14"),
    "old maps": ("struct { int t, k, v, n; } m SEC(\"maps\") = {1, 4, 4, 1};\n" + BODY, "old style (section maps)"),
    "other program types": ('SEC("kprobe/do_exit") int g(void *c) { return 0; }\n' + BODY,
                            "can't be in the section \"kprobe/do_exit\""),
    "a vif's name": ('SEC("xdp/../../x") int g(void *c) { return 0; }', "can't be in the section"),
    "frags": ('SEC("xdp.frags") int g(void *c) { return 0; }', "can't be in the section"),
    "no program": ("int g(void) { return 1; }", "There is no program in it"),
    "struct_ops": ("struct { int (*f)(void); } o SEC(\".struct_ops\") = {};\n" + BODY,
                   "The section \".struct_ops\" is not allowed"),
    "any other section": ("int x SEC(\"oops\") = 1;\n" + BODY, "The section \"oops\" is not allowed"),
    "pinning": (map_of("BPF_MAP_TYPE_HASH", more="__uint(pinning, 1);"), "The map m sets pinning: it would open maps"),
    "inner maps": ("""struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
        __type(value, __u32); } i SEC(".maps"); struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
        __uint(max_entries, 1); __type(key, __u32); __array(values, struct inner); } m SEC(".maps") = {
        .values = { [0] = &i } };""" + BODY, "The map m sets values: maps of maps"),
    "numa": (map_of("BPF_MAP_TYPE_HASH", more="__uint(numa_node, 1);"), "The map m sets numa_node"),
    "map_extra": (map_of("BPF_MAP_TYPE_HASH", more="__uint(map_extra, 1);"), "The map m sets map_extra"),
    "mmapable": (map_of("BPF_MAP_TYPE_ARRAY", more="__uint(map_flags, 1 << 10);"), "flags 0x400"),
    "stack trace": (map_of("BPF_MAP_TYPE_STACK_TRACE"), "is of type 7"),
    "sockets": (map_of("BPF_MAP_TYPE_SOCKMAP"), "is of type 15"),
    "processors": (map_of("BPF_MAP_TYPE_CPUMAP"), "is of type 16"),
    "devmap with programs": ("""struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4);
        __type(key, __u32); __type(value, __u64); } m SEC(".maps");""" + BODY, "values of 8 bytes"),
    "entries": (map_of("BPF_MAP_TYPE_HASH", entries="1 << 21"), "The map m has 2097152 entries; at most 1048576"),
    "key": (map_of("BPF_MAP_TYPE_HASH", key="struct { char k[200]; }"), "The map m has 200 bytes in a key"),
    "value": (map_of("BPF_MAP_TYPE_HASH", value="struct { char k[5000]; }"), "The map m has 5000 bytes in a value"),
    "memory": (map_of("BPF_MAP_TYPE_ARRAY", value="struct { char k[4096]; }", entries="1 << 15"),
               "It has 134479872 bytes in maps"),
    "memory of variables": ("char big[65 << 20];\n" + with_code("return big[c->ingress_ifindex & 7];"),
                            "bytes in maps; at most 67108864"),
    "memory of a ring": ('struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 27); } m SEC(".maps");'
                         + BODY, "It has 134217728 bytes in maps"),
    "maps": ("".join(f"struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);"
                     f" __type(value, __u32); }} m{i} SEC(\".maps\");\n" for i in range(65)) + BODY,
             "It has 65 maps; at most 64"),
    "instructions": (with_code('asm volatile(".rept 33000\\n.byte 0xb7,0,0,0,0,0,0,0\\n.endr" ::: "r0");'),
                     "instructions; at most 32768"),
    "programs": ("".join(f'SEC("xdp") int f{i}(void *c) {{ return 0; }}\n' for i in range(129)),
                 "It has 129 programs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_why(name: str) -> None:
    text, told = REFUSED[name]
    violations = check(text)
    assert any(told in v for v in violations), violations
    assert all(re.match(r"[A-Zbj].*\.$", v, re.DOTALL) for v in violations), "each is a sentence"
    with pytest.raises(DriverError) as refused:  # and by an object file that somebody else compiled
        compiled(encoded(made(text)), "tried.o", "xdp")
    assert told in str(refused.value)


def test_of_all_helpers_only_those_of_the_policy_pass() -> None:
    """Each as an instruction, so that no header and no compiler stands in between."""
    call = b"\x85\0\0\0\5\0\0\0"
    whole = made(with_code('asm volatile(".byte 0x85,0,0,0,5,0,0,0" ::: "r0");'))
    assert whole.count(call) == 1
    for number in range(1, 256):
        told = policy.check(whole.replace(call, call.replace(b"\5", bytes([number]))))
        assert (told == []) == (number in policy.HELPERS), (number, told)
        if number in policy.REFUSED_HELPERS:
            name, why = policy.REFUSED_HELPERS[number]
            assert any(f"bpf_{name} is not allowed: it {why}" in v for v in told), told


def test_of_all_types_of_maps_only_those_of_the_policy_pass() -> None:
    def map_number(kind: int) -> str:
        settings = f"__uint(type, {kind}); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32);"
        return f'struct {{ {settings} }} m{kind} SEC(".maps");\n'

    told = check("".join(map(map_number, range(1, 40))) + BODY)
    for kind in range(1, 40):
        refused = any(f"The map m{kind} is of type {kind} " in v for v in told)
        assert refused == (kind not in policy.MAP_TYPES), kind


def test_all_violations_are_told_at_once() -> None:
    text = CALLBACK + map_of("BPF_MAP_TYPE_HASH", entries="1 << 21", more="__uint(pinning, 1);")
    text += 'SEC("tc") int h(void *c) { bpf_printk("x"); bpf_loop(9, g, NULL, 0); return 0; }\n'
    assert len(check(text)) == 6


@pytest.mark.parametrize("cut", [0, 3, 63, 64, 200, 1000])
def test_a_mutilated_object_is_refused_and_nothing_breaks(cut: int) -> None:
    whole = compile_program(HEAD + ALLOWED["hash"], "tried.c", "xdp", INCLUDE)
    assert policy.check(whole[:cut])[0].startswith("The program can't be read: ")


def test_any_flipped_byte_is_survived() -> None:
    whole = compile_program(HEAD + ALLOWED["hash"], "tried.c", "xdp", INCLUDE)
    for at in range(0, len(whole), 3):
        for value in (0, 255, whole[at] ^ 1):
            policy.check(whole[:at] + bytes([value]) + whole[at + 1 :])


def test_numbers_and_names_of_helpers_are_the_kernels() -> None:
    header = Path("/usr/include/linux/bpf.h").read_text()
    names = re.findall(r"^\s+FN\((\w+)", header, re.MULTILINE)
    numbered = dict(enumerate(names))
    for number, (name, _) in (policy.HELPERS | policy.REFUSED_HELPERS).items():
        assert numbered[number] == name
    assert not policy.HELPERS.keys() & policy.REFUSED_HELPERS.keys()
    kinds = re.search(r"enum bpf_map_type \{(.*?)\};", header, re.DOTALL)
    assert kinds
    types = [t.lower() for t in re.findall(r"BPF_MAP_TYPE_(\w+)", re.sub(r"/\*.*?\*/", "", kinds[1], flags=re.DOTALL))]
    for number, (name, _) in policy.MAP_TYPES.items():
        assert types[number] == name


def test_every_rule_has_a_reason() -> None:
    for rule in policy.rules():
        assert rule.what and rule.reason
    assert len({r.what for r in policy.rules()}) == len(policy.rules())
    assert all(limit.reason for limit in policy.LIMITS)
